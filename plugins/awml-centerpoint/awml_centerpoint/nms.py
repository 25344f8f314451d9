"""Which boxes are left: circles and rotated overlap, vectorised.

Boxes come in the order of their scores, best first. They are few once the device has chosen them, so all this runs on
the host. First the pairs that stand near to one another are found, then `thin` decides among them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["circle", "near", "overlap", "rotate", "thin", "touching"]

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK = 2**17
"""Pairs that are looked at together; memory stays within a few megabytes."""

WINDOW = 32
"""Boxes that are settled together where overlap is dear to measure."""


def circle(centres: Array, squared: float, *, inclusive: bool = True) -> Array:
    """A centre must be farther than so many squared metres from every better one that stays.

    Args:
        centres: x and y (boxes, 2), best first.
        squared: Least squared distance.
        inclusive: Whether a box at just this distance falls, as it does in AWML's rule and not in Autoware's.

    Returns:
        Which boxes stay, (boxes,) bool.
    """
    compare = np.less_equal if inclusive else np.less
    return thin(*near(centres, lambda square, _: compare(square, centres.dtype.type(squared))), len(centres))


def rotate(boxes: Array, threshold: float) -> Array:
    """A box must overlap every better one that stays by less than the threshold, seen from above.

    Args:
        boxes: x, y, length, width, yaw (boxes, 5), best first.
        threshold: Intersection over union at which a box falls.

    Returns:
        Which boxes stay, (boxes,) bool.
    """
    first, second = touching(boxes)
    stays = np.ones(len(boxes), bool)
    starts = range(0, len(boxes) + WINDOW, WINDOW)
    # Pairs are sorted by their better box. What has fallen already is not measured any more, and most fall early.
    for start, (begin, end) in zip(starts, pairwise(np.searchsorted(first, starts)), strict=False):
        better, worse = first[begin:end], second[begin:end]
        here = worse < start + WINDOW
        stays &= thin(*_overlapping(boxes, better, worse, here & stays[better] & stays[worse], threshold), len(boxes))
        stays[_overlapping(boxes, better, worse, ~here & stays[better] & stays[worse], threshold)[1]] = False
    return stays


def _overlapping(boxes: Array, first: Array, second: Array, asked: Array, threshold: float) -> tuple[Array, Array]:
    """Those of the asked pairs that overlap by the threshold or more."""
    first, second = first[asked], second[asked]
    close = overlap(boxes[first], boxes[second]) >= threshold
    return first[close], second[close]


def touching(boxes: Array) -> tuple[Array, Array]:
    """Pairs of boxes (boxes, 5) whose surrounding circles meet; no other pair can overlap."""
    reach = np.hypot(boxes[:, 2], boxes[:, 3], dtype=np.float64) / 2
    return near(
        boxes[:, :2].astype(np.float64), lambda square, rows: square <= (reach[rows, None] + reach[rows.start :]) ** 2
    )


def near(centres: Array, close: Callable[[Array, slice], Array]) -> tuple[Array, Array]:
    """Every pair that is close, in two rows of indices: the better box, in ascending order, and the worse one.

    Args:
        centres: x and y (boxes, 2), best first.
        close: Given squared distances of some boxes to themselves and all after them, and which boxes these are,
            answers which count.
    """
    count = len(centres)
    step = max(1, BLOCK // max(1, count))
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    with np.errstate(invalid="ignore", over="ignore"):  # a box without a finite place is near to none
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            x, y = (centres[rows, axis, None] - centres[None, start:, axis] for axis in (0, 1))
            first, second = np.nonzero(np.triu(close(x * x + y * y, rows), 1))
            found.append((first + start, second + start))
    better, worse = zip(*found, strict=True)
    return np.concatenate(better), np.concatenate(worse)


def thin(first: Array, second: Array, count: int) -> Array:
    """Go down the boxes and drop each that stands too near to a better one that stays.

    All boxes without an undecided better neighbour are settled together, what is too near to them falls, and the next
    round begins. The best of the boxes that are left is settled in every round, so it ends.

    Args:
        first: The better box of each pair.
        second: The worse one.
        count: Number of boxes.

    Returns:
        Which boxes stay, (count,) bool.
    """
    stays = np.ones(count, bool)
    while len(first):
        settled = np.ones(count, bool)
        settled[second] = False
        stays[second[settled[first]]] = False
        undecided = stays[first] & stays[second] & ~settled[first]
        first, second = first[undecided], second[undecided]
    return stays


# ---------------------------------------------------------------- overlap


def overlap(left: Array, right: Array) -> Array:
    """Intersection over union of pairs of rotated rectangles, in float64.

    The shared area is an integral along the left rectangle's own axis: the right one's edges, cut off at the left one's
    four sides, with their signs. Nothing is sorted and no case is special, so that equal and touching rectangles come
    out right.

    Args:
        left: x, y, length, width, yaw of the first of each pair, (pairs, 5); yaw counter-clockwise.
        right: Of the second.
    """
    left, right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # a box that is no box overlaps none
        shared = _shared(left, right).clip(min=0)
        union = left[:, 2] * left[:, 3] + right[:, 2] * right[:, 3] - shared
        return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))


def _shared(left: Array, right: Array) -> Array:
    """Area that both cover."""
    x, y = _corners(left, right)
    half = left[:, 2:4, None] / 2
    run, rise = np.roll(x, -1, 1) - x, np.roll(y, -1, 1) - y
    # The part of each edge that lies between the left rectangle's two ends.
    begin, end = _between(x, run, half[:, 0])
    height = _mean_cut(y + rise * begin, y + rise * end, half[:, 1])
    return np.asarray(-(run * (end - begin) * height).sum(1))


def _corners(left: Array, right: Array) -> tuple[Array, Array]:
    """Places of the right rectangles' corners, counter-clockwise, in the left ones' own frames."""
    turn = (right[:, 4] - left[:, 4])[:, None]
    along, across = right[:, 2, None] / 2 * [1, -1, -1, 1], right[:, 3, None] / 2 * [1, 1, -1, -1]
    x, y = (right[:, :2] - left[:, :2]).T
    cos, sin = np.cos(left[:, 4]), np.sin(left[:, 4])
    x, y = (x * cos + y * sin)[:, None], (y * cos - x * sin)[:, None]
    cos, sin = np.cos(turn), np.sin(turn)
    return x + along * cos - across * sin, y + along * sin + across * cos


def _between(start: Array, run: Array, bound: Array) -> tuple[Array, Array]:
    """Where lines enter and leave the strip from -bound to bound, as shares of their length."""
    safe = np.where(run == 0, 1, run)
    one, other = ((-bound - start) / safe).clip(0, 1), ((bound - start) / safe).clip(0, 1)
    return np.minimum(one, other), np.maximum(one, other)


def _mean_cut(start: Array, stop: Array, bound: Array) -> Array:
    """Mean height of lines from `start` to `stop`, where what lies beyond the bound counts as the bound."""
    rise = stop - start
    enters, leaves = _between(start, rise, bound)
    first, low, high, last = ((start + rise * share).clip(-bound, bound) for share in (0, enters, leaves, 1))
    return np.asarray((first + low) * enters + (low + high) * (leaves - enters) + (high + last) * (1 - leaves)) / 2
