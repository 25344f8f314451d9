"""Annotated boxes of a whole file, put right together and given out image by image.

What happens in good data sets is put right and counted in the log: boxes that reach beyond their image are clipped;
boxes without an area or outside their image are left out, and so are those of classes that the model does not have.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from awml_deploy_core.errors import LoadError

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]
Truth = Mapping[str, Array]

REMAKE = "Write the file anew with the data set's own tools, or correct this entry."


@frozen(kw_only=True)
class Mark:
    """One annotated box.

    Args:
        image: Place of its image in the file.
        box: Four numbers, if the file is right.
        label: Place of its class among the model's, or None for a class that the model does not have.
        where: How to speak of it.
        ignore: Neither right nor wrong to find.
        crowd: Stands for many things (COCO's `iscrowd`).
        area: Pixels that the thing itself covers, where the file says so.
    """

    image: int
    box: Any
    label: int | None
    where: str
    ignore: bool = False
    crowd: bool = False
    area: float | None = None


def match(classes: Sequence[str], names: Sequence[str], path: Path) -> list[int | None]:
    """The model's place of every class of the file, None for those that it does not have.

    Raises:
        LoadError: A class is written almost like one of the model that the file lacks, or none is the model's.
    """
    lacking = {name.lower(): name for name in names if name not in classes}
    others = [name for name in classes if name not in names]
    for name in others:
        meant = get_close_matches(name.lower(), lacking, n=1, cutoff=0.85)
        if meant:
            raise LoadError(
                f"{path}: its class {name!r} is none of the model's; {lacking[meant[0]]!r} seems to be meant",
                hint=f"Write it as in class_names; if it is another thing, add {lacking[meant[0]]!r} to the file.",
            )
    if classes and len(others) == len(classes):
        fact = f"none of its classes ({', '.join(classes)}) is one of the model's ({', '.join(names)})"
        raise LoadError(f"{path}: {fact}", hint="Set class_names to what the network was trained on, in its order.")
    return [names.index(name) if name in names else None for name in classes]


def truths(marks: Sequence[Mark], sizes: Sequence[tuple[int, int]], path: Path, *, coco: bool) -> list[Truth]:
    """What is to be seen on each image.

    Args:
        marks: Every box of the file.
        sizes: Width and height of every image.
        path: Of the file, for the log.
        coco: Boxes are x, y, width, height and have crowds and areas, instead of two corners.

    Raises:
        LoadError: A box is not made of four numbers.
    """
    image = np.array([mark.image for mark in marks], np.int64)
    boxes = _boxes(marks)
    if coco:
        boxes[:, 2:] += boxes[:, :2]
    limits = np.array(sizes, np.float64)[image]
    clipped = np.clip(boxes, 0, np.concatenate([limits, limits], axis=1))
    shaped, inside = _has_area(boxes) & np.isfinite(boxes).all(axis=1), _has_area(clipped)
    known = np.array([mark.label is not None for mark in marks], bool)
    keep = np.flatnonzero(known & shaped & inside)
    _tell(path, shaped, inside, known, clipped != boxes)
    keep = keep[np.argsort(image[keep], kind="stable")]
    columns = _columns([marks[int(place)] for place in keep], clipped[keep], coco=coco)
    cuts = np.bincount(image[keep], minlength=len(sizes)).cumsum()[:-1]
    split = {name: np.split(column, cuts) for name, column in columns.items()}
    return [{name: parts[index] for name, parts in split.items()} for index in range(len(sizes))]


def _has_area(boxes: Array) -> Array:
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def _boxes(marks: Sequence[Mark]) -> Array:
    try:
        boxes = np.array([mark.box for mark in marks], np.float64)
    except (OverflowError, TypeError, ValueError):
        boxes = np.zeros(0)
    if len(marks) and boxes.shape != (len(marks), 4):
        wrong = next(mark for mark in marks if not _four(mark.box))
        raise LoadError(f"{wrong.where}: bbox must be four numbers, not {str(wrong.box)[:60]}", hint=REMAKE)
    return boxes.reshape(-1, 4)


def _four(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(number(each) is not None for each in box)


def number(value: Any) -> float | None:
    """The value as a float, if it is a number that has one."""
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _columns(marks: Sequence[Mark], boxes: Array, *, coco: bool) -> dict[str, Array]:
    columns: dict[str, Array] = {
        "boxes": boxes.astype(np.float32),
        "labels": np.array([mark.label for mark in marks], np.int64),
        "ignore": np.array([mark.ignore for mark in marks], bool),
    }
    if coco:
        own = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        said = np.array([np.nan if mark.area is None else mark.area for mark in marks], np.float64)
        columns["crowd"] = np.array([mark.crowd for mark in marks], bool)
        columns["areas"] = np.where(np.isnan(said), own, said)
    return columns


def _tell(path: Path, shaped: Array, inside: Array, known: Array, beyond: Array) -> None:
    counts = {
        "have no area and were left out": known & ~shaped,
        "lie outside their image and were left out": known & shaped & ~inside,
        "reach beyond their image and were clipped": known & shaped & inside & np.any(beyond, axis=1),
        "are of classes that the model does not have and were left out": ~known,
    }
    said = [f"{chosen.sum()} {what}" for what, chosen in counts.items() if chosen.any()]
    if said:
        log.warning("%s: of %d boxes %s", path, len(known), "; ".join(said))
    if not (known & shaped & inside).any():
        log.warning("%s: there is no box to compare with, so no accuracy will be known", path)
