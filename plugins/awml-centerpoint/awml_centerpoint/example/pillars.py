"""Points to maps for training: several frames at once, and no more than the gradient needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from awml_centerpoint.architecture import Geometry
    from awml_centerpoint.network import CenterPoint


def answer(model: CenterPoint, points: Tensor, lengths: list[int], geometry: Geometry) -> dict[str, Tensor]:
    """The maps for some frames.

    Args:
        model: A network with one task.
        points: The points of all frames, one after the other, all of them in range.
        lengths: How many each frame has.
        geometry: The grid.
    """
    columns, rows, _ = geometry.grid
    features, place = pillars(points, lengths, geometry)
    encoded = model.encode(features).flatten(1)
    canvas = encoded.new_zeros(len(lengths) * rows * columns, encoded.shape[1]).index_copy(0, place, encoded)
    canvas = canvas.view(len(lengths), rows, columns, -1).permute(0, 3, 1, 2)
    (maps,) = model.detect(canvas)
    return {name: value.float() for name, value in maps.items()}


def pillars(points: Tensor, lengths: list[int], geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Decorated points (V, P, C) and each pillar's place (V,) in the canvases of all frames."""
    columns, rows, _ = geometry.grid
    low, size = geometry.range, geometry.voxel_size
    device = points.device
    frame = torch.repeat_interleave(torch.arange(len(lengths), device=device), torch.tensor(lengths, device=device))
    x = ((points[:, 0] - low[0]) / size[0]).floor().long().clamp(0, columns - 1)
    y = ((points[:, 1] - low[1]) / size[1]).floor().long().clamp(0, rows - 1)
    where, order = torch.sort((frame * rows + y) * columns + x, stable=True)
    place, pillar, count = torch.unique_consecutive(where, return_inverse=True, return_counts=True)
    rank = torch.arange(len(where), device=device) - (count.cumsum(0) - count)[pillar]
    kept = rank < geometry.max_num_points
    count = count.clamp(max=geometry.max_num_points)
    raw = points.new_zeros(len(place), geometry.max_num_points, points.shape[1])
    raw[pillar[kept], rank[kept]] = points[order[kept]]
    mean = raw[..., :3].sum(1, keepdim=True) / count[:, None, None]
    cx = (place % columns + 0.5) * size[0] + low[0]
    cy = (place // columns % rows + 0.5) * size[1] + low[1]
    middle = torch.stack([cx, cy, torch.full_like(cx, low[2] + size[2] / 2)], 1)[:, None]
    filled = torch.arange(geometry.max_num_points, device=device) < count[:, None]
    features = torch.cat([raw, raw[..., :3] - mean, raw[..., :3] - middle], 2) * filled[..., None]
    return features, place
