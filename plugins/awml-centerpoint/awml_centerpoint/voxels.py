"""Points into pillars: which point lies where, and what the encoder is told of it.

Everything runs where the points lie, on the CPU and on a GPU alike; which cell and which place a point gets is the same
on both, bit for bit, and either says the same again in every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen
from torch import Tensor

from awml_centerpoint.kit import Kit, kit_of

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Architecture, Geometry

__all__ = ["Voxels", "decorate", "voxelise"]


@frozen(kw_only=True, eq=False)
class Voxels:
    """Which point lies in which cell of the grid.

    Args:
        coordinates: z, y, x of each cell that has points, int32 (cells, 3); the one whose first point came first stands
            first.
        counts: Points kept in each, int32 (cells,).
        points: Rows of the kept points, cell by cell and in each as they came.
        cells: The cell of each of them.
        slots: Its place within the cell.
        not_finite: Points that are no numbers.
        outside: Points beyond the range.
        crowded: Points of cells that already had as many as a cell keeps.
        unseen: Points of cells that were not opened any more.
        unopened: Those cells.
    """

    coordinates: Tensor
    counts: Tensor
    points: Tensor
    cells: Tensor
    slots: Tensor
    not_finite: int = 0
    outside: int = 0
    crowded: int = 0
    unseen: int = 0
    unopened: int = 0


def voxelise(points: Tensor, geometry: Geometry, kit: Kit | None = None) -> Voxels:
    """Sort points into cells, first come, first served.

    A cell is `floor((place - low) / size)` in float32. Once `max_voxels` cells are open, points of further ones are
    left out while those of open ones still come in; a cell keeps its first `max_num_points`.

    Args:
        points: x, y, z and what else the network sees, float32 (points, columns).
        geometry: Range, cell size and the two limits.
        kit: What to work with; None takes what is best where the points lie.

    Returns:
        Tensors beside the points, and what was left out.
    """
    kit = kit or kit_of(points)
    # Numbers beyond all bounds are points out of range like others.
    with np.errstate(over="ignore", invalid="ignore"):
        found = _voxelise(kit.own(points), geometry, kit)
    names = ("coordinates", "counts", "points", "cells", "slots")
    tensors: dict[str, Any] = {name: kit.tensor(getattr(found, name)) for name in names}
    return evolve(found, **tensors)


def _voxelise(points: Any, geometry: Geometry, kit: Kit) -> Voxels:
    finite = _finite(points)
    place, inside = _place(points, finite, geometry, kit)
    kept = kit.rows(inside)
    place = place[kept]
    cells, opened = _numbered(place, geometry, kit)
    found, numbers, within = len(opened), int(finite.sum()), len(kept)
    if found > geometry.max_voxels:
        opened, near = opened[: geometry.max_voxels], kit.rows(cells < geometry.max_voxels)
        cells, kept = cells[near], kept[near]
    seen = len(kept)
    counts = kit.counted(cells, len(opened))
    rows, cells, slots = _slots(kept, cells, counts, geometry.max_num_points, kit)
    return Voxels(
        coordinates=_coordinates(place[opened], geometry, kit),
        counts=kit.ints(counts.clip(max=geometry.max_num_points)),
        points=rows,
        cells=cells,
        slots=slots,
        not_finite=len(points) - numbers,
        outside=numbers - within,
        crowded=seen - len(rows),
        unseen=within - seen,
        unopened=found - len(opened),
    )


def _finite(points: Any) -> Any:
    """Which points are numbers throughout. One sum tells it of nearly every frame."""
    if math.isfinite(float(points.sum())):
        return points[:, 0] == points[:, 0]  # every number equals itself
    return (points - points == 0).all(1)


def _place(points: Any, finite: Any, geometry: Geometry, kit: Kit) -> tuple[Any, Any]:
    """The number of each point's place in the grid, and which points lie within the range."""
    inside, number = finite, None
    for axis in (2, 1, 0):
        place = kit.column(points, axis)
        low, high = (kit.number(place, geometry.range[side]) for side in (axis, axis + 3))
        size, cells = kit.number(place, geometry.voxel_size[axis]), geometry.grid[axis]
        index = kit.floor((place - low) / size)
        inside = inside & (place > low) & (place < high) & (index < cells)
        whole = kit.ints(kit.where(inside, index))
        number = whole if number is None else number * cells + whole
    return number, inside


def _coordinates(place: Any, geometry: Geometry, kit: Kit) -> Any:
    """Give back z, y, x of a place in the grid."""
    width, height, _ = geometry.grid
    row = place // width
    return kit.ints(kit.stacked([row // height, row % height, place % width]))


def _numbered(place: Any, geometry: Geometry, kit: Kit) -> tuple[Any, Any]:
    """Each point's cell by the order in which cells occur, and each cell's first point."""
    first = kit.first(place, geometry.grid[0] * geometry.grid[1] * geometry.grid[2])
    opens = first == kit.count(first)
    return (kit.ints(opens.cumsum(0)) - 1)[first], kit.rows(opens)


def _slots(kept: Any, cells: Any, counts: Any, most: int, kit: Kit) -> tuple[Any, Any, Any]:
    """Rows, cells and places of the points that fit, cell by cell."""
    order = kit.order(cells, len(counts))
    rows, cells = kept[order], cells[order]
    slots = kit.count(cells) - kit.spread(kit.ints(counts.cumsum(0) - counts), counts)
    fits = kit.rows(slots < most)
    return (rows, cells, slots) if len(fits) == len(rows) else (rows[fits], cells[fits], slots[fits])


# ---------------------------------------------------------------- what the encoder sees


def decorate(
    points: Tensor, voxels: Voxels, geometry: Geometry, network: Architecture, kit: Kit | None = None
) -> Tensor:
    """What the encoder sees, float32 (cells, max_num_points, channels), zero where a cell has no point.

    In this order: the point's columns, its offset from the mean of the cell's kept points, its offset from the cell's
    centre (without z for the `backward` encoder), its distance from the sensor.
    """
    kit = kit or kit_of(points)
    seen = kit.taken(kit.own(points), kit.own(voxels.points))
    features, columns = kit.empty(seen, (len(seen), network.channels)), seen.shape[1]
    features[:, :columns] = seen
    for column, values in enumerate(_added(seen, voxels, geometry, network, kit), columns):
        features[:, column] = values
    most = geometry.max_num_points
    places = kit.own(voxels.cells) * most + kit.own(voxels.slots)
    found = kit.placed(len(voxels.counts) * most, places, features)
    return kit.tensor(found.reshape(-1, most, network.channels))


def _added(seen: Any, voxels: Voxels, geometry: Geometry, network: Architecture, kit: Kit) -> Iterator[Any]:
    """The columns that are added, one after another."""
    place = [kit.column(seen, axis) for axis in range(3)]
    counts, coordinates = kit.own(voxels.counts), kit.floats(kit.own(voxels.coordinates))
    if network.with_cluster_center:
        for values in place:
            yield values - kit.spread(kit.sums(values, counts) / kit.floats(counts), counts)
    if network.with_voxel_center:
        for axis, values in enumerate(place[: 2 if network.encoder == "backward" else 3]):
            size, low = (kit.number(values, each[axis]) for each in (geometry.voxel_size, geometry.range))
            yield values - kit.spread(coordinates[:, 2 - axis] * size + size / 2 + low, counts)
    if network.with_distance:
        yield (place[0] * place[0] + place[1] * place[1] + place[2] * place[2]) ** 0.5
