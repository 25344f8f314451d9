"""The trained network and its twin: another structure over the same weights, free to be edited for export."""

from __future__ import annotations

import zlib
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING

from awml_deploy_core.errors import LoadError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def twin(model: nn.Module) -> nn.Module:
    """A copy of the structure that shares every parameter and buffer, so that it costs no memory."""
    return deepcopy(model, {id(tensor): tensor for _, tensor in _tensors(model)})


def require_sound(model: nn.Module, plugin: str) -> None:
    """Check what every later stage relies on.

    Raises:
        PluginError: The network is in training mode or not on the CPU.
        LoadError: It has weights that are no numbers.
    """
    away = next((f"{name} on {tensor.device}" for name, tensor in _tensors(model) if tensor.device.type != "cpu"), None)
    if away:
        raise PluginError(f"{plugin}: load_model returned a network with {away}", hint="Return it on the CPU.")
    training = next((name or "the network" for name, part in model.named_modules() if part.training), None)
    if training:
        raise PluginError(
            f"{plugin}: load_model returned a network in training mode ({training})", hint="Call model.eval()."
        )
    broken = [name for name, tensor in _tensors(model) if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise LoadError(
            f"the trained weights are not all finite: {', '.join(broken[:3])}{more}",
            hint="Take an earlier checkpoint; this training diverged.",
        )


def versions(model: nn.Module) -> tuple[int, ...]:
    """A fingerprint of the weights themselves: torch's own versions do not see what is written through `.data`."""
    import torch

    flat = (tensor.detach().contiguous().reshape(-1) for _, tensor in _tensors(model))
    return tuple(zlib.crc32(tensor.view(torch.uint8).numpy().data) for tensor in flat)


def submodule(model: nn.Module, component: str, *, single: bool, plugin: str) -> nn.Module:
    """What runs a component where the plugin does not say: the network, or its part of that name if there are several.

    Raises:
        PluginError: There are several components, and none of the network's parts has this name.
    """
    if single:
        return model
    parts: dict[str, nn.Module] = dict(model.named_modules())
    if component not in parts:
        raise PluginError(
            f"{plugin}: nothing says which module runs the component {component!r}",
            hint="Implement wrap_for_onnx, or name the component like a submodule of the network.",
        )
    return parts[component]
