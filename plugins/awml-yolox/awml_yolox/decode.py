"""From the network's rows to boxes in the image, by AWML's rule or by that of Autoware's node.

A row is x, y, width and height of a box, objectness, and a share for every class. Everything that can be is done on
the few rows that are likely to become boxes, column by column: with 18,900 rows this costs less than suppression.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen

from awml_yolox.hooks import STRIDES
from awml_yolox.nms import suppress

if TYPE_CHECKING:
    from awml_yolox.letterbox import Placement, Size

Array = np.ndarray[Any, np.dtype[Any]]

FAR = 1e30
"""Pixels that no box is away from the image; what is farther was not finite."""

HUGEST = np.float32(1e35)
"""What stands for an infinite size, and about what 80 is the logarithm of: float32 can still calculate with it."""


@frozen(kw_only=True, eq=False)
class Found:
    """Boxes of one image, the best first.

    Args:
        boxes: Corners in pixels of the image, float32 (boxes, 4).
        scores: float32.
        labels: int64.
        broken: Candidates that were left out because they are not finite.
    """

    boxes: Array
    scores: Array
    labels: Array
    broken: int = 0


def awml(
    rows: Array | torch.Tensor, cells: Array | None, placement: Placement, *, threshold: float, overlap: float
) -> Found:
    """What AWML and mmdet evaluate: the best class of each row, suppression within a class, nothing clipped.

    Args:
        rows: float32 (rows, 5 + classes); an array, or a tensor on another device.
        cells: What `cells_of` says, or None if the rows hold boxes in pixels already.
        placement: Where the image lies on the canvas.
        threshold: Scores that reach it count, except zero.
        overlap: Intersection over union above which the weaker box of a class is dropped.
    """
    index, columns = likely(rows, threshold)
    corners = _corners(columns, index, cells)
    across, down = placement.factors
    corners[0::2] /= across
    corners[1::2] /= down
    best, members = _best(columns[5:], columns[4])
    places, labels, scores = suppress(corners, best, members, overlap=overlap, above=_just_below(threshold))
    # A sum of squares of shares is a number if they all are, and quick to take.
    broken = 0 if math.isfinite(best @ best) else int(np.isnan(best).sum())
    return _sound(corners.take(places, axis=1), scores, labels, broken)


def autoware(
    rows: Array | torch.Tensor, cells: Array | None, placement: Placement, *, threshold: float, overlap: float
) -> Found:
    """What `autoware_tensorrt_yolox` publishes: every class above the threshold, suppression across classes.

    Boxes are whole pixels before suppression (corner and size are cut separately), are scaled back by one factor,
    clamped to the image and cut to whole pixels again.

    Args:
        rows: float32 (rows, 5 + classes); an array, or a tensor on another device.
        cells: What `cells_of` says, or None if the rows hold boxes in pixels already.
        placement: Where the image lies on the canvas.
        threshold: Scores above it count.
        overlap: Intersection over union above which the weaker box is dropped, whatever its class.
    """
    index, columns = likely(rows, threshold)
    corners = _corners(columns, index, cells)
    starts, sizes = np.trunc(corners[:2]), np.trunc(2 * columns[2:4])
    corners = np.concatenate([starts, starts + sizes])
    with np.errstate(invalid="ignore"):
        shares = (columns[5:] * columns[4]).T
    broken = int(np.isnan(shares).any(axis=1).sum())
    row, label = np.nonzero(shares > threshold)
    corners, scores = corners.take(row, axis=1), shares[row, label]
    everything = np.ones((1, len(row)), bool)
    places, _, found = suppress(corners, scores, everything, overlap=overlap, above=threshold)
    kept = _sound(corners.take(places, axis=1), found, label.take(places), broken)
    return Found(boxes=whole(kept.boxes, placement), scores=kept.scores, labels=kept.labels, broken=kept.broken)


def whole(boxes: Array, placement: Placement) -> Array:
    """Boxes on the canvas as the node gives them on the image: whole pixels, inside."""
    height, width = placement.image
    boxes = boxes / np.float32(placement.scale)
    np.clip(boxes, 0, np.array([width - 1, height - 1] * 2, np.float32), out=boxes)
    starts = np.trunc(boxes[:, :2])
    return np.concatenate([starts, starts + np.trunc(boxes[:, 2:] - boxes[:, :2])], axis=1)


@lru_cache(maxsize=8)
def _just_below(threshold: float) -> float:
    """What a score exceeds that reaches the threshold; the operator's comparison is strict, AWML's is not."""
    return float(np.nextafter(np.float32(threshold), np.float32(0)))


# ---------------------------------------------------------------- rows


@lru_cache(maxsize=8)
def cells_of(canvas: Size) -> Array:
    """Left edge, top edge, stride and half the stride of every row's cell, float32 (4, rows).

    Level by level, line by line.
    """
    levels = []
    for stride in STRIDES:
        top, left = np.mgrid[: canvas[0] // stride, : canvas[1] // stride].reshape(2, -1) * stride
        levels.append(np.stack([left, top, np.full_like(left, stride), np.full_like(left, stride // 2)]))
    return np.concatenate(levels, axis=1).astype(np.float32)


def likely(rows: Array | torch.Tensor, threshold: float) -> tuple[Array, Array]:
    """Which rows may reach the threshold, and these as columns in host memory.

    No share exceeds one, so the objectness alone decides. What is not a number stays in, to be counted.
    """
    if isinstance(rows, np.ndarray):
        index: Array = (~(rows[:, 4] < threshold)).nonzero()[0]
        return index, rows.take(index, axis=0).T.copy()
    chosen = torch.nonzero(~(rows[:, 4] < threshold))[:, 0]
    # Only what is likely leaves the device.
    return chosen.cpu().numpy(), rows[chosen].T.contiguous().cpu().numpy()


def _corners(columns: Array, index: Array, cells: Array | None) -> Array:
    """Left, top, right and bottom on the canvas (4, rows); the columns hold centres and half sizes afterwards."""
    centres, halves = columns[:2], columns[2:4]
    if cells is None:
        halves *= np.float32(0.5)
        np.minimum(halves, HUGEST, out=halves)
    else:
        here = cells.take(index, axis=1)
        centres *= here[2]
        centres += here[:2]
        np.minimum(halves, np.float32(80), out=halves)
        np.exp(halves, out=halves)
        halves *= here[3]
    corners = np.empty((4, len(index)), np.float32)
    np.subtract(centres, halves, out=corners[:2])
    np.add(centres, halves, out=corners[2:])
    return corners


def _best(shares: Array, objectness: Array) -> tuple[Array, Array]:
    """Score of every row, and whether a class is its best one, (classes, rows); of equal classes it is the first."""
    best = shares.max(axis=0)
    members = shares == best
    if np.count_nonzero(members) != len(best):
        members &= members.cumsum(axis=0) == 1
    best *= objectness
    return best, members


def _sound(corners: Array, scores: Array, labels: Array, broken: int) -> Found:
    boxes = corners.T.copy()
    if not np.abs(boxes).max(initial=0) < FAR:
        good = (np.abs(boxes) < FAR).all(axis=1)
        boxes, scores, labels, broken = boxes[good], scores[good], labels[good], broken + int((~good).sum())
    return Found(boxes=boxes, scores=scores, labels=labels, broken=broken)
