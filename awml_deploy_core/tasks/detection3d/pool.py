"""The boxes of all frames in one place, so that numpy can work on them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import fields, frozen
from numpy.typing import NDArray

from awml_deploy_core.errors import LoadError
from awml_deploy_core.tree.bits import is_tensor

if TYPE_CHECKING:
    from awml_deploy_core.records import Record

__all__ = ["Boxes", "Pool", "array", "boxes_of", "pool", "take"]

NO_CLASS = "class_names must name every label, counted from 0."
TREE = (
    "It is a dict of boxes (N, 7), labels (N,), in a prediction scores (N,), and what else the task detection3d knows."
)


@frozen(kw_only=True, eq=False)
class Boxes:
    """Boxes of many frames, an entry of each array per box.

    Args:
        frame: Which frame it belongs to.
        label: Its class.
        box: x, y, z of the centre, l, w, h, yaw.
        score: What the model gave it; 1 for a truth.
        velocity: x and y, NaN where nobody knows.
        points: LiDAR points inside, -1 where nobody counted.
        attribute: Number of its attribute, -1 where there is none.
    """

    frame: NDArray[np.int64]
    label: NDArray[np.int64]
    box: NDArray[np.float64]
    score: NDArray[np.float64]
    velocity: NDArray[np.float64]
    points: NDArray[np.int64]
    attribute: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)


@frozen(kw_only=True, eq=False)
class Pool:
    """Predictions, highest score first, and truths of the frames that have a truth.

    Args:
        predictions: A box that is no number is NaN throughout, such a score the lowest of all.
        truths: All finite.
        frames: Frames with a truth.
        unlabelled: Frames that were left out because they have none.
        broken: Predictions that are no numbers.
    """

    predictions: Boxes
    truths: Boxes
    frames: int
    unlabelled: int
    broken: int


def pool(records: Sequence[Record], classes: int, *, min_points: int = 0) -> Pool:
    """Gather the boxes of all records that have a truth.

    Args:
        records: Predictions and truths by frame.
        classes: How many there are.
        min_points: Truths with fewer points are left out, unless nobody counted.

    Raises:
        LoadError: A tree is not made as the task says, a label has no class name, or a truth is no number.
    """
    labelled = [record for record in records if record.ground_truth is not None]
    names = [record.id for record in labelled]
    found = _gathered([record.prediction for record in labelled], [f"{name!r}: its prediction" for name in names])
    truths = _gathered(
        [each.ground_truth for each in labelled], [f"{name!r}: its truth" for name in names], scored=False
    )
    for what, boxes in (("truth", truths), ("predicted label", found)):
        _check_labels(what, boxes, names, classes)
    if not np.isfinite(truths.box).all():
        wrong = truths.frame[~np.isfinite(truths.box).all(axis=1)][0]
        raise LoadError(f"sample {names[wrong]!r}: a box of its truth is no number")
    seen = (truths.points < 0) | (truths.points >= min_points)
    broken = _mend(found)
    order = np.argsort(-found.score, kind="stable")
    return Pool(
        predictions=take(found, order),
        truths=take(truths, seen),
        frames=len(labelled),
        unlabelled=len(records) - len(labelled),
        broken=broken,
    )


def take(boxes: Boxes, which: NDArray[Any]) -> Boxes:
    """Some of the boxes, by index or mask."""
    return Boxes(**{each.name: getattr(boxes, each.name)[which] for each in fields(Boxes)})


def boxes_of(tree: Any, what: str, *, scored: bool = True) -> Boxes:
    """The boxes of one prediction or truth, as the first frame.

    Args:
        tree: Arrays or tensors by name.
        what: Names it in an error, after the word "sample".
        scored: Whether it must have scores.

    Raises:
        LoadError: Something is missing, or shapes do not fit.
    """
    return _gathered([tree], [what], scored=scored)


def array(value: Any) -> NDArray[Any]:
    """A numpy array of an array, a tensor of any kind wherever it lives, or a list."""
    if is_tensor(value):
        value = value.detach().cpu()
        return np.asarray(value.double() if value.is_floating_point() else value)
    return np.asarray(value)


def _gathered(trees: Sequence[Any], whats: Sequence[str], *, scored: bool = True) -> Boxes:
    """The boxes of one tree per frame."""
    for tree, what in zip(trees, whats, strict=True):
        lacking = [key for key in ("boxes", "labels", *(["scores"] if scored else [])) if key not in tree]
        if lacking:
            raise LoadError(f"sample {what} has no {', '.join(lacking)}", hint=TREE)
    labels = [array(tree["labels"]).reshape(-1) for tree in trees]
    counts = [len(each) for each in labels]

    def column(name: str, default: float, *width: int) -> NDArray[np.float64]:
        parts = [np.zeros((0, *width))]
        for tree, what, count in zip(trees, whats, counts, strict=True):
            value = tree.get(name)
            part = np.full((count, *width), default) if value is None else array(value)
            if part.shape != (count, *width) and (part.size or count):
                fact = f"has {count} labels, and {name} of shape {part.shape} instead of {(count, *width)}"
                raise LoadError(f"sample {what} {fact}", hint=TREE)
            parts.append(part.reshape(count, *width))
        return np.concatenate(parts, dtype=np.float64)

    return Boxes(
        frame=np.repeat(np.arange(len(trees)), counts),
        label=np.concatenate([np.zeros(0, np.int64), *labels]).astype(np.int64),
        box=column("boxes", np.nan, 7),
        score=column("scores", 1.0),
        velocity=column("velocities", np.nan, 2),
        points=column("points", -1).astype(np.int64),
        attribute=column("attributes", -1).astype(np.int64),
    )


def _check_labels(what: str, boxes: Boxes, names: Sequence[str], classes: int) -> None:
    wrong = np.flatnonzero((boxes.label < 0) | (boxes.label >= classes))
    if wrong.size:
        name, label = names[boxes.frame[wrong[0]]], boxes.label[wrong[0]]
        raise LoadError(f"sample {name!r}: its {what} is {label}, and there are {classes} class names", hint=NO_CLASS)


def _mend(boxes: Boxes) -> int:
    """Make what is no number quiet: NaN compares with nothing and warns nobody, infinities do."""
    no_box, no_score = ~np.isfinite(boxes.box).all(axis=1), ~np.isfinite(boxes.score)
    boxes.box[no_box] = np.nan
    boxes.score[no_score] = boxes.score[~no_score].min(initial=0.0)
    return int((no_box | no_score).sum())
