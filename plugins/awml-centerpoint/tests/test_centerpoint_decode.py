"""Maps into boxes against plain loops over cells: AWML's rule and that of Autoware's node."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from awml_centerpoint.architecture import class_names, geometry
from awml_centerpoint.config import Config
from awml_centerpoint.decode import Boxes, decode, empty, lowered

shapely = pytest.importorskip("shapely")

Array = np.ndarray[Any, np.dtype[Any]]
Rows = list[dict[str, Any]]
SHAPE = (12, 10)


def config(**changes: Any) -> Config:
    """20 x 24 pillars of half a metre, 10 x 12 cells."""
    fields: dict[str, Any] = {"point_cloud_range": (-5.0, -6.0, -3.0, 5.0, 6.0, 5.0), "voxel_size": (0.5, 0.5, 8.0)}
    return Config(**{**fields, **changes})


def maps(seed: int = 0, classes: int = 5, frames: int = 1) -> dict[str, torch.Tensor]:
    """Heat of few steps, so that many cells are equally hot."""
    rng = np.random.default_rng(seed)

    def drawn(channels: int, scale: float = 1.0) -> torch.Tensor:
        return torch.from_numpy((scale * rng.normal(size=(frames, channels, *SHAPE))).astype(np.float32))

    heat = torch.round(drawn(classes, 2) * 4) / 4 - 1
    return {
        "heatmap": heat,
        "reg": drawn(2),
        "height": drawn(1),
        "dim": drawn(3, 0.5),
        "rot": drawn(2),
        "vel": drawn(2),
    }


def turned(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the graph with the y-axis form answers."""
    length, width, height = given["dim"].unbind(1)
    sin, cos = given["rot"].unbind(1)
    return {**given, "dim": torch.stack([width, length, height], 1), "rot": torch.stack([-cos, -sin], 1)}


def run(tasks: Sequence[dict[str, torch.Tensor]], settings: Config, frame: int = 0) -> tuple[Boxes, Counter[str]]:
    notes: Counter[str] = Counter()

    def note(name: str, value: float) -> None:
        notes[name] += int(value)

    found = decode(tasks, settings, geometry(settings), class_names(settings), note)
    return found[frame], notes


def same(found: Boxes, expected: Rows) -> None:
    assert found.labels.tolist() == [row["label"] for row in expected]
    np.testing.assert_allclose(found.scores, [row["score"] for row in expected], rtol=1e-6)
    boxes = np.array([row["box"] for row in expected]).reshape(-1, 7)
    np.testing.assert_allclose(found.boxes[:, :6], boxes[:, :6], rtol=1e-5, atol=1e-5)
    turn = found.boxes[:, 6] - boxes[:, 6]
    np.testing.assert_allclose(np.cos(turn), 1, atol=1e-6)
    assert (np.abs(found.boxes[:, 6]) <= np.float32(math.pi)).all()
    assert found.velocities is not None
    np.testing.assert_array_equal(found.velocities, np.array([row["velocity"] for row in expected]).reshape(-1, 2))


def at(values: dict[str, Array], label: int, y: int, x: int, settings: Config) -> dict[str, Any]:
    """One cell by the formulas of the contract, in float64."""
    step = settings.voxel_size[0] * settings.out_size_factor
    reg, dim, rot = (values[name][:, y, x].astype(np.float64) for name in ("reg", "dim", "rot"))
    place = [(x + reg[0]) * step + settings.point_cloud_range[0], (y + reg[1]) * step + settings.point_cloud_range[1]]
    yaw = math.atan2(rot[0], rot[1])
    return {
        "logit": float(values["heatmap"][label, y, x]),
        "score": 1 / (1 + math.exp(-float(values["heatmap"][label, y, x]))),
        "label": label,
        "box": [*place, float(values["height"][0, y, x]), *np.exp(dim), yaw],
        "velocity": values["vel"][:, y, x].tolist(),
        "norm": math.hypot(*rot),
    }


def polygon(box: Sequence[float]) -> Any:
    x, y, _, length, width, _, yaw = box
    corners = [(length / 2 * a, width / 2 * b) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    turn = ((math.cos(yaw), -math.sin(yaw)), (math.sin(yaw), math.cos(yaw)))
    return shapely.Polygon(
        [(x + turn[0][0] * a + turn[0][1] * b, y + turn[1][0] * a + turn[1][1] * b) for a, b in corners]
    )


def share(one: dict[str, Any], other: dict[str, Any]) -> float:
    left, right = polygon(one["box"]), polygon(other["box"])
    shared = left.intersection(right).area
    return float(shared / (left.area + right.area - shared))


def squared(one: dict[str, Any], other: dict[str, Any]) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(one["box"][:2], other["box"][:2], strict=True)))


# ---------------------------------------------------------------- AWML's rule


def awml(given: dict[str, torch.Tensor], settings: Config) -> Rows:
    """Top k of each class, top k of these, threshold, range, thinning: step by step as AWML does it."""
    values = {name: value[0].numpy() for name, value in given.items()}
    heat = values["heatmap"].reshape(len(values["heatmap"]), -1)
    most = min(settings.top_k, heat.shape[1])
    listed = []
    for label, heats in enumerate(heat):
        listed += [(float(heats[cell]), label, int(cell)) for cell in np.argsort(-heats, kind="stable")[:most]]
    best = [listed[index] for index in np.argsort([-each[0] for each in listed], kind="stable")[: settings.top_k]]
    rows = [at(values, label, cell // SHAPE[1], cell % SHAPE[1], settings) for _, label, cell in best]
    low, high = settings.post_center_range[:3], settings.post_center_range[3:]
    rows = [row for row in rows if row["score"] > settings.score_threshold]
    rows = [row for row in rows if all(a <= p <= b for a, p, b in zip(low, row["box"], high, strict=False))]
    if settings.nms == "rotate":
        rows = rows[: settings.pre_max_size]
    kept: Rows = []
    for row in rows:
        if settings.nms == "circle":
            falls = any(squared(row, other) <= (settings.nms_threshold or 1.0) for other in kept)
        else:
            falls = any(share(row, other) >= (settings.nms_threshold or 0.2) for other in kept)
        if not falls:
            kept.append(row)
    return kept[: settings.post_max_size]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"top_k": 60, "score_threshold": 0.3},
        {"nms_threshold": 3.0, "post_max_size": 9},
        {"post_center_range": (-2.0, -2.0, -0.5, 3.0, 2.0, 0.5)},
        {"nms": "rotate"},
        {"nms": "rotate", "nms_threshold": 0.4, "pre_max_size": 20, "post_max_size": 12},
        {"nms": "rotate", "pre_max_size": 8},
    ],
)
def test_awml_s_rule_step_by_step(changes: dict[str, Any], seed: int) -> None:
    settings = config(**changes)
    found, _ = run([maps(seed)], settings)
    same(found, awml(maps(seed), settings))


def test_a_map_smaller_than_top_k_is_taken_whole() -> None:
    assert SHAPE[0] * SHAPE[1] < config().top_k
    found, notes = run([maps(9, classes=1)], config(tasks=(), class_names=("car",)))
    same(found, awml(maps(9, classes=1), config(class_names=("car",))))
    assert notes == {}


def test_a_score_at_the_threshold_is_dropped() -> None:
    heat = torch.full((1, 5, *SHAPE), -9.0)
    heat[0, 2, 3, 4], heat[0, 1, 8, 8] = 0.0, 1e-3
    found, _ = run([{**maps(), "heatmap": heat}], config(score_threshold=0.5))
    assert found.labels.tolist() == [1]


def test_neighbouring_cells_are_no_peaks_to_choose_from() -> None:
    # No peak filter: two hot cells side by side both stay if only their centres are far enough.
    given = maps()
    given["heatmap"][:] = -9
    given["heatmap"][0, 0, 5, 5], given["heatmap"][0, 0, 5, 6] = 3.0, 2.0
    given["reg"][:] = 0.0
    given["reg"][0, 0, 5, 6] = 0.5
    assert run([given], config(score_threshold=0.5))[0].labels.tolist() == [0, 0]


def test_circles_know_no_classes_within_a_task() -> None:
    given = maps()
    given["heatmap"][:] = -9
    given["heatmap"][0, :, 5, 5] = torch.tensor([1.0, 3.0, 2.0, 0.5, 0.1])
    found, _ = run([given], config())
    assert found.labels.tolist() == [1]


def test_tasks_are_thinned_apart_and_their_labels_go_on() -> None:
    groups = (("car", "truck", "bus"), ("bicycle", "pedestrian"))
    settings = config(tasks=groups)
    first, second = maps(1, 3), maps(2, 2)
    found, _ = run([first, second], settings)
    shifted = [{**row, "label": row["label"] + 3} for row in awml(second, settings)]
    expected = sorted([*awml(first, settings), *shifted], key=lambda row: -row["logit"])
    same(found, expected)
    assert set(found.labels) == {0, 1, 2, 3, 4}


def test_frames_are_decoded_apart() -> None:
    given = maps(3, frames=3)
    for frame in range(3):
        alone = {name: value[frame : frame + 1] for name, value in given.items()}
        same(run([given], config(), frame)[0], awml(alone, config()))


@pytest.mark.parametrize("decoding", ["awml", "autoware"])
def test_the_y_axis_form_gives_the_same_boxes(decoding: str) -> None:
    plain, other = config(decoding=decoding), config(decoding=decoding, rot_y_axis_reference=True)
    found, again = run([maps(4)], plain)[0], run([turned(maps(4))], other)[0]
    assert len(found.scores) > 5
    for name in ("boxes", "scores", "labels", "velocities"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))


def test_what_limits_cut_off_is_counted() -> None:
    _, notes = run([maps()], config(top_k=50, post_max_size=5))
    above = int((maps()["heatmap"].sigmoid() > 0.1).sum())
    assert notes["boxes_over_top_k"] == above - 50
    assert notes["boxes_over_post_max_size"] == len(awml(maps(), config(top_k=50, post_max_size=100))) - 5


def test_nothing_found_is_an_answer_of_the_right_kind() -> None:
    cold = {**maps(), "heatmap": torch.full((1, 5, *SHAPE), -20.0)}
    for decoding in ("awml", "autoware"):
        found = run([cold], config(decoding=decoding))[0].prediction()
        for name, value in empty(velocity=True).prediction().items():
            assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)


def test_a_network_without_velocity_answers_none() -> None:
    still = {name: value for name, value in maps().items() if name != "vel"}
    assert "velocities" not in run([still], config())[0].prediction()
    assert "velocities" not in empty(velocity=False).prediction()


def test_half_precision_maps_are_read_in_float32() -> None:
    half = {name: value.half() for name, value in maps().items()}
    back = {name: value.float() for name, value in half.items()}
    np.testing.assert_array_equal(run([half], config())[0].boxes, run([back], config())[0].boxes)


def test_awml_s_own_origin_is_the_middle_of_the_bottom() -> None:
    boxes = np.array([[1, 2, 3, 4, 2, 1.5, 0.1]], np.float32)
    np.testing.assert_allclose(lowered(boxes), [[1, 2, 2.25, 4, 2, 1.5, 0.1]])
    assert boxes[0, 2] == 3


# ---------------------------------------------------------------- Autoware's rule


def autoware(given: dict[str, torch.Tensor], settings: Config) -> Rows:
    """What the node's kernels and its overlap test do, cell by cell; the graph is in the y-axis form there."""
    values = {name: value[0].numpy() for name, value in turned(given).items()}
    names = class_names(settings)
    rows: Rows = []
    for y in range(SHAPE[0]):
        for x in range(SHAPE[1]):
            scores = [1 / (1 + math.exp(-float(value))) for value in values["heatmap"][:, y, x]]
            label = scores.index(max(scores))
            row = at(values, label, y, x, settings)
            width, length, height = row["box"][3:6]
            yaw = -math.atan2(values["rot"][0, y, x], values["rot"][1, y, x]) - math.pi / 2
            row["box"] = [*row["box"][:3], length, width, height, yaw]
            distance = math.hypot(*row["box"][:2])
            place = next((i for i, end in enumerate(settings.score_distance_bins) if distance < end), None)
            default = (settings.score_threshold,) * len(settings.score_distance_bins)
            wanted = settings.score_thresholds.get(names[label], default)
            heading = settings.yaw_norm_thresholds or (0.3, 0.3, 0.3, 0.3, 0.0)
            if place is not None and scores[label] >= wanted[place] and row["norm"] >= heading[label]:
                rows.append(row)
    rows.sort(key=lambda row: -row["logit"])
    kept: Rows = []
    for row in rows:
        if all(squared(row, other) >= settings.circle_nms_dist_threshold**2 for other in kept):
            kept.append(row)
    return [row for index, row in enumerate(kept) if not any(_covers(other, row, settings) for other in kept[:index])]


def _covers(better: dict[str, Any], row: dict[str, Any], settings: Config) -> bool:
    if better["label"] != row["label"] and 4 in (better["label"], row["label"]):
        return False
    if squared(better, row) > settings.iou_nms_search_distance_2d**2:
        return False
    return share(better, row) > settings.iou_nms_threshold


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "changes",
    [
        {"score_threshold": 0.35},
        {"score_threshold": 0.2, "score_distance_bins": (3.0, 5.0), "score_thresholds": {"car": (0.5, 0.8)}},
        {"yaw_norm_thresholds": (1.5, 0.2, 0.0, 1.0, 0.9), "circle_nms_dist_threshold": 1.2},
        {"iou_nms_search_distance_2d": 1.0, "iou_nms_threshold": 0.02},
        {"iou_nms_threshold": 0.5, "circle_nms_dist_threshold": 0.0},
    ],
)
def test_autoware_s_rule_cell_by_cell(changes: dict[str, Any], seed: int) -> None:
    settings = config(decoding="autoware", **changes)
    found, _ = run([maps(seed)], settings)
    expected = autoware(maps(seed), settings)
    assert expected
    same(found, expected)


def one_by_one(*cells: tuple[int, int, int, float], length: float = 1.0) -> dict[str, torch.Tensor]:
    """Boxes of one size along x at (label, y, x) with a logit each, everything else cold."""
    given = maps()
    given["heatmap"][:] = -9
    given["reg"][:], given["dim"][:], given["rot"][:] = 0, 0, 0
    given["dim"][:, 0], given["rot"][:, 1] = math.log(length), 1
    for label, y, x, logit in cells:
        given["heatmap"][0, label, y, x] = logit
    return given


def test_a_dropped_box_still_drops_others_in_autoware_only() -> None:
    # Cells are 1 m apart, boxes 2 m long: each overlaps the next by a third and the one after it not at all.
    chain = one_by_one((0, 5, 2, 3.0), (0, 5, 3, 2.0), (0, 5, 4, 1.0), length=2.0)
    assert len(run([chain], config(decoding="autoware"))[0].scores) == 1
    assert len(run([chain], config(nms="rotate"))[0].scores) == 2


def test_pedestrians_may_share_a_place_with_others_but_not_with_each_other() -> None:
    def left(first: int, second: int) -> list[int]:
        pair = one_by_one((first, 5, 3, 2.0), (second, 5, 4, 1.0), length=3.0)
        return list(map(int, run([pair], config(decoding="autoware"))[0].labels))

    assert left(0, 4) == [0, 4]
    assert left(4, 3) == [4, 3]
    assert left(4, 4) == [4]
    assert left(0, 1) == [0]


def test_labels_of_a_second_task_go_on_in_autoware_s_rule_too() -> None:
    settings = config(decoding="autoware", tasks=(("car", "truck", "bus"), ("bicycle", "pedestrian")))
    first, second = one_by_one((2, 2, 2, 2.0)), one_by_one((1, 8, 8, 3.0))
    first["heatmap"], second["heatmap"] = first["heatmap"][:, :3], second["heatmap"][:, :2]
    assert run([first, second], settings)[0].labels.tolist() == [4, 2]


def test_the_node_sees_no_overlap_of_boxes_that_are_hardly_there() -> None:
    settings = config(decoding="autoware", circle_nms_dist_threshold=0.0)
    for side, left in ((0.06, 2), (0.12, 1)):
        pair = one_by_one((0, 5, 3, 2.0), (0, 5, 4, 1.0), length=side)
        pair["dim"][:, 1] = math.log(side)
        pair["reg"][0, 0, 5, 4] = -1.0
        assert len(run([pair], settings)[0].scores) == left


def test_a_score_at_autoware_s_threshold_stays_and_beyond_the_last_distance_none_does() -> None:
    settings = config(decoding="autoware", score_threshold=0.5, score_distance_bins=(4.0, 5.0))
    given = one_by_one((0, 6, 5, 0.0), (0, 6, 9, 0.0), (0, 6, 0, 5.0))
    found, _ = run([given], settings)
    np.testing.assert_array_equal(found.boxes[:, :2], [[0, 0], [4, 0]])


def test_too_many_boxes_for_autoware_s_rule_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awml_centerpoint.decode.CAPACITY", 10)
    settings = config(decoding="autoware", yaw_norm_thresholds=(0.0,) * 5)
    found, notes = run([maps()], settings)
    assert len(found.scores) <= 10
    above = int((maps()["heatmap"].sigmoid().max(1)[0] >= 0.1).sum())
    assert notes["boxes_over_capacity"] == above - 10
