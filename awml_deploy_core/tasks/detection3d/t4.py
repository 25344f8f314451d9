"""T4MetricV2, as AWML evaluates CenterPoint from 2.5 on.

A prediction and a truth belong together if their centres, seen from above, or the sides that face the sensor, are less
than a threshold apart. AP is the area under the envelope of precision over recall; APH counts a hit only by as much as
its heading is right. A class has the mean over the thresholds, the whole the mean over the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from awml_deploy_core.tasks.detection3d.curve import area, best_f1, enveloped, precision_recall, sampled
from awml_deploy_core.tasks.detection3d.geometry import turn, unsigned_heading
from awml_deploy_core.tasks.detection3d.matching import Pairs, assign, by_plane, neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.tasks.detection3d.pool import Boxes, Pool

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]
    Masks = NDArray[np.bool_]
    Range = tuple[float, float]

__all__ = ["CENTRE", "PLANE", "THRESHOLDS", "Figures", "figures"]

CENTRE, PLANE = "center_distance_bev", "plane_distance"
THRESHOLDS: Mapping[str, tuple[float, ...]] = {CENTRE: (0.5, 1.0, 2.0, 4.0), PLANE: (2.0, 4.0)}
"""Metres, by what is measured; a distance must be smaller."""


@frozen(kw_only=True, eq=False)
class Figures:
    """Figures of one way to measure distance, of shape (ranges, classes, thresholds), NaN where undefined.

    Args:
        ap: Average precision.
        aph: The same with hits weighted by heading.
        f1: Largest F1 of all operating points.
        confidence: Score at which it is first reached.
        truths: How many there are in each range, of shape (ranges, classes).
        predictions: The same for predictions.
    """

    ap: Floats
    aph: Floats
    f1: Floats
    confidence: Floats
    truths: Indices
    predictions: Indices


@frozen(kw_only=True, eq=False)
class _View:
    """What is seen of the pool in one range.

    Args:
        predictions: Which are seen.
        truths: Which are seen.
        places: Indices of the predictions by class, highest score first.
        counts: Truths by class.
    """

    predictions: Masks
    truths: Masks
    places: Sequence[Indices]
    counts: Indices


def figures(pool: Pool, classes: int, ranges: Sequence[Range], *, compat: bool = False) -> dict[str, Figures]:
    """Measure all ranges, classes and thresholds.

    Args:
        pool: The boxes of all frames.
        classes: How many there are.
        ranges: Distances from the sensor between which, strictly, the centre of a box must lie to be seen at all.
        compat: Measure as AWML does: length and width have changed places in the footprint, and a heading to the left
            is the same as one to the right.
    """
    ours, theirs = pool.predictions, pool.truths
    near = neighbours(ours, theirs, max(map(max, THRESHOLDS.values())), sized=True)
    pairs = {CENTRE: near, PLANE: by_plane(near, ours, theirs, max(THRESHOLDS[PLANE]), exchanged=compat)}
    headings = [unsigned_heading(each.box[:, 6]) if compat else each.box[:, 6] for each in (ours, theirs)]
    views = [_view(pool, classes, limits) for limits in ranges]
    return {mode: _measure(pool, found, THRESHOLDS[mode], views, headings) for mode, found in pairs.items()}


def _view(pool: Pool, classes: int, limits: Range) -> _View:
    predictions, truths = _inside(pool.predictions, limits), _inside(pool.truths, limits)
    seen = np.flatnonzero(predictions)
    labels = pool.predictions.label[seen]
    return _View(
        predictions=predictions,
        truths=truths,
        places=[seen[labels == label] for label in range(classes)],
        counts=np.bincount(pool.truths.label[truths], minlength=classes),
    )


def _inside(boxes: Boxes, limits: Range) -> Masks:
    """Which boxes are seen; one that is no number stands nowhere and is wrong everywhere."""
    distance = np.hypot(boxes.box[:, 0], boxes.box[:, 1])
    mask: Masks = ((limits[0] < distance) & (distance < limits[1])) | np.isnan(distance)
    return mask


def _measure(
    pool: Pool, pairs: Pairs, thresholds: Sequence[float], views: Sequence[_View], headings: Sequence[Floats]
) -> Figures:
    """The four figures for each view, class and threshold."""
    found = np.full((4, len(views), len(views[0].places), len(thresholds)), np.nan)
    for row, view in enumerate(views):
        visible = view.predictions[pairs.prediction] & view.truths[pairs.truth]
        for column, threshold in enumerate(thresholds):
            near = visible & (pairs.distance < threshold)
            partner = assign(pairs.where(near), len(pool.predictions), len(pool.truths))
            hit, alike = _hits(partner, headings)
            for label, places in enumerate(view.places):
                scores, truths = pool.predictions.score[places], int(view.counts[label])
                found[:, row, label, column] = _one(hit[places], alike[places], scores, truths)
    return Figures(
        ap=found[0],
        aph=found[1],
        f1=found[2],
        confidence=found[3],
        truths=np.array([view.counts for view in views]),
        predictions=np.array([[len(places) for places in view.places] for view in views]),
    )


def _hits(partner: Indices, headings: Sequence[Floats]) -> tuple[Floats, Floats]:
    """1 for each prediction that has a truth, and how much of it is left by its heading."""
    held = np.flatnonzero(partner >= 0)
    hit, alike = np.zeros(len(partner)), np.zeros(len(partner))
    hit[held] = 1
    away = turn(headings[0][held], headings[1][partner[held]])
    alike[held] = np.round(np.maximum(0, 1 - away / np.pi), 10)
    return hit, alike


def _one(hit: Floats, alike: Floats, scores: Floats, truths: int) -> tuple[float, float, float, float]:
    """AP, APH, largest F1 and its confidence of one class at one threshold, highest score first."""
    if not len(scores):
        nothing = 0.0 if truths else np.nan
        return nothing, nothing, np.nan, np.nan
    precision, recall = precision_recall(hit, 1 - hit, truths)
    f1, place = best_f1(precision, recall) or (np.nan, None)
    ap = area(sampled(enveloped(precision), recall))
    precision, recall = precision_recall(alike, 1 - hit, truths)
    return ap, area(sampled(enveloped(precision), recall)), f1, np.nan if place is None else float(scores[place])
