"""What stands in an ONNX file, read before TensorRT sees it: whether it is whole, its types, sizes and operators.

A builder works for minutes and says little; what can be refused by looking at the file is refused here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper, shape_inference

from awml_deploy_core.errors import ArtifactError, BuildError, ConfigError, nearest

if TYPE_CHECKING:
    from awml_deploy_core.config import Precision

__all__ = [
    "domain_of",
    "facts",
    "is_disguised",
    "operators",
    "read",
    "require_opset",
    "require_policy",
    "require_profiles",
    "typed_layers",
]

_NAMES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 10: "HALF", 11: "DOUBLE", 16: "BF16", 17: "FP8", 19: "FP8"}
_NAMES |= {22: "INT4", 23: "FP4"}
_NARROW = ("HALF", "BF16", "FP8", "FP4", "INT8", "INT4")
_COMPUTE = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum")
_DEFAULT = ("", "ai.onnx")
_PARSED = (*_DEFAULT, "com.microsoft", "trt", "trt.plugins")
"""Domains whose operators TensorRT's parser really means."""

OLDEST = 7
"""The oldest opset that is built from; TensorRT takes any number without a word and reads it as a newer one."""


def read(component: str, path: Path) -> onnx.ModelProto:
    """The file without its weights, once it is known to be whole.

    Raises:
        ArtifactError: It is missing, no ONNX, cut short, or its weights beside it are.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ArtifactError(
            f"component {component}: {path} cannot be read: {error.strerror or error}", hint="Export it first."
        ) from error
    except Exception as error:
        raise _broken(component, path) from error
    if not model.graph.output:
        raise _broken(component, path)
    _require_weights(component, path, model)
    return model


def _broken(component: str, path: Path) -> ArtifactError:
    return ArtifactError(f"component {component}: {path} is no ONNX file, or cut short", hint="Export it again.")


def _require_weights(component: str, path: Path, model: onnx.ModelProto) -> None:
    ends: dict[str, int] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            said = {entry.key: entry.value for entry in tensor.external_data}
            end = int(said.get("offset", 0)) + int(said.get("length", 0))
            ends[said["location"]] = max(end, ends.get(said["location"], 0))
    for name, end in ends.items():
        beside = path.parent / name
        if not beside.is_file() or beside.stat().st_size < end:
            fact = "is cut short" if beside.is_file() else "is not there"
            raise ArtifactError(
                f"component {component}: {path} keeps its weights in {name}, which {fact}",
                hint="Copy both files together, or export with onnx_config.external_data = 'inline'.",
            )


# ---------------------------------------------------------------- what it is made of


def operators(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Every node, also those inside of branches and loops, without those that are functions of the file."""
    own = {(function.domain, function.name) for function in model.functions}
    bodies: list[Any] = [model.graph, *model.functions]
    return [node for body in bodies for node in _nodes(body.node) if (node.domain, node.op_type) not in own]


def _nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def domain_of(node: onnx.NodeProto) -> str:
    """The operator with its domain, where that is not ONNX's own."""
    return node.op_type if node.domain in _DEFAULT else f"{node.domain}::{node.op_type}"


def is_disguised(node: onnx.NodeProto) -> bool:
    """Whether a node of somebody's own domain bears the name of one of ONNX's: TensorRT would take it for that."""
    return node.domain not in _PARSED and bool(onnx.defs.has(node.op_type))


def facts(model: onnx.ModelProto) -> dict[str, Any]:
    """What the receipt holds the network against: types, quantising nodes, bytes of the weights."""
    types = _types(model)
    nodes = operators(model)
    made = {name for node in model.graph.node for name in node.output if name}
    weights: Counter[str] = Counter()
    for tensor in _weights(model):
        size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        weights[TensorProto.DataType.Name(tensor.data_type)] += prod(tensor.dims) * size
    return {
        "graph_tensors": dict(Counter(_NAMES[kind] for kind in types.values() if kind in _NAMES)),
        "graph_unknown": len(made - types.keys()),
        "graph_quantized": sum(node.op_type == "QuantizeLinear" for node in nodes),
        "graph_dequantized": sum(node.op_type == "DequantizeLinear" for node in nodes),
        "weights": dict(weights),
    }


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in operators(model):
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.name == "value")


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type by tensor, as far as ONNX can tell; a custom layer's outputs it cannot."""
    try:
        graph = shape_inference.infer_shapes(model).graph
    except (shape_inference.InferenceError, ValueError):
        graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    found |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {name: kind for name, kind in found.items() if kind}


def typed_layers(model: onnx.ModelProto) -> list[dict[str, str]]:
    """The nodes that compute with the type that they give, which a strongly typed network keeps."""
    types = _types(model)
    found = [node for node in operators(model) if node.op_type in _COMPUTE and node.output]
    return [{"name": node.name, "dtype": _NAMES.get(types.get(node.output[0], 0), "unknown")} for node in found]


# ---------------------------------------------------------------- what it is refused for


def require_opset(component: str, path: Path, model: onnx.ModelProto) -> None:
    """Refuse an opset that nobody here knows the meaning of.

    Raises:
        BuildError: Naming the opset.
    """
    newest = onnx.defs.onnx_opset_version()
    opset = next((one.version for one in model.opset_import if one.domain in _DEFAULT), newest)
    if not OLDEST <= opset <= newest:
        raise BuildError(
            f"component {component}: {path} has opset {opset}; engines are built from {OLDEST} to {newest}",
            hint="Export it with another onnx_config.opset_version.",
        )


def require_policy(component: str, path: Path, policy: Precision, said: Mapping[str, Any]) -> None:
    """Refuse a graph that cannot have the precision, whatever the builder does.

    Raises:
        BuildError: Naming the types that stand in the way.
    """
    narrow = {dtype: count for dtype, count in said["graph_tensors"].items() if dtype in _NARROW}
    if policy in ("fp32", "fp32_tf32") and narrow:
        found = ", ".join(f"{count} {dtype}" for dtype, count in sorted(narrow.items()))
        raise BuildError(
            f"component {component}: {path} has tensors that are narrower than float32 ({found}), "
            f"so its engine cannot be {policy}",
            hint="Use `precision_policy = 'strongly_typed'` for a graph that carries its own types, or export float32.",
        )
    if policy == "explicit_int8" and not said["graph_quantized"]:
        raise BuildError(
            f"component {component}: {path} has no QuantizeLinear node, so its engine cannot be explicit_int8",
            hint="Give samples for calibration, or export a graph that has Q/DQ nodes.",
        )


def require_profiles(
    component: str, model: onnx.ModelProto, given: Sequence[Mapping[str, Mapping[str, Sequence[int]]]]
) -> None:
    """Hold the profiles against the sizes in the file itself.

    Raises:
        ConfigError: A range is missing, names no input, or does not fit its sizes; all faults together.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    sizes = {
        value.name: [one.dim_value if one.HasField("dim_value") else None for one in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in constants
    }
    free = {name for name, shape in sizes.items() if None in shape}
    faults = [
        fault for number, profile in enumerate(given or ({},)) for fault in _misfits(number, profile, sizes, free)
    ]
    if faults:
        raise ConfigError(
            f"component {component}: {'; '.join(faults)}",
            hint="The sizes stand in the ONNX file; correct the profile, or export with other dynamic axes.",
        )


def _misfits(
    number: int,
    profile: Mapping[str, Mapping[str, Sequence[int]]],
    sizes: Mapping[str, Sequence[int | None]],
    free: Collection[str],
) -> Iterator[str]:
    for name, shapes in profile.items():
        if name not in sizes:
            near = nearest(name, sizes)
            yield f"profile {number}: the file has no input {name!r}" + (f", did you mean {near!r}?" if near else "")
            continue
        for which in ("min", "opt", "max"):
            shape = shapes[which]
            off = [
                place
                for place, (have, want) in enumerate(zip(shape, sizes[name], strict=False))
                if want not in (None, have)
            ]
            if len(shape) != len(sizes[name]):
                yield f"profile {number}: {name}.{which} has {len(shape)} sizes, the file {len(sizes[name])}"
            elif off:
                fixed = sizes[name][off[0]]
                yield f"profile {number}: {name}[{off[0]}] is {fixed} in the file, {which} says {shape[off[0]]}"
        if any(low > best or best > high for low, best, high in zip(*shapes.values(), strict=False)):
            yield f"profile {number}: {name} must have min <= opt <= max in every place"
    for name in sorted(set(free) - profile.keys()):
        yield f"profile {number}: {name} is dynamic in the file, and nothing says which sizes it may have"
