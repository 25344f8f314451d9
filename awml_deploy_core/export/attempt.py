"""One exporter after another, until a graph holds; in a simpler form, if that holds too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from attrs import frozen
from torch import nn

from awml_deploy_core.backends.onnxruntime import foreign
from awml_deploy_core.export import check, graph
from awml_deploy_core.export.slim import slim
from awml_deploy_core.export.trace import Exporter, Unfit, trace
from awml_deploy_core.records import Component

if TYPE_CHECKING:
    from awml_deploy_core.backends.fit import Tensors

__all__ = ["Held", "Task", "first_that_holds"]


@frozen(kw_only=True, eq=False)
class Task:
    """What every attempt needs; `staging` is a folder of its own."""

    module: nn.Module
    component: Component
    probes: Sequence[check.Probe]
    staging: Path
    opset_version: int
    folding: bool
    simplify: bool
    external: bool


@frozen(kw_only=True, eq=False)
class Held:
    """A graph that computes what the network computes; `doubt` is what verification must judge."""

    exporter: Exporter
    model: onnx.ModelProto
    notes: Sequence[str] = ()
    doubt: str | None = None


def first_that_holds(task: Task, exporters: Sequence[Exporter]) -> Held:
    """The graph of the first exporter that gives what was asked for.

    Raises:
        Unfit: If none does, with the reason of each.
    """
    refused: list[tuple[str, Unfit]] = []
    doubtful: Held | None = None
    for exporter in exporters:
        try:
            held = _traced(task, exporter)
        except Unfit as error:
            refused.append((exporter, error))
            continue
        if held.doubt is None:
            return _told(held, refused)
        # Another exporter may have none; where no other gives a graph at all, verification judges this one.
        doubtful = doubtful or held
        refused.append((exporter, Unfit(held.doubt)))
    if doubtful is not None:
        return _told(doubtful, [each for each in refused if each[0] != doubtful.exporter])
    reasons = "; ".join(f"{name}: {reason}" for reason, name in _grouped(refused).items())
    raise Unfit(reasons, refused[-1][1].hint) from refused[-1][1]


def _told(held: Held, refused: Sequence[tuple[str, Unfit]]) -> Held:
    """The graph that is taken, with what became of the others."""
    doubts = [f"{held.exporter}: {held.doubt}; verification is to judge"] if held.doubt else []
    fallbacks = [f"{name} was given up: {error}; {held.exporter} was used" for name, error in refused]
    return Held(exporter=held.exporter, model=held.model, notes=[*fallbacks, *held.notes, *doubts])


def _grouped(refused: Sequence[tuple[str, Unfit]]) -> dict[str, str]:
    """The names of those who gave a reason, by reason."""
    by: dict[str, list[str]] = {}
    for name, error in refused:
        by.setdefault(str(error), []).append(name)
    return {reason: " and ".join(names) for reason, names in by.items()}


def _traced(task: Task, exporter: Exporter) -> Held:
    raw, path = task.staging / f"{exporter}.raw", task.staging / f"{exporter}.onnx"
    notes = trace(
        task.module,
        task.component,
        task.probes[0].inputs,
        raw,
        exporter=exporter,
        opset_version=task.opset_version,
        folding=task.folding,
        external=task.external,
    )
    model = onnx.load(raw)
    raw.unlink()
    _settle(task, model)
    strange = sorted({node.domain for node in foreign(model)})
    if strange:
        note = f"not checked in ONNX Runtime, not simplified: it lacks the operators of {', '.join(strange)}"
        return Held(exporter=exporter, model=model, notes=[*notes, note])
    best, more, doubt = _checked(task, model, path)
    return Held(exporter=exporter, model=best, notes=[*notes, *more], doubt=doubt)


def _checked(task: Task, model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, list[str], str | None]:
    """Hold a graph against the network, simplified where that computes the same.

    The simplified form is run first: one that agrees closely with the network leaves nothing to be found out about
    the form that it was made from.

    Returns:
        The graph to take, notes, and a doubt.
    """
    simpler, trouble = _simplified(task, model) if task.simplify else (None, None)
    if simpler and not _misses(task, simpler, path, [probe.outputs for probe in task.probes]):
        return simpler, [], None
    _write(task, model, path)
    run = check.open_graph(path, task.component)
    answers, doubt = check.require(run, task.component, task.module, task.probes)
    if simpler:
        trouble = _misses(task, simpler, path, answers)
    return (model, [f"left unsimplified: {trouble}"], doubt) if trouble else (simpler or model, [], doubt)


def _simplified(task: Task, model: onnx.ModelProto) -> tuple[onnx.ModelProto | None, str | None]:
    """A simpler form of a graph, or why there is none."""
    try:
        simpler = slim(model, folding=task.folding)
        _settle(task, simpler)
    except Unfit as error:
        return None, str(error)
    return simpler, None


def _write(task: Task, model: onnx.ModelProto, path: Path) -> None:
    """Write a graph for a session; a copy where weights go beside it, because that takes them out of the graph."""
    if task.external:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        model = copy
    graph.write(model, path, external=task.external)


def _misses(task: Task, model: onnx.ModelProto, path: Path, wanted: Sequence[Tensors]) -> str | None:
    """How a graph differs from these answers, in words."""
    _write(task, model, path)
    try:
        run = check.open_graph(path, task.component)
        for probe, answer in zip(task.probes, wanted, strict=True):
            wrong = check.differences(answer, run(probe.inputs), check.FINE)
            if wrong:
                return "; ".join(wrong.values())
    except Unfit as error:
        return str(error)
    return None


def _settle(task: Task, model: onnx.ModelProto) -> None:
    """Hold a graph against the component, and leave only what the component says."""
    opset = graph.opset_of(model)
    if opset != task.opset_version:
        raise Unfit(
            f"it gives opset {opset} where {task.opset_version} was asked for",
            "Set onnx_config.exporter to torchscript, or onnx_config.opset_version to 18 or more.",
        )
    sizes = check.known_sizes(task.component, task.probes[0])
    graph.declare(model, task.component, sizes)
    graph.scrub(model)
