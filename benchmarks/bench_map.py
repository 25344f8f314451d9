"""COCO's mAP from records against faster-coco-eval called directly, over 5,000 images of 100 boxes each.

Ours begins at records, as an evaluation leaves them, and ends with every figure and the confusion matrix. Theirs begins
at what faster-coco-eval takes: `map` at its array of predictions, a row of seven numbers per box, and `map-dicts` at a
list of finished dicts, the least that it can be called with; its truths are finished dicts in both. The rows `-peak`
are whole processes, imports and data included.

    python benchmarks/bench_map.py [IMAGES]
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from attrs import frozen

from awml_deploy_core.records import Metrics, Record
from benchmarks.frame import Cost, Row, call, compared, limit, process, show, turns

BOXES, OBJECTS, TURNS = 100, 10, 5
NAMES = ("car", "truck", "bus", "trailer", "motorcycle", "bicycle", "pedestrian", "sign")


@frozen(kw_only=True, eq=False)
class Street:
    """Truths and predictions as arrays whose first two axes are images and boxes."""

    truths: np.ndarray[Any, Any]
    wanted: np.ndarray[Any, Any]
    boxes: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]


def street(images: int) -> Street:
    """Objects of many sizes, and predictions around them, most with the right label."""
    rng = np.random.default_rng(0)
    corner, size = rng.random((images, OBJECTS, 2)) * 800, np.exp(rng.uniform(2, 5.5, (images, OBJECTS, 2)))
    wanted = rng.integers(0, len(NAMES), (images, OBJECTS))
    of = np.arange(images)[:, None], rng.integers(0, OBJECTS, (images, BOXES))
    truths = np.concatenate([corner, corner + size], axis=2)
    spread = rng.uniform(0.01, 0.3, (images, BOXES, 1)) * np.tile(size[of], 2)
    strange = rng.integers(0, len(NAMES), (images, BOXES))
    boxes = truths[of] + rng.normal(0, 1, (images, BOXES, 4)) * spread
    return Street(
        truths=truths.astype(np.float32),
        wanted=wanted,
        boxes=np.concatenate([boxes[..., :2], np.maximum(boxes[..., 2:], boxes[..., :2] + 1)], 2).astype(np.float32),
        labels=np.where(rng.random((images, BOXES)) < 0.8, wanted[of], strange),
        scores=-np.sort(-rng.random((images, BOXES)).astype(np.float32)),
    )


def recorded(made: Street) -> list[Record]:
    """What an evaluation hands over."""
    return [
        Record(
            id=f"{index:06d}",
            index=index,
            prediction={"boxes": boxes, "labels": labels, "scores": scores},
            ground_truth={"boxes": truths, "labels": wanted},
        )
        for index, (boxes, labels, scores, truths, wanted) in enumerate(
            zip(made.boxes, made.labels, made.scores, made.truths, made.wanted, strict=True)
        )
    ]


def ours(records: list[Record]) -> Metrics:
    from awml_deploy_core.tasks.detection2d import metrics

    return metrics(records, NAMES)


def rows(images: int, boxes: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Numbers of images, and boxes as corner and size."""
    flat = boxes.astype(np.float64).reshape(-1, 4)
    return np.repeat(np.arange(images), boxes.shape[1]), np.concatenate([flat[:, :2], flat[:, 2:] - flat[:, :2]], 1)


def truth_dicts(made: Street) -> dict[str, Any]:
    image, placed = rows(len(made.truths), made.truths)
    parts = zip(image.tolist(), made.wanted.ravel().tolist(), placed.tolist(), strict=True)
    annotations = [
        {"id": at, "image_id": one, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for at, (one, label, box) in enumerate(parts, start=1)
    ]
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
    images = [{"id": one} for one in range(len(made.truths))]
    return {"images": images, "categories": categories, "annotations": annotations}


def found_array(made: Street) -> np.ndarray[Any, Any]:
    image, placed = rows(len(made.boxes), made.boxes)
    return np.column_stack([image, placed, made.scores.ravel().astype(np.float64), made.labels.ravel()])


def found_dicts(made: Street) -> list[dict[str, Any]]:
    names = ("image_id", "bbox", "score", "category_id")
    return [
        dict(zip(names, (int(row[0]), row[1:5].tolist(), float(row[5]), int(row[6])), strict=True))
        for row in found_array(made)
    ]


def theirs(truths: dict[str, Any], found: Any) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(truths)
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox")
    evaluation.run()
    figures: dict[str, float] = evaluation.stats_as_dict
    return figures


def memory(images: int) -> Row:
    sides = [process([sys.executable, __file__, str(images), side]).peak_mb for side in ("ours", "theirs")]
    return Row(name="map-peak", ours=sides[0], theirs=sides[1], unit="mb")


def alone(images: int, side: str) -> None:
    """One side once, for the memory of its process."""
    made = street(images)
    if side == "ours":
        records = recorded(made)
        del made
        ours(records)
    else:
        truths, found = truth_dicts(made), found_array(made)
        del made
        theirs(truths, found)


def main(images: int = 5000) -> None:
    peak = memory(images)  # first, while this process is small: a child counts what its parent held
    made = street(images)
    records, truths, array = recorded(made), truth_dicts(made), found_array(made)
    mine, other = ours(records).values, theirs(truths, array)
    for key, name in (("mAP", "AP_all"), ("AP50", "AP_50"), ("AP_small", "AP_small"), ("AR_100", "AR_third")):
        assert abs((mine[key] or 0) - other[name]) < 1e-9, key

    def side(work: Callable[[], object]) -> Callable[[], Cost]:
        return lambda: call(work)

    shown = compared("map", turns(side(lambda: ours(records)), side(lambda: theirs(truths, array)), TURNS))
    least = turns(side(lambda: ours(records)), lambda: call_with(truths, found_dicts(made)), TURNS)
    shown += compared("map-dicts", least)
    show(f"mAP over {images} images of {BOXES} boxes: {mine['mAP']:.4f}", [*shown, peak])


def call_with(truths: dict[str, Any], found: list[dict[str, Any]]) -> Cost:
    """The dicts are made anew for each turn, untimed, since the evaluator writes into them."""
    return call(lambda: theirs(truths, found))


if __name__ == "__main__":
    logging.disable()
    limit(2)
    if sys.argv[2:]:
        alone(int(sys.argv[1]), sys.argv[2])
    else:
        main(*map(int, sys.argv[1:]))
