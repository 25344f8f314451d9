"""The detection protocol of nuScenes, which AWML calls T4Metric.

AP at four distances of centres, without an envelope; five errors of what is hit within two metres, each a mean over the
recalls that count; and the score that joins them, NDS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve, frozen

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.tasks.detection3d.curve import FIRST, area, mean, precision_recall, sampled
from awml_deploy_core.tasks.detection3d.geometry import turn
from awml_deploy_core.tasks.detection3d.matching import assign, neighbours
from awml_deploy_core.tasks.detection3d.pool import Boxes, Pool, take

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["ERRORS", "THRESHOLDS", "Scores", "scores", "seen"]

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
_ERROR_THRESHOLD = 2.0
ERRORS = ("trans", "scale", "orient", "vel", "attr")
"""Metres, 1 less the overlap of aligned boxes, radians, metres per second, part of wrong attributes."""

_MEANINGLESS: Mapping[str, tuple[str, ...]] = {"traffic_cone": ("orient", "vel", "attr"), "barrier": ("vel", "attr")}
_HALF_TURNS = ("barrier",)
"""Classes that look the same from behind."""


@frozen(kw_only=True, eq=False)
class Scores:
    """Figures by class; NaN where undefined.

    Args:
        ap: Of shape (classes, thresholds).
        errors: Of shape (classes, errors).
        measured: Which errors could be measured at all.
    """

    ap: Floats
    errors: Floats
    measured: tuple[str, ...]

    @property
    def mean_ap(self) -> float:
        """Mean over the classes that are somewhere."""
        return mean(self.ap.mean(axis=1))

    @property
    def mean_errors(self) -> dict[str, float]:
        """Means over the classes for which an error means something."""
        return {name: mean(self.errors[:, column]) for column, name in enumerate(ERRORS)}

    @property
    def nds(self) -> float:
        """Five parts mAP and one part for each error that was measured, as far as it is below 1."""
        errors = [self.mean_errors[name] for name in self.measured]
        parts = [1 - min(1.0, error) for error in errors if not np.isnan(error)]
        return (5 * self.mean_ap + sum(parts)) / (5 + len(parts))


def seen(pool: Pool, names: Sequence[str], class_range: float | Mapping[str, float], max_boxes: int) -> Pool:
    """What the protocol looks at: so many boxes of a frame, and none beyond the range of its class.

    Raises:
        ConfigError: A class has no range.
    """
    lacking = [name for name in names if name not in class_range] if isinstance(class_range, Mapping) else []
    if lacking:
        raise ConfigError(f"class_range lacks {', '.join(lacking)}")
    limits = np.array([class_range[name] if isinstance(class_range, Mapping) else class_range for name in names])
    found = take(pool.predictions, _ranks(pool.predictions.frame) < max_boxes)
    return evolve(pool, predictions=_near(found, limits), truths=_near(pool.truths, limits))


def scores(pool: Pool, names: Sequence[str]) -> Scores:
    """Measure AP and errors of what is seen."""
    ours, theirs = pool.predictions, pool.truths
    pairs = neighbours(ours, theirs, max(THRESHOLDS))
    partners = {limit: assign(pairs.where(pairs.distance < limit), len(ours), len(theirs)) for limit in THRESHOLDS}
    counts = np.bincount(theirs.label, minlength=len(names))
    ap = np.full((len(names), len(THRESHOLDS)), np.nan)
    errors = np.full((len(names), len(ERRORS)), np.nan)
    for label, name in enumerate(names):
        places = np.flatnonzero(ours.label == label)
        for column, limit in enumerate(THRESHOLDS):
            ap[label, column] = _ap(partners[limit][places], int(counts[label]))
        errors[label] = _errors(pool, name, places, partners[_ERROR_THRESHOLD][places], int(counts[label]))
    return Scores(ap=ap, errors=errors, measured=_measured(ours, theirs))


def _near(boxes: Boxes, limits: Floats) -> Boxes:
    # What is no number is not beyond any range, and wrong.
    return take(boxes, ~(np.hypot(boxes.box[:, 0], boxes.box[:, 1]) >= limits[boxes.label]))


def _ranks(frame: Indices) -> Indices:
    """The place of each box among those of its frame."""
    order = np.argsort(frame, kind="stable")
    ordered = frame[order]
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return ranks


def _measured(ours: Boxes, theirs: Boxes) -> tuple[str, ...]:
    """The errors that there is something to measure for, on both sides."""
    moving = all(np.isfinite(boxes.velocity).any() for boxes in (ours, theirs))
    told = all((boxes.attribute >= 0).any() for boxes in (ours, theirs))
    return tuple(name for name in ERRORS if (name != "vel" or moving) and (name != "attr" or told))


def _ap(partner: Indices, truths: int) -> float:
    if not len(partner) or not truths:
        return 0.0 if len(partner) or truths else np.nan
    hit = (partner >= 0).astype(np.float64)
    return area(sampled(*precision_recall(hit, 1 - hit, truths)))


def _errors(pool: Pool, name: str, places: Indices, partner: Indices, truths: int) -> Floats:
    """Each error of one class; 1 if nothing was hit often enough to say, NaN if it means nothing."""
    found = np.full(len(ERRORS), 1.0 if len(places) or truths else np.nan)
    held = partner >= 0
    if held.any():
        confidence = sampled(pool.predictions.score[places], np.cumsum(held) / truths)
        left, right = take(pool.predictions, places[held]), take(pool.truths, partner[held])
        found[:] = [_over_recall(each, left.score, confidence) for each in _gaps(name, left, right)]
    found[[ERRORS.index(each) for each in _MEANINGLESS.get(name, ())]] = np.nan
    return found


def _gaps(name: str, left: Boxes, right: Boxes) -> list[Floats]:
    """The errors of each hit, in the order of `ERRORS`."""
    smaller = np.minimum(left.box[:, 3:6], right.box[:, 3:6]).prod(axis=1)
    larger = left.box[:, 3:6].prod(axis=1) + right.box[:, 3:6].prod(axis=1) - smaller
    wrong = (left.attribute != right.attribute).astype(np.float64)
    return [
        np.hypot(left.box[:, 0] - right.box[:, 0], left.box[:, 1] - right.box[:, 1]),
        1 - np.divide(smaller, larger, out=np.zeros_like(larger), where=larger > 0),
        turn(left.box[:, 6], right.box[:, 6], np.pi if name in _HALF_TURNS else 2 * np.pi),
        np.hypot(*(left.velocity - right.velocity).T),
        np.where(right.attribute < 0, np.nan, wrong),
    ]


def _over_recall(errors: Floats, scores: Floats, confidence: Floats) -> float:
    """The mean over the recalls that count of the mean error of all hits with at least the score found there."""
    reached = np.flatnonzero(confidence)
    last = int(reached[-1]) if reached.size else 0
    if last < FIRST:
        return 1.0
    along = np.interp(confidence[::-1], scores[::-1], _running_mean(errors)[::-1])[::-1]
    return float(np.mean(along[FIRST : last + 1]))


def _running_mean(values: Floats) -> Floats:
    """The mean so far of those that are numbers; 1 throughout if none is."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    means: Floats = np.cumsum(np.where(known, values, 0)) / np.maximum(np.cumsum(known), 1)
    return means
