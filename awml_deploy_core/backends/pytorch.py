"""PyTorch behind `run`: the network itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from awml_deploy_core.backends.runner import Session
from awml_deploy_core.errors import DeployError, LoadError

if TYPE_CHECKING:
    from awml_deploy_core.backends import Device
    from awml_deploy_core.backends.fit import Tensors
    from awml_deploy_core.records import Component, Variant

__all__ = ["evaluating", "forward", "full_precision", "open_session", "thread_limit"]


def open_session(variant: Variant, component: Component, device: Device, modules: Mapping[str, nn.Module]) -> Session:
    """Make a network ready to run as a component.

    Raises:
        DeployError: If no module was handed over for the component.
    """
    if component.name not in modules:
        raise DeployError(f"variant {variant.name}: no module was given for component {component.name}")
    module = modules[component.name]
    where = torch.device(str(device))
    if any(tensor.device != where for tensor in (*module.parameters(), *module.buffers())):
        # `to` would move the caller's network, which other variants may be running.
        module = copy.deepcopy(module).to(where)
    mode = ExitStack()
    mode.enter_context(evaluating(module))

    def call(inputs: Tensors) -> Tensors:
        with full_precision(where):
            return forward(module, component, inputs)

    return Session(
        provider=f"torch {where}",
        call=call,
        accepts={},
        close=mode.close,
    )


def forward(module: nn.Module, component: Component, inputs: Tensors) -> Tensors:
    """Run a network once, so that neither side can reach the other's memory.

    Inputs and outputs are copied, always: a network may work in place, keep what it returned, or return a view of
    its input. Copying costs little beside a forward pass, and contiguous outputs behave like those of a graph.

    Raises:
        LoadError: If the network fails, or does not return the declared outputs.
    """
    arguments = [inputs[tensor.name].clone() for tensor in component.inputs]
    try:
        with torch.no_grad():
            result = module(*arguments)
    except DeployError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise LoadError(f"component {component.name}: its module fails: {type(error).__name__}: {reason}") from error
    outputs = _outputs(component, result)
    names = [tensor.name for tensor in component.outputs]
    return {n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in zip(names, outputs, strict=True)}


def _outputs(component: Component, result: Any) -> tuple[torch.Tensor, ...]:
    outputs = tuple(result) if isinstance(result, tuple | list) else (result,)
    strange = sorted({type(value).__name__ for value in outputs if not isinstance(value, torch.Tensor)})
    if strange or len(outputs) != len(component.outputs):
        got = f"a {', '.join(strange)}" if strange else f"{len(outputs)} tensors"
        names = ", ".join(tensor.name for tensor in component.outputs)
        raise LoadError(
            f"component {component.name}: its module must return the tensors {names} in this order, got {got}",
            hint="Let wrap_for_onnx return a module whose forward gives a tensor, or a tuple of tensors.",
        )
    return outputs


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a network in eval mode, and leave each part in the mode that it had."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep the GPU from rounding float32 to TF32, which cuDNN does by default; the settings are put back.

    The reference must not be coarser than what is held against it.
    """
    if device.type != "cuda":
        yield
        return
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


@contextmanager
def thread_limit(threads: int | None) -> Iterator[None]:
    """Limit torch's threads; the setting is the process's, so it is put back."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)
