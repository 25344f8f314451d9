"""Whether two predictions for one frame say the same.

A box has a weight, the square of how far its score lies above the score at which boxes are kept: what stands on that
edge is worth next to nothing, because rounding alone may push it over. Boxes of a class pair up by their centres. A
pair loses the difference of its two weights, or both of them if the boxes point elsewhere or differ in size; a box
without a partner loses its own. What is lost is held against all there is, and against one sure box where there is
less than that, so that a frame of a few faint boxes cannot fail for one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve

from awml_deploy_core.records import Agreement
from awml_deploy_core.tasks.detection3d.geometry import turn
from awml_deploy_core.tasks.detection3d.matching import assign, neighbours
from awml_deploy_core.tasks.detection3d.pool import Boxes, boxes_of, take

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["agree"]

TURNED = np.pi / 8
"""Radians between headings from which two boxes are not the same box; rounding turns by thousandths."""

STRETCHED = 0.25
"""Part by which a side may differ; rounding to half precision moves it by hundredths."""


def agree(reference: Any, candidate: Any, *, radius: float = 0.5, score_threshold: float = 0.0) -> Agreement:
    """How well two predictions for one frame agree; two without any box agree.

    `distances` holds the largest differences of pairs: `centre` and `size` in metres, `yaw` in radians, `score`, and
    `velocity` in metres per second where both have one.

    Args:
        reference: The prediction that is trusted.
        candidate: The one under test.
        radius: Metres, seen from above, within which two centres may pair up.
        score_threshold: The score at which the model keeps a box.

    Raises:
        LoadError: A prediction is not made as the task says.
    """
    ours, theirs = (_sound(boxes_of(each, "compared: its prediction")) for each in (reference, candidate))
    partner = assign(neighbours(ours, theirs, radius), len(ours), len(theirs))
    paired = np.flatnonzero(partner >= 0)
    left, right = take(ours, paired), take(theirs, partner[paired])
    weights = [_weight(boxes, score_threshold) for boxes in (ours, theirs)]
    total = float(weights[0].sum() + weights[1].sum())
    kept = np.minimum(weights[0][paired], weights[1][partner[paired]])
    lost = total - 2 * float(kept[_same(left, right)].sum())
    return Agreement(
        matched=len(paired),
        unmatched=len(ours) + len(theirs) - 2 * len(paired),
        score=float(np.clip(1 - lost / max(total, 1.0), 0, 1)),
        distances=_distances(left, right),
    )


def _sound(boxes: Boxes) -> Boxes:
    """Highest score first; what is no number becomes NaN, which pairs up with nothing."""
    finite = np.isfinite(boxes.box).all(axis=1) & np.isfinite(boxes.score)
    box, score = np.where(finite[:, None], boxes.box, np.nan), np.where(finite, boxes.score, np.inf)
    return take(evolve(boxes, box=box, score=score), np.argsort(-score, kind="stable"))


def _weight(boxes: Boxes, threshold: float) -> Floats:
    above = np.clip((boxes.score - threshold) / max(1 - threshold, 1e-6), 0, 1)
    weight: Floats = np.square(above)
    return weight


def _same(left: Boxes, right: Boxes) -> NDArray[np.bool_]:
    """Which pairs are one box: they point the same way and are of a size."""
    sides = np.abs(left.box[:, 3:6]), np.abs(right.box[:, 3:6])
    alike = np.abs(sides[0] - sides[1]) <= STRETCHED * np.maximum(*sides)
    same: NDArray[np.bool_] = alike.all(axis=1) & (turn(left.box[:, 6], right.box[:, 6]) <= TURNED)
    return same


def _distances(left: Boxes, right: Boxes) -> dict[str, float]:
    if not len(left):
        return {}
    apart = np.abs(left.box - right.box)
    found = {
        "centre": np.sqrt(np.square(apart[:, :3]).sum(axis=1)),
        "size": apart[:, 3:6],
        "yaw": turn(left.box[:, 6], right.box[:, 6]),
        "score": np.abs(left.score - right.score),
    }
    moving = np.linalg.norm(left.velocity - right.velocity, axis=1)
    if np.isfinite(moving).any():
        found["velocity"] = moving[np.isfinite(moving)]
    return {name: float(values.max()) for name, values in found.items()}
