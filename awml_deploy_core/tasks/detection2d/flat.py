"""Records to arrays over all images at once, so that nothing after this walks over boxes in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from awml_deploy_core.errors import LoadError
from awml_deploy_core.tree.bits import is_tensor

if TYPE_CHECKING:
    from awml_deploy_core.records import Record

__all__ = ["Flat", "Found", "Truths", "area", "column", "corners", "flatten"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NOWHERE = -1e6
"""Both corners of a box that has no place; no truth is there."""


@frozen(kw_only=True, eq=False)
class Found:
    """All predicted boxes, a row each; `image` counts the records."""

    image: Ints
    boxes: Floats
    labels: Ints
    scores: Floats


@frozen(kw_only=True, eq=False)
class Truths:
    """All true boxes, a row each; `image` counts the records."""

    image: Ints
    boxes: Floats
    labels: Ints
    ignore: Flags
    crowd: Flags
    areas: Floats


@frozen(kw_only=True, eq=False)
class Flat:
    """Predictions beside truths of the records that have a truth.

    Args:
        images: How many records these are.
        without_truth: How many records were left out.
        found: The predictions.
        truths: The truths.
        broken: How many predictions hold something that is no finite number.
    """

    images: int
    without_truth: int
    found: Found
    truths: Truths
    broken: int


def flatten(records: Sequence[Record], classes: int) -> Flat:
    """Join the records that have a truth, ordered by their index, whatever the order they come in.

    A prediction with a coordinate or score that is no finite number is kept and can only do harm: its box lies
    nowhere, and a score that is none counts as the surest of all. A fault must not look better than finding nothing.

    Raises:
        LoadError: A label has no class name, arrays do not fit together, or a truth is no finite number.
    """
    labelled = sorted((one for one in records if one.ground_truth is not None), key=lambda one: (one.index, one.id))
    found = [_found(record, classes) for record in labelled]
    truths = [_truths(record, classes) for record in labelled]
    boxes, scores = _joined([one[0] for one in found], (0, 4)), _joined([one[1] for one in found], (0,))
    ranked = np.isfinite(scores)
    sound = ranked & np.isfinite(boxes).all(axis=1)
    return Flat(
        images=len(labelled),
        without_truth=len(records) - len(labelled),
        found=Found(
            image=_images([len(one[1]) for one in found]),
            boxes=np.where(sound[:, None], boxes, NOWHERE),
            scores=np.where(ranked, scores, np.finfo(np.float64).max),
            labels=_joined([one[2] for one in found], (0,), np.int64),
        ),
        truths=Truths(
            image=_images([len(one[1]) for one in truths]),
            boxes=_joined([one[0] for one in truths], (0, 4)),
            labels=_joined([one[1] for one in truths], (0,), np.int64),
            ignore=_joined([one[2] for one in truths], (0,), np.bool_),
            crowd=_joined([one[3] for one in truths], (0,), np.bool_),
            areas=_joined([one[4] for one in truths], (0,)),
        ),
        broken=int(np.count_nonzero(~sound)),
    )


def column(tree: Mapping[str, Any], key: str, kind: Any = np.float64) -> NDArray[Any]:
    """One array of a prediction or truth, wherever it lives, as a flat numpy array."""
    value = tree[key]
    if is_tensor(value):
        value = (
            value.detach().cpu().numpy() if value.dtype.is_floating_point is False else value.detach().cpu().double()
        )
    return np.asarray(value, dtype=kind).reshape(-1)


def corners(tree: Mapping[str, Any]) -> Floats:
    """The boxes of a prediction or truth as (N, 4)."""
    flat: Floats = column(tree, "boxes")
    return flat.reshape(-1, 4)


def _found(record: Record, classes: int) -> tuple[Floats, Floats, Ints]:
    parts = _read(record, "prediction", ("boxes", "scores", "labels"))
    boxes, scores, labels = corners(parts), column(parts, "scores"), column(parts, "labels", np.int64)
    _same_length(record, "prediction", boxes=boxes, scores=scores, labels=labels)
    _named(record, "predicted label", labels, classes)
    return boxes, scores, labels


def _truths(record: Record, classes: int) -> tuple[Floats, Ints, Flags, Flags, Floats]:
    parts = _read(record, "ground_truth", ("boxes", "labels"))
    boxes, labels = corners(parts), column(parts, "labels", np.int64)
    if not np.isfinite(boxes).all():
        raise LoadError(f"sample {record.id!r}: a box of its truth holds something that is no finite number")
    ignore, crowd = (
        column(parts, key, np.bool_) if parts.get(key) is not None else np.zeros(len(labels), np.bool_)
        for key in ("ignore", "crowd")
    )
    areas = column(parts, "areas") if parts.get("areas") is not None else area(boxes)
    _same_length(record, "truth", boxes=boxes, labels=labels, ignore=ignore, crowd=crowd, areas=areas)
    _named(record, "truth", labels, classes)
    return boxes, labels, ignore, crowd, areas


def area(boxes: Floats) -> Floats:
    """Areas of boxes; one whose corners are exchanged is empty."""
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: Floats = sizes[:, 0] * sizes[:, 1]
    return product


def _read(record: Record, what: str, keys: Sequence[str]) -> Mapping[str, Any]:
    tree: Any = getattr(record, what)
    missing = [key for key in keys if not isinstance(tree, Mapping) or key not in tree]
    if missing:
        raise LoadError(
            f"sample {record.id!r}: its {what} has no {' and no '.join(repr(key) for key in missing)}",
            hint=f"For detection2d it is a dict with {', '.join(keys)}.",
        )
    parts: Mapping[str, Any] = tree
    return parts


def _same_length(record: Record, what: str, **arrays: NDArray[Any]) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{count} {name}" for name, count in lengths.items())
        raise LoadError(f"sample {record.id!r}: its {what} has {said}", hint="Each box has one of each.")


def _named(record: Record, what: str, labels: Ints, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise LoadError(
            f"sample {record.id!r}: its {what} is {wrong[0]}, and there are {classes} class names",
            hint="class_names must name every label, counted from 0.",
        )


def _images(counts: Sequence[int]) -> Ints:
    return np.repeat(np.arange(len(counts), dtype=np.int64), np.asarray(counts, dtype=np.int64))


def _joined(parts: Sequence[NDArray[Any]], empty: tuple[int, ...], kind: Any = np.float64) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(empty, kind)
