"""Maps of several sizes brought to one size and put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Norm


class SecondFpn(nn.Module):
    """One convolution for each map, with a stride or a transposed one.

    Args:
        inputs: Channels of each map.
        outputs: Channels of each after its convolution.
        strides: Growth of each; below 1 it shrinks.
        norm: Constants of the norms.
        conv_for_no_stride: Whether a map that keeps its size passes a convolution, not a transposed one.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        strides: Sequence[float],
        norm: Norm,
        *,
        conv_for_no_stride: bool,
    ) -> None:
        super().__init__()
        self.deblocks = nn.ModuleList(
            nn.Sequential(
                _resize(wide, narrow, stride, conv_for_no_stride=conv_for_no_stride),
                nn.BatchNorm2d(narrow, norm.eps, norm.momentum),
                nn.ReLU(inplace=True),
            )
            for wide, narrow, stride in zip(inputs, outputs, strides, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """One map with the channels of all."""
        return torch.cat([deblock(x) for deblock, x in zip(self.deblocks, maps, strict=True)], 1)


def _resize(inputs: int, outputs: int, stride: float, *, conv_for_no_stride: bool) -> nn.Module:
    if stride > 1 or (stride == 1 and not conv_for_no_stride):
        size = round(stride)
        return nn.ConvTranspose2d(inputs, outputs, size, size, bias=False)
    size = round(1 / stride)
    return nn.Conv2d(inputs, outputs, size, size, bias=False)
