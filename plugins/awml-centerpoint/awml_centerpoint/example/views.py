"""What training sees: kept frames, varied anew each time, with their targets, in batches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from attrs import frozen
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from awml_centerpoint.architecture import Geometry
from awml_centerpoint.example.bodies import CLASSES
from awml_centerpoint.example.frames import load, vary
from awml_centerpoint.example.targets import assign

if TYPE_CHECKING:
    from awml_centerpoint.example.shapes import Floats


@frozen(kw_only=True, eq=False)
class Batch:
    """Frames to learn from.

    Args:
        points: Their points, one frame after the other.
        lengths: How many each has.
        heatmap: Targets of the heat map, (frames, classes, rows, columns).
        frames: (M,) frame of each object.
        cells: (M,) its cell.
        values: (M, 10) what the other maps should say there.
    """

    points: Tensor
    lengths: list[int]
    heatmap: Tensor
    frames: Tensor
    cells: Tensor
    values: Tensor


@frozen(kw_only=True, eq=False)
class Views(Dataset[tuple[Tensor, ...]]):
    """Variations of some frames; number i is the same in every process.

    Args:
        paths: Files of the frames.
        length: How many variations there are.
        seed: Another number makes others.
        least: Points that an object must have to be asked for.
        geometry: The grid.
    """

    paths: tuple[Path, ...]
    length: int
    seed: int
    least: int
    geometry: Geometry

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        frame = vary(load(self.paths[int(rng.integers(len(self.paths)))]), rng)
        seen = frame.counts >= self.least
        made = assign(frame.boxes[seen], frame.velocities[seen], frame.labels[seen], self.geometry, len(CLASSES))
        parts = (inside(frame.points, self.geometry), made.heatmap, made.cells, made.values)
        return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)


def inside(points: Floats, geometry: Geometry) -> Floats:
    """The columns that the network sees, of the points in range."""
    low, high = np.array(geometry.range[:3], np.float32), np.array(geometry.range[3:], np.float32)
    kept = ((points[:, :3] > low) & (points[:, :3] < high)).all(1)
    return np.asarray(points[kept][:, geometry.columns])


def batches(views: Views, size: int, workers: int) -> Iterable[Batch]:
    """All views in order, made ahead by that many processes."""
    return DataLoader(
        views,
        size,
        num_workers=workers,
        collate_fn=_collate,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


def _collate(items: list[tuple[Tensor, ...]]) -> Batch:
    points, heatmaps, cells, values = zip(*items, strict=True)
    frames = torch.repeat_interleave(torch.arange(len(items)), torch.tensor([len(each) for each in cells]))
    return Batch(
        points=torch.cat(points),
        lengths=[len(each) for each in points],
        heatmap=torch.stack(heatmaps),
        frames=frames,
        cells=torch.cat(cells),
        values=torch.cat(values),
    )
