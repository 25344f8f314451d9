"""Scenes for the training: drawn once, then seen through a different lens each time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from attrs import frozen
from torch.utils.data import Dataset

from awml_yolox.example.scene import Scene, draw
from awml_yolox.example.street import SIZE

INPUT = (256, 384)
"""Height and width of the network's image."""
MOST = 24
"""No picture has more truths."""
GREY = 114
SHARE = min(INPUT[0] / SIZE[1], INPUT[1] / SIZE[0])

Array = np.ndarray[Any, Any]
Item = tuple[Array, Array]


@frozen(kw_only=True, eq=False)
class Scenes:
    """Many scenes.

    Args:
        images: uint8 (scenes, height, width, 3).
        truths: float32 (scenes, MOST, 5): x1, y1, x2, y2, class; -1 where there is none.
    """

    images: Array
    truths: Array


def scenes(seeds: range, workers: int) -> Scenes:
    """Draw the scenes of these seeds."""
    images = np.empty((len(seeds), SIZE[1], SIZE[0], 3), np.uint8)
    truths = np.full((len(seeds), MOST, 5), -1, np.float32)
    for index, scene in enumerate(_drawn(seeds, workers)):
        images[index] = scene.image
        truths[index] = _table(scene)
    return Scenes(images=images, truths=truths)


def _drawn(seeds: range, workers: int) -> Iterator[Scene]:
    """The scenes in order; one worker is this process, so that nothing is forked where other threads may run."""
    if workers < 2:
        yield from map(draw, seeds)
        return
    with multiprocessing.get_context("fork").Pool(workers, initializer=_alone) as pool:
        yield from pool.imap(draw, seeds, chunksize=8)


def kept(path: Path | None, seeds: range, workers: int) -> Scenes:
    """The same, from a file where there is one; otherwise into it."""
    if path is not None and path.exists():
        with np.load(path) as held:
            return Scenes(images=held["images"][: len(seeds)], truths=held["truths"][: len(seeds)])
    found = scenes(seeds, workers)
    if path is not None:
        np.savez(path, images=found.images, truths=found.truths)
    return found


def _alone() -> None:
    cv2.setNumThreads(1)


def _table(scene: Scene) -> Array:
    rows = np.full((MOST, 5), -1, np.float32)
    rows[: len(scene.boxes), :4] = scene.boxes
    rows[: len(scene.labels), 4] = scene.labels
    return rows


class Views(Dataset[Item]):
    """Training images, each from a scene and a number.

    Args:
        held: The scenes.
        count: How many images.
        seed: Another one sees the scenes otherwise.
    """

    def __init__(self, held: Scenes, count: int, seed: int) -> None:
        self.held, self.count, self.seed = held, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng([self.seed, index])
        chosen = (index * 7919 + self.seed) % len(self.held.images)
        return view(self.held.images[chosen], self.held.truths[chosen], rng)


def view(image: Array, truths: Array, rng: np.random.Generator) -> Item:
    """A scene scaled, shifted, mirrored and in other colours: uint8 (3, height, width) and (MOST, 5)."""
    scale = SHARE * float(np.exp(rng.uniform(-0.3, 0.35)))
    room = np.array([INPUT[1] - scale * SIZE[0], INPUT[0] - scale * SIZE[1]])
    shift = rng.uniform(np.minimum(room, 0) * 1.1 - 8, np.maximum(room, 0) + 8)
    warp = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    if rng.random() < 0.5:
        warp[0] = (-scale, 0, shift[0] + scale * SIZE[0])
    # Pixels are squares with their middles at a half: boxes are moved by `warp`, middles by half a pixel less.
    pixel = warp.copy()
    pixel[:, 2] += warp[:, :2].sum(1) / 2 - 0.5
    seen = cv2.warpAffine(image, pixel, INPUT[::-1], borderValue=(GREY,) * 3)
    return np.ascontiguousarray(_coloured(seen, rng).transpose(2, 0, 1)), _moved(truths, warp)


def _coloured(image: Array, rng: np.random.Generator) -> Array:
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.93, 1.07, 3)
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = np.clip((levels - 114) * gain * rng.uniform(0.85, 1.15) + 114 * gain + rng.uniform(-10, 10), 0, 255)
    found = cv2.LUT(image, table.astype(np.uint8)[None])
    if rng.random() < 0.25:
        found = cv2.GaussianBlur(found, (3, 3), 0)
    return np.asarray(found)


def _moved(truths: Array, warp: Array) -> Array:
    """Truths in the view; those of which less than 30 % are left are dropped."""
    corners = truths[:, :4].reshape(-1, 2, 2) * np.diag(warp[:, :2]) + warp[:, 2]
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    cut = boxes.clip(0, (INPUT[1], INPUT[0], INPUT[1], INPUT[0]))
    size, whole = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
    good = (truths[:, 4] >= 0) & (size.prod(1) > 0.3 * whole.prod(1)) & (size > 3).all(1)
    found = np.full_like(truths, -1)
    found[: good.sum(), :4], found[: good.sum(), 4] = cut[good], truths[good, 4]
    return found


def letterboxed(images: Sequence[Array]) -> torch.Tensor:
    """Whole scenes as the deployment shows them to the network: float32 (scenes, 3, height, width)."""
    found = np.full((len(images), *INPUT, 3), GREY, np.uint8)
    width, height = round(SIZE[0] * SHARE), round(SIZE[1] * SHARE)
    for target, image in zip(found, images, strict=True):
        target[:height, :width] = cv2.resize(image, (width, height))
    return torch.from_numpy(np.ascontiguousarray(found.transpose(0, 3, 1, 2))).float()
