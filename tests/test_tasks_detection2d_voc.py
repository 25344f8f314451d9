"""PASCAL VOC's figures, held against a plain loop, cases worked by hand, and mmdetection where it is installed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.records import Record
from awml_deploy_core.tasks.detection2d import metrics, voc

NAMES = ("car", "truck", "never")


def case(index: int, truths: Sequence[Any], found: Sequence[Any], **more: Any) -> Record:
    """A record of rows `(label, box)` and `(label, score, box)`."""
    boxes = [np.array([row[-1] for row in rows], np.float32).reshape(-1, 4) for rows in (truths, found)]
    labels = [np.array([row[0] for row in rows], np.int64) for rows in (truths, found)]
    scores = np.array([row[1] for row in found], np.float32)
    prediction = {"boxes": boxes[1], "labels": labels[1], "scores": scores}
    return Record(
        id=f"s{index}",
        index=index,
        prediction=prediction,
        ground_truth={"boxes": boxes[0], "labels": labels[0], **more},
    )


def crowded(seed: int, images: int, *, ties: bool = True) -> list[Record]:
    """Few places and whole pixels, so that overlaps tie and several truths are near; scores repeat with `ties`."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(images):
        objects, answers = rng.integers(0, 7), rng.integers(0, 15)
        corner = rng.integers(0, 40, (objects, 2))
        boxes = np.concatenate([corner, corner + rng.integers(8, 40, corner.shape)], 1)
        labels = rng.integers(0, 2, objects)
        of = rng.integers(0, objects, answers) if objects else np.zeros(0, np.int64)
        shaken = boxes[of] + rng.integers(-3, 4, (len(of), 4))
        given = np.where(rng.random(len(of)) < 0.8, labels[of], rng.integers(0, 2, len(of)))
        scores = np.round(rng.random(len(of)), 1) if ties else rng.random(len(of))
        truths = list(zip(labels, boxes, strict=True))
        ignore = rng.random(objects) < 0.25
        made.append(case(index, truths, list(zip(given, scores, shaken, strict=True)), ignore=ignore))
    return made


# ---------------------------------------------------------------- the rule once more, box by box


def overlap(one: Any, other: Any) -> np.float32:
    width = max(min(one[2], other[2]) - max(one[0], other[0]) + np.float32(1), np.float32(0))
    height = max(min(one[3], other[3]) - max(one[1], other[1]) + np.float32(1), np.float32(0))
    areas = [(box[2] - box[0] + np.float32(1)) * (box[3] - box[1] + np.float32(1)) for box in (one, other)]
    shared: np.float32 = width * height / max(areas[0] + areas[1] - width * height, np.float32(1e-6))
    return shared


def plain(records: Sequence[Record], label: int, threshold: float, mode: str) -> float | None:
    judged: list[tuple[float, int, int]] = []
    wanted = 0
    for record in records:
        truth, given = record.ground_truth, record.prediction
        aside = truth.get("ignore", np.zeros(len(truth["labels"]), bool))
        mine = [row for row in range(len(truth["labels"])) if truth["labels"][row] == label]
        mine.sort(key=lambda row: bool(aside[row]))
        wanted += sum(not aside[row] for row in mine)
        taken: set[int] = set()
        rows = [row for row in range(len(given["labels"])) if given["labels"][row] == label]
        for row in sorted(rows, key=lambda row: -given["scores"][row]):
            shares = [overlap(given["boxes"][row], truth["boxes"][other]) for other in mine]
            right, wrong = 0, 1
            if shares and float(max(shares)) >= threshold:
                best = mine[shares.index(max(shares))]
                if aside[best]:
                    wrong = 0
                elif best not in taken:
                    taken.add(best)
                    right, wrong = 1, 0
            judged.append((float(given["scores"][row]), right, wrong))
    if not wanted:
        return None
    judged.sort(key=lambda one: -one[0])
    recall, precision = [], []
    hits = misses = 0
    for _, right, wrong in judged:
        hits, misses = hits + right, misses + wrong
        recall.append(hits / wanted)
        precision.append(hits / max(hits + misses, 1e-9))
    best_from = [max(precision[place:]) for place in range(len(precision))]
    if mode == "11points":
        tops = [
            next((best for best, reached in zip(best_from, recall, strict=True) if reached >= least), 0.0)
            for least in np.arange(11) * 0.1
        ]
        return sum(tops) / 11
    steps = zip(best_from, recall, [0.0, *recall], strict=False)
    return sum(best * (reached - before) for best, reached, before in steps)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["11points", "area"]), st.sampled_from([0.3, 0.5, 0.7]))
def test_figures_are_those_of_a_loop_over_boxes(seed: int, mode: Any, threshold: float) -> None:
    records = crowded(seed, 6)
    values = metrics(records, NAMES, style="voc", voc_mode=mode, iou_thresholds=[threshold]).values
    for label, name in enumerate(NAMES):
        ours, theirs = values[f"AP{threshold * 100:.0f}/{name}"], plain(records, label, threshold, mode)
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert math.isclose(ours, theirs, abs_tol=1e-6)


def test_chunks_of_pairs_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    records = crowded(0, 20)
    whole = metrics(records, NAMES, style="voc")
    for size in (1, 7, 50):
        monkeypatch.setattr("awml_deploy_core.tasks.detection2d.matching.CHUNK", size)
        assert metrics(records, NAMES, style="voc") == whole


def test_the_order_of_records_does_not_matter() -> None:
    records = crowded(1, 12)
    assert metrics(records[::-1], NAMES, style="voc") == metrics(records, NAMES, style="voc")


# ---------------------------------------------------------------- by hand


def figure(record: Record, **more: Any) -> float | None:
    return metrics([record], ("car",), style="voc", **more).values["mAP"]


def test_a_box_ends_on_its_last_pixel() -> None:
    # 10 x 10 and 10 x 5 pixels where corners are counted with their pixels: 0.5 and no less. Without, 9 x 4 of 9 x 9.
    touching = case(0, [(0, (0, 0, 9, 9))], [(0, 0.9, (0, 0, 9, 4))])
    assert figure(touching) == 1
    assert metrics([touching], ("car",)).values["AP50"] == 0


def test_the_nearest_truth_counts_even_if_it_is_taken_and_another_is_free() -> None:
    truths = [(0, (0, 0, 99, 99)), (0, (0, 20, 99, 119))]
    found = [(0, 0.9, (0, 0, 99, 99)), (0, 0.8, (0, 4, 99, 103))]
    # Both are nearest to the first truth, so the second answer is wrong: precision 1 up to recall 0.5 and 0 beyond.
    assert figure(case(0, truths, found)) == pytest.approx(6 / 11)
    assert figure(case(0, truths, found), voc_mode="area") == pytest.approx(0.5)
    # COCO gives it the second truth.
    assert metrics([case(0, truths, found)], ("car",), iou_thresholds=[0.5]).values["AP50"] == pytest.approx(1)


def test_eleven_points_and_area_differ() -> None:
    truths = [(0, (row * 50, 0, row * 50 + 20, 20)) for row in range(4)]
    found = [(0, 0.9, truths[0][1]), (0, 0.8, (900, 900, 920, 920)), (0, 0.7, truths[1][1])]
    # Recall 1/4 at precision 1, 2/4 at precision 2/3: recalls 0, 0.1, 0.2 reach the one, 0.3, 0.4, 0.5 the other.
    assert figure(case(0, truths, found)) == pytest.approx((3 + 3 * 2 / 3) / 11)
    assert figure(case(0, truths, found), voc_mode="area") == pytest.approx((1 + 2 / 3) / 4)


def test_what_lies_on_an_ignored_truth_is_neither_right_nor_wrong() -> None:
    truths = [(0, (0, 0, 99, 99)), (0, (200, 0, 299, 99))]
    found = [(0, 0.9, (200, 0, 299, 99)), (0, 0.8, (200, 0, 299, 99)), (0, 0.7, (0, 0, 99, 99))]
    assert figure(case(0, truths, found, ignore=np.array([False, True]))) == 1
    assert figure(case(0, truths, found, crowd=np.array([False, True]))) == 1
    assert figure(case(0, truths, found)) == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert figure(case(0, truths, found, ignore=np.array([True, True]))) is None


def test_of_two_truths_at_one_place_the_one_that_counts_is_found() -> None:
    place = (0, 0, 99, 99)
    assert figure(case(0, [(0, place), (0, place)], [(0, 0.9, place)], ignore=np.array([True, False]))) == 1


def test_ap50_is_rounded_and_the_mean_is_not() -> None:
    truths = [(0, (row * 50, 0, row * 50 + 20, 20)) for row in range(3)]
    values = metrics([case(0, truths, [(0, 0.9, truths[0][1])])], ("car",), style="voc", iou_thresholds=[0.5, 0.75])
    # Recall 1/3 at precision 1: reached by 0, 0.1, 0.2 and 0.3.
    assert values.values == {
        "mAP": pytest.approx(4 / 11, abs=1e-7),
        "AP50": 0.364,
        "AP75": 0.364,
        "AP50/car": pytest.approx(4 / 11, abs=1e-7),
        "AP75/car": pytest.approx(4 / 11, abs=1e-7),
    }
    assert values.tables[0].title == "Per class"
    assert values.tables[0].columns == ("class", "AP50", "AP75", "truths", "predictions")


def test_a_recall_of_three_tenths_does_not_reach_the_fourth_point() -> None:
    # The grid is made in steps of 0.1 in binary, and its 0.3 is a little more than 3/10: that is how it was published.
    curve = voc.Curve(truths=10, predictions=3, recall=np.array([0.1, 0.2, 0.3]), precision=np.ones(3, np.float32))
    assert voc.average_precision(curve, "11points") == pytest.approx(3 / 11)


# ---------------------------------------------------------------- mmdetection


@pytest.mark.parametrize("mode", ["11points", "area"])
def test_figures_are_those_of_mmdetection(mode: Any) -> None:
    pytest.importorskip("mmdet", reason="needs mmdetection", exc_type=ImportError)
    eval_map = importlib.import_module("mmdet.evaluation.functional.mean_ap").eval_map
    records = crowded(3, 30, ties=False)  # in which order equal scores come is left to numpy there
    found = [
        [
            np.concatenate([one.prediction["boxes"], one.prediction["scores"][:, None]], 1)[
                one.prediction["labels"] == label
            ]
            for label in range(len(NAMES))
        ]
        for one in records
    ]
    truths = []
    for one in records:
        aside = one.ground_truth["ignore"]
        boxes, labels = one.ground_truth["boxes"], one.ground_truth["labels"]
        parts = {"bboxes": boxes[~aside], "labels": labels[~aside]}
        truths.append({**parts, "bboxes_ignore": boxes[aside], "labels_ignore": labels[aside]})
    mean, per_class = eval_map(
        found, truths, iou_thr=0.5, use_legacy_coordinate=True, eval_mode=mode, nproc=1, logger="silent"
    )
    values = metrics(records, NAMES, style="voc", voc_mode=mode).values
    assert 0.1 < mean < 0.9
    assert values["mAP"] == mean
    assert [values[f"AP50/{name}"] for name in NAMES[:2]] == [float(one["ap"]) for one in per_class[:2]]
