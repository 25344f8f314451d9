"""From the neck's map to a heat map and maps of numbers, for one or more groups of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Architecture, Norm


class ConvNorm(nn.Module):
    """A convolution, a norm and a ReLU that keep the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, norm.eps, norm.momentum)

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same size."""
        return functional.relu(self.bn(self.conv(x)))


class TaskHead(nn.Module):
    """One small head for each map of a group of classes.

    Args:
        heads: Channels and convolutions of each map, the heat map last as in the published weights.
        made: Says how wide and with which kernels.
    """

    def __init__(self, heads: Mapping[str, tuple[int, int]], made: Architecture) -> None:
        super().__init__()
        self.names = ("heatmap", *(name for name in heads if name != "heatmap"))
        for name, (channels, convolutions) in heads.items():
            self.add_module(name, nn.Sequential(*_layers(made, channels, convolutions)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The maps by name, the heat map first."""
        return {name: self.get_submodule(name)(x) for name in self.names}


def _layers(made: Architecture, channels: int, convolutions: int) -> Iterator[nn.Module]:
    width = made.share_conv_channel
    for _ in range(convolutions - 1):
        yield ConvNorm(width, made.head_conv, made.final_kernel, made.head_norm)
        width = made.head_conv
    yield nn.Conv2d(width, channels, made.final_kernel, padding=made.final_kernel // 2)


class CenterHead(nn.Module):
    """A shared convolution, then a head for each group of classes.

    Args:
        made: The architecture.
        inputs: Channels of the neck's map.
    """

    def __init__(self, made: Architecture, inputs: int) -> None:
        super().__init__()
        numbers = {name: (channels, convolutions) for name, channels, convolutions in made.heads}
        self.shared_conv = ConvNorm(inputs, made.share_conv_channel, 3, made.head_norm)
        self.task_heads = nn.ModuleList(
            TaskHead({**numbers, "heatmap": (classes, made.heatmap_convs)}, made) for classes in made.tasks
        )

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        """For every task its maps by name."""
        x = self.shared_conv(x)
        return [head(x) for head in self.task_heads]
