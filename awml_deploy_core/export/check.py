"""Does the graph compute what the network computes, also at another size?"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import torch
from attrs import frozen

from awml_deploy_core.backends import Device
from awml_deploy_core.backends.fit import Tensors
from awml_deploy_core.backends.onnxruntime import open_file, run_file
from awml_deploy_core.backends.pytorch import forward
from awml_deploy_core.errors import ArtifactError, LoadError
from awml_deploy_core.export.trace import Unfit
from awml_deploy_core.record import resize_inputs, sizes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from awml_deploy_core.records import Component

    Graph: TypeAlias = Callable[[Tensors], Tensors]

__all__ = ["FINE", "Graph", "Probe", "differences", "known_sizes", "open_graph", "probe", "probes", "require"]

GROSS = 1e-2
"""Share of a tensor's largest magnitude by which a graph may miss the network: rounding never does, a wrong branch
does. Finer judgement is verification's."""

FINE = 1e-4
"""The same for a simplified graph: one that misses the network by more is held against the unsimplified one, which
runs the same kernels on the same numbers."""

_CPU = Device(kind="cpu")


@frozen(kw_only=True, eq=False)
class Probe:
    """Inputs and what the network answers; `axes` differ from what was recorded."""

    inputs: Tensors
    outputs: Tensors
    axes: tuple[str, ...] = ()


def probes(module: nn.Module, component: Component, inputs: Tensors) -> tuple[list[Probe], list[str]]:
    """Run the network on the recorded inputs and at another size of every dynamic axis.

    Returns:
        One or two probes, and notes on what could not be tried.

    Raises:
        LoadError: If the network does not give what the component declares, or refuses another number of rows.
    """
    made = [probe(module, component, inputs)]
    axes = _resizable(component, inputs)
    if not axes:
        return made, []
    try:
        return [*made, probe(module, component, inputs, axes)], []
    except LoadError as error:
        rows = [name for name in axes if component.axis(name).independent]
        others = [name for name in axes if name not in rows]
        if not others:
            raise LoadError(
                f"{error.message} (with another number of rows on {', '.join(rows)})",
                hint="The axis is declared dynamic and independent: the network must take any number of rows.",
            ) from error
        more = [probe(module, component, inputs, rows)] if rows else []
        sizes = sizes_of(component, resize_inputs(component, inputs, others))
        shown = ", ".join(f"{name} = {sizes[name]}" for name in others)
        return made + more, [f"not checked at another size than recorded: at {shown} {error.message}"]


def probe(module: nn.Module, component: Component, inputs: Tensors, axes: Sequence[str] = ()) -> Probe:
    """Run the network with these axes at another size."""
    inputs = resize_inputs(component, inputs, axes) if axes else inputs
    outputs = forward(module, component, inputs)
    _require_declared(component, inputs, outputs)
    return Probe(inputs=inputs, outputs=outputs, axes=tuple(axes))


def known_sizes(component: Component, made: Probe) -> dict[str, int]:
    """The size of every axis, also of those that only outputs have."""
    shown = {
        name: size
        for tensor in component.outputs
        for name, size in zip(tensor.shape, made.outputs[tensor.name].shape, strict=True)
        if isinstance(name, str)
    }
    return shown | sizes_of(component, made.inputs)


def _resizable(component: Component, inputs: Tensors) -> list[str]:
    before, after = sizes_of(component, inputs), sizes_of(component, resize_inputs(component, inputs))
    return [name for name, size in before.items() if size != after[name]]


def _require_declared(component: Component, inputs: Tensors, outputs: Tensors) -> None:
    sizes = sizes_of(component, inputs)
    for declared in component.outputs:
        tensor = outputs[declared.name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        known = [sizes.get(size) if isinstance(size, str) else size for size in declared.shape]
        same = len(known) == tensor.dim() and all(a in (None, b) for a, b in zip(known, tensor.shape, strict=True))
        if dtype != declared.dtype or not same:
            shown = ", ".join(f"{size} = {sizes[size]}" if size in sizes else str(size) for size in declared.shape)
            raise LoadError(
                f"component {component.name}: output {declared.name} is declared {declared.dtype} [{shown}], "
                f"but the network gives {dtype} {list(tensor.shape)}",
                hint="Correct the component in export_workflow, or what wrap_for_onnx returns.",
            )


# ---------------------------------------------------------------- the graph


def open_graph(path: Path, component: Component) -> Graph:
    """Open a graph in ONNX Runtime on the CPU.

    Returns:
        A function from inputs to outputs, which raises `Unfit` if the graph fails to run.

    Raises:
        Unfit: If it does not load.
    """
    with _unfit():
        session = open_file(str(path), _CPU, None, component.name)

    def graph(inputs: Tensors) -> Tensors:
        with _unfit():
            return run_file(session, _CPU, inputs, component.name)

    return graph


@contextmanager
def _unfit() -> Iterator[None]:
    try:
        yield
    except ArtifactError as error:
        raise Unfit(f"ONNX Runtime: {' '.join(str(error.__cause__ or error).split())[-300:]}") from error


def require(
    graph: Graph, component: Component, module: nn.Module, made: Sequence[Probe]
) -> tuple[list[Tensors], str | None]:
    """Hold a graph against the network at every recorded and resized input.

    Returns:
        The graph's answers, and what differs on the recorded inputs, for the caller to judge: an index may jump where
        two values are equal.

    Raises:
        Unfit: If it does not run, or other sizes bring out a difference, naming the axes that are traced in.
    """
    recorded = made[0]
    answers = [graph(recorded.inputs)]
    wrong = differences(recorded.outputs, answers[0], GROSS)
    for other in made[1:]:
        answer, fault = _hold(graph, other)
        # What is wrong everywhere is no matter of size; what is right at one size only has that size traced in.
        odd = {name: text for name, text in {**wrong, **fault}.items() if not (name in wrong and name in fault)}
        if odd:
            guilty = [axis for axis in other.axes if _breaks(graph, component, module, recorded, axis)]
            raise _traced_in(component, recorded if odd.keys() & wrong.keys() else other, guilty or other.axes, odd)
        answers.append(answer)
    return answers, f"on the recorded inputs {'; '.join(wrong.values())}" if wrong else None


def _traced_in(component: Component, seen: Probe, axes: Sequence[str], odd: Mapping[str, str]) -> Unfit:
    sizes = sizes_of(component, seen.inputs)
    return Unfit(
        f"the size of {', '.join(axes)} is traced into the graph, though the axis is declared dynamic: "
        f"at {', '.join(f'{axis} = {sizes[axis]}' for axis in axes)} {'; '.join(odd.values())}",
        "Write the network without Python branches or numbers that depend on the size, or declare the axis fixed.",
    )


def _hold(graph: Graph, wanted: Probe) -> tuple[Tensors, dict[str, str]]:
    """The graph's answer, and what it gets wrong at these sizes."""
    try:
        answer = graph(wanted.inputs)
    except Unfit as error:
        return {}, {"": str(error)}
    return answer, differences(wanted.outputs, answer, GROSS)


def _breaks(graph: Graph, component: Component, module: nn.Module, recorded: Probe, axis: str) -> bool:
    """Whether this axis alone brings out one of the faults, or takes it away."""
    try:
        fault = _hold(graph, probe(module, component, recorded.inputs, [axis]))[1]
    except LoadError:
        return False
    return fault.keys() != _hold(graph, recorded)[1].keys()


def differences(reference: Tensors, answer: Tensors, share: float) -> dict[str, str]:
    """The outputs that are something else, each with how, in words."""
    wrong: dict[str, str] = {}
    for name, want in reference.items():
        got = answer[name]
        if got.dtype != want.dtype or got.shape != want.shape:
            wrong[name] = f"{name} is {_kind(got)} instead of {_kind(want)}"
        elif (off := _distance(want, got)) > share:
            wrong[name] = f"{name} differs by {off:.2g} of its largest value"
    return wrong


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _distance(want: torch.Tensor, got: torch.Tensor) -> float:
    """Largest difference over largest magnitude; for integers and flags the share of unequal elements."""
    if not want.numel():
        return 0.0
    if not want.is_floating_point():
        return float((want != got).double().mean())
    a, b = want.double(), got.double()
    same = (a == b) | (a.isnan() & b.isnan())
    off = torch.where(same, 0.0, (a - b).abs()).max().item()
    if not math.isfinite(off):
        return math.inf
    scale = torch.where(a.isfinite(), a.abs(), 0.0).max().item()
    return float(off / max(scale, 1e-6))
