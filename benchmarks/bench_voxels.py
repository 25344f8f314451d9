"""Pillars of a large frame and rotated boxes, against loops that others would write.

200,000 points of a spinning sensor on the released grid are sorted into pillars and decorated: by us, by a loop in
numba as point cloud libraries write it, by the quickest loop in numba that we could think of, and by plain numpy. The
loops follow the same rule and are held against our answer first. Then 1,000 boxes are thinned out by rotated overlap:
by us, and by the greedy loop around OpenCV's intersection. Sides take turns; compilation and the first calls do not
count.

    pip install numba opencv-python-headless
    python benchmarks/bench_voxels.py [TURNS] [THREADS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numba
import numpy as np
import torch

from awml_centerpoint.architecture import Geometry, architecture, geometry
from awml_centerpoint.config import Config
from awml_centerpoint.nms import rotate
from awml_centerpoint.voxels import decorate, voxelise
from benchmarks.frame import Row, call, compared, limit, show, turns

Array = np.ndarray[Any, np.dtype[Any]]
Answer = tuple[Array, Array, Array]

COUNT = 200_000
CONFIG = Config(point_columns=(0, 1, 2, 3, 4))
GRID = geometry(CONFIG)
NETWORK = architecture(CONFIG)


def street() -> Array:
    """Rings on the ground and on walls around, in the order in which a sensor of 128 beams sees them."""
    rng = np.random.default_rng(0)
    beams, turn = np.meshgrid(np.radians(np.linspace(-25, 15, 128)), np.linspace(-np.pi, np.pi, COUNT // 128 + 1))
    walls = 12 + 90 * np.abs(np.sin(3 * turn) * np.sin(17 * turn + 1))
    ground = np.where(beams < 0, 2 / np.maximum(np.tan(-beams), 1e-3), np.inf)
    away = np.minimum(ground, walls) + rng.normal(0, 0.03, beams.shape)
    x, y, z = away * np.cos(turn), away * np.sin(turn), (away * np.tan(beams)).clip(-2.9, 4.9)
    points = np.stack([x, y, z, 255 * rng.random(x.shape), rng.random(x.shape) / 10], 2)
    return np.array(points.reshape(-1, 5)[:COUNT], np.float32)


def scattered() -> Array:
    """Points that know nothing of one another, so that nearly every one opens a pillar."""
    rng = np.random.default_rng(1)
    away, turn = rng.gamma(1.5, 20, COUNT), rng.uniform(-np.pi, np.pi, COUNT)
    rest = rng.uniform((-3, 0, 0), (5, 255, 0.1), (COUNT, 3))
    return np.array(np.c_[away * np.cos(turn), away * np.sin(turn), rest], np.float32)


def ours(points: Array) -> Answer:
    cloud = torch.from_numpy(points)
    voxels = voxelise(cloud, GRID)
    features = decorate(cloud, voxels, GRID, NETWORK)
    return features.numpy(), voxels.coordinates.numpy(), voxels.counts.numpy()


# ---------------------------------------------------------------- loops in numba


def compiled(work: Callable[..., Any]) -> Any:
    """Numba's types know nothing of an array's, and it takes no keyword-only arguments."""
    return numba.njit(work)


@compiled
def _fill(points: Array, low: Array, high: Array, size: Array, grid: Array, most: int, cells: int) -> Answer:  # noqa: PLR0917  numba
    """Points into voxels, as libraries do it: all cells are made first, what is used is cut off last."""
    table = np.full((grid[1], grid[0]), -1, np.int32)
    voxels = np.zeros((cells, most, points.shape[1]), np.float32)
    coordinates = np.zeros((cells, 3), np.int32)
    counts = np.zeros(cells, np.int32)
    opened = 0
    for index in range(len(points)):
        x, y, z = points[index, 0], points[index, 1], points[index, 2]
        if not (low[0] < x < high[0] and low[1] < y < high[1] and low[2] < z < high[2]):
            continue
        column, row = int(np.floor((x - low[0]) / size[0])), int(np.floor((y - low[1]) / size[1]))
        if column >= grid[0] or row >= grid[1]:
            continue
        cell = table[row, column]
        if cell < 0:
            if opened == cells:
                continue
            cell, opened = opened, opened + 1
            table[row, column] = cell
            coordinates[cell, 1], coordinates[cell, 2] = row, column
        if counts[cell] < most:
            voxels[cell, counts[cell]] = points[index]
            counts[cell] += 1
    return voxels[:opened], coordinates[:opened], counts[:opened]


@compiled
def _describe(voxels: Array, coordinates: Array, counts: Array, low: Array, size: Array) -> Array:
    columns = voxels.shape[2]
    found = np.zeros((len(voxels), voxels.shape[1], columns + 6), np.float32)
    mean, centre = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for cell in range(len(voxels)):
        for axis in range(3):
            total = np.float32(0)
            for slot in range(counts[cell]):
                total += voxels[cell, slot, axis]
            mean[axis] = total / counts[cell]
            centre[axis] = coordinates[cell, 2 - axis] * size[axis] + size[axis] / 2 + low[axis]
        for slot in range(counts[cell]):
            for column in range(columns):
                found[cell, slot, column] = voxels[cell, slot, column]
            for axis in range(3):
                found[cell, slot, columns + axis] = voxels[cell, slot, axis] - mean[axis]
                found[cell, slot, columns + 3 + axis] = voxels[cell, slot, axis] - centre[axis]
    return found


def by_loop(points: Array) -> Answer:
    low, high, size, grid = _corners(GRID)
    voxels, coordinates, counts = _fill(points, low, high, size, grid, GRID.max_num_points, GRID.max_voxels)
    return _describe(voxels, coordinates, counts, low, size), coordinates, counts


@compiled
def _number(  # noqa: PLR0917  numba
    points: Array,
    low: Array,
    high: Array,
    size: Array,
    table: Array,
    most: int,
    counts: Array,
    sums: Array,
    coordinates: Array,
    places: Array,
) -> int:
    """Only say where each point goes, and add up."""
    opened = 0
    for index in range(len(points)):
        x, y, z = points[index, 0], points[index, 1], points[index, 2]
        places[index, 0] = -1
        if not (low[0] < x < high[0] and low[1] < y < high[1] and low[2] < z < high[2]):
            continue
        column, row = int(np.floor((x - low[0]) / size[0])), int(np.floor((y - low[1]) / size[1]))
        if row >= table.shape[0] or column >= table.shape[1]:
            continue
        cell = table[row, column] - 1
        if cell < 0:
            if opened == len(counts):
                continue
            cell, opened = opened, opened + 1
            table[row, column] = opened
            coordinates[cell, 1], coordinates[cell, 2] = row, column
        slot = counts[cell]
        if slot < most:
            places[index, 0], places[index, 1] = cell, slot
            sums[cell, 0] += x
            sums[cell, 1] += y
            sums[cell, 2] += z
            counts[cell] = slot + 1
    return opened


@compiled
def _write(  # noqa: PLR0917  numba
    points: Array, low: Array, size: Array, counts: Array, sums: Array, coordinates: Array, places: Array, found: Array
) -> None:
    columns = points.shape[1]
    for index in range(len(points)):
        cell, slot = places[index]
        if cell < 0:
            continue
        for column in range(columns):
            found[cell, slot, column] = points[index, column]
        for axis in range(3):
            centre = coordinates[cell, 2 - axis] * size[axis] + size[axis] / 2 + low[axis]
            found[cell, slot, columns + axis] = points[index, axis] - sums[cell, axis] / counts[cell]
            found[cell, slot, columns + 3 + axis] = points[index, axis] - centre


def by_lean_loop(points: Array) -> Answer:
    """Every value is written once, into memory from numpy, which comes in large pages and zeroed."""
    low, high, size, grid = _corners(GRID)
    table = np.zeros((grid[1], grid[0]), np.int32)
    counts, sums = np.zeros(GRID.max_voxels, np.int32), np.zeros((GRID.max_voxels, 3), np.float32)
    coordinates, places = np.zeros((GRID.max_voxels, 3), np.int32), np.empty((len(points), 2), np.int32)
    most = GRID.max_num_points
    opened = _number(points, low, high, size, table, most, counts, sums, coordinates, places)
    found = np.zeros((opened, most, points.shape[1] + 6), np.float32)
    _write(points, low, size, counts, sums, coordinates, places, found)
    return found, coordinates[:opened], counts[:opened]


# ---------------------------------------------------------------- plain numpy


def by_numpy(points: Array) -> Answer:
    low, high, size, grid = _corners(GRID)
    index = np.floor((points[:, :3] - low) / size).astype(np.int32)
    inside = ((points[:, :3] > low) & (points[:, :3] < high) & (index < grid)).all(1)
    points, index = points[inside], index[inside]
    _, first, cell = np.unique(index[:, 1] * grid[0] + index[:, 0], return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    cell = rank[cell]
    order = np.argsort(cell, kind="stable")
    cell = cell[order]
    slot = np.arange(len(cell)) - np.searchsorted(cell, cell)
    keep = (slot < GRID.max_num_points) & (cell < GRID.max_voxels)
    points, index, cell, slot = points[order][keep], index[order][keep], cell[keep], slot[keep]
    voxels = np.zeros((cell[-1] + 1, GRID.max_num_points, points.shape[1]), np.float32)
    voxels[cell, slot] = points
    counts = np.bincount(cell).astype(np.int32)
    coordinates = index[slot == 0][:, ::-1]
    mean = voxels[..., :3].sum(1) / counts[:, None]
    centre = coordinates[:, ::-1] * size + size / 2 + low
    place = voxels[..., :3]
    found = np.concatenate([voxels, place - mean[:, None], place - centre[:, None]], 2)
    found *= (np.arange(GRID.max_num_points) < counts[:, None])[..., None]
    return found, coordinates, counts


def _corners(grid: Geometry) -> tuple[Array, Array, Array, Array]:
    low, high = np.array(grid.range, np.float32).reshape(2, 3)
    return low, high, np.array(grid.voxel_size, np.float32), np.array(grid.grid)


# ---------------------------------------------------------------- rotated boxes


def boxes(spread: float) -> Array:
    rng = np.random.default_rng(2)
    return rng.uniform((-spread, -spread, 2, 1, -3), (spread, spread, 8, 3, 3), (1000, 5)).astype(np.float32)


def by_opencv(found: Array) -> Array:
    """The greedy loop; a box that has fallen is not looked at again."""
    rectangles = [((x, y), (length, width), float(np.degrees(yaw))) for x, y, length, width, yaw in found.tolist()]
    areas, stays = found[:, 2] * found[:, 3], np.ones(len(found), bool)
    for better in range(len(found)):
        if not stays[better]:
            continue
        for worse in range(better + 1, len(found)):
            if stays[worse]:
                kind, corners = cv2.rotatedRectangleIntersection(rectangles[better], rectangles[worse])
                shared = cv2.contourArea(cv2.convexHull(corners)) if kind else 0.0
                stays[worse] = shared / (areas[better] + areas[worse] - shared) < 0.2
    return stays


# ---------------------------------------------------------------- measuring


def check(points: Array, other: Callable[[Array], Answer]) -> None:
    """The same integers, and features to rounding."""
    (mine, *integers), (features, *theirs) = ours(points), other(points)
    assert all(np.array_equal(a, b) for a, b in zip(integers, theirs, strict=True)), other
    np.testing.assert_allclose(mine, features, atol=3e-5)


def main(count: int = 20, threads: int = 2) -> None:
    limit(threads)
    torch.set_num_threads(threads)
    rows: list[Row] = []
    for name, points in (("street", street()), ("scattered", scattered())):
        for label, other in (("numba", by_loop), ("lean-numba", by_lean_loop), ("numpy", by_numpy)):
            check(points, other)
            pairs = turns(partial(call, partial(ours, points)), partial(call, partial(other, points)), count)
            rows += compared(f"{name}-{label}", pairs)
    for name, spread in (("boxes-apart", 100.0), ("boxes-dense", 10.0)):
        found = boxes(spread)
        assert np.array_equal(rotate(found, 0.2), by_opencv(found)), name
        pairs = turns(
            partial(call, partial(rotate, found, 0.2)), partial(call, partial(by_opencv, found)), max(2, count // 4)
        )
        rows += compared(name, pairs)
    show(f"{COUNT:,} points into pillars and 1,000 rotated boxes, {threads} threads, {count} turns", rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
