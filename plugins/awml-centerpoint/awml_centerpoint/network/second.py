"""The backbone of the base models: plain convolutions in stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Norm


class Second(nn.Module):
    """Stages of 3x3 convolutions, the first of each with a stride; every stage's map comes out.

    Args:
        inputs: Channels of the canvas.
        channels: Channels of each stage.
        layers: Convolutions of each stage after the first.
        strides: Stride of each stage.
        norm: Constants of the norms.
    """

    def __init__(
        self, inputs: int, channels: Sequence[int], layers: Sequence[int], strides: Sequence[int], norm: Norm
    ) -> None:
        super().__init__()
        widths = (inputs, *channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(*_stage(widths[index], widths[index + 1], count, stride, norm))
            for index, (count, stride) in enumerate(zip(layers, strides, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every stage's map."""
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps


def _stage(inputs: int, outputs: int, count: int, stride: int, norm: Norm) -> Iterator[nn.Module]:
    for index in range(count + 1):
        first = not index
        yield nn.Conv2d(inputs if first else outputs, outputs, 3, stride if first else 1, 1, bias=False)
        yield nn.BatchNorm2d(outputs, norm.eps, norm.momentum)
        yield nn.ReLU(inplace=True)
