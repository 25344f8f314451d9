"""The nuScenes protocol: cases worked by hand, what is left out, and its own devkit where that is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.records import Record
from awml_deploy_core.tasks.detection3d import metrics


def record(predicted: Any, scores: Sequence[float], true: Any, index: int = 0, **more: Any) -> Record:
    """One frame of one class; `ours_x` and `true_x` add x to either tree."""
    prediction = _tree(predicted) | {"scores": np.array(scores, np.float64)}
    added = [
        {key[5:]: np.array(value) for key, value in more.items() if key[:5] == side} for side in ("ours_", "true_")
    ]
    return Record(id=f"f{index}", index=index, prediction=prediction | added[0], ground_truth=_tree(true) | added[1])


def _tree(rows: Any) -> dict[str, Any]:
    boxes = np.array(rows, np.float64).reshape(-1, 7)
    return {"boxes": boxes, "labels": np.zeros(len(boxes), np.int64)}


def at(x: float, y: float = 0.0, size: tuple[float, float, float] = (4.0, 2.0, 1.5), yaw: float = 0.0) -> Any:
    return (x, y, 0.0, *size, yaw)


def values(records: Sequence[Record], names: Sequence[str] = ("car",), **options: Any) -> Mapping[str, float | None]:
    return metrics(records, names, style="nuscenes", **options).values


def test_errors_and_score_of_one_hit_worked_by_hand() -> None:
    # One truth, one hit 0.6 m away: right at 1, 2 and 4 m, wrong at 0.5. AP = 1 for three of four: mAP = 0.75.
    # Sizes 4x2x1.5 = 12 and 4x2x1 = 8: overlap 8 / 12, ASE 1/3. Yaw 0.2. Velocity (3, 4) against 0: 5 m/s.
    # Attributes differ: 1. NDS = (5 * 0.75 + 0.4 + 2/3 + 0.8 + 0 + 0) / 10.
    motion: dict[str, Any] = {"ours_velocities": [[3.0, 4.0]], "true_velocities": [[0.0, 0.0]]}
    kind: dict[str, Any] = {"ours_attributes": [1], "true_attributes": [2]}
    found = values([record([at(10.6, size=(4, 2, 1), yaw=0.2)], [0.9], [at(10)], **motion, **kind)])
    assert [found[f"T4Metric/car_AP_dist_{limit}"] for limit in (0.5, 1.0, 2.0, 4.0)] == pytest.approx([0, 1, 1, 1])
    errors = [found[name] for name in ("mATE", "mASE", "mAOE", "mAVE", "mAAE")]
    assert errors == pytest.approx([0.6, 1 / 3, 0.2, 5.0, 1.0])
    assert found["mAP"] == found["AP/car"] == pytest.approx(0.75)
    assert found["NDS"] == pytest.approx((5 * 0.75 + 0.4 + 2 / 3 + 0.8) / 10)


def test_errors_are_means_over_the_recalls_that_were_reached() -> None:
    # Two truths, hits at 0.9 (exact) and 0.5 (0.4 m off). The error so far is 0, then 0.2. Score at a recall: 0.9 up
    # to 1/2, then straight down to 0.5 at 1. The error at recall r > 1/2 lies as far between 0 and 0.2 as the score
    # between 0.9 and 0.5: 0.2 * (2 r - 1). Mean over 0.11 .. 1.00: 0.2 * 2 * (0.01 + ... + 0.50) / 90.
    found = values([record([at(10), at(20.4)], [0.9, 0.5], [at(10), at(20)])])
    assert found["mATE"] == pytest.approx(0.4 * (50 * 51 / 2 / 100) / 90)


def test_precision_has_no_envelope() -> None:
    # Wrong, then right: precision 0, 1/2 at recall 0, 1, a straight line r / 2 between them. From 0.21 on it is above
    # 0.1: AP = (sum over 0.21 .. 1.00 of r / 2 - 0.1) / 90 / 0.9.
    found = values([record([at(40), at(10)], [0.9, 0.8], [at(10)])])
    above = sum(number / 200 - 0.1 for number in range(21, 101))
    assert found["T4Metric/car_AP_dist_0.5"] == pytest.approx(above / 90 / 0.9)


def test_what_was_hit_too_seldom_has_an_error_of_one() -> None:
    # One of ten found: recall 0.1, and only what lies beyond it counts.
    truths = [at(10.0 + 5 * number) for number in range(10)]
    found = values([record([at(10)], [0.9], truths)])
    assert (found["mATE"], found["mAP"]) == (1.0, 0.0)
    assert values([record([], [], truths)])["mATE"] == 1.0
    assert values([record([at(10)], [0.9], [])])["mATE"] == 1.0


def test_velocities_and_attributes_that_nobody_has_are_left_out_and_the_report_says_so() -> None:
    # Half a metre away: AP 3/4, ATE 0.5, ASE and AOE 0, so NDS = (5 * 0.75 + 0.5 + 1 + 1) / 8.
    frame = record([at(10.5)], [0.9], [at(10)])
    found = metrics([frame], ("car",), style="nuscenes")
    assert {"mAVE", "mAAE", "T4Metric/car_vel_err"}.isdisjoint(found.values)
    assert found.values["NDS"] == pytest.approx((5 * 0.75 + 2.5) / 8)
    rules = next(table for table in found.tables if table.title == "Rules")
    assert rules.rows[0] == ("nuScenes detection", "mAP, mATE, mASE, mAOE", "mAVE, mAAE")
    unknown = record([at(10.5)], [0.9], [at(10)], ours_velocities=[[1.0, 0.0]], true_velocities=[[math.nan, math.nan]])
    assert values([unknown]) == found.values


def test_a_truth_whose_velocity_nobody_knows_does_not_count_in_the_error() -> None:
    motion: dict[str, Any] = {"ours_velocities": [[1.0, 0.0]] * 2, "true_velocities": [[math.nan, 0.0], [3.0, 0.0]]}
    found = values([record([at(10), at(20)], [0.5, 0.9], [at(10), at(20)], **motion)])
    assert found["mAVE"] == pytest.approx(2.0)


def test_a_class_whose_velocities_nobody_knows_has_an_error_of_one_beside_one_that_has_them() -> None:
    motion: dict[str, Any] = {"ours_velocities": [[1.0, 0.0]] * 2, "true_velocities": [[math.nan] * 2, [1.0, 0.5]]}
    labels: dict[str, Any] = {"ours_labels": [0, 1], "true_labels": [0, 1]}
    found = values([record([at(10), at(20)], [0.5, 0.9], [at(10), at(20)], **motion, **labels)], ("car", "bus"))
    assert (found["T4Metric/car_vel_err"], found["T4Metric/bus_vel_err"]) == (1.0, 0.5)


def test_truths_without_points_and_boxes_beyond_their_range_do_not_count() -> None:
    frame = record([at(10), at(130)], [0.8, 0.9], [at(10), at(30), at(130)], true_points=[4, 0, 9])
    assert values([frame])["mAP"] == pytest.approx(1.0)
    assert values([frame], min_points=0)["mAP"] == pytest.approx(40 / 90)
    assert values([frame], class_range={"car": 200.0})["mAP"] == pytest.approx(1.0)
    assert values([frame], class_range=10.0)["mAP"] is None
    with pytest.raises(ConfigError, match="class_range lacks car"):
        values([frame], class_range={"bus": 50.0})


def test_of_a_frame_only_the_best_boxes_count() -> None:
    frames = [record([at(40), at(10)], [0.3, 0.9], [at(10)]), record([at(20)], [0.1], [at(20)], 1)]
    assert values(frames, max_boxes=1)["mAP"] == pytest.approx(1.0)
    assert values(frames)["mAP"] != pytest.approx(1.0)


def test_barriers_look_the_same_from_behind_and_some_errors_mean_nothing() -> None:
    motion: dict[str, Any] = {"ours_velocities": [[1.0, 0.0]], "true_velocities": [[0.0, 0.0]]}
    frame = record([at(10, yaw=math.pi)], [0.9], [at(10)], **motion)
    assert values([frame], ("car",))["T4Metric/car_orient_err"] == pytest.approx(math.pi)
    barrier = values([frame], ("barrier",))
    assert barrier["T4Metric/barrier_orient_err"] == pytest.approx(0, abs=1e-9)
    assert barrier["T4Metric/barrier_vel_err"] is None
    cone = values([frame], ("traffic_cone",))
    assert (cone["T4Metric/traffic_cone_orient_err"], cone["T4Metric/traffic_cone_vel_err"]) == (None, None)


def test_nothing_at_all_is_undefined() -> None:
    assert set(values([]).values()) == {None}
    flat = record([at(10, size=(0.0, 0.0, 0.0))], [0.9], [at(10, size=(0.0, 0.0, 0.0))])
    assert values([flat])["mASE"] == 1.0
    odd = record([at(math.nan), at(10)], [0.9, 0.8], [at(10)])
    assert values([odd])["mAP"] == values([record([at(40), at(10)], [0.9, 0.8], [at(10)])])["mAP"]


# ---------------------------------------------------------------- the devkit


NAMES = ("car", "truck", "bus", "pedestrian", "barrier", "traffic_cone")


@pytest.mark.parametrize("seed", range(3))
def test_every_figure_is_that_of_the_devkit(seed: int) -> None:
    pytest.importorskip("nuscenes.eval.detection", reason="needs nuscenes-devkit, which wants numpy 1")
    records = _street(seed)
    ours, theirs = values(records, NAMES), _devkit(records)
    assert len(theirs) == len(NAMES) * 9 + 2
    for name, value in theirs.items():
        found = ours[name]
        assert (found is None and math.isnan(value)) or found == pytest.approx(value, abs=1e-12), name


def _street(seed: int) -> list[Record]:
    rng = np.random.default_rng(seed)
    return [_frame(rng, index, rng.permutation(900)[:40] / 1000 + index / 1e6) for index in range(20)]


def _frame(rng: np.random.Generator, index: int, scores: Any) -> Record:
    boxes = np.concatenate(
        [
            rng.uniform(-95, 95, (40, 2)),
            rng.normal(0, 1, (40, 1)),
            rng.uniform(0.4, 5, (40, 3)),
            rng.uniform(-3, 3, (40, 1)),
        ],
        axis=1,
    )
    labels, motion = rng.integers(0, len(NAMES), 40), rng.normal(0, 3, (40, 2))
    truth = {"boxes": boxes[:25], "labels": labels[:25], "velocities": motion[:25].copy()}
    truth["velocities"][rng.random(25) < 0.1] = np.nan
    truth |= {"points": rng.integers(0, 9, 25), "attributes": rng.integers(-1, 3, 25)}
    boxes = boxes + rng.normal(0, [0.8, 0.8, 0.2, 0.1, 0.1, 0.1, 0.5], boxes.shape)
    prediction = {"boxes": boxes, "labels": labels, "scores": scores, "velocities": motion + rng.normal(0, 1, (40, 2))}
    boxes[:, 3:6] = np.abs(boxes[:, 3:6]) + 0.1
    prediction["attributes"] = rng.integers(0, 3, 40)
    return Record(id=f"f{index}", index=index, prediction=prediction, ground_truth=truth)


def _devkit(records: Sequence[Record]) -> dict[str, float]:
    from nuscenes.eval.common.utils import center_distance  # type: ignore[import-not-found]
    from nuscenes.eval.detection.algo import accumulate, calc_ap, calc_tp  # type: ignore[import-not-found]
    from nuscenes.eval.detection.config import config_factory  # type: ignore[import-not-found]
    from nuscenes.eval.detection.constants import TP_METRICS  # type: ignore[import-not-found]
    from nuscenes.eval.detection.data_classes import DetectionMetrics  # type: ignore[import-not-found]

    config = config_factory("detection_cvpr_2019")
    config.class_names, config.class_range = NAMES, dict.fromkeys(NAMES, 121)
    theirs, found = DetectionMetrics(config), {}
    truths, predictions = _eval_boxes(records, scored=False), _eval_boxes(records, scored=True)
    for name in NAMES:
        curves = {limit: accumulate(truths, predictions, name, center_distance, limit) for limit in config.dist_ths}
        for limit, curve in curves.items():
            ap = calc_ap(curve, config.min_recall, config.min_precision)
            theirs.add_label_ap(name, limit, ap)
            found[f"T4Metric/{name}_AP_dist_{limit}"] = ap
        exempt = {"traffic_cone": ("attr_err", "vel_err", "orient_err"), "barrier": ("attr_err", "vel_err")}.get(
            name, ()
        )
        for error in TP_METRICS:
            value = math.nan if error in exempt else calc_tp(curves[2.0], config.min_recall, error)
            theirs.add_label_tp(name, error, value)
            found[f"T4Metric/{name}_{error}"] = value
    return found | {"T4Metric/mAP": theirs.mean_ap, "T4Metric/NDS": theirs.nd_score}


def _eval_boxes(records: Sequence[Record], *, scored: bool) -> Any:
    from nuscenes.eval.common.data_classes import EvalBoxes  # type: ignore[import-not-found]
    from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES
    from nuscenes.eval.detection.data_classes import DetectionBox

    kinds, every = [*sorted(ATTRIBUTE_NAMES), ""], EvalBoxes()
    for record in records:
        tree = record.prediction if scored else record.ground_truth
        rows = [row for row in range(len(tree["labels"])) if scored or tree["points"][row]]
        made = []
        for row in rows:
            x, y, z, length, width, height, yaw = tree["boxes"][row].tolist()
            made.append(
                DetectionBox(
                    sample_token=record.id,
                    translation=(x, y, z),
                    size=(width, length, height),
                    rotation=(math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)),
                    velocity=tuple(tree["velocities"][row].tolist()),
                    ego_translation=(x, y, z),
                    detection_name=NAMES[tree["labels"][row]],
                    detection_score=float(tree["scores"][row]) if scored else -1.0,
                    attribute_name=kinds[tree["attributes"][row]],
                )
            )
        every.add_boxes(record.id, [box for box in made if box.ego_dist < 121])
    return every
