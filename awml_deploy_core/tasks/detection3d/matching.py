"""Which prediction belongs to which truth.

The rule: predictions of a frame and a class come by descending score, each takes the nearest truth that is still free,
if it is near enough. One after the other that is a loop over all boxes. Here all predictions ask for their nearest
truth at once, a truth keeps the best of those that ask, and who is refused asks for the next nearest, until nobody
asks. Since all truths have the same idea of who is best, there is only one outcome in which no prediction and truth
would rather have each other, and the loop ends in the same one: both agree box by box.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from awml_deploy_core.tasks.detection3d.geometry import footprints, nearest_corners, plane_distances, turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.tasks.detection3d.pool import Boxes

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["Pairs", "assign", "by_plane", "neighbours"]

_BLOCK = 1 << 16
"""Pairs looked at in one go, which bounds the memory and stays in the cache."""


@frozen(kw_only=True, eq=False)
class Pairs:
    """Predictions and truths that may belong together: by prediction, then by distance, then by truth."""

    prediction: Indices
    truth: Indices
    distance: Floats

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(prediction=self.prediction[mask], truth=self.truth[mask], distance=self.distance[mask])


def neighbours(predictions: Boxes, truths: Boxes, farthest: float, *, sized: bool = False) -> Pairs:
    """Pairs of a frame and a class by the distance of their centres, seen from above.

    Args:
        predictions: Highest score first.
        truths: In any order.
        farthest: Pairs at this distance and beyond are left out.
        sized: Leave in what `by_plane` can bring nearer than that.
    """
    reach = [_half_diagonal(boxes) if sized else np.zeros(len(boxes)) for boxes in (predictions, truths)]
    ours, theirs = ([np.ascontiguousarray(boxes.box[:, axis]) for axis in (0, 1)] for boxes in (predictions, truths))
    found = [_nothing()]
    for prediction, truth in _same_class(predictions, truths):
        x, y = (one[prediction] - other[truth] for one, other in zip(ours, theirs, strict=True))
        near = np.square(x) + np.square(y) < np.square(farthest + reach[0][prediction] + reach[1][truth]) * (1 + 1e-9)
        found.append((prediction[near], truth[near], np.hypot(x[near], y[near])))
    prediction, truth, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    pairs = _sorted(prediction, truth, distance)
    return pairs if sized else pairs.where(pairs.distance < farthest)


def by_plane(pairs: Pairs, predictions: Boxes, truths: Boxes, farthest: float, *, exchanged: bool = False) -> Pairs:
    """The same pairs by the distance of the sides that face the sensor, without those at `farthest` and beyond.

    Args:
        pairs: From `neighbours`, sized.
        predictions: What they were made from.
        truths: What they were made from.
        farthest: As it was there.
        exchanged: Take the length of each box for its width and the other way round.
    """
    corners = [footprints(boxes.box, exchanged=exchanged) for boxes in (predictions, truths)]
    near = nearest_corners(corners[1])[pairs.truth]
    opposed = turn(predictions.box[pairs.prediction, 6], truths.box[pairs.truth, 6]) > np.pi / 2
    distance = plane_distances(corners[0][pairs.prediction], corners[1][pairs.truth], near, opposed)
    kept = distance < farthest
    return _sorted(pairs.prediction[kept], pairs.truth[kept], distance[kept])


def assign(pairs: Pairs, predictions: int, truths: int) -> Indices:
    """The truth that each prediction gets, -1 where it gets none.

    Args:
        pairs: Those that are near enough; a smaller index of a prediction is a higher score.
        predictions: How many there are.
        truths: How many there are.
    """
    asking, start = np.unique(pairs.prediction, return_index=True)
    place = np.zeros(predictions, np.int64)
    last = np.zeros(predictions, np.int64)
    place[asking], last[asking] = start, np.append(start[1:], len(pairs.prediction))
    holder = np.full(truths, predictions)  # nobody
    while asking.size:
        wanted = pairs.truth[place[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        refused = asking[holder[wanted] != asking]
        ousted = np.unique(before[(before != holder[wanted]) & (before < predictions)])
        asking = np.concatenate([refused, ousted])
        place[asking] += 1
        asking = asking[place[asking] < last[asking]]
    taken = np.full(predictions + 1, -1)
    held = np.flatnonzero(holder < predictions)
    taken[holder[held]] = held
    return taken[:predictions]


def _half_diagonal(boxes: Boxes) -> Floats:
    # Centres cannot lie farther apart than a pair of corners and the way from either centre to its corner.
    return np.hypot(boxes.box[:, 3], boxes.box[:, 4]) / 2


def _nothing() -> tuple[Indices, Indices, Floats]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)


def _sorted(prediction: Indices, truth: Indices, distance: Floats) -> Pairs:
    order = np.lexsort((truth, distance, prediction))
    return Pairs(prediction=prediction[order], truth=truth[order], distance=distance[order])


def _same_class(predictions: Boxes, truths: Boxes) -> Iterator[tuple[Indices, Indices]]:
    """Every prediction with every truth of its frame and class, a block of predictions at a time."""
    classes = 1 + max(predictions.label.max(initial=0), truths.label.max(initial=0))
    groups = [boxes.frame * classes + boxes.label for boxes in (predictions, truths)]
    order = np.argsort(groups[1], kind="stable")
    low, high = (np.searchsorted(groups[1][order], groups[0], side) for side in ("left", "right"))
    ends = np.cumsum(high - low)
    cuts = np.searchsorted(ends, np.arange(_BLOCK, ends[-1] if ends.size else 0, _BLOCK))
    for block in np.split(np.arange(len(predictions)), cuts):
        count = (high - low)[block]
        prediction = np.repeat(block, count)
        steps = np.arange(len(prediction)) - np.repeat(np.cumsum(count) - count, count)
        yield prediction, order[low[prediction] + steps]
