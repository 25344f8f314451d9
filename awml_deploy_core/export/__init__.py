"""Component + example inputs -> .onnx, checked before it gets its name."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import torch
from attrs import frozen

from awml_deploy_core.backends.fit import cut, limits_of, pad
from awml_deploy_core.backends.pytorch import evaluating
from awml_deploy_core.backends.runner import check_inputs
from awml_deploy_core.errors import LoadError
from awml_deploy_core.export import check, graph
from awml_deploy_core.export.attempt import Task, first_that_holds
from awml_deploy_core.export.trace import Exporter, Unfit
from awml_deploy_core.files import ensure_directory, publish, sha256_file
from awml_deploy_core.records import Artifact

if TYPE_CHECKING:
    from torch import nn

    from awml_deploy_core.backends.fit import Tensors
    from awml_deploy_core.records import Array, Component

__all__ = ["Exported", "export_onnx"]

_LOG = logging.getLogger(__name__)
DYNAMO_OPSET = 18
"""The lowest opset that torch's dynamo exporter implements; for lower ones it converts what it made."""

_INLINE = 1_900_000_000
"""A protobuf message ends at 2 GB; the graph itself needs some of it."""


@frozen(kw_only=True)
class Exported:
    """An ONNX file and how it came about.

    Args:
        artifact: The file.
        exporter: Which of torch's two made it.
        opset: Version of ONNX's operators in it.
        ir_version: Version of the file format.
        notes: What a reader of the report should know: fallbacks, warnings of the tracer, what could not be checked.
        seconds: How long it took.
    """

    artifact: Artifact
    exporter: Exporter
    opset: int
    ir_version: int
    notes: tuple[str, ...]
    seconds: float


def export_onnx(
    module: nn.Module,
    component: Component,
    inputs: Mapping[str, Array],
    path: Path,
    *,
    opset_version: int = 17,
    max_ir_version: int | None = None,
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto",
    do_constant_folding: bool = True,
    export_params: bool = True,
    keep_initializers_as_inputs: bool = False,
    simplify: bool = True,
    external_data: Literal["auto", "inline", "external"] = "auto",
    metadata: Mapping[str, str] | None = None,
    producer: tuple[str, str] = ("awml-deploy-core", ""),
    made_from: str | None = None,
) -> Exported:
    """Export one component, hold the graph against the network, and give the file its name only then.

    The graph is run in ONNX Runtime on the example inputs and at another size of every dynamic axis. With `auto`
    dynamo is tried first, and TorchScript where that does not give what was asked for; below the opsets that dynamo
    implements it is the other way round, since its conversion downwards seldom succeeds and costs a whole export.

    Args:
        module: Takes and gives the component's tensors in order; on the CPU. Left as it was.
        component: What must stand in the file.
        inputs: Recorded example inputs.
        path: The file to write; weights beyond 1.9 GB go into a file beside it.
        opset_version: Exactly this one.
        max_ir_version: The newest file format that a reader understands.
        exporter: Which of torch's exporters.
        do_constant_folding: Whether constant parts are computed beforehand.
        export_params: Whether weights are stored; if not they become inputs.
        keep_initializers_as_inputs: Whether weights are listed among the inputs as well.
        simplify: Whether onnxslim works on the graph; its result is kept only if it computes the same.
        external_data: Where weights go; `auto` keeps them in the file as long as they fit.
        metadata: Written into the file.
        producer: Name and version, written into the file.
        made_from: Hash of the checkpoint, for the chain of artifacts.

    Returns:
        The artifact, how it was made, and notes.

    Raises:
        LoadError: If the network cannot be exported, naming operator, axis or tensor.
    """
    started = time.perf_counter()
    ensure_directory(path.parent)
    examples = _examples(component, inputs)
    exporters = _order(exporter, opset_version)
    with tempfile.TemporaryDirectory(prefix=".awml-export-", dir=path.parent) as folder, evaluating(module):
        probes, notes = check.probes(module, component, examples)
        task = Task(
            module=module,
            component=component,
            probes=probes,
            staging=Path(folder),
            opset_version=opset_version,
            folding=do_constant_folding,
            simplify=simplify,
            external=_external(module, external_data),
        )
        try:
            held = first_that_holds(task, exporters)
            model = held.model
            graph.cap_ir(model, max_ir_version)
        except Unfit as error:
            raise LoadError(f"component {component.name} cannot be exported: {error}", hint=error.hint) from error
        tool = f"torch {torch.__version__} {held.exporter}"
        graph.fix_metadata(model, *producer, {"exporter": tool, **(metadata or {})})
        if keep_initializers_as_inputs or not export_params:
            graph.list_initializers(model, with_values=export_params)
        names = graph.write(model, task.staging / path.name, external=task.external)
        notes += [*held.notes, *_checked(component, task.staging / path.name)]
        if exporter == "auto" and opset_version < DYNAMO_OPSET and held.exporter == "torchscript":
            notes.append(f"torchscript was used: dynamo implements opset {DYNAMO_OPSET} and up, not {opset_version}")
        publish(folder, path.parent, names)
    for note in notes:
        _LOG.info("component %s: %s", component.name, note)
    return Exported(
        artifact=_artifact(component, path, tool, made_from),
        exporter=held.exporter,
        opset=opset_version,
        ir_version=model.ir_version,
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def _order(exporter: Literal["auto", "dynamo", "torchscript"], opset: int) -> tuple[Exporter, ...]:
    if exporter != "auto":
        return (exporter,)
    return ("dynamo", "torchscript") if opset >= DYNAMO_OPSET else ("torchscript", "dynamo")


def _examples(component: Component, inputs: Mapping[str, Array]) -> Tensors:
    """The recorded inputs on the CPU, at the size that a fixed axis asks for."""
    tensors = {
        name: value.detach().cpu().clone() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
        for name, value in inputs.items()
    }
    limits = limits_of(component, {})
    for name, size in check_inputs(component, tensors, limits).items():
        axis = component.axis(name)
        if axis.independent and not axis.dynamic and axis.min == axis.max != size:
            tensors = pad(component, cut(component.inputs, tensors, name, 0, min(size, axis.min)), name, axis.min)
    return tensors


def _artifact(component: Component, path: Path, tool: str, made_from: str | None) -> Artifact:
    return Artifact(
        component=component.name,
        format="onnx",
        path=path,
        sha256=sha256_file(path),
        size=path.stat().st_size,
        made_from=made_from,
        tool=tool,
    )


def _external(module: nn.Module, choice: str) -> bool:
    if choice == "auto":
        return graph.weigh([*module.parameters(), *module.buffers()]) > _INLINE
    return choice == "external"


def _checked(component: Component, path: Path) -> list[str]:
    """Let ONNX's own checker look at the file, shapes included.

    Raises:
        LoadError: If it is not valid ONNX.
    """
    try:
        onnx.checker.check_model(path, full_check=True)
    except onnx.shape_inference.InferenceError as error:
        return [f"ONNX's shape inference objects: {' '.join(str(error).split())[:300]}"]
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise LoadError(f"component {component.name} cannot be exported: ONNX's checker objects: {reason}") from error
    return []
