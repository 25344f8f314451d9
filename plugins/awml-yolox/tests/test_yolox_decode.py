"""Both rules against the formulas, written out row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_yolox.decode import Found, autoware, awml, cells_of, likely
from awml_yolox.letterbox import Placement, place

Array = np.ndarray[Any, np.dtype[Any]]

CANVAS = (64, 96)
ROWS = 8 * 12 + 4 * 6 + 2 * 3
PLACEMENT = place((100, 144), CANVAS)


def scene(seed: int, classes: int = 3, busy: float = 0.3) -> Array:
    """Rows of a small canvas: every cell tells roughly of one of five things, some of them surely."""
    rng = np.random.default_rng(seed)
    things = np.concatenate([rng.uniform((0, 0), CANVAS[::-1], (5, 2)), rng.uniform(8, 50, (5, 2))], axis=1)
    at = np.array(cells())
    chosen = things[rng.integers(0, 5, ROWS)] * rng.normal(1, 0.1, (ROWS, 4))
    stride = at[:, 2:]
    rows = np.concatenate([chosen[:, :2] / stride - at[:, :2], np.log(chosen[:, 2:] / stride)], axis=1)
    shares = np.where(rng.random((ROWS, 1)) < busy, rng.random((ROWS, 1 + classes)), 0.001)
    return np.concatenate([rows, shares], axis=1).astype(np.float32)


def cells() -> list[tuple[int, int, int]]:
    """Column, row and stride of every cell, in the order of the rows."""
    return [
        (column, row, stride)
        for stride in (8, 16, 32)
        for row in range(CANVAS[0] // stride)
        for column in range(CANVAS[1] // stride)
    ]


def overlap_of(a: list[float], b: list[float]) -> float:
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0) for i in (0, 1))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - width * height
    return width * height / union if union else math.nan


def by_awml_s_formula(rows: Array, placement: Placement, threshold: float, overlap: float) -> list[list[float]]:
    found: list[list[float]] = []
    across, down = placement.factors
    for row, (column, line, stride) in zip(rows.tolist(), cells(), strict=True):
        shares = row[5:]
        label = shares.index(max(shares))
        score = float(np.float32(row[4]) * np.float32(shares[label]))
        if score < np.float32(threshold):
            continue
        x, y = row[0] * stride + column * stride, row[1] * stride + line * stride
        w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
        found.append([(x - w / 2) / across, (y - h / 2) / down, (x + w / 2) / across, (y + h / 2) / down, score, label])
    found.sort(key=lambda each: -each[4])
    kept: list[list[float]] = []
    for each in found:
        if not any(each[5] == other[5] and overlap_of(each, other) > overlap for other in kept):
            kept.append(each)
    return kept


def by_the_node_s_formula(rows: Array, placement: Placement, threshold: float, overlap: float) -> list[list[float]]:
    found: list[list[float]] = []
    for row, (column, line, stride) in zip(rows.tolist(), cells(), strict=True):
        for label, share in enumerate(row[5:]):
            score = float(np.float32(row[4]) * np.float32(share))
            if score > np.float32(threshold):
                x, y = (row[0] + column) * stride, (row[1] + line) * stride
                w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
                left, top, width, height = int(x - w / 2), int(y - h / 2), int(w), int(h)
                found.append([left, top, left + width, top + height, score, label])
    found.sort(key=lambda each: -each[4])
    kept: list[list[float]] = []
    for each in found:
        if not any(overlap_of(each, other) > overlap for other in kept):
            kept.append(each)
    height, width = placement.image
    scale = np.float32(placement.scale)
    for each in kept:
        x0, x1 = (min(max(float(np.float32(each[i]) / scale), 0), width - 1) for i in (0, 2))
        y0, y1 = (min(max(float(np.float32(each[i]) / scale), 0), height - 1) for i in (1, 3))
        each[:4] = [int(x0), int(y0), int(x0) + int(x1 - x0), int(y0) + int(y1 - y0)]
    return kept


def listed(found: Found) -> list[list[float]]:
    rows: list[list[float]] = np.column_stack([found.boxes, found.scores, found.labels]).tolist()
    return rows


def same(found: Found, expected: list[list[float]]) -> None:
    assert found.broken == 0
    assert len(found.scores) == len(expected)
    np.testing.assert_allclose(listed(found), np.reshape(expected, (-1, 6)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(30))
def test_awml_s_rule_is_its_formula(seed: int) -> None:
    rows = scene(seed)
    found = awml(rows, cells_of(CANVAS), PLACEMENT, threshold=0.01, overlap=0.65)
    expected = by_awml_s_formula(rows, PLACEMENT, 0.01, 0.65)
    same(found, expected)
    assert 10 < len(expected) < (rows[:, 4] > 0.01).sum()


@pytest.mark.parametrize("seed", range(30))
def test_autoware_s_rule_is_its_node_s(seed: int) -> None:
    rows = scene(seed)
    found = autoware(rows, cells_of(CANVAS), PLACEMENT, threshold=0.1, overlap=0.5)
    expected = by_the_node_s_formula(rows, PLACEMENT, 0.1, 0.5)
    same(found, expected)
    np.testing.assert_array_equal(found.boxes, np.reshape(expected, (-1, 6))[:, :4])
    assert 3 < len(expected) < 40


def test_one_row_by_hand() -> None:
    """Cell (3, 2) of stride 16, its centre half a cell further, 32 pixels wide and 16 high, on half the image."""
    rows = np.zeros((ROWS, 5 + 2), np.float32)
    rows[8 * 12 + 2 * 6 + 3] = [0.5, 0.5, math.log(2), 0, 0.8, 0.25, 0.75]
    placement = place((128, 192), CANVAS)
    found = awml(rows, cells_of(CANVAS), placement, threshold=0.01, overlap=0.65)
    np.testing.assert_allclose(listed(found), [[80, 64, 144, 96, 0.6, 1]], rtol=1e-6)
    assert [str(each.dtype) for each in (found.boxes, found.scores, found.labels)] == ["float32", "float32", "int64"]


def test_score_at_the_threshold_counts_for_awml_and_not_for_autoware() -> None:
    rows = scene(0) * 0
    rows[0] = [0, 0, 1, 1, 0.5, 0.5, 0, 0]
    rows[50] = [0, 0, 1, 1, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 0, 0]
    assert len(awml(rows, cells_of(CANVAS), PLACEMENT, threshold=0.25, overlap=0.65).scores) == 1
    assert len(autoware(rows, cells_of(CANVAS), PLACEMENT, threshold=0.25, overlap=0.65).scores) == 0


def test_threshold_zero_keeps_all_but_zero_scores() -> None:
    rows = scene(0) * 0
    rows[:, 4:6] = 1e-6
    rows[7, 4] = 0
    assert len(awml(rows, cells_of(CANVAS), PLACEMENT, threshold=0.0, overlap=1.0).scores) == ROWS - 1


def test_of_equal_classes_awml_takes_the_first_and_autoware_both() -> None:
    rows = scene(0) * 0
    rows[40] = [0, 0, 1, 1, 1, 0.2, 0.9, 0.9]
    assert awml(rows, cells_of(CANVAS), PLACEMENT, threshold=0.01, overlap=1.0).labels.tolist() == [1]
    assert autoware(rows, cells_of(CANVAS), PLACEMENT, threshold=0.35, overlap=1.0).labels.tolist() == [1, 2]


def test_autoware_suppresses_across_classes_and_awml_within_them() -> None:
    rows = scene(0) * 0
    rows[40] = [0, 0, 1, 1, 1, 0.9, 0, 0]
    rows[41] = [-1, 0, 1, 1, 1, 0, 0.8, 0]
    assert awml(rows, cells_of(CANVAS), PLACEMENT, threshold=0.01, overlap=0.65).labels.tolist() == [0, 1]
    assert autoware(rows, cells_of(CANVAS), PLACEMENT, threshold=0.35, overlap=0.65).labels.tolist() == [0]


def test_boxes_reach_beyond_the_image_for_awml_and_are_clamped_for_autoware() -> None:
    rows = scene(0) * 0
    rows[0] = [0, 0, 3, 3, 1, 1, 0, 0]
    (far,) = awml(rows, cells_of(CANVAS), PLACEMENT, threshold=0.01, overlap=0.65).boxes
    assert (far[:2] < -50).all()
    (clamped,) = autoware(rows, cells_of(CANVAS), PLACEMENT, threshold=0.35, overlap=0.65).boxes
    assert (clamped[:2] == 0).all()
    rows[0] = [12, 8, 3, 3, 1, 1, 0, 0]
    (clamped,) = autoware(rows, cells_of(CANVAS), PLACEMENT, threshold=0.35, overlap=0.65).boxes
    assert clamped[2:].tolist() == [142, 99]  # the last pixel but for what was cut off from corner and width


def test_rows_with_boxes_in_pixels_need_no_cells() -> None:
    rows = scene(3)
    decoded = rows.copy()
    for row, (column, line, stride) in zip(decoded, cells(), strict=True):
        row[:2] = (row[:2] + np.array([column, line])) * stride
        row[2:4] = np.exp(row[2:4]) * stride
    for rule in (awml, autoware):
        raw, there = (rule(given, known, PLACEMENT, threshold=0.1, overlap=0.6)
                      for given, known in ((rows, cells_of(CANVAS)), (decoded, None)))  # fmt: skip
        np.testing.assert_allclose(listed(raw), listed(there), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rule", [awml, autoware])
def test_nothing_there(rule: Any) -> None:
    found = rule(scene(0) * 0, cells_of(CANVAS), PLACEMENT, threshold=0.35, overlap=0.65)
    assert found.boxes.shape == (0, 4)
    assert [str(each.dtype) for each in (found.boxes, found.scores, found.labels)] == ["float32", "float32", "int64"]


@pytest.mark.parametrize("rule", [awml, autoware])
@pytest.mark.parametrize(
    ("column", "value"), [(0, np.nan), (1, np.inf), (2, np.nan), (2, 200), (3, np.inf), (4, np.nan), (5, np.nan)]
)
def test_rows_that_are_not_finite_are_left_out_and_counted(rule: Any, column: int, value: float) -> None:
    rows = scene(0) * 0
    rows[[30, 70]] = [0, 0, 1, 1, 0.9, 0.9, 0, 0]
    rows[30, column] = value
    found = rule(rows, cells_of(CANVAS), PLACEMENT, threshold=0.35, overlap=0.65)
    assert (len(found.scores), found.broken) == (1, 1)
    assert np.isfinite(found.boxes).all()


@pytest.mark.parametrize("rule", [awml, autoware])
@pytest.mark.parametrize("odd", [[np.inf, 5, np.inf, 5], [5, -np.inf, 5, np.inf], [5, 5, np.nan, 5], [5, 5, 5, 3e38]])
def test_boxes_of_the_graph_that_are_not_finite_are_left_out_and_counted(rule: Any, odd: list[float]) -> None:
    rows = scene(0) * 0
    rows[[30, 70]] = [5, 5, 8, 8, 0.9, 0.9, 0, 0]
    rows[30, :4] = odd
    found = rule(rows, None, PLACEMENT, threshold=0.35, overlap=0.65)
    assert (len(found.scores), found.broken) == (1, 1)


@pytest.mark.parametrize("rule", [awml, autoware])
def test_rows_are_left_alone_and_the_answer_is_no_view_of_them(rule: Any) -> None:
    rows = scene(0)
    before = rows.copy()
    found = rule(rows, None, PLACEMENT, threshold=0.1, overlap=0.65)
    found.boxes[:] = 0
    np.testing.assert_array_equal(rows, before)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.01, 0.35, 0.9]))
def test_tensors_of_a_device_are_sifted_like_arrays(seed: int, threshold: float) -> None:
    rows = scene(seed)
    rows[seed % ROWS, 4] = np.nan
    for a, b in zip(likely(rows, threshold), likely(torch.from_numpy(rows), threshold), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_looks_in_another_order_in_memory_is_the_same() -> None:
    rows = scene(5)
    turned = np.asfortranarray(rows)
    a, b = (awml(each, cells_of(CANVAS), PLACEMENT, threshold=0.01, overlap=0.65) for each in (rows, turned))
    assert listed(a) == listed(b)
