"""T4MetricV2: cases worked by hand, laws that any such figure obeys, and what it does with odd input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Metrics, Record
from awml_deploy_core.tasks.detection3d import metrics

Boxes = Sequence[Sequence[float]]
CAR = (4.0, 2.0, 1.5)
NAMES = ("car", "bus")


def record(predicted: Boxes, scores: Sequence[float], true: Boxes, index: int = 0, labels: Any = None) -> Record:
    """One frame; all boxes are cars unless labels (predicted, true) say otherwise."""
    ours, theirs = labels or ([0] * len(predicted), [0] * len(true))
    prediction = {
        "boxes": np.array(predicted, np.float64).reshape(-1, 7),
        "scores": np.array(scores, np.float64),
        "labels": np.array(ours, np.int64),
    }
    truth = {"boxes": np.array(true, np.float64).reshape(-1, 7), "labels": np.array(theirs, np.int64)}
    return Record(id=f"f{index}", index=index, prediction=prediction, ground_truth=truth)


def at(x: float, y: float = 0.0, yaw: float = 0.0) -> tuple[float, ...]:
    return (x, y, 0.0, *CAR, yaw)


def ap(found: Metrics, threshold: float, mode: str = "center_distance_bev", figure: str = "AP") -> float:
    value = found.values[f"T4MetricV2_label/car_{figure}_{mode}_{threshold}"]
    assert value is not None
    return value


# ---------------------------------------------------------------- worked by hand


def test_one_of_two_found_is_worth_its_half_of_the_recalls() -> None:
    # One truth of two is found: precision 1 up to recall 0.5, nothing beyond. Of the 90 recalls 0.11, 0.12, ... 1.00
    # the 40 up to 0.50 count (1 - 0.1), so AP = 40 * 0.9 / 90 / 0.9 = 40 / 90.
    found = metrics([record([at(10)], [0.9], [at(10), at(30)])], NAMES)
    assert ap(found, 0.5) == pytest.approx(40 / 90, abs=1e-12)
    assert found.values["AP/car"] == pytest.approx(40 / 90, abs=1e-12)
    # A class that is nowhere is left out of the mean.
    assert found.values["AP/bus"] is None
    assert found.values["mAP"] == found.values["AP/car"]


LATE = (89 * 0.9 + 0.4) / 90 / 0.9
"""What one false alarm after full recall leaves of 1."""


def test_a_false_alarm_above_a_hit_weighs_more_than_one_below() -> None:
    # Highest score wrong, then right: precision 0, 1/2 at recall 0, 1. The envelope lifts both to 1/2, so each of the
    # 90 recalls counts 0.4: AP = 0.4 / 0.9. The other way round precision is 1, 1/2 at recall 1, 1: the last of the two
    # counts, but only at the one recall where they stand: (89 * 0.9 + 0.4) / 90 / 0.9.
    first = metrics([record([at(40), at(10)], [0.9, 0.8], [at(10)])], NAMES)
    assert ap(first, 0.5) == pytest.approx(0.4 / 0.9, abs=1e-12)
    last = metrics([record([at(40), at(10)], [0.8, 0.9], [at(10)])], NAMES)
    assert ap(last, 0.5) == pytest.approx(LATE, abs=1e-12)


def test_frames_are_pooled_and_sorted_together() -> None:
    # Scores 0.9 right, 0.7 wrong, 0.5 right, 2 truths: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1. Envelope
    # 1, 2/3, 2/3. Recalls 0.11 .. 0.49 give 1 (39 of them); 0.50 is where recall stands twice and the last of the two
    # counts, 2/3; from there on a flat line: 51 recalls of 2/3. AP = (39 * 0.9 + 51 * (2/3 - 0.1)) / 90 / 0.9.
    frames = [record([at(10), at(40)], [0.9, 0.7], [at(10)]), record([at(20)], [0.5], [at(20)], 1)]
    assert ap(metrics(frames, NAMES), 1.0) == pytest.approx((39 * 0.9 + 51 * (2 / 3 - 0.1)) / 90 / 0.9, abs=1e-12)


def test_a_distance_must_be_smaller_than_the_threshold() -> None:
    # 2 m away: wrong at 0.5, 1 and 2, right at 4. AP of the class = (0 + 0 + 0 + 1) / 4.
    found = metrics([record([at(12)], [0.9], [at(10)])], NAMES)
    assert [ap(found, limit) for limit in (0.5, 1.0, 2.0, 4.0)] == [0, 0, 0, pytest.approx(1)]
    assert found.values["AP/car"] == pytest.approx(0.25)


def test_the_better_prediction_chooses_first_and_the_other_takes_what_is_left() -> None:
    # Truths at 10 and 13. The prediction at 11.4 (score 0.9) takes 10, 1.4 away, as 13 is 1.6 away. That at 10 (0.8)
    # stands right on 10, which is taken; 13 is 3 away. At 2 m: right, wrong: precision 1, 1/2 at recall 1/2, 1/2.
    # Recalls up to 0.49 give 1, at 0.50 the last value of the envelope, 1/2: (39 * 0.9 + 0.4) / 90 / 0.9.
    # At 4 m both are right.
    found = metrics([record([at(11.4), at(10)], [0.9, 0.8], [at(10), at(13)])], NAMES)
    assert ap(found, 2.0) == pytest.approx((39 * 0.9 + 0.4) / 90 / 0.9, abs=1e-12)
    assert ap(found, 4.0) == pytest.approx(1.0)


def test_a_prediction_takes_only_what_is_free_and_of_its_frame_and_class() -> None:
    twice = metrics([record([at(10), at(10)], [0.9, 0.8], [at(10)])], NAMES)
    assert ap(twice, 0.5) == pytest.approx(LATE)
    other_frame = metrics([record([at(10)], [0.9], []), record([], [], [at(10)], 1)], NAMES)
    assert ap(other_frame, 4.0) == 0
    other_class = metrics([record([at(10)], [0.9], [at(10)], labels=([1], [0]))], NAMES)
    assert [other_class.values[f"AP/{name}"] for name in NAMES] == [0, 0]


def test_heading_weighs_a_hit_and_leaves_a_miss_whole() -> None:
    # Turned by 90 degrees a hit counts 1 - 1/2 in APH. Precision = 0.5 / (0.5 + 0) = 1, recall = 0.5 / 1 = 0.5: the
    # 40 recalls from 0.11 to 0.50 have 1. APH = 40 / 90, AP = 1.
    found = metrics([record([at(10, yaw=math.pi / 2)], [0.9], [at(10)])], NAMES)
    assert ap(found, 0.5) == pytest.approx(1.0)
    assert ap(found, 0.5, figure="APH") == pytest.approx(40 / 90, abs=1e-12)
    assert found.values["mAPH"] == pytest.approx(40 / 90, abs=1e-12)


def test_left_and_right_are_opposite_unless_awml_is_to_be_matched() -> None:
    # +90 against -90 degrees is a half turn: nothing is left of the hit. AWML's unsigned angle sees no difference.
    frames = [record([at(10, yaw=math.pi / 2)], [0.9], [at(10, yaw=-math.pi / 2)])]
    assert ap(metrics(frames, NAMES), 0.5, figure="APH") == 0
    assert ap(metrics(frames, NAMES, t4_compat=True), 0.5, figure="APH") == pytest.approx(1.0)
    same_side = [record([at(10, yaw=0.3 + 2 * math.pi)], [0.9], [at(10, yaw=0.3)])]
    assert ap(metrics(same_side, NAMES), 0.5, figure="APH") == pytest.approx(1.0)


def test_plane_distance_looks_at_the_side_that_faces_the_sensor() -> None:
    # A truth 4 x 2 at x = 10 shows the sensor its rear corners (8, 1) and (8, -1). A prediction of length 8 at x = 12
    # has its rear at 8 too: plane distance 0, though the centres are 2 m apart.
    long = (12.0, 0.0, 0.0, 8.0, 2.0, 1.5, 0.0)
    found = metrics([record([long], [0.9], [at(10)])], NAMES)
    assert ap(found, 2.0) == 0
    assert ap(found, 2.0, "plane_distance") == pytest.approx(1.0)
    # With the sides exchanged the truth is 2 long and 4 wide and shows (9, 2) and (9, -2), the prediction 2 long and
    # 8 wide (11, 4) and (11, -4): each corner is sqrt(4 + 4) = 2.83 away, too far for 2 m and near enough for 4 m.
    quirk = metrics([record([long], [0.9], [at(10)])], NAMES, t4_compat=True)
    assert [ap(quirk, limit, "plane_distance") for limit in (2.0, 4.0)] == [0, pytest.approx(1.0)]


def test_plane_distance_forgives_a_half_turn_and_no_quarter_turn() -> None:
    # Turned by 180 degrees the corners change places with the opposite ones and lie where they should. Turned by 90
    # degrees (not more than 90) rear left and rear right of the truth (8, 1), (8, -1) meet those of the prediction,
    # (9, -2) and (11, -2): sqrt(1 + 9) and sqrt(9 + 1), so sqrt(10) = 3.16 m.
    half = metrics([record([at(10, yaw=math.pi)], [0.9], [at(10)])], NAMES)
    assert ap(half, 2.0, "plane_distance") == pytest.approx(1.0)
    quarter = metrics([record([at(10, yaw=math.pi / 2 - 1e-9)], [0.9], [at(10)])], NAMES)
    assert [ap(quarter, limit, "plane_distance") for limit in (2.0, 4.0)] == [0, pytest.approx(1.0)]


def test_the_best_operating_point_is_where_f1_is_largest() -> None:
    # Two truths; 0.9 right, 0.7 wrong, 0.5 right, 0.3 wrong. F1 = 2 PR / (P + R): (1, 1/2) 2/3, (1/2, 1/2) 1/2,
    # (2/3, 1) 4/5, (1/2, 1) 2/3. The largest is 4/5, at score 0.5.
    found = metrics([record([at(10), at(40), at(20), at(45)], [0.9, 0.7, 0.5, 0.3], [at(10), at(20)])], NAMES)
    assert ap(found, 0.5, figure="max-f1score") == pytest.approx(0.8)
    assert ap(found, 0.5, figure="optimal-confidence") == 0.5


def test_ranges_shut_out_boxes_on_their_borders_and_beyond() -> None:
    # Truths at 10, 50 and 60 m, all found. The one at 50 is in neither 0-50 nor 50-90; the last range has all three.
    places = [at(10), at(50), at(0, 60)]
    found = metrics([record([*places, at(10, 70)], [0.9, 0.8, 0.7, 0.95], places)], NAMES)
    counted = {key: value for key, value in found.values.items() if key.startswith("mAP/")}
    assert counted["mAP/0-50"] == pytest.approx(1)
    # In 50-90 the false alarm at 70.7 m comes first: precision 0, 1/2.
    assert counted["mAP/50-90"] == pytest.approx(0.4 / 0.9)
    assert counted["mAP/90-121"] is None
    assert found.values["bev_center_50.0-90.0/T4MetricV2/mAP_center_distance_bev"] == counted["mAP/50-90"]
    assert found.values["T4MetricV2/mAP_center_distance_bev"] == found.values["mAP"] == counted["mAP/0-121"]
    near = metrics([record(places, [0.9, 0.8, 0.7], places)], NAMES, ranges=[(0, 30), (0, 52)])
    assert {key for key in near.values if key.startswith("mAP/")} == {"mAP/0-30", "mAP/0-52"}
    table = next(each for each in near.tables if each.title == "Per class, 0-52 m")
    assert [row[-2:] for row in table.rows] == [(2, 2), (0, 0)]


@pytest.mark.parametrize("border", [50.0, 90.0])
def test_a_false_alarm_on_a_border_counts_on_neither_side(border: float) -> None:
    truths = [at(10), at(0, 60), at(0, 100)]
    found = metrics([record([*truths, at(0, border)], [0.8, 0.7, 0.6, 0.9], truths)], NAMES)
    assert [found.values[f"mAP/{span}"] for span in ("0-50", "50-90", "90-121")] == pytest.approx([1, 1, 1])
    assert found.values["mAP"] != pytest.approx(1)


# ---------------------------------------------------------------- laws


# No two truths at one place: of two that are equally near the first is taken, and then the order does matter.
BOXES = st.tuples(st.floats(1, 100), st.floats(-60, 60), st.floats(-3, 3), st.integers(0, 1))
FRAMES = st.lists(
    st.lists(BOXES, max_size=6, unique_by=lambda box: (round(box[0], 3), round(box[1], 3))),
    min_size=1,
    max_size=4,
)


def perfect(frames: Any) -> list[Record]:
    rows = [[at(x, y, yaw) for x, y, yaw, _ in frame] for frame in frames]
    labels = [[label for *_, label in frame] for frame in frames]
    scores = np.linspace(0.9, 0.5, 1 + sum(map(len, frames))).tolist()
    taken = 0
    found = []
    for index, (boxes, said) in enumerate(zip(rows, labels, strict=True)):
        found.append(record(boxes, scores[taken : taken + len(boxes)], boxes, index, (said, said)))
        taken += len(boxes)
    return found


def figures(found: Metrics) -> dict[str, float | None]:
    return {key: value for key, value in found.values.items() if "AP" in key}


@given(FRAMES)
@settings(max_examples=40, deadline=None)
def test_who_finds_everything_and_nothing_else_has_one_everywhere(frames: Any) -> None:
    for compat in (False, True):
        values = figures(metrics(perfect(frames), NAMES, t4_compat=compat)).values()
        assert all(value is None or value == pytest.approx(1, abs=1e-9) for value in values)
        assert any(value is not None for value in values) == any(
            math.hypot(x, y) < 121 for frame in frames for x, y, *_ in frame
        ) or not any(frames)


@given(FRAMES, st.randoms(use_true_random=False), st.data())
@settings(max_examples=30, deadline=None)
def test_the_order_of_frames_and_boxes_does_not_matter(frames: Any, random: Any, data: Any) -> None:
    records = [_shaken(each, index) for index, each in enumerate(perfect(frames))]
    before = metrics(records, NAMES).values
    shuffled = [_permuted(each, np.random.default_rng(data.draw(st.integers(0, 99)))) for each in records]
    random.shuffle(shuffled)
    assert metrics(shuffled, NAMES).values == before


@given(FRAMES, st.floats(1, 100), st.integers(0, 1))
@settings(max_examples=30, deadline=None)
def test_one_more_false_alarm_never_raises_a_figure(frames: Any, x: float, label: int) -> None:
    records = [_shaken(each, index) for index, each in enumerate(perfect(frames))]
    tree = records[0].prediction
    far = np.array([[x, 100.0, 0, *CAR, 0]])  # truths end at y = 60
    more = {
        "boxes": np.concatenate([tree["boxes"], far]),
        "scores": np.append(tree["scores"], 0.01),
        "labels": np.append(tree["labels"], label),
    }
    before, after = metrics(records, NAMES), metrics([evolve(records[0], prediction=more), *records[1:]], NAMES)
    for name, value in figures(after).items():
        was = before.values[name]
        if "mAP" not in name and was is not None:  # a class that enters the mean with 0 is another matter
            assert value is not None
            assert value <= was + 1e-12, name


def _shaken(each: Record, seed: int) -> Record:
    rng = np.random.default_rng(seed)
    boxes = each.prediction["boxes"] + rng.normal(0, 0.8, each.prediction["boxes"].shape) * [1, 1, 0, 0, 0, 0, 1]
    return evolve(each, prediction={**each.prediction, "boxes": boxes})


def _permuted(each: Record, rng: np.random.Generator) -> Record:
    trees = []
    for tree in (each.prediction, each.ground_truth):
        order = rng.permutation(len(tree["labels"]))
        trees.append({name: values[order] for name, values in tree.items()})
    return evolve(each, prediction=trees[0], ground_truth=trees[1])


# ---------------------------------------------------------------- odd input


def test_nothing_at_all_is_undefined_and_nothing_found_is_zero() -> None:
    assert set(metrics([], NAMES).values.values()) == {None}
    assert set(metrics([record([], [], [])], NAMES).values.values()) == {None}
    blind = metrics([record([], [], [at(10)])], NAMES)
    assert (blind.values["AP/car"], blind.values["AP/bus"], blind.values["mAP"]) == (0, None, 0)
    assert blind.values["T4MetricV2_label/car_max-f1score_center_distance_bev_0.5"] is None
    seeing_things = metrics([record([at(10)], [0.9], [])], NAMES)
    assert seeing_things.values["AP/car"] == 0
    assert seeing_things.values["T4MetricV2_label/car_optimal-confidence_center_distance_bev_0.5"] is None


def test_records_without_a_truth_are_counted_and_left_out() -> None:
    whole = record([at(10)], [0.9], [at(10)])
    bare = Record(id="bare", index=1, prediction=record([at(20)], [0.95], []).prediction)
    found = metrics([whole, bare], NAMES)
    assert found.values == metrics([whole], NAMES).values
    table = next(each for each in found.tables if each.title == "Samples")
    assert table.rows[0][:2] == (1, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_predicted_box_that_is_no_number_is_a_false_alarm_in_every_range(value: float) -> None:
    odd = (value, 0.0, 0.0, *CAR, 0.0)
    found = metrics([record([odd, at(10)], [0.9, 0.8], [at(10)])], NAMES)
    assert ap(found, 0.5) == pytest.approx(0.4 / 0.9)
    assert found.values["mAP/0-50"] == pytest.approx(0.4 / 0.9)
    assert found.values["mAP/50-90"] == 0
    assert next(each for each in found.tables if each.title == "Samples").rows[0][-1] == 1


def test_a_score_that_is_no_number_comes_last() -> None:
    found = metrics([record([at(40), at(10)], [math.nan, 0.8], [at(10)])], NAMES)
    assert ap(found, 0.5) == pytest.approx(LATE)


def test_truths_with_too_few_points_are_left_out_where_points_are_known() -> None:
    frame = record([at(10)], [0.9], [at(10), at(30)])
    counted = evolve(frame, ground_truth={**frame.ground_truth, "points": np.array([5, 1])})
    assert ap(metrics([counted], NAMES, min_points=2), 0.5) == pytest.approx(1.0)
    assert ap(metrics([counted], NAMES), 0.5) == pytest.approx(40 / 90)
    assert ap(metrics([frame], NAMES, min_points=2), 0.5) == pytest.approx(40 / 90)


def test_tensors_and_lists_will_do() -> None:
    frame = record([at(10), at(20)], [0.9, 0.8], [at(10)])
    tensors = evolve(
        frame,
        prediction={name: torch.from_numpy(value) for name, value in frame.prediction.items()},
        ground_truth={name: value.tolist() for name, value in frame.ground_truth.items()},
    )
    assert metrics([tensors], NAMES).values == metrics([frame], NAMES).values


@pytest.mark.parametrize("side", ["prediction", "ground_truth"])
@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_name_is_an_error_with_the_sample(side: str, label: int) -> None:
    frame = record([at(10)], [0.9], [at(10)])
    tree = {**getattr(frame, side), "labels": np.array([label])}
    wrong = (
        evolve(frame, id="odd", prediction=tree) if side == "prediction" else evolve(frame, id="odd", ground_truth=tree)
    )
    with pytest.raises(LoadError, match=rf"'odd': its .* is {label}, and there are 2"):
        metrics([frame, wrong], NAMES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boxes": np.zeros((1, 9))}, r"boxes of shape \(1, 9\) instead of \(1, 7\)"),
        ({"scores": np.zeros(2)}, r"1 labels, and scores of shape \(2,\)"),
        ({"boxes": np.zeros((0, 7))}, r"boxes of shape \(0, 7\) instead of \(1, 7\)"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error_with_the_sample(change: Any, said: str) -> None:
    frame = record([at(10)], [0.9], [at(10)])
    with pytest.raises(LoadError, match=rf"'f0': its prediction has .*{said}"):
        metrics([evolve(frame, prediction={**frame.prediction, **change})], NAMES)


def test_what_is_missing_or_no_number_in_a_truth_is_an_error_with_the_sample() -> None:
    frame = record([at(10)], [0.9], [at(10)])
    with pytest.raises(LoadError, match="'f0': its prediction has no scores"):
        metrics([evolve(frame, prediction=frame.ground_truth)], NAMES)
    with pytest.raises(LoadError, match="'f0': a box of its truth is no number"):
        metrics([record([at(10)], [0.9], [at(math.nan)])], NAMES)


def test_arguments_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match="class_names must differ"):
        metrics([], ("car", "car"))
    with pytest.raises(ConfigError, match="style 'kitti' is unknown"):
        metrics([], NAMES, style="kitti")  # type: ignore[arg-type]
    for ranges in ([], [(50.0, 0.0)], [(-1.0, 5.0)]):
        with pytest.raises(ConfigError, match="ranges must be pairs of ascending distances"):
            metrics([], NAMES, ranges=ranges)


def test_tables_say_which_rules_were_followed() -> None:
    for compat, words in ((False, "signed"), (True, "unsigned, as AWML has it")):
        found = metrics([record([at(10)], [0.9], [at(10)])], NAMES, t4_compat=compat)
        rules = next(each for each in found.tables if each.title == "Rules")
        assert rules.rows[0][-1] == words
        assert (found.primary, found.higher_is_better) == ("mAP", True)
