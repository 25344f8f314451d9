"""The weights that training starts from."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from awml_centerpoint.network.convnext import ConvNext
from awml_centerpoint.network.head import CenterHead, TaskHead
from awml_centerpoint.network.neck import SecondFpn
from awml_centerpoint.network.second import Second


def start(model: nn.Module, heatmap_bias: float) -> None:
    """Draw the first weights of every part that torch's own draw does not suit.

    Args:
        model: The network.
        heatmap_bias: Log-odds that a cell holds a centre, before anything is learnt: -4.595 is one in a hundred.
    """
    for part in model.modules():
        if isinstance(part, Second | CenterHead):
            _draw(part, nn.Conv2d, _kaiming)
        elif isinstance(part, SecondFpn):
            _draw(part, nn.ConvTranspose2d, _kaiming)
        elif isinstance(part, ConvNext):
            _draw(part, (nn.Conv2d, nn.Linear), _narrow)
    for part in model.modules():
        if isinstance(part, TaskHead):
            last = list(part.get_submodule("heatmap").children())[-1]
            nn.init.constant_(last.get_parameter("bias"), heatmap_bias)


def _draw(
    part: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...], rule: Callable[[Tensor], None]
) -> None:
    for layer in part.modules():
        if isinstance(layer, kinds):
            rule(layer.get_parameter("weight"))
            for name, value in layer.named_parameters(recurse=False):
                if name == "bias":
                    nn.init.zeros_(value)


def _kaiming(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def _narrow(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=0.02)
