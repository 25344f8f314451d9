"""The backbone of the short-range models: ConvNeXt without a stem, so that its first stage sees every pillar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FINAL = 1e-6
"""Epsilon of the norms within blocks and behind stages; those before a stride have torch's own."""


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of each cell of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same size."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A wide depth-wise convolution and two linear layers for each cell, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, FINAL)
        self.pointwise_conv1 = nn.Linear(channels, 4 * channels)
        self.pointwise_conv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """A map of the same size."""
        cells = self.norm(self.depthwise_conv(x).permute(0, 2, 3, 1))
        cells = self.pointwise_conv2(functional.gelu(self.pointwise_conv1(cells)))
        shortened: Tensor = x + (cells * self.gamma).permute(0, 3, 1, 2)
        return shortened


class ConvNext(nn.Module):
    """Stages, each but the first at half the size of the one before.

    Training drops no paths at random, unlike the published recipe; trained weights are the same in either.

    Args:
        inputs: Channels of the canvas, and of the first stage.
        channels: Channels of each stage.
        depths: Blocks of each stage.
        levels: Stages whose maps come out, each through a norm of its own.
    """

    def __init__(self, inputs: int, channels: Sequence[int], depths: Sequence[int], levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        widths = (inputs, *channels)
        self.downsample_layers = nn.ModuleList(
            nn.Sequential(ChannelNorm(widths[index]), nn.Conv2d(widths[index], widths[index + 1], 2, 2))
            if index
            else nn.Sequential()
            for index in range(len(channels))
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for width, depth in zip(channels, depths, strict=True)
        )
        for level in levels:
            self.add_module(f"norm{level}", ChannelNorm(channels[level], FINAL))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of the chosen stages."""
        maps = []
        for index, (shrink, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(shrink(x))
            if index in self.levels:
                maps.append(self.get_submodule(f"norm{index}")(x))
        return maps
