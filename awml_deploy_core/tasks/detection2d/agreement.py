"""When two detections of one image agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from awml_deploy_core.records import Agreement
from awml_deploy_core.tasks.detection2d.flat import Floats, column, corners
from awml_deploy_core.tasks.detection2d.matching import one_to_one, overlaps, pairs, pairs_above

__all__ = ["agree"]


def agree(
    reference: Mapping[str, Any],
    candidate: Mapping[str, Any],
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
    nms_threshold: float | None = None,
    max_detections: int | None = None,
    margin: float = 0.05,
) -> Agreement:
    """Pair the boxes of equal labels by overlap and say how much is left over.

    Rounding moves a box across a threshold now and then, and what was found next to nothing then differs by a whole
    box. So a box that has no partner weighs the less, the nearer it is to the decision that dropped it on the other
    side: nothing at the threshold itself, fully from `margin` on. The score is 1 less the weight of these boxes in all
    boxes of both sides, and 1 where there are none. Boxes that are no finite numbers agree with nothing, each other
    included, and weigh fully.

    Args:
        reference: Prediction of the reference.
        candidate: Prediction of the variant under test.
        iou_threshold: Least overlap of partners.
        score_threshold: The score below which boxes were dropped.
        nms_threshold: The overlap above which the less sure of two boxes was dropped; None if none was for that.
        max_detections: How many boxes were kept at most; a side that has so many may have dropped others.
        margin: How far from a threshold a box weighs fully, in units of score or overlap.

    Returns:
        Counts of pairs and of boxes without a partner, the score, and the largest difference of a score and of the
        place (1 less the overlap) among the pairs.
    """
    ours, theirs = _side(reference), _side(candidate)
    left, right, shared = pairs_above(ours.boxes, theirs.boxes, (ours.labels, theirs.labels), iou_threshold)
    apart = np.abs(ours.scores[left] - theirs.scores[right])
    order = np.lexsort((right, left, apart, -shared))
    chosen = one_to_one(left, right, order[(ours.sound[left] & theirs.sound[right])[order]])
    matched = len(chosen)
    weight, unmatched = 0.0, 0
    for mine, other, used in ((ours, theirs, left[chosen]), (theirs, ours, right[chosen])):
        rest = np.ones(len(mine.scores), np.bool_)
        rest[used] = False
        cut = _cut(other, score_threshold, max_detections)
        weight += float(_weights(mine, rest, cut, nms_threshold, margin).sum())
        unmatched += int(np.count_nonzero(rest))
    total = 2 * matched + unmatched
    return Agreement(
        matched=matched,
        unmatched=unmatched,
        score=1.0 - weight / total if total else 1.0,
        distances={
            "scores": float(apart[chosen].max(initial=0.0)),
            "boxes": float((1 - shared[chosen]).max(initial=0.0)),
        },
    )


@frozen(kw_only=True, eq=False)
class _Side:
    boxes: Floats
    scores: Floats
    labels: NDArray[np.int64]
    sound: NDArray[np.bool_]


def _side(prediction: Mapping[str, Any]) -> _Side:
    boxes, scores = corners(prediction), column(prediction, "scores")
    sound = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return _Side(
        boxes=np.where(sound[:, None], boxes, 0.0),
        scores=np.where(sound, scores, 0.0),
        labels=column(prediction, "labels", np.int64),
        sound=sound,
    )


def _cut(side: _Side, score_threshold: float, max_detections: int | None) -> float:
    """The score that a box had to have on this side."""
    full = max_detections is not None and len(side.scores) >= max_detections > 0
    return max(score_threshold, float(side.scores.min())) if full else score_threshold


def _weights(side: _Side, rest: NDArray[np.bool_], cut: float, nms: float | None, margin: float) -> Floats:
    """How much each box without a partner counts."""
    far = (side.scores[rest] - cut) / margin
    if nms is not None:
        far = np.minimum(far, np.abs(_covered(side, rest) - nms) / margin)
    weights: Floats = np.where(side.sound[rest], np.clip(far, 0.0, 1.0), 1.0)
    return weights


def _covered(side: _Side, rest: NDArray[np.bool_]) -> Floats:
    """The overlap of each of these boxes with a surer box of its label, the largest; 0 where there is none."""
    rows = np.flatnonzero(rest)
    most = np.zeros(len(rows))
    for lefts, rights in pairs(side.labels[rows], side.labels):
        surer = side.scores[rights] > side.scores[rows[lefts]]
        shared = overlaps(side.boxes[rows[lefts]], side.boxes[rights])
        np.maximum.at(most, lefts, np.where(surer, shared, 0.0))
    return most
