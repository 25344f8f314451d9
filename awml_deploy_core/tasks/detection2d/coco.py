"""COCO's figures by faster-coco-eval, which is given all boxes at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from awml_deploy_core.errors import RequirementError
from awml_deploy_core.tasks.detection2d.flat import Floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.tasks.detection2d.flat import Flat

__all__ = ["SIZES", "THRESHOLDS", "Curves", "evaluate"]

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
SIZES = ("small", "medium", "large")

_OUTSIDE = -1.0
"""An area that no range of sizes holds."""


@frozen(kw_only=True, eq=False)
class Curves:
    """What COCO's evaluation says, -1 where it says nothing.

    Args:
        precision: By threshold, recall, class, size (all, then `SIZES`) and largest number of boxes.
        recall: By threshold, class, size and largest number of boxes.
    """

    precision: Floats
    recall: Floats


def evaluate(
    flat: Flat, class_names: Sequence[str], thresholds: Sequence[float], max_detections: Sequence[int]
) -> Curves:
    """Match and accumulate as COCO does.

    Args:
        flat: Predictions beside truths.
        class_names: Names by label.
        thresholds: Least intersections over union for a match.
        max_detections: Numbers of boxes per image and class that count, ascending.

    Raises:
        RequirementError: faster-coco-eval is not installed.
    """
    coco, evaluator = _package()
    about = {
        "images": [{"id": image} for image in range(flat.images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(class_names)],
    }
    sides = (_dataset(coco, about, part) for part in (_true(flat), _predicted(flat)))
    done = evaluator(*sides, "bbox", print_function=_unheard)
    done.params.iouThrs = np.asarray(thresholds, np.float64)
    done.params.maxDets = list(max_detections)
    done.evaluate()
    done.accumulate()
    return Curves(precision=np.asarray(done.eval["precision"]), recall=np.asarray(done.eval["recall"]))


def _package() -> tuple[Any, Any]:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise RequirementError(
            f"COCO's mAP needs faster-coco-eval: {error}", hint="pip install 'awml-deploy-core[coco]'"
        ) from error
    talker = logging.getLogger("faster_coco_eval")
    if talker.level == logging.NOTSET:
        talker.setLevel(logging.WARNING)
    return COCO, COCOeval_faster


def _true(flat: Flat) -> list[dict[str, Any]]:
    truths = flat.truths
    # The evaluator has no word for a single object that is to be ignored, and passes over those outside a range of
    # sizes in the same way: an area outside all ranges says it.
    areas = np.where(truths.ignore & ~truths.crowd, _OUTSIDE, truths.areas)
    more = {"area": areas, "iscrowd": truths.crowd.astype(np.int64)}
    return _rows(truths.image, truths.labels, truths.boxes, more)


def _predicted(flat: Flat) -> list[dict[str, Any]]:
    found = flat.found
    sizes = np.maximum(found.boxes[:, 2:] - found.boxes[:, :2], 0)
    return _rows(found.image, found.labels, found.boxes, {"area": sizes[:, 0] * sizes[:, 1], "score": found.scores})


def _rows(
    image: NDArray[np.int64], labels: NDArray[np.int64], boxes: Floats, more: Mapping[str, NDArray[Any]]
) -> list[dict[str, Any]]:
    """The evaluator's own form, a dict per box; ids begin with 1, since 0 means no match."""
    placed = np.concatenate([boxes[:, :2], np.maximum(boxes[:, 2:] - boxes[:, :2], 0)], axis=1)
    names = ("id", "image_id", "category_id", "bbox", *more)
    columns = (np.arange(1, len(image) + 1), image, labels, placed, *more.values())
    return [dict(zip(names, row, strict=True)) for row in zip(*(part.tolist() for part in columns), strict=True)]


def _dataset(coco: Any, about: Mapping[str, Any], annotations: list[dict[str, Any]]) -> Any:
    return coco({**about, "annotations": annotations}, print_function=_unheard)


def _unheard(*_words: object) -> None:
    """The evaluator tells of each of its steps; nobody who reads a log of a deployment wants to know."""
