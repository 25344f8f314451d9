"""Pillars against a plain loop over points, and what the encoder is told of them against float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_centerpoint.architecture import Architecture, Geometry
from awml_centerpoint.kit import DEVICE, HOST, Kit
from awml_centerpoint.voxels import Voxels, decorate, voxelise

Array = np.ndarray[Any, np.dtype[Any]]
F = np.float32


def grid(**changes: Any) -> Geometry:
    """6 x 4 pillars of 0.24 m, whose edges are no round numbers in float32."""
    fields: dict[str, Any] = {
        "range": (-0.72, -0.48, -3.0, 0.72, 0.48, 5.0),
        "voxel_size": (0.24, 0.24, 8.0),
        "grid": (6, 4, 1),
        "out_size_factor": 1,
        "max_num_points": 3,
        "max_voxels": 100,
        "columns": (0, 1, 2, 3),
        "load_dim": 5,
        "sweeps": 0,
    }
    return Geometry(**{**fields, **changes})


def loop(points: Array, geometry: Geometry) -> tuple[list[tuple[int, ...]], list[list[int]], dict[str, int]]:
    """The rule as one would write it down: cells as they open, the rows that each keeps, and what was left out."""
    low, high = (np.array(corner, F) for corner in (geometry.range[:3], geometry.range[3:]))
    size = np.array(geometry.voxel_size, F)
    cells: list[tuple[int, ...]] = []
    rows: list[list[int]] = []
    lost = {"not_finite": 0, "outside": 0, "crowded": 0, "unseen": 0}
    unopened = set()
    for index, point in enumerate(points):
        if not np.isfinite(point).all():
            lost["not_finite"] += 1
            continue
        place = point[:3]
        if not all(low[axis] < place[axis] < high[axis] for axis in range(3)):
            lost["outside"] += 1
            continue
        x, y, z = (int(np.floor((place[axis] - low[axis]) / size[axis])) for axis in range(3))
        if x >= geometry.grid[0] or y >= geometry.grid[1] or z >= geometry.grid[2]:
            lost["outside"] += 1
            continue
        if (z, y, x) not in cells:
            if len(cells) == geometry.max_voxels:
                unopened.add((z, y, x))
                lost["unseen"] += 1
                continue
            cells.append((z, y, x))
            rows.append([])
        kept = rows[cells.index((z, y, x))]
        if len(kept) == geometry.max_num_points:
            lost["crowded"] += 1
        else:
            kept.append(index)
    return cells, rows, {**lost, "unopened": len(unopened)}


def rows_of(voxels: Voxels) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in voxels.counts]
    for row, cell, slot in zip(*(each.tolist() for each in (voxels.points, voxels.cells, voxels.slots)), strict=True):
        assert slot == len(rows[cell])
        rows[cell].append(row)
    return rows


def agree(points: Array, geometry: Geometry) -> Voxels:
    """Both kits against the loop; torch's is what runs on a GPU."""
    found = [voxelise(torch.from_numpy(points), geometry, kit) for kit in (HOST, DEVICE)]
    for voxels in found:
        same(voxels, points, geometry)
    return found[0]


def same(voxels: Voxels, points: Array, geometry: Geometry) -> None:
    cells, rows, lost = loop(points, geometry)
    assert voxels.coordinates.dtype is torch.int32
    assert voxels.counts.dtype is torch.int32
    assert voxels.coordinates.shape == (len(cells), 3)
    assert [tuple(cell) for cell in voxels.coordinates.tolist()] == cells
    assert rows_of(voxels) == rows
    assert voxels.counts.tolist() == [len(kept) for kept in rows]
    assert {name: getattr(voxels, name) for name in lost} == lost


edges = [F(i * 0.24 - 0.72) for i in range(-1, 8)] + [F(-0.72) + F(i) * F(0.24) for i in range(7)]
awkward = [np.nextafter(edge, F(way)) for edge in edges for way in (-9, 9)]
ordinary = st.floats(-0.75, 0.75, width=32)
numbers = st.sampled_from([*map(float, edges), *map(float, awkward)]) | ordinary
wild = st.sampled_from([float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e20, -0.0, 1e-45])
places = st.tuples(numbers | wild, numbers | wild, st.sampled_from([-3.0, 5.0, 0.0, 4.9999995]) | wild, ordinary | wild)


@settings(max_examples=400)
@given(st.lists(places, max_size=60), st.integers(1, 4), st.integers(1, 12))
def test_the_integers_are_those_of_the_rule(points: list[tuple[float, ...]], most: int, cells: int) -> None:
    agree(np.array(points, F).reshape(-1, 4), grid(max_num_points=most, max_voxels=cells))


@given(st.lists(st.tuples(numbers, numbers, st.floats(-3, 5, width=32), ordinary), max_size=60))
def test_cells_may_be_stacked(points: list[tuple[float, ...]]) -> None:
    agree(np.array(points, F).reshape(-1, 4), grid(voxel_size=(0.24, 0.24, 2.0), grid=(6, 4, 4)))


@pytest.mark.parametrize("seed", range(3))
def test_a_large_cloud_on_the_released_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=(4000, 4)) * [40, 40, 1, 1]).astype(F)
    geometry = grid(
        range=(-122.4, -122.4, -3.0, 122.4, 122.4, 5.0), grid=(1020, 1020, 1), max_num_points=32, max_voxels=3000
    )
    voxels = agree(points, geometry)
    assert voxels.unopened > 0
    assert voxels.outside > 0


def test_both_kits_say_the_same_of_more_cells_than_16_bits_count() -> None:
    rng = np.random.default_rng(4)
    cells = rng.permutation(np.r_[np.arange(300 * 300), rng.integers(0, 300 * 300, 40_000)])
    points = np.stack([cells % 300 + 0.5, cells // 300 + 0.5, 0 * cells, cells], 1).astype(F)
    geometry = grid(range=(0, 0, -3, 300, 300, 5), voxel_size=(1.0, 1.0, 8.0), grid=(300, 300, 1))
    geometry = evolve(geometry, max_voxels=80_000)
    one, other = (voxelise(torch.from_numpy(points), geometry, kit) for kit in (HOST, DEVICE))
    for name in ("coordinates", "counts", "points", "cells", "slots"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert (one.unseen, one.unopened, one.crowded) == (other.unseen, other.unopened, other.crowded)
    # The cell of every kept point by its own number, and earlier points of a cell at earlier places.
    place = one.coordinates[one.cells.long()]
    assert torch.equal(place[:, 1] * 300 + place[:, 2], torch.from_numpy(cells[one.points.numpy()]).int())
    within = one.cells[1:] == one.cells[:-1]
    assert bool((one.points[1:] > one.points[:-1])[within].all())
    assert torch.equal(one.slots[1:][within], one.slots[:-1][within] + 1)


def test_known_cells_go_on_when_no_new_one_opens() -> None:
    cells = [[-0.6, -0.4], [-0.3, -0.4], [0.1, -0.4], [-0.6, -0.4], [0.1, -0.4], [-0.3, -0.4]]
    points = torch.tensor([[x, y, 0, 0] for x, y in cells])
    voxels = voxelise(points, grid(max_voxels=2))
    assert rows_of(voxels) == [[0, 3], [1, 5]]
    assert (voxels.unseen, voxels.unopened) == (2, 1)


@pytest.mark.parametrize("points", [np.zeros((0, 4), F), np.full((3, 4), np.nan, F), np.full((3, 4), 9, F)])
def test_no_pillar_at_all(points: Array) -> None:
    voxels = agree(points, grid())
    for kit in (HOST, DEVICE):
        found = decorate(torch.from_numpy(points), voxels, grid(), Architecture(), kit)
        assert found.shape == (0, 3, 10)
        assert found.dtype is torch.float32


def test_every_point_is_accounted_for() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (500, 4)).astype(F)
    points[::50, 3] = np.nan
    voxels = voxelise(torch.from_numpy(points), grid(max_voxels=5))
    lost = voxels.not_finite + voxels.outside + voxels.crowded + voxels.unseen
    assert lost + int(voxels.counts.sum()) == 500
    assert min(voxels.not_finite, voxels.outside, voxels.crowded, voxels.unseen) > 0


# ---------------------------------------------------------------- decoration


def expected(points: Array, geometry: Geometry, network: Architecture) -> Array:
    """Channel by channel in float64."""
    cells, rows, _ = loop(points, geometry)
    found = np.zeros((len(cells), geometry.max_num_points, network.channels))
    for cell, kept in enumerate(rows):
        seen = points[kept].astype(np.float64)
        index = np.array(cells[cell][::-1])
        centre = (index + 0.5) * np.array(geometry.voxel_size) + np.array(geometry.range[:3])
        parts = [seen]
        if network.with_cluster_center:
            parts.append(seen[:, :3] - seen[:, :3].mean(0))
        if network.with_voxel_center:
            parts.append((seen[:, :3] - centre)[:, : 2 if network.encoder == "backward" else 3])
        if network.with_distance:
            parts.append(np.linalg.norm(seen[:, :3], axis=1, keepdims=True))
        found[cell, : len(kept)] = np.concatenate(parts, 1)
    return found


@pytest.mark.parametrize(
    ("network", "channels"),
    [
        (Architecture(columns=4), 10),
        (Architecture(columns=5), 11),
        (Architecture(columns=4, encoder="backward"), 9),
        (Architecture(columns=5, encoder="backward", with_distance=True), 11),
        (Architecture(columns=3, with_cluster_center=False, with_distance=True), 7),
        (Architecture(columns=4, with_voxel_center=False), 7),
    ],
)
@pytest.mark.parametrize("kit", [HOST, DEVICE], ids=["numpy", "torch"])
def test_channels_are_those_of_the_contract(network: Architecture, channels: int, kit: Kit) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.8, 0.8, (200, network.columns)).astype(F)
    geometry = grid(max_num_points=8, max_voxels=20)
    cloud = torch.from_numpy(points)
    found = decorate(cloud, voxelise(cloud, geometry, kit), geometry, network, kit)
    assert found.shape == (20, 8, channels)
    np.testing.assert_allclose(found.numpy(), expected(points, geometry, network), atol=1e-6)


def test_far_away_the_offsets_keep_float32_s_precision() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform((100, 100, -1, 0), (101, 101, 1, 1), (300, 4)).astype(F)
    geometry = grid(range=(-122.4, -122.4, -3.0, 122.4, 122.4, 5.0), grid=(1020, 1020, 1), max_num_points=32)
    cloud = torch.from_numpy(points)
    found = decorate(cloud, voxelise(cloud, geometry), geometry, Architecture())
    np.testing.assert_allclose(found.numpy(), expected(points, geometry, Architecture()), atol=4e-5)


def test_the_mean_is_of_the_kept_points_alone() -> None:
    cloud = torch.tensor([[0.1, 0.1, 0, 0], [0.2, 0.1, 0, 0], [0.02, 0.02, 4, 0]])
    found = decorate(cloud, voxelise(cloud, grid(max_num_points=2)), grid(max_num_points=2), Architecture())
    np.testing.assert_allclose(found[0, :, 4:7], [[-0.05, 0, 0], [0.05, 0, 0]], atol=1e-7)


def test_rows_without_a_point_are_zero() -> None:
    cloud = torch.tensor([[0.1, 0.1, 1, 7]])
    found = decorate(cloud, voxelise(cloud, grid()), grid(), Architecture())
    assert (found[0, 0] != 0).sum() > 3
    assert not found[0, 1:].any()


def test_the_same_cloud_gives_the_same_bits() -> None:
    rng = np.random.default_rng(3)
    cloud = torch.from_numpy(rng.uniform(-0.8, 0.8, (2000, 4)).astype(F))
    geometry = grid(max_num_points=32)
    first, second = (decorate(cloud, voxelise(cloud, geometry), geometry, Architecture()) for _ in range(2))
    assert torch.equal(first, second)
