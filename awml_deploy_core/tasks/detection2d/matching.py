"""Which boxes belong together: overlaps of pairs, and pairs without a box in two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["one_to_one", "overlaps", "pairs", "pairs_above"]

Ints = NDArray[np.int64]
CHUNK = 1 << 18
"""Pairs that are looked at in one step, which bounds the memory."""


def overlaps(left: NDArray[Any], right: NDArray[Any], *, extra: float = 0.0, crowd: Any = None) -> NDArray[Any]:
    """Intersection over union of boxes row by row, in the element type that they have.

    Args:
        left: Boxes of shape (N, 4).
        right: Boxes of shape (N, 4).
        extra: What is added to widths and heights: 1 where a box ends on its last pixel and not behind it.
        crowd: Rows that are divided by the area of the left box instead of the union.
    """
    inner = np.maximum(np.minimum(left[:, 2:], right[:, 2:]) - np.maximum(left[:, :2], right[:, :2]) + extra, 0)
    common = inner[:, 0] * inner[:, 1]
    mine, other = (_area(boxes, extra) for boxes in (left, right))
    union = mine + other - common
    below = union if crowd is None else np.where(crowd, mine, union)
    shares: NDArray[Any] = common / np.maximum(below, np.asarray(1e-6, common.dtype))
    return shares


def pairs(left: Ints, right: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Every pair of a left and a right row of the same group, in portions.

    Args:
        left: Groups of the left rows.
        right: Groups of the right rows.

    Yields:
        Left rows and right rows, ascending in both; all pairs of a left row come together.
    """
    order = np.argsort(right, kind="stable")
    ranked = right[order]
    begin, end = (np.searchsorted(ranked, left, side) for side in ("left", "right"))
    counts = end - begin
    last = np.cumsum(counts)
    row = 0
    while row < len(left):
        done = last[row - 1] if row else 0
        stop = max(row + 1, int(np.searchsorted(last, done + CHUNK, "right")))
        some = counts[row:stop]
        lefts = np.repeat(np.arange(row, stop), some)
        within = np.arange(len(lefts)) - np.repeat(last[row:stop] - some - done, some)
        yield lefts, order[np.repeat(begin[row:stop], some) + within]
        row = stop


def pairs_above(
    left: NDArray[Any], right: NDArray[Any], groups: tuple[Ints, Ints], threshold: float, *, crowd: Any = None
) -> tuple[Ints, Ints, NDArray[Any]]:
    """The pairs of boxes of one group that overlap at least so much, and how much.

    Args:
        left: Boxes of shape (N, 4).
        right: Boxes of shape (M, 4).
        groups: Groups of the left and of the right boxes; only boxes of one group are held together.
        threshold: Least intersection over union.
        crowd: Right boxes that hold many objects, as flags; see `overlaps`.
    """
    kept: list[tuple[Ints, Ints, NDArray[Any]]] = []
    for lefts, rights in pairs(*groups):
        shared = overlaps(left[lefts], right[rights], crowd=None if crowd is None else crowd[rights])
        enough = shared >= threshold
        kept.append((lefts[enough], rights[enough], shared[enough]))
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, left.dtype)
    lefts, rights, shared = (np.concatenate(part) for part in zip(*kept, strict=True))
    return lefts, rights, shared


def one_to_one(left: Ints, right: Ints, order: Ints) -> Ints:
    """Choose pairs from the best downward so that no row is in two of them.

    That is what a loop over the pairs in their order would choose. In each round here every pair is chosen that is
    the best that is left for either of its rows, and what it rules out falls away.

    Args:
        left: Left row of each pair.
        right: Right row of each pair.
        order: The pairs from the best to the worst.

    Returns:
        The chosen pairs, ascending.
    """
    chosen: list[Ints] = []
    while order.size:
        lefts, rights = left[order], right[order]
        best = (_first(lefts) & _first(rights)).nonzero()[0]
        chosen.append(order[best])
        free = ~(_among(lefts, lefts[best]) | _among(rights, rights[best]))
        order = order[free]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def _area(boxes: NDArray[Any], extra: float) -> NDArray[Any]:
    sizes = boxes[:, 2:] - boxes[:, :2] + extra
    product: NDArray[Any] = sizes[:, 0] * sizes[:, 1]
    return product


def _first(rows: Ints) -> NDArray[np.bool_]:
    """Where each row occurs for the first time."""
    places = np.arange(len(rows))
    first = np.empty(int(rows.max(initial=-1)) + 1, np.int64)
    first[rows[::-1]] = places[::-1]  # of equal indices the last assignment counts
    found: NDArray[np.bool_] = first[rows] == places
    return found


def _among(rows: Ints, some: Ints) -> NDArray[np.bool_]:
    table = np.zeros(int(rows.max(initial=-1)) + 1, np.bool_)
    table[some] = True
    return table[rows]
