"""From the decorated points of a pillar to its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Norm


class PointLayer(nn.Module):
    """A linear layer for each point, and the maximum over the points of a pillar.

    Args:
        inputs: Channels of a point.
        outputs: Features that come out, of which half are the maximum unless it is the last layer.
        norm: Constants of its norm.
        last: Whether only the maximum goes on.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, *, last: bool) -> None:
        super().__init__()
        units = outputs if last else outputs // 2
        self.last = last
        self.norm = nn.BatchNorm1d(units, norm.eps, norm.momentum)
        self.linear = nn.Linear(inputs, units, bias=False)

    def forward(self, points: Tensor) -> Tensor:
        """Features (pillars, points or 1, outputs) of points (pillars, points, inputs).

        Rows without a point are zero at first and no longer so after a norm, and they count in the maximum. That is
        how the published networks were trained.
        """
        x = self.norm(self.linear(points).transpose(1, 2)).transpose(1, 2)
        x = functional.relu(x)
        peak = x.amax(1, keepdim=True)
        return peak if self.last else torch.cat([x, peak.expand_as(x)], 2)


class PillarFeatures(nn.Module):
    """Layer upon layer; the decoration of points is not part of it.

    Args:
        channels: Channels of a decorated point.
        features: Features after each layer.
        norm: Constants of the norms.
    """

    def __init__(self, channels: int, features: Sequence[int], norm: Norm) -> None:
        super().__init__()
        widths, last = (channels, *features), len(features) - 1
        self.pfn_layers = nn.ModuleList(
            PointLayer(widths[index], widths[index + 1], norm, last=index == last) for index in range(len(features))
        )

    def forward(self, input_features: Tensor) -> Tensor:
        """Features (pillars, 1, features) of decorated points (pillars, points, channels)."""
        for layer in self.pfn_layers:
            input_features = layer(input_features)
        return input_features
