"""What proves the precision of an engine: what the parser made of the graph, and the flags that were really set.

The receipt is read from TensorRT's own network and config after everything has been set, and held against the policy
and against the graph in the file. A flag that was dropped without a word shows here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

if TYPE_CHECKING:
    from awml_deploy_core.build.policy import Plan

__all__ = ["LEAST", "MOST", "Facts", "Layer", "Receipt", "Weighed", "facts_of", "hold"]

MOST = 0.9
"""Share of the compute layers that must be in the asked precision without anybody asking why."""

LEAST = 0.5
"""Share below which a policy is not met, whatever the reasons."""

_HALF = {"fp16": "HALF", "bf16": "BF16"}
_NARROW = {"HALF", "BF16", "FP8", "FP4", "INT8", "INT4"}
_FLOAT = {"FLOAT", "HALF", "BF16", "FP8", "FP4"}
_CHOOSING = ("FP16", "BF16", "INT8", "FP8", "INT4")
"""Flags that let a builder choose a narrower type."""


@frozen(kw_only=True)
class Layer:
    """One layer that computes: a convolution or a matrix product."""

    name: str
    dtype: str
    reason: str = ""


@frozen(kw_only=True)
class Weighed:
    """Bytes of the weights in the graph by element type."""

    dtype: str
    size: int


@frozen(kw_only=True)
class Facts:
    """What was read from TensorRT.

    Args:
        strong: Whether the network was made strongly typed.
        flags: Names of the builder flags that are set.
        tensors: How many tensors of the network have which type.
        compute: The layers that compute, with their type.
        quantized: Layers that quantise.
        graph_quantized: Nodes of the graph that quantise.
        dequantized: Layers that go back to floats.
        graph_dequantized: Nodes of the graph that do.
        graph_tensors: Types of the graph in the file, by how many of its tensors have them.
        graph_unknown: Tensors of the graph whose type ONNX cannot tell, such as those of a custom layer.
        weights: Bytes of the weights by type.
        capabilities: Compute capabilities that it was built for, where the builder was told.
        read_from: What was read: the network that TensorRT parsed, or the graph alone.
    """

    strong: bool
    flags: tuple[str, ...]
    tensors: Mapping[str, int]
    compute: tuple[Layer, ...]
    quantized: int
    graph_quantized: int
    dequantized: int = 0
    graph_dequantized: int = 0
    graph_tensors: Mapping[str, int]
    graph_unknown: int = 0
    weights: tuple[Weighed, ...] = ()
    capabilities: tuple[str, ...] = ()
    read_from: Literal["network", "graph"] = "network"


@frozen(kw_only=True)
class Receipt:
    """Whether an engine is what was asked for.

    Args:
        policy: What was asked for.
        holds: The verdict; None where it cannot be proved on this machine.
        summary: The verdict in words.
        reasons: What breaks it.
        islands: Layers that compute wider than asked, and why.
        facts: What it was read from.
    """

    policy: str
    holds: bool | None
    summary: str
    reasons: tuple[str, ...] = ()
    islands: tuple[Layer, ...] = ()
    facts: Facts


def hold(plan: Plan, facts: Facts, islands: Mapping[str, str]) -> Receipt:
    """Hold what was read against what was asked for.

    Args:
        plan: How the policy is to be met.
        facts: What was read.
        islands: Nodes that were kept in float32 on purpose, each with the reason.
    """
    reasons = list(_flags(plan, facts))
    wide: tuple[Layer, ...] = ()
    if not plan.strong:
        reasons += _quantised(facts) if plan.policy == "explicit_int8" else ()
        chosen = f"{', '.join(plan.flags) or 'no flag'} set; what the builder chose is not provable here"
        return Receipt(
            policy=plan.policy,
            holds=False if reasons else None,
            summary="; ".join(reasons) if reasons else chosen,
            reasons=tuple(reasons),
            facts=facts,
        )
    if plan.policy in _HALF:
        wide = tuple(_islands(facts, _HALF[plan.policy], islands))
        reasons += _narrow(plan.policy, facts, wide, islands)
    elif plan.policy == "explicit_int8":
        reasons += _quantised(facts)
    elif plan.policy in ("fp32", "fp32_tf32"):
        found = {dtype: count for dtype, count in facts.tensors.items() if dtype in _NARROW}
        reasons += [f"{count} tensors are {dtype}" for dtype, count in sorted(found.items())]
    else:
        reasons += _as_graph(facts)
    return Receipt(
        policy=plan.policy,
        holds=not reasons,
        summary="; ".join(reasons) if reasons else _summary(facts),
        reasons=tuple(reasons),
        islands=wide,
        facts=facts,
    )


def _flags(plan: Plan, facts: Facts) -> Iterator[str]:
    for name in plan.flags:
        if name not in facts.flags:
            yield f"the flag {name} was asked for and is not set"
    for name in ("TF32", *_CHOOSING):
        if name in facts.flags and name not in plan.flags:
            yield f"the flag {name} is set and was not asked for"
    if plan.strong != facts.strong:
        yield f"the network is {'strongly' if facts.strong else 'weakly'} typed and was to be the other"


def _islands(facts: Facts, dtype: str, kept: Mapping[str, str]) -> Iterator[Layer]:
    for layer in _floats(facts):
        if layer.dtype != dtype:
            yield Layer(name=layer.name, dtype=layer.dtype, reason=_why(layer.name, kept))


def _floats(facts: Facts) -> tuple[Layer, ...]:
    return tuple(layer for layer in facts.compute if layer.dtype in _FLOAT)


def _why(name: str, kept: Mapping[str, str]) -> str:
    # TensorRT names a layer after its node, sometimes with something around it, but never within a word.
    found = (reason for node, reason in kept.items() if node and re.search(rf"(?<!\w){re.escape(node)}(?!\w)", name))
    return next(found, "")


def _narrow(policy: str, facts: Facts, wide: tuple[Layer, ...], kept: Mapping[str, str]) -> Iterator[str]:
    total, name = len(_floats(facts)), _HALF[policy]
    if not total:
        if name not in facts.tensors and not kept and _FLOAT & facts.tensors.keys():
            yield f"no tensor is {name}"
        return
    share = (total - len(wide)) / total
    if share < LEAST:
        yield f"only {total - len(wide)} of {total} compute layers are {name}"
    elif share < MOST:
        unexplained = [layer.name for layer in wide if not layer.reason]
        if unexplained:
            names, verb = ", ".join(unexplained[:5]), "is" if len(unexplained) == 1 else "are"
            more = f" and {len(unexplained) - 5} more" if len(unexplained) > 5 else ""
            yield f"{names}{more} {verb} not {name}, and nothing says why"


def _quantised(facts: Facts) -> Iterator[str]:
    if not facts.graph_quantized:
        yield "the graph has no QuantizeLinear node"
    if facts.quantized != facts.graph_quantized:
        yield f"the network has {facts.quantized} quantising layers, the graph {facts.graph_quantized}"
    if facts.dequantized != facts.graph_dequantized:
        yield f"the network has {facts.dequantized} dequantising layers, the graph {facts.graph_dequantized}"


def _as_graph(facts: Facts) -> Iterator[str]:
    there, asked = {d for d in facts.tensors if d in _NARROW}, {d for d in facts.graph_tensors if d in _NARROW}
    for dtype in sorted(there - asked) if not facts.graph_unknown else ():
        yield f"the network has tensors of type {dtype}, the graph has none"
    for dtype in sorted(asked - there):
        yield f"the graph has tensors of type {dtype}, the network has none"


def _summary(facts: Facts) -> str:
    counts: dict[str, int] = {}
    for layer in facts.compute:
        counts[layer.dtype] = counts.get(layer.dtype, 0) + 1
    layers = ", ".join(f"{count} {dtype}" for dtype, count in sorted(counts.items()))
    parts = [f"compute layers: {layers or 'none'}", f"TF32 {'on' if 'TF32' in facts.flags else 'off'}"]
    if facts.quantized:
        parts.append(f"{facts.quantized} quantising layers")
    if "DOUBLE" in facts.graph_tensors:
        parts.append(f"{facts.graph_tensors['DOUBLE']} tensors of type DOUBLE became FLOAT")
    if facts.read_from == "graph":
        parts.append("read from the graph, to whose types the builder was held")
    return ", ".join(parts)


def facts_of(values: Mapping[str, Any]) -> Facts:
    """The facts that the process sent, out of JSON."""
    return Facts(
        strong=values["strong"],
        flags=tuple(values["flags"]),
        tensors=values["tensors"],
        compute=tuple(Layer(name=one["name"], dtype=one["dtype"]) for one in values["compute"]),
        quantized=values["quantized"],
        graph_quantized=values["graph_quantized"],
        dequantized=values["dequantized"],
        graph_dequantized=values["graph_dequantized"],
        graph_tensors=values["graph_tensors"],
        graph_unknown=values["graph_unknown"],
        weights=tuple(Weighed(dtype=dtype, size=size) for dtype, size in values["weights"].items()),
        capabilities=tuple(values["capabilities"]),
        read_from=values.get("read_from", "network"),
    )
