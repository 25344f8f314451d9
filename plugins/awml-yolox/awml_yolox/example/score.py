"""How good the network is while it learns: the mean over the classes of the average precision at overlap 0.5."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]


def keep(boxes: Array, scores: Array, *, least: float = 0.01, most: float = 0.65) -> tuple[Array, Array, Array]:
    """Boxes, scores and classes that are left of one picture's (cells, 4) and (cells, classes)."""
    labels, best = scores.argmax(1), scores.max(1)
    chosen = np.flatnonzero(best >= least)
    corners = boxes[chosen].astype(float)
    sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    left = cv2.dnn.NMSBoxesBatched(sides.tolist(), best[chosen].tolist(), labels[chosen].tolist(), least, most)
    chosen = chosen[np.array(left, int)]
    return boxes[chosen], best[chosen], labels[chosen]


def precision(found: list[tuple[Array, Array, Array]], truths: list[Array], classes: int) -> Array:
    """Average precision of each class; NaN where there is nothing to find.

    Args:
        found: Boxes, scores and classes of every picture.
        truths: Rows x1, y1, x2, y2, class of every picture.
        classes: Number of classes.
    """
    return np.array([_one(found, truths, label) for label in range(classes)])


def _one(found: list[tuple[Array, Array, Array]], truths: list[Array], label: int) -> float:
    hits: list[tuple[float, bool]] = []
    there = 0
    for (boxes, scores, labels), rows in zip(found, truths, strict=True):
        wanted = rows[rows[:, 4] == label, :4]
        there += len(wanted)
        mine = labels == label
        hits += _matched(boxes[mine], scores[mine], wanted)
    if not there:
        return float("nan")
    hits.sort(key=lambda hit: -hit[0])
    right = np.cumsum([hit for _, hit in hits])
    recall, exact = right / there, right / np.arange(1, len(hits) + 1)
    exact = np.maximum.accumulate(exact[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * exact).sum())


def _matched(boxes: Array, scores: Array, wanted: Array) -> list[tuple[float, bool]]:
    """Each box, the best first, and whether it finds a truth that no better one has found."""
    free, hits = np.ones(len(wanted), bool), []
    for index in np.argsort(-scores, kind="stable"):
        fit = np.where(free, _overlap(boxes[index], wanted), 0)
        hit = bool(len(fit)) and fit.max() >= 0.5
        if hit:
            free[fit.argmax()] = False
        hits.append((float(scores[index]), hit))
    return hits


def _overlap(box: Array, others: Array) -> Array:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    return np.asarray(shared / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared))
