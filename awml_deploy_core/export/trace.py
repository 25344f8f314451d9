"""Network -> raw ONNX file: the one place that calls torch's exporter, and what it says held back."""

from __future__ import annotations

import ctypes
import inspect
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from awml_deploy_core.record import resize_inputs, sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from awml_deploy_core.backends.fit import Tensors
    from awml_deploy_core.records import Component, Tensor

__all__ = ["Exporter", "Unfit", "hushed", "trace"]

Exporter = Literal["dynamo", "torchscript"]

_LOG = logging.getLogger(__name__)
_CHATTY = ("torch", "onnxscript", "onnx_ir", "onnxslim")


class Unfit(Exception):  # noqa: N818  not an error yet: another exporter may do
    """Why a graph, or the attempt to make one, is not good enough; the component is named by whoever catches it."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.hint = hint


def trace(
    module: nn.Module,
    component: Component,
    inputs: Tensors,
    path: Path,
    *,
    exporter: Exporter,
    opset_version: int,
    folding: bool,
    external: bool,
) -> list[str]:
    """Write the raw graph of a network.

    Args:
        module: In eval mode.
        component: Names, order and axes.
        inputs: Example inputs; copied, because a network may work in place.
        path: The file to write.
        exporter: Which of torch's two.
        opset_version: Which is asked for; what comes out must be looked at.
        folding: Whether constants may be folded.
        external: Whether weights go into a file beside it.

    Returns:
        What the exporter warned of that touches the result.

    Raises:
        Unfit: If it fails, with the operator or the line that it names.
    """
    options: dict[str, Any]
    if exporter == "dynamo":
        inputs = _beyond_one(component, inputs)
        shapes = tuple(dict.fromkeys(_dynamic(component, t), torch.export.Dim.DYNAMIC) for t in component.inputs)
        options = {"dynamic_shapes": shapes, "external_data": external, "optimize": folding}
    else:
        named = {t.name: _dynamic(component, t) for t in component.inputs + component.outputs}
        options = {"dynamic_axes": named, "do_constant_folding": folding}
    arguments = tuple(inputs[tensor.name].clone() for tensor in component.inputs)
    said = io.StringIO()
    try:
        with torch.no_grad(), hushed(said):
            torch.onnx.export(
                module,
                arguments,
                str(path),
                input_names=[tensor.name for tensor in component.inputs],
                output_names=[tensor.name for tensor in component.outputs],
                opset_version=opset_version,
                dynamo=exporter == "dynamo",
                verbose=False,
                **options,
            )
    except Exception as error:
        raise _unfit(module, component, error, said.getvalue()) from error
    return [f"{exporter}: {line.partition('. ')[0]}" for line in said.getvalue().splitlines() if _TRACED in line]


def _dynamic(component: Component, tensor: Tensor) -> dict[int, str]:
    named = enumerate(tensor.shape)
    return {spot: size for spot, size in named if isinstance(size, str) and component.axis(size).dynamic}


def _beyond_one(component: Component, inputs: Tensors) -> Tensors:
    """Example inputs with two rows where none or one was recorded: dynamo takes 0 and 1 for constants."""
    small = [name for name, size in sizes_of(component, inputs).items() if size < 2]
    return resize_inputs(component, inputs, small)


# ---------------------------------------------------------------- what the exporters say

_TRACED = "might cause the trace to be incorrect"


@contextmanager
def hushed(said: io.StringIO) -> Iterator[None]:
    """Collect what exporters print, log and warn; the log has it all at level debug."""
    try:
        with (
            _descriptor_into(said),
            redirect_stdout(said),
            redirect_stderr(said),
            _loggers_into(said),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            try:
                yield
            finally:
                texts = (f"{Path(w.filename).name}:{w.lineno}: {' '.join(str(w.message).split())}" for w in caught)
                said.write("".join(f"\n{text}" for text in dict.fromkeys(texts)))
    finally:
        _LOG.debug("%s", said.getvalue())


@contextmanager
def _descriptor_into(stream: io.StringIO) -> Iterator[None]:
    """Take what C++ writes to the standard output: TorchScript prints its graph there when it gives up."""
    flush = ctypes.CDLL(None).fflush
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        flush(None)
        before = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            flush(None)
            os.dup2(before, 1)
            os.close(before)
            file.seek(0)
            stream.write(file.read().decode(errors="replace"))


@contextmanager
def _loggers_into(stream: io.StringIO) -> Iterator[None]:
    """Take the handlers off the chatty loggers: they hold the real stderr since they were made."""
    known = [*_CHATTY, *(name for name in logging.root.manager.loggerDict if name.split(".")[0] in _CHATTY)]
    before = [(logger, logger.handlers, logger.propagate) for logger in map(logging.getLogger, dict.fromkeys(known))]
    for logger, _, _ in before:
        own = logger.name in _CHATTY
        logger.handlers = [logging.StreamHandler(stream)] if own else []
        logger.propagate = not own
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


def _unfit(module: nn.Module, component: Component, error: Exception, said: str) -> Unfit:
    """The reason at the root of an exporter's error, in a line."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    text = f"{root}\n{error}"
    operator = re.search(r"operator '([\w:]+)'|OpOverload\(op='([\w.:]+)'", text)
    if operator:
        name = operator[1] or operator[2]
        return Unfit(
            f"the operator {name}{_scope(name, said)} has no ONNX form here",
            "Replace it in wrap_for_onnx (exact=False), raise onnx_config.opset_version, or choose another exporter.",
        )
    axes = sorted({axis for axis in _specialised(module, component, text) if axis})
    if axes:
        return _traced_in(axes)
    lines = [line.strip() for line in str(root).splitlines() if line.strip()]
    return Unfit(f"{type(root).__name__}: {lines[0] if lines else 'no reason given'}")


def _scope(operator: str, said: str) -> str:
    """Where in the network TorchScript met an operator, read from the graph that it prints."""
    found = re.search(rf"= {re.escape(operator)}\(.*scope: (\S+)", said)
    parts = [part.rpartition("::")[2] for part in found[1].split("/")] if found else []
    path = ".".join(part for part in parts if part)
    return f" in {path}" if path else ""


def _specialised(module: nn.Module, component: Component, text: str) -> Iterator[str | None]:
    """Axes that dynamo found to be constants: `You marked L['x'].size()[0] as dynamic but ...`."""
    arguments = list(inspect.signature(module.forward).parameters)
    for name, dim in re.findall(r"marked L\['(\w+)'\]\.size\(\)\[(\d+)\]", text):
        if name in arguments and arguments.index(name) < len(component.inputs):
            size = component.inputs[arguments.index(name)].shape[int(dim)]
            yield size if isinstance(size, str) else None


def _traced_in(axes: list[str]) -> Unfit:
    return Unfit(
        f"the size of {', '.join(axes)} is traced into the graph as a constant, though the axis is declared dynamic",
        "Write the network without Python branches or numbers that depend on the size, or declare the axis fixed.",
    )
