"""What the network is trained to answer for a frame, as CenterPoint defines it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from awml_centerpoint.example.shapes import Floats, Ints

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Geometry

OVERLAP = 0.1
SMALLEST = 2
MOST = 500
"""Objects of one frame; what comes after is left out."""


@frozen(kw_only=True, eq=False)
class Targets:
    """One frame's targets.

    Args:
        heatmap: (classes, rows, columns) float32, 1 at the cell of each centre.
        cells: (M,) number of each object's cell, row by row.
        values: (M, 10) float32: what the other maps should say there, in the order reg, height, dim, rot, vel.
    """

    heatmap: Floats
    cells: Ints
    values: Floats


def assign(boxes: Floats, velocities: Floats, labels: Ints, geometry: Geometry, classes: int) -> Targets:
    """Targets of a frame.

    Args:
        boxes: (N, 7): x, y, z of the middle, length, width, height, yaw.
        velocities: (N, 2); not a number where unknown.
        labels: (N,) classes; negative ones are left out.
        geometry: The grid.
        classes: How many classes there are.
    """
    factor = geometry.out_size_factor
    columns, rows = geometry.grid[0] // factor, geometry.grid[1] // factor
    heatmap = np.zeros((classes, rows, columns), np.float32)
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0][:MOST]
    size = np.array(geometry.voxel_size[:2])
    centre = (boxes[order, :2] - geometry.range[:2]) / size / factor
    # Cut towards zero, not down: a centre less than one cell outside the low edge still counts as the first cell.
    cell = np.trunc(centre).astype(np.int64)
    extent = boxes[order, 3:5] / size / factor
    sound = ((cell >= 0) & (cell < (columns, rows)) & (extent > 0)).all(1)
    order, centre, cell, extent = order[sound], centre[sound], cell[sound], extent[sound]
    for (x, y), (long, wide), label in zip(cell, extent, labels[order], strict=True):
        _splash(heatmap[label], int(x), int(y), max(SMALLEST, int(radius(long, wide))))
    yaw = boxes[order, 6:]
    dim = np.log(boxes[order, 3:6])
    parts = (centre - cell, boxes[order, 2:3], dim, np.sin(yaw), np.cos(yaw), velocities[order])
    values = np.concatenate(parts, 1).astype(np.float32)
    return Targets(heatmap=heatmap, cells=cell[:, 1] * columns + cell[:, 0], values=values)


def radius(length: float, width: float, overlap: float = OVERLAP) -> float:
    """How far, in cells, a centre may be off and its box still overlap enough.

    The published rule divides the second and third root by 2 and not by 2a as a quadratic equation asks; networks are
    trained with it, so it stays.
    """
    total, area, share = length + width, length * width, overlap
    first = (total + np.sqrt(total**2 - 4 * area * (1 - share) / (1 + share))) / 2
    second = (2 * total + np.sqrt(4 * total**2 - 16 * (1 - share) * area)) / 2
    third = (-2 * share * total + np.sqrt(4 * share**2 * total**2 - 16 * share * (share - 1) * area)) / 2
    return float(min(first, second, third))


def _splash(heat: Floats, x: int, y: int, reach: int) -> None:
    """Raise a map to a bell around a cell, where the bell is higher."""
    spread = (2 * reach + 1) / 6
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * spread**2))
    left, right = min(x, reach), min(heat.shape[1] - 1 - x, reach)
    above, below = min(y, reach), min(heat.shape[0] - 1 - y, reach)
    bell = line[reach - above : reach + below + 1, None] * line[reach - left : reach + right + 1]
    part = heat[y - above : y + below + 1, x - left : x + right + 1]
    np.maximum(part, bell, out=part, casting="same_kind")
