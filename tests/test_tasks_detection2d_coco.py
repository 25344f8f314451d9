"""COCO's figures, held against pycocotools."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from awml_deploy_core.errors import ConfigError, LoadError, RequirementError
from awml_deploy_core.records import Metrics, Record
from awml_deploy_core.tasks.detection2d import metrics

NAMES = ("car", "truck", "person", "never")
Tree = dict[str, Any]


def record(index: int, prediction: Tree, truth: Tree | None) -> Record:
    return Record(id=f"s{index}", index=index, prediction=prediction, ground_truth=truth)


def boxes_of(*rows: Sequence[float]) -> np.ndarray[Any, Any]:
    return np.array(rows, np.float32).reshape(-1, 4)


def found(*rows: tuple[int, float, Sequence[float]]) -> Tree:
    labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    return {"boxes": boxes_of(*boxes), "scores": np.array(scores, np.float32), "labels": np.array(labels, np.int64)}


def true(*rows: tuple[int, Sequence[float]], **more: Any) -> Tree:
    labels, boxes = zip(*rows, strict=True) if rows else ((), ())
    return {"boxes": boxes_of(*boxes), "labels": np.array(labels, np.int64), **more}


def street(seed: int, images: int, *, aside: float = 0.15) -> list[Record]:
    """Records whose predictions are shaken truths, with wrong labels, doubles, ties of scores, crowds, empty images."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(images):
        objects, answers = int(rng.integers(0, 7)), int(rng.integers(0, 25))
        corner, size = rng.random((objects, 2)) * 200, np.exp(rng.uniform(1, 5.2, (objects, 2)))
        labels = rng.integers(0, 3, objects)
        truth = true(*zip(labels, np.concatenate([corner, corner + size], axis=1), strict=True))
        truth["crowd"], truth["ignore"] = rng.random(objects) < aside, rng.random(objects) < aside
        of = rng.integers(0, objects, answers) if objects else np.zeros(0, np.int64)
        shaken = truth["boxes"][of] + rng.normal(0, 0.1, (len(of), 4)) * np.tile(size[of], 2)
        strangers = answers - len(of)
        boxes = np.concatenate([shaken, np.tile([5, 5, 60, 40], (strangers, 1))]).astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
        right = np.concatenate([labels[of], np.zeros(strangers, np.int64)])
        given = np.where(rng.random(answers) < 0.8, right, rng.integers(0, 3, answers))
        scores = np.round(rng.random(answers), 1).astype(np.float32)
        made.append(record(index, {"boxes": boxes, "scores": scores, "labels": given}, truth))
    return made


class Oracle(COCOeval):  # type: ignore[misc]
    """pycocotools, told of single objects to be ignored, for which its files have no word."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["iscrowd"] or truth["aside"]


def oracle(records: Sequence[Record], classes: int) -> dict[str, float | None]:
    images = [{"id": one.index} for one in records]
    categories = [{"id": label} for label in range(classes)]
    sides: list[list[dict[str, Any]]] = [[], []]
    for one in records:
        for side, tree in zip(sides, (one.ground_truth, one.prediction), strict=True):
            for row, box in enumerate(tree["boxes"].astype(np.float64)):
                size = box[2:] - box[:2]
                entry = {
                    "id": len(side) + 1,
                    "image_id": one.index,
                    "category_id": int(tree["labels"][row]),
                    "bbox": [*box[:2], *size],
                    "area": float(tree["areas"][row] if "areas" in tree else size[0] * size[1]),
                }
                for key, name in (("crowd", "iscrowd"), ("ignore", "aside")):
                    entry[name] = int(key in tree and tree[key][row])
                side.append(entry | ({"score": float(tree["scores"][row])} if "scores" in tree else {}))
    datasets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for side in sides:
            dataset = COCO()
            dataset.dataset = {"images": images, "categories": categories, "annotations": side}
            dataset.createIndex()
            datasets.append(dataset)
        evaluation = Oracle(*datasets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    slices = {"mAP": precision[..., 0, 2], "AP50": precision[0, ..., 0, 2], "AP75": precision[5, ..., 0, 2]}
    for place, size in enumerate(("small", "medium", "large"), start=1):
        slices |= {f"AP_{size}": precision[..., place, 2], f"AR_{size}": recall[..., place, 2]}
    for place, count in enumerate((1, 10, 100)):
        slices[f"AR_{count}"] = recall[..., 0, place]
    for label in range(classes):
        slices[f"AP/{NAMES[label]}"] = precision[:, :, label, 0, 2]
        slices[f"AP50/{NAMES[label]}"] = precision[0, :, label, 0, 2]
        slices[f"AP75/{NAMES[label]}"] = precision[5, :, label, 0, 2]
    return {key: float(np.mean(part[part > -1])) if (part > -1).any() else None for key, part in slices.items()}


def close(ours: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        mine = ours[name]
        assert (mine is None) == (value is None), name
        if value is not None and mine is not None:
            assert math.isclose(mine, value, abs_tol=1e-9), name


@pytest.mark.parametrize(("seed", "images", "aside"), [(0, 30, 0.15), (1, 30, 0.0), (2, 1, 0.5), (3, 15, 1.0)])
def test_figures_are_those_of_pycocotools(seed: int, images: int, aside: float) -> None:
    records = street(seed, images, aside=aside)
    close(metrics(records, NAMES).values, oracle(records, len(NAMES)))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_figures_of_small_sets_are_those_of_pycocotools(seed: int, images: int) -> None:
    records = street(seed, images)
    if any(len(one.ground_truth["boxes"]) for one in records):
        close(metrics(records, NAMES).values, oracle(records, len(NAMES)))


def test_areas_that_the_truth_gives_decide_about_the_size() -> None:
    records = [
        record(0, found((0, 0.9, (0, 0, 50, 50))), true((0, (0, 0, 50, 50)), areas=np.array([900.0]))),
        record(1, found((0, 0.8, (9, 9, 10, 10))), true((0, (0, 0, 50, 50)), areas=np.array([2400.0]))),
    ]
    values = metrics(records, NAMES).values
    assert (values["AP_small"], values["AP_medium"], values["AP_large"]) == (1, 0, None)
    close(values, oracle(records, len(NAMES)))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.randoms())
def test_the_order_of_records_does_not_matter(seed: int, shuffler: Any) -> None:
    records = street(seed, 8)
    shuffled = list(records)
    shuffler.shuffle(shuffled)
    assert metrics(shuffled, NAMES) == metrics(records, NAMES)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_truth_as_a_prediction_is_perfect(seed: int) -> None:
    records = [
        record(one.index, {**one.ground_truth, "scores": np.full(len(one.ground_truth["labels"]), 0.5)}, truth)
        for one in street(seed, 8, aside=0)
        for truth in [one.ground_truth]
    ]
    values = metrics(records, NAMES).values
    defined = {key: value for key, value in values.items() if value is not None and key not in {"AR_1", "AR_10"}}
    assert defined == pytest.approx(dict.fromkeys(defined, 1.0))
    assert "mAP" in defined


def with_more(records: Sequence[Record], boxes: Any, labels: Any, score: float) -> list[Record]:
    made = []
    for one in records:
        more = {"boxes": boxes(one), "labels": labels(one), "scores": np.full(len(labels(one)), score)}
        both = {key: np.concatenate([one.prediction[key], more[key]]) for key in more}
        made.append(record(one.index, both, one.ground_truth))
    return made


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_boxes_that_hit_nothing_never_help_and_surer_truths_make_it_perfect(seed: int, score: float) -> None:
    records = street(seed, 6, aside=0)
    before = metrics(records, NAMES).values["mAP"]
    wrong = with_more(records, lambda _: boxes_of((900, 900, 950, 950)), lambda _: np.zeros(1, np.int64), score)
    right = with_more(records, lambda one: one.ground_truth["boxes"], lambda one: one.ground_truth["labels"], 2.0)
    after = metrics(wrong, NAMES).values["mAP"]
    if before is not None:
        assert after is not None
        assert after <= before + 1e-12
        assert metrics(right, NAMES).values["mAP"] == pytest.approx(1.0)


def test_figures_of_a_small_case_by_hand() -> None:
    # Two cars. The surest answer is a perfect car, the second hits nothing, the third overlaps its car by 0.6:
    # right up to a threshold of 0.6 (3 of 10), and then precision is 1 up to recall 0.5 and 2/3 from there on.
    truth = true((0, (0, 0, 100, 100)), (0, (200, 0, 300, 100)))
    given = found((0, 0.9, (0, 0, 100, 100)), (0, 0.8, (400, 400, 450, 450)), (0, 0.7, (200, 0, 300, 60)))
    done = metrics([record(0, given, truth)], ("car",))
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert done.values["AP50"] == pytest.approx(low)
    assert done.values["AP75"] == pytest.approx(high)
    assert done.values["mAP"] == pytest.approx((3 * low + 7 * high) / 10)
    assert done.values["AR_1"] == pytest.approx(0.5)
    assert done.values["AR_100"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)
    assert (done.primary, done.higher_is_better) == ("mAP", True)


def table(done: Metrics, title: str) -> Any:
    (only,) = [one for one in done.tables if one.title.startswith(title)]
    return only


def test_tables_name_classes_sizes_and_samples() -> None:
    records = [*street(5, 10), record(10, found((1, 0.5, (0, 0, 9, 9))), None), record(11, found(), true())]
    done = metrics(records, NAMES)
    per_class = table(done, "Per class")
    assert per_class.columns == ("class", "AP", "AP50", "AP75", "truths", "predictions")
    assert [row[0] for row in per_class.rows] == list(NAMES)
    assert per_class.rows[3] == ("never", None, None, None, 0, 0)
    assert [row[0] for row in table(done, "By size").rows] == ["small", "medium", "large"]
    assert table(done, "By size").rows[0][1:] == (done.values["AP_small"], done.values["AR_small"])
    truths = [one.ground_truth for one in records if one.ground_truth]
    aside = sum(int((one["crowd"] | one["ignore"]).sum()) for one in truths if "crowd" in one)
    empty = sum(not len(one["labels"]) for one in truths)
    assert table(done, "Samples").rows == ((11, 1, empty, aside, 0),)
    assert sum(row[4] for row in per_class.rows) == sum(len(one["labels"]) for one in truths) - aside


@pytest.mark.parametrize("style", ["coco", "voc"])
@pytest.mark.parametrize(
    "records", [[], [record(0, found((0, 0.5, (0, 0, 9, 9))), None)], [record(0, found(), true())]]
)
def test_without_an_object_no_figure_is_defined(records: list[Record], style: Any) -> None:
    values = metrics(records, NAMES, style=style).values
    assert set(values.values()) == {None}
    assert {"mAP", "AP50", "AP50/person"} <= values.keys()


@pytest.mark.parametrize("style", ["coco", "voc"])
def test_finding_nothing_is_0_and_not_undefined(style: Any) -> None:
    values = metrics([record(0, found(), true((1, (0, 0, 20, 20))))], NAMES, style=style).values
    assert (values["mAP"], values["AP50/truck"], values["AP50/car"]) == (0, 0, None)


def test_boxes_where_there_is_nothing_cost_precision() -> None:
    right = record(0, found((0, 0.5, (0, 0, 20, 20))), true((0, (0, 0, 20, 20))))
    invented = record(1, found((0, 0.9, (0, 0, 20, 20))), true())
    assert metrics([right], NAMES).values["mAP"] == pytest.approx(1)
    assert metrics([right, invented], NAMES).values["mAP"] == pytest.approx(0.5)
    assert metrics([right, record(1, invented.prediction, None)], NAMES).values["mAP"] == pytest.approx(1)


@pytest.mark.parametrize("style", ["coco", "voc"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_can_only_do_harm(number: float, style: Any) -> None:
    truth = true((0, (0, 0, 20, 20)), (0, (30, 0, 50, 20)))
    clean = found((0, 0.9, (0, 0, 20, 20)), (0, 0.8, (30, 0, 50, 20)))
    fewer = {key: value[:1] for key, value in clean.items()}
    without = metrics([record(0, fewer, truth)], NAMES, style=style).values["mAP"]
    for key in ("boxes", "scores"):
        broken = {**clean, key: clean[key].copy()}
        broken[key][1] = number
        done = metrics([record(0, broken, truth)], NAMES, style=style)
        assert (done.values["mAP"] or 0) <= (without or 0)
        assert key == "boxes" or (done.values["mAP"] or 0) < (without or 0), "it counts as the surest of all"
        assert table(done, "Samples").rows[0][-1] == 1


def test_tensors_of_any_float_are_taken() -> None:
    truth = {"boxes": torch.tensor([[0.0, 0, 20, 20]]), "labels": torch.tensor([0])}
    given = {
        "boxes": torch.tensor([[0.0, 0, 20, 20]], dtype=torch.bfloat16),
        "scores": torch.tensor([0.5], requires_grad=True),
        "labels": torch.tensor([0], dtype=torch.int32),
    }
    assert metrics([record(0, given, truth)], NAMES).values["mAP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("prediction", "truth", "fact"),
    [
        (found((4, 0.5, (0, 0, 9, 9))), true(), "'s0': its predicted label is 4, and there are 4 class names"),
        (found(), true((-1, (0, 0, 9, 9))), "'s0': its truth is -1, and there are 4 class names"),
        ({**found((0, 0.5, (0, 0, 9, 9))), "scores": np.zeros(2)}, true(), "1 boxes, 2 scores, 1 labels"),
        (found(), true((0, (0, 0, 9, 9)), ignore=np.zeros(2, bool)), "1 boxes, 1 labels, 2 ignore"),
        ({"boxes": np.zeros((0, 4))}, true(), "its prediction has no 'scores' and no 'labels'"),
        (found(), {"label": 0}, "its ground_truth has no 'boxes' and no 'labels'"),
        (found(), true((0, (0, 0, math.nan, 9))), "a box of its truth holds something that is no finite number"),
    ],
)
def test_what_does_not_fit_together_is_refused(prediction: Tree, truth: Tree, fact: str) -> None:
    with pytest.raises(LoadError, match=fact):
        metrics([record(0, prediction, truth)], NAMES)


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"style": "kitti"}, "no style 'kitti'"),
        ({"voc_mode": "12points"}, "no voc_mode '12points'"),
        ({"iou_thresholds": (0.5, 0.5)}, "iou_thresholds must ascend"),
        ({"iou_thresholds": ()}, "iou_thresholds must ascend"),
        ({"max_detections": (10, 1)}, "max_detections must ascend"),
        ({"max_detections": (0, 1)}, "max_detections must ascend"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        metrics([], NAMES, **given)
    with pytest.raises(ConfigError, match="class_names must differ, got a, b, a"):
        metrics([], ("a", "b", "a"))


def test_other_thresholds_and_counts_are_named_in_the_keys() -> None:
    records = street(7, 20)
    values = metrics(records, NAMES, iou_thresholds=(0.5, 0.7), max_detections=(2, 300)).values
    assert {"AR_2", "AR_300", "AP50"} <= values.keys()
    assert not {"AR_1", "AP75", "AP70"} & values.keys()
    plain = metrics(records, NAMES).values
    assert values["AP50"] == pytest.approx(plain["AP50"])
    assert values["mAP"] != plain["mAP"]


def test_the_evaluator_keeps_its_steps_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        metrics(street(0, 3), NAMES)
    assert caplog.records == []
    assert not logging.getLogger("faster_coco_eval.core.coco").isEnabledFor(logging.INFO)


def test_a_missing_evaluator_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    records = [record(0, found(), true((0, (0, 0, 9, 9))))]
    with pytest.raises(RequirementError, match="faster-coco-eval") as caught:
        metrics(records, NAMES)
    assert caught.value.hint == "pip install 'awml-deploy-core[coco]'"
    assert metrics(records, NAMES, style="voc").values["mAP"] == 0


def test_the_evaluator_and_the_imaging_library_are_imported_only_where_they_are_needed() -> None:
    code = (
        "import sys, awml_deploy_core.tasks.detection2d; print(*sorted({'PIL', 'faster_coco_eval'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
