"""The definitions once more, slowly: box after box, plain Python numbers, and nothing shared with the code."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.records import Record
from awml_deploy_core.tasks.detection3d import metrics

NAMES = ("car", "truck", "pedestrian")
CENTRE, PLANE = "center_distance_bev", "plane_distance"
THRESHOLDS = {CENTRE: (0.5, 1.0, 2.0, 4.0), PLANE: (2.0, 4.0)}
Box = Sequence[float]
Distance = Callable[[Box, Box], float]


# ---------------------------------------------------------------- T4MetricV2


def plain_t4(
    records: Sequence[Record],
    names: Sequence[str] = NAMES,
    ranges: Sequence[tuple[float, float]] = ((0, 50), (50, 90), (90, 121), (0, 121)),
    *,
    compat: bool = False,
) -> dict[str, float]:
    """Values by AWML's names; NaN where undefined."""
    frames = [(_rows(each.prediction), _rows(each.ground_truth)) for each in records]
    values: dict[str, float] = {}
    for limits in ranges:
        main = limits == ranges[-1]
        prefix = "" if main else f"bev_center_{float(limits[0])}-{float(limits[1])}/"
        for mode, thresholds in THRESHOLDS.items():
            ap, aph = [], []
            for label, name in enumerate(names):
                seen = [
                    (
                        [p for p in ours if p[1] == label and _within(p, limits)],
                        [t for t in true if t[1] == label and _within(t, limits)],
                    )
                    for ours, true in frames
                ]
                each = [_class(seen, mode, threshold, compat=compat) for threshold in thresholds]
                ap.append(sum(one[0] for one in each) / len(each))
                aph.append(sum(one[1] for one in each) / len(each))
                for threshold, one in zip(thresholds, each, strict=True):
                    words = ("AP", "APH", "max-f1score", "optimal-confidence")
                    if main:
                        values |= {
                            f"T4MetricV2_label/{name}_{word}_{mode}_{threshold}": v
                            for word, v in zip(words, one, strict=True)
                        }
            values[f"{prefix}T4MetricV2/mAP_{mode}"] = _mean(ap)
            values[f"{prefix}T4MetricV2/mAPH_{mode}"] = _mean(aph)
    return values


Row = tuple[float, int, Box, Sequence[float]]


def _rows(tree: Mapping[str, Any]) -> list[Row]:
    """Score, label, box and velocity of each box."""
    boxes, labels = tree["boxes"].tolist(), tree["labels"].tolist()
    scores = tree["scores"].tolist() if "scores" in tree else [1.0] * len(labels)
    velocities = tree["velocities"].tolist() if "velocities" in tree else [(math.nan, math.nan)] * len(labels)
    return list(zip(scores, labels, boxes, velocities, strict=True))


def _within(row: Row, limits: tuple[float, float]) -> bool:
    return limits[0] < math.hypot(row[2][0], row[2][1]) < limits[1]


def _class(
    frames: Sequence[tuple[list[Row], list[Row]]], mode: str, threshold: float, *, compat: bool
) -> tuple[float, float, float, float]:
    def distance(ours: Box, true: Box) -> float:
        return _plane(ours, true, compat=compat) if mode == PLANE else math.dist(ours[:2], true[:2])

    pooled = [found for ours, true in frames for found in _match(ours, true, distance, threshold)]
    pooled.sort(key=lambda found: -found[0][0])
    truths = sum(len(true) for _, true in frames)
    if not pooled:
        return (0.0, 0.0, math.nan, math.nan) if truths else (math.nan,) * 4
    hit = [0.0 if true is None else 1.0 for _, true in pooled]
    alike = [0.0 if true is None else _alike(ours[2][6], true[2][6], compat=compat) for ours, true in pooled]
    precision, recall = _curve(hit, hit, truths)
    best, confidence = math.nan, math.nan
    for p, r, (ours, _) in zip(precision, recall, pooled, strict=True):
        if p + r > 0 and not 2 * p * r / (p + r) <= best:
            best, confidence = 2 * p * r / (p + r), ours[0]
    return _area(precision, recall, envelope=True), _area(*_curve(alike, hit, truths), envelope=True), best, confidence


def _match(ours: list[Row], true: list[Row], distance: Distance, threshold: float) -> list[tuple[Row, Row | None]]:
    free = list(true)
    found: list[tuple[Row, Row | None]] = []
    for row in sorted(ours, key=lambda row: -row[0]):
        nearest = min(free, key=lambda other: distance(row[2], other[2]), default=None)
        if nearest is not None and distance(row[2], nearest[2]) < threshold:
            free = [other for other in free if other is not nearest]
            found.append((row, nearest))
        else:
            found.append((row, None))
    return found


def _curve(weight: Sequence[float], hit: Sequence[float], truths: int) -> tuple[list[float], list[float]]:
    precision, recall = [], []
    right = wrong = 0.0
    for one, whole in zip(weight, hit, strict=True):
        right, wrong = right + one, wrong + 1 - whole
        precision.append(right / (right + wrong) if right + wrong else 0.0)
        recall.append(right / truths if truths else 0.0)
    return precision, recall


def _area(precision: list[float], recall: list[float], *, envelope: bool) -> float:
    if envelope:
        best, precision = 0.0, precision[:]
        for place in reversed(range(len(precision))):
            best = precision[place] = max(best, precision[place])
    # Not number / 100: precision drops where recall is just that, so the last bit of numpy's linspace decides.
    points = [max(_at(number * 0.01, recall, precision) - 0.1, 0.0) for number in range(101)]
    return sum(points[11:]) / 90 / 0.9


def _at(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """On the line between the neighbours; the first value before them, 0 beyond."""
    if x > xs[-1]:
        return 0.0
    place = bisect_right(xs, x)
    if place == 0:
        return ys[0]
    if place == len(xs):
        return ys[-1]
    part = (x - xs[place - 1]) / (xs[place] - xs[place - 1])
    return ys[place - 1] + part * (ys[place] - ys[place - 1])


def _folded(angle: float) -> float:
    angle = math.fmod(abs(angle), 2 * math.pi)
    return 2 * math.pi - angle if angle > math.pi else angle


def _alike(ours: float, true: float, *, compat: bool) -> float:
    if compat:  # the angle of a quaternion has no sign
        ours, true = (2 * math.atan2(abs(math.sin(y / 2)), math.cos(y / 2)) for y in (ours, true))
    return round(max(0.0, 1 - _folded(ours - true) / math.pi), 10)


def _corners(box: Box, *, compat: bool) -> list[tuple[float, float]]:
    x, y, _, length, width, _, yaw = box
    ahead, left = (width / 2, length / 2) if compat else (length / 2, width / 2)
    return [
        (x + a * math.cos(yaw) - b * math.sin(yaw), y + a * math.sin(yaw) + b * math.cos(yaw))
        for a, b in ((ahead, left), (-ahead, left), (-ahead, -left), (ahead, -left))
    ]


def _plane(ours: Box, true: Box, *, compat: bool) -> float:
    mine, corners = _corners(ours, compat=compat), _corners(true, compat=compat)
    if _folded(ours[6] - true[6]) > math.pi / 2:
        mine = mine[2:] + mine[:2]
    one, two = sorted(range(4), key=lambda number: math.hypot(*corners[number]))[:2]
    squares = math.dist(mine[one], corners[one]) ** 2 + math.dist(mine[two], corners[two]) ** 2
    return round(math.sqrt(squares / 2), 10)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


# ---------------------------------------------------------------- nuScenes


ERRORS = ("trans", "scale", "orient", "vel")


def plain_nuscenes(records: Sequence[Record], names: Sequence[str] = NAMES) -> dict[str, float]:
    """Values by AWML's names, without attributes; NaN where undefined."""
    frames = [_kept(each) for each in records]
    values: dict[str, float] = {}
    aps, errors = [], []
    for label, name in enumerate(names):
        seen = [([p for p in ours if p[1] == label], [t for t in true if t[1] == label]) for ours, true in frames]
        ap = []
        for threshold in THRESHOLDS[CENTRE]:
            pooled, truths = _pooled(seen, threshold)
            hit = [0.0 if true is None else 1.0 for _, true in pooled]
            one = _area(*_curve(hit, hit, truths), envelope=False) if pooled and truths else 0.0
            ap.append(one if pooled or truths else math.nan)
            values[f"T4Metric/{name}_AP_dist_{threshold}"] = ap[-1]
        aps.append(sum(ap) / 4)
        errors.append(_tp_errors(*_pooled(seen, 2.0)))
        values |= {f"T4Metric/{name}_{word}_err": v for word, v in zip(ERRORS, errors[-1], strict=True)}
    means = [_mean([each[column] for each in errors]) for column in range(4)]
    values |= {f"T4Metric/{word}": v for word, v in zip(("mATE", "mASE", "mAOE", "mAVE"), means, strict=True)}
    values["T4Metric/mAP"] = _mean(aps)
    values["T4Metric/NDS"] = (5 * _mean(aps) + sum(1 - min(1, each) for each in means)) / 9
    return values


def _kept(record: Record) -> tuple[list[Row], list[Row]]:
    ours = sorted(_rows(record.prediction), key=lambda row: -row[0])[:500]
    counted = zip(_rows(record.ground_truth), record.ground_truth["points"].tolist(), strict=True)
    near = [[row for row in rows if math.hypot(*row[2][:2]) < 121] for rows in (ours, [row for row, n in counted if n])]
    return near[0], near[1]


def _pooled(
    frames: Sequence[tuple[list[Row], list[Row]]], threshold: float
) -> tuple[list[tuple[Row, Row | None]], int]:
    found = [
        each for ours, true in frames for each in _match(ours, true, lambda a, b: math.dist(a[:2], b[:2]), threshold)
    ]
    return sorted(found, key=lambda each: -each[0][0]), sum(len(true) for _, true in frames)


def _tp_errors(pooled: Sequence[tuple[Row, Row | None]], truths: int) -> list[float]:
    if not pooled and not truths:
        return [math.nan] * 4
    hits = [(ours, true) for ours, true in pooled if true is not None]
    if not hits:
        return [1.0] * 4
    hit = [0.0 if true is None else 1.0 for _, true in pooled]
    _, recall = _curve(hit, hit, truths)
    confidence = [_at(number * 0.01, recall, [ours[0] for ours, _ in pooled]) for number in range(101)]
    last = max(number for number in range(101) if confidence[number])
    if last < 11:
        return [1.0] * 4
    means = []
    for error in (_centres_apart, _unlike, _turned, _other_motion):
        total, running = 0.0, []
        for count, (ours, true) in enumerate(hits, 1):
            total += error(ours, true)
            running.append(total / count)
        scores = [ours[0] for ours, _ in hits]
        along = [_held(level, scores[::-1], running[::-1]) for level in confidence[11 : last + 1]]
        means.append(sum(along) / len(along))
    return means


def _held(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    return ys[-1] if x > xs[-1] else _at(x, xs, ys)


def _centres_apart(ours: Row, true: Row) -> float:
    return math.dist(ours[2][:2], true[2][:2])


def _unlike(ours: Row, true: Row) -> float:
    both = math.prod(min(a, b) for a, b in zip(ours[2][3:6], true[2][3:6], strict=True))
    return 1 - both / (math.prod(ours[2][3:6]) + math.prod(true[2][3:6]) - both)


def _turned(ours: Row, true: Row) -> float:
    return _folded(ours[2][6] - true[2][6])


def _other_motion(ours: Row, true: Row) -> float:
    return math.dist(ours[3], true[3])


# ---------------------------------------------------------------- both say the same


def scene(seed: int, frames: int = 12, predictions: int = 25, truths: int = 12, classes: int = 3) -> list[Record]:
    """Frames with most truths found inaccurately, some boxes that are not there, and distinct scores."""
    rng = np.random.default_rng(seed)
    total = frames * predictions
    scores = rng.permutation(np.linspace(0.05, 0.95, total)).reshape(frames, predictions)
    return [_frame(rng, index, scores[index], int(rng.integers(0, truths + 1)), classes) for index in range(frames)]


def _frame(rng: np.random.Generator, index: int, scores: Any, truths: int, classes: int) -> Record:
    true, other = _boxes(rng, truths), _boxes(rng, len(scores))
    labels, motion = rng.integers(0, classes, truths), rng.normal(0, 3, (truths, 2))
    found = min(truths, len(scores)) * 4 // 5
    other[:found] = true[:found] + rng.normal(0, [0.9, 0.9, 0.2, 0.2, 0.1, 0.1, 0.4], (found, 7))
    other[:found, 3:6] = np.abs(other[:found, 3:6]) + 0.1
    other[: found // 4, 6] += np.pi
    said = np.concatenate([labels[:found], rng.integers(0, classes, len(scores) - found)])
    moved = np.concatenate([motion[:found], np.zeros((len(scores) - found, 2))]) + rng.normal(0, 0.5, (len(scores), 2))
    prediction = {"boxes": other.astype(np.float32), "scores": scores, "labels": said, "velocities": moved}
    truth = {
        "boxes": true.astype(np.float32),
        "labels": labels,
        "velocities": motion,
        "points": rng.integers(0, 9, truths),
    }
    return Record(id=f"s{index}", index=index, prediction=prediction, ground_truth=truth)


def _boxes(rng: np.random.Generator, count: int) -> Any:
    away, angle = rng.uniform(0.1, 125, count), rng.uniform(-np.pi, np.pi, count)
    sizes = rng.uniform([0.5, 0.4, 0.5], [9, 3, 3], (count, 3))
    centres = np.stack([away * np.cos(angle), away * np.sin(angle), rng.normal(0, 0.3, count)], axis=1)
    return np.concatenate([centres, sizes, rng.uniform(-7, 7, (count, 1))], axis=1)


def same(found: Mapping[str, float | None], expected: Mapping[str, float]) -> None:
    assert expected
    for name, value in expected.items():
        ours = found[name]
        if math.isnan(value):
            assert ours is None, name
        else:
            assert ours is not None, name
            assert math.isclose(ours, value, rel_tol=0, abs_tol=1e-12), (name, ours, value)


@pytest.mark.parametrize("compat", [False, True])
@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_every_figure_is_that_of_the_plain_definition(compat: bool, seed: int) -> None:
    records = scene(seed)
    same(metrics(records, NAMES, t4_compat=compat).values, plain_t4(records, compat=compat))


def test_crowds_in_which_truths_change_hands_are_matched_as_one_after_the_other() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        spot = rng.normal([10, 5, 0, 4, 2, 1.5, 0], 1.5, (30, 7))
        spot[:, 3:6] = np.abs(spot[:, 3:6]) + 0.2
        prediction = {"boxes": spot[:18], "scores": rng.permutation(18) / 20, "labels": np.zeros(18, np.int64)}
        truth = {"boxes": spot[18:], "labels": np.zeros(12, np.int64)}
        records = [Record(id="crowd", index=0, prediction=prediction, ground_truth=truth)]
        same(metrics(records, ("car",)).values, plain_t4(records, ("car",)))


def test_ranges_of_a_short_sighted_model_are_measured_likewise() -> None:
    records, ranges = scene(3), [(0.0, 25.0), (25.0, 52.0), (0.0, 52.0)]
    same(metrics(records, NAMES, ranges=ranges).values, plain_t4(records, ranges=ranges))


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_nuscenes_figure_is_that_of_the_plain_definition(seed: int, crowded: bool) -> None:
    records = scene(seed, frames=3 if crowded else 12, predictions=60 if crowded else 15)
    same(metrics(records, NAMES, style="nuscenes").values, plain_nuscenes(records))


def test_a_frame_has_at_most_five_hundred_boxes_in_nuscenes() -> None:
    records = scene(11, frames=2, predictions=560, truths=30)
    same(metrics(records, NAMES, style="nuscenes").values, plain_nuscenes(records))
    assert metrics(records, NAMES, style="nuscenes", max_boxes=560).values != plain_nuscenes(records)
