"""Labelled objects of an info file as the truth that boxes are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from awml_deploy_core.errors import LoadError

__all__ = ["Classes", "truth", "unseen"]

Array = np.ndarray[Any, np.dtype[Any]]

REMAKE = "Write the info file anew with the data set's own tools, or correct this object."
IGNORED = -1
UNCOUNTED = -1


@frozen(kw_only=True)
class Classes:
    """What the numbers of an info file mean to the network.

    Args:
        names: The classes in the order of the file; empty where it has none.
        labels: The network's number for each of the file's, -1 for what it does not know.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]

    @classmethod
    def of(cls, content: Mapping[str, Any], path: Path, known: Sequence[str]) -> Classes:
        """Read them from an info file's `metainfo`. A file that names no classes has the network's.

        Raises:
            LoadError: If both sides have classes that the other has not: one of them is likely misspelt.
        """
        said = content.get("metainfo")
        named = said.get("classes", said.get("categories")) if isinstance(said, Mapping) else None
        if named is None:
            return cls(names=tuple(known), labels=tuple(range(len(known))))
        names = _ordered(named, path)
        lost, strange = [name for name in known if name not in names], [name for name in names if name not in known]
        if lost and strange:
            raise LoadError(
                f"{path}: its classes are {', '.join(names)}; the network's {', '.join(lost)} "
                f"{'is' if len(lost) == 1 else 'are'} not among them",
                hint="Set class_names to the classes that the network was trained on, or make the info file with them.",
            )
        return cls(names=names, labels=tuple(known.index(name) if name in known else IGNORED for name in names))


def _ordered(named: Any, path: Path) -> tuple[str, ...]:
    """Names by number, from a list or from a mapping of names to numbers."""
    if isinstance(named, Mapping):
        count = len(named)
        named = [
            name
            for number in range(count)
            for name, value in named.items()
            if isinstance(value, int) and value == number
        ]
        named = named if len(named) == count else None
    if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
        raise LoadError(f"{path}: metainfo: the classes are no list of names", hint="Write the info file anew.")
    return tuple(named)


def truth(instances: Sequence[Any], classes: Classes, where: str) -> dict[str, Array]:
    """The objects that a LiDAR can see and the network knows.

    As in AWML: an object with no point in it is left out, one whose label is -1 or of a class that the network does not
    know too. Where the file does not count points the object stays, with -1.

    Raises:
        LoadError: If an object is none, naming it and the key.
    """
    kept = []
    for index, item in enumerate(instances):
        here = f"{where}: instance {index}"
        label = _label(item, classes, here)
        points = _points(item, here)
        if label != IGNORED and points != 0:
            kept.append((_numbers(item, "bbox_3d", 7, here), label, points, _velocity(item, here)))
    boxes, labels, counts, moving = zip(*kept, strict=True) if kept else ((), (), (), ())
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 7),
        "labels": np.array(labels, np.int64),
        "velocities": np.array(moving, np.float32).reshape(-1, 2),
        "points": np.array(counts, np.int64),
    }


def unseen(instances: Sequence[Any], classes: Classes, where: str) -> int:
    """How many objects that the network knows are left out because no point lies in them."""
    return sum(not _points(item, where) for item in instances if _label(item, classes, where) != IGNORED)


def _label(item: Any, classes: Classes, where: str) -> int:
    label = item.get("bbox_label_3d", item.get("bbox_label")) if isinstance(item, Mapping) else None
    if not isinstance(label, int | np.integer) or label < IGNORED:
        raise LoadError(f"{where}: 'bbox_label_3d' must be a class's number or -1, got {label!r}", hint=REMAKE)
    if label >= len(classes.labels):
        known = ", ".join(classes.names)
        raise LoadError(f"{where}: 'bbox_label_3d' is {label}, but the classes are {known}", hint=REMAKE)
    return classes.labels[label] if label >= 0 else IGNORED


def _points(item: Mapping[str, Any], where: str) -> int:
    count = item.get("num_lidar_pts", UNCOUNTED)
    if not isinstance(count, int | np.integer) or count < UNCOUNTED:
        raise LoadError(f"{where}: 'num_lidar_pts' must be a number of points, got {count!r}", hint=REMAKE)
    return int(count)


def _numbers(item: Mapping[str, Any], key: str, size: int, where: str, *, unknown: bool = False) -> Array:
    try:
        array = np.asarray(item.get(key), np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (size,) or not (unknown or np.isfinite(array).all()):
        raise LoadError(f"{where}: {key!r} must be {size} {'' if unknown else 'finite '}numbers", hint=REMAKE)
    return array


def _velocity(item: Mapping[str, Any], where: str) -> Array:
    """Metres per second along x and y, NaN where nobody knows."""
    if item.get("velocity") is None:
        return np.full(2, np.nan)
    return _numbers(item, "velocity", 2, where, unknown=True)
