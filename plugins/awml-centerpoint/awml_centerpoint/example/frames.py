"""Frames to train on: drawn once by several processes, kept in a folder, changed at random each time they are used."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import asdict, evolve, frozen

from awml_centerpoint.example.ride import merge, moments
from awml_centerpoint.example.shapes import Floats, Ints, Rng

log = logging.getLogger(__name__)


@frozen(kw_only=True, eq=False)
class Drawn:
    """A frame with its truth.

    Args:
        points: (N, 5) float32: x, y, z, intensity, seconds of age.
        boxes: (M, 7).
        velocities: (M, 2).
        labels: (M,).
        counts: (M,) points of the newer turn inside.
    """

    points: Floats
    boxes: Floats
    velocities: Floats
    labels: Ints
    counts: Ints


def draw(seed: int) -> Drawn:
    """The frame of that seed: two turns, 0.1 to 0.3 seconds apart."""
    lag = float(np.random.default_rng([seed, 2]).uniform(0.1, 0.3))
    earlier, key = moments(seed, (0.0, lag))
    truth = key.truth
    return Drawn(
        points=merge(key, earlier),
        boxes=truth.boxes,
        velocities=truth.velocities,
        labels=truth.labels,
        counts=key.counts,
    )


def keep(folder: Path, seeds: Sequence[int], workers: int) -> list[Path]:
    """The files of those seeds, drawn where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed}.npz" for seed in seeds]
    missing = [(seed, path) for seed, path in zip(seeds, paths, strict=True) if not path.exists()]
    begin = time.monotonic()
    if missing:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            pool.starmap(_store, missing, chunksize=4)
        log.info("%d frames drawn in %.0f s", len(missing), time.monotonic() - begin)
    return paths


def _store(seed: int, path: Path) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, **asdict(draw(seed), recurse=False))
    part.rename(path)


def load(path: Path) -> Drawn:
    """A frame from its file."""
    with np.load(path) as content:
        return Drawn(**{name: content[name] for name in content.files})


def vary(frame: Drawn, rng: Rng) -> Drawn:
    """The frame mirrored, turned, scaled and shifted, as CenterPoint's training does."""
    mirror = rng.choice([-1.0, 1.0], 2)
    angle, scale = rng.uniform(-1.571, 1.571), rng.uniform(0.95, 1.05)
    shift = rng.normal(0, (0.5, 0.5, 0.1))
    c, s = np.cos(angle), np.sin(angle)
    turn = np.diag(mirror) @ np.array([[c, s], [-s, c]])  # for rows: first mirrored, then turned
    points, boxes = frame.points.copy(), frame.boxes.copy()
    points[:, :2] = points[:, :2] @ (scale * turn).astype(np.float32) + shift[:2].astype(np.float32)
    points[:, 2] = points[:, 2] * np.float32(scale) + np.float32(shift[2])
    boxes[:, :2] = boxes[:, :2] @ (scale * turn) + shift[:2]
    boxes[:, 2] = boxes[:, 2] * scale + shift[2]
    boxes[:, 3:6] *= scale
    facing = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], 1) @ turn
    boxes[:, 6] = np.arctan2(facing[:, 1], facing[:, 0])
    return evolve(frame, points=rng.permutation(points), boxes=boxes, velocities=frame.velocities @ (scale * turn))
