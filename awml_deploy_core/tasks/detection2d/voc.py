"""PASCAL VOC's figures as mmdetection's `eval_map` works them out.

They are not those of COCO at an overlap of 0.5: a box ends on its last pixel, so that widths and heights are larger by
one; a prediction stands for the truth that it overlaps most, and is wrong if another prediction stands for that truth
already, even where a second truth is free. Numbers are of 32 bits, as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from awml_deploy_core.tasks.detection2d.matching import overlaps, pairs

if TYPE_CHECKING:
    from awml_deploy_core.tasks.detection2d.flat import Flat

__all__ = ["Curve", "average_precision", "evaluate", "mean"]

Mode = Literal["11points", "area"]
_GRID = np.arange(0, 1 + 1e-3, 0.1)  # not exactly tenths: 0.3 is a little more, and a recall of 3/10 does not reach it
_LEAST = np.finfo(np.float32).eps


@frozen(kw_only=True, eq=False)
class Curve:
    """One class at one threshold; `recall` and `precision` along the predictions from the surest downward."""

    truths: int
    predictions: int
    recall: NDArray[np.float64]
    precision: NDArray[np.float32]


def evaluate(flat: Flat, classes: int, thresholds: Sequence[float]) -> list[list[Curve]]:
    """The curves by threshold and class."""
    best, overlap = _nearest(flat, classes)
    order = np.argsort(-flat.found.scores, kind="stable")
    counted = ~_ignored(flat)
    wanted = np.bincount(flat.truths.labels[counted], minlength=classes)
    curves = []
    for threshold in thresholds:
        right, wrong = _judged(best[order], overlap[order], threshold, counted)
        curves.append(list(_curves(flat.found.labels[order], right, wrong, wanted)))
    return curves


def average_precision(curve: Curve, mode: Mode) -> float | None:
    """The mean precision over recall, None for a class without a truth.

    Args:
        curve: One class at one threshold.
        mode: `11points`: the mean over recalls 0, 0.1 ... 1 of the best precision from there on. `area`: the area
            under the curve after each precision is raised to the best one behind it.
    """
    if not curve.truths:
        return None
    if mode == "11points":
        total = np.float32(0)
        for least in _GRID:
            total += curve.precision[curve.recall >= least].max(initial=0)
        return float(total / np.float32(len(_GRID)))
    recall = np.concatenate([[0.0], curve.recall, [1.0]])
    precision = np.concatenate([np.zeros(1, np.float32), curve.precision, np.zeros(1, np.float32)])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.float32(((recall[steps + 1] - recall[steps]) * envelope[steps + 1]).sum()))


def mean(figures: Sequence[float | None]) -> float | None:
    """The mean of those that are known."""
    known = [one for one in figures if one is not None]
    return float(np.mean(np.asarray(known, np.float32))) if known else None


def _nearest(flat: Flat, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each prediction the truth of its image and class that it overlaps most, the first of equals; -1 for none."""
    found, truths = flat.found, flat.truths
    order = np.argsort(_ignored(flat), kind="stable")  # of equal truths those that count come first
    groups = found.image * classes + found.labels, (truths.image * classes + truths.labels)[order]
    left, right = found.boxes.astype(np.float32), truths.boxes.astype(np.float32)[order]
    best, most = np.full(len(left), -1, np.int64), np.zeros(len(left), np.float32)
    for lefts, rights in pairs(*groups):
        shared = overlaps(left[lefts], right[rights], extra=1.0)
        begin = np.flatnonzero(np.diff(lefts, prepend=-1))
        if not begin.size:
            continue
        rows, peak = lefts[begin], np.maximum.reduceat(shared, begin)
        sizes = np.diff(begin, append=len(lefts))
        at = np.where(shared == np.repeat(peak, sizes), np.arange(len(lefts)), len(lefts))
        best[rows] = order[rights[np.minimum.reduceat(at, begin)]]
        most[rows] = peak
    return best, most


def _ignored(flat: Flat) -> NDArray[np.bool_]:
    return flat.truths.ignore | flat.truths.crowd


def _judged(
    best: NDArray[np.int64], overlap: NDArray[np.float32], threshold: float, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which predictions are right and which are wrong, given from the surest downward; some are neither."""
    # In 64 bits, as numpy compared single numbers before its version 2.
    near = (best >= 0) & (overlap.astype(np.float64) >= threshold)
    neither = near.copy()
    neither[near] = ~counted[best[near]]
    taking = np.flatnonzero(near & ~neither)
    _, first = np.unique(best[taking], return_index=True)
    right = np.zeros(len(best), np.bool_)
    right[taking[first]] = True
    return right, ~right & ~neither


def _curves(labels: NDArray[np.int64], right: Any, wrong: Any, wanted: NDArray[np.int64]) -> Iterator[Curve]:
    for label, truths in enumerate(wanted.tolist()):
        mine = labels == label
        hits = np.cumsum(right[mine], dtype=np.float32)
        misses = np.cumsum(wrong[mine], dtype=np.float32)
        yield Curve(
            truths=truths,
            predictions=int(np.count_nonzero(mine)),
            recall=hits.astype(np.float64) / max(truths, float(_LEAST)),
            precision=hits / np.maximum(hits + misses, _LEAST),
        )
