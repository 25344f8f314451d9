"""How far a network's maps are from the targets."""

from __future__ import annotations

import torch
from torch import Tensor

MAPS = ("reg", "height", "dim", "rot", "vel")
"""The order of the values in the targets."""

WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
SHARE = 0.25
"""What an error of the boxes weighs beside one of the heat map."""

TINY = 1e-4


def focal(logits: Tensor, heatmap: Tensor) -> Tensor:
    """The penalty-reduced focal loss over all classes, per object."""
    p = logits.sigmoid().clamp(TINY, 1 - TINY)
    peak = heatmap == 1
    hit = -(p + TINY).log() * (1 - p) ** 2
    miss = -(1 - p + TINY).log() * p**2 * (1 - heatmap) ** 4
    return torch.where(peak, hit, miss).sum() / peak.sum().clamp(min=1)


def regression(maps: dict[str, Tensor], frames: Tensor, cells: Tensor, values: Tensor) -> Tensor:
    """The weighted absolute error of the boxes, per object.

    Args:
        maps: The network's answer, (frames, channels, rows, columns) each.
        frames: (M,) frame of each object.
        cells: (M,) its cell.
        values: (M, 10) its targets; what is not a number is not asked for.
    """
    together = torch.cat([maps[name] for name in MAPS], 1).flatten(2)
    answered = together[frames, :, cells]
    known = ~values.isnan()
    # Cleaned before the difference: NaN times a weight of zero is NaN still.
    error = (answered - torch.where(known, values, 0.0)).abs() * known * values.new_tensor(WEIGHTS)
    return SHARE * error.sum() / (len(values) + 1e-4)
