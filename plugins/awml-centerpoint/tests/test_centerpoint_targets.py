"""Targets and losses against plain loops in float64, and against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from awml_centerpoint.architecture import Geometry
from awml_centerpoint.example.losses import focal, regression
from awml_centerpoint.example.shapes import Floats, Ints
from awml_centerpoint.example.targets import MOST, Targets, assign, radius

CLASSES = 3
ROWS, COLUMNS = 20, 30
SIZES = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


def grid(**changes: Any) -> Geometry:
    """30 x 20 cells of 0.8 m, from (-12, -8) to (12, 8)."""
    fields: dict[str, Any] = {
        "range": (-12.0, -8.0, -3.0, 12.0, 8.0, 5.0),
        "voxel_size": (0.4, 0.4, 8.0),
        "grid": (60, 40, 1),
        "out_size_factor": 2,
        "max_num_points": 32,
        "max_voxels": 1000,
        "columns": (0, 1, 2, 4),
        "load_dim": 5,
        "sweeps": 1,
    }
    return Geometry(**{**fields, **changes})


def made(boxes: list[list[float]], labels: list[int], velocities: list[list[float]] | None = None) -> Targets:
    moving = [[0.0, 0.0]] * len(boxes) if velocities is None else velocities
    return assign(np.array(boxes, float), np.array(moving, float), np.array(labels), grid(), CLASSES)


# ---------------------------------------------------------------- the radius


def test_radius_by_hand() -> None:
    # 4 x 4, so that their sum is 8 and their product 16: the roots are 5.706, 10.530 and this one.
    assert radius(4, 4) == pytest.approx((-1.6 + math.sqrt(25.6)) / 2)
    assert radius(4, 4) == pytest.approx(1.72982, abs=1e-5)
    # 10 x 4: the sum is 14 and the product 40.
    assert radius(10, 4) == pytest.approx((-2.8 + math.sqrt(0.04 * 196 + 1.44 * 40)) / 2)
    # With more overlap asked for: 6 x 6 and 0.7.
    wanted = min(
        (12 + math.sqrt(144 - 144 * 0.3 / 1.7)) / 2,
        (24 + math.sqrt(576 - 576 * 0.3)) / 2,
        (-16.8 + math.sqrt(4 * 0.49 * 144 + 16 * 0.7 * 0.3 * 36)) / 2,
    )
    assert radius(6, 6, 0.7) == pytest.approx(wanted)


@given(long=st.floats(0.1, 60), wide=st.floats(0.1, 20), scale=st.floats(0.5, 4))
def test_radius_grows_with_the_box_and_does_not_know_its_sides(long: float, wide: float, scale: float) -> None:
    assert radius(wide, long) == pytest.approx(radius(long, wide))
    assert radius(long * scale, wide * scale) == pytest.approx(scale * radius(long, wide))


@pytest.mark.parametrize(("size", "reach"), [(0.5, 2), (4.0, 2), (8.0, 4), (16.0, 8)])
def test_a_bell_reaches_two_cells_at_least(size: float, reach: int) -> None:
    # A square of `size` metres is size / 0.8 cells wide; radius(4, 4) = 1.73 cells, so 0.432 cells a cell of size.
    line = made([[0.4, 0.4, 0, size, size, 1, 0]], [0]).heatmap[0, 10]
    found = np.flatnonzero(line)
    assert found.tolist() == list(range(15 - reach, 15 + reach + 1))
    sigma = (2 * reach + 1) / 6
    np.testing.assert_allclose(line[found], np.exp(-((found - 15.0) ** 2) / (2 * sigma**2)), rtol=1e-6)


# ---------------------------------------------------------------- the maps


def slow(boxes: Floats, velocities: Floats, labels: Ints) -> tuple[Floats, list[int], list[list[float]]]:
    """The published rule, object by object and cell by cell."""
    heat = np.zeros((CLASSES, ROWS, COLUMNS))
    cells, values = [], []
    for label in range(CLASSES):
        for box, moving in zip(boxes[labels == label], velocities[labels == label], strict=True):
            x, y = (box[0] + 12) / 0.4 / 2, (box[1] + 8) / 0.4 / 2
            long, wide = box[3] / 0.4 / 2, box[4] / 0.4 / 2
            total, area, o = long + wide, long * wide, 0.1
            r1 = (total + math.sqrt(total**2 - 4 * area * (1 - o) / (1 + o))) / 2
            r2 = (2 * total + math.sqrt(4 * total**2 - 16 * (1 - o) * area)) / 2
            r3 = (-2 * o * total + math.sqrt(4 * o**2 * total**2 - 16 * o * (o - 1) * area)) / 2
            reach = max(2, int(min(r1, r2, r3)))
            column, row = int(x), int(y)  # towards zero
            if not (0 <= column < COLUMNS and 0 <= row < ROWS):
                continue
            for v in range(max(0, row - reach), min(ROWS, row + reach + 1)):
                for u in range(max(0, column - reach), min(COLUMNS, column + reach + 1)):
                    far = (u - column) ** 2 + (v - row) ** 2
                    heat[label, v, u] = max(heat[label, v, u], math.exp(-far / (2 * ((2 * reach + 1) / 6) ** 2)))
            cells.append(row * COLUMNS + column)
            size = [math.log(each) for each in box[3:6]]
            values.append([x - column, y - row, box[2], *size, math.sin(box[6]), math.cos(box[6]), *moving])
    return heat, cells, values


@given(seed=st.integers(0, 10_000), count=st.integers(0, 25))
@settings(max_examples=60, deadline=None)
def test_targets_are_those_of_a_plain_loop(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = (-14, -10, -2, 0.3, 0.3, 0.5, -4), (14, 10, 2, 12, 3, 3, 4)
    boxes, velocities = rng.uniform(low, high, (count, 7)), rng.normal(0, 3, (count, 2))
    labels = rng.integers(-1, CLASSES, count)
    found = assign(boxes, velocities, labels, grid(), CLASSES)
    heat, cells, values = slow(boxes, velocities, labels)
    np.testing.assert_allclose(found.heatmap, heat, atol=1e-6)
    assert found.cells.tolist() == cells
    np.testing.assert_allclose(found.values, np.array(values).reshape(-1, 10), rtol=1e-5, atol=1e-5)
    assert found.heatmap.dtype == found.values.dtype == np.float32


def test_a_centre_is_cut_towards_zero() -> None:
    """Less than one cell outside the low edge still counts as the first cell, with a negative offset."""
    found = made([[-12.3, 0, 0, 2, 2, 1, 0], [-12.9, 0, 0, 2, 2, 1, 0], [0, -8.7, 0, 2, 2, 1, 0]], [0, 0, 1])
    assert found.cells.tolist() == [10 * COLUMNS, 15]
    np.testing.assert_allclose(found.values[:, :2], [[-0.375, 0.0], [0.0, -0.875]], atol=1e-6)
    assert found.heatmap[0, 10, 0] == 1
    beyond = made([[12.0, 0, 0, 2, 2, 1, 0], [0, 8.0, 0, 2, 2, 1, 0]], [0, 1])
    assert len(beyond.cells) == 0
    assert not beyond.heatmap.any()


def test_where_bells_meet_the_higher_one_counts() -> None:
    one, two = [[0.4, 0.4, 0, 8, 8, 1, 0]], [[2.0, 0.4, 0, 4, 4, 1, 0]]
    both = made(one + two, [0, 0]).heatmap[0]
    np.testing.assert_array_equal(both, np.maximum(made(one, [0]).heatmap[0], made(two, [0]).heatmap[0]))
    assert (both == 1).sum() == 2
    assert both.max() == 1
    apart = made(one + two, [0, 2]).heatmap
    assert (apart == 1).sum(axis=(1, 2)).tolist() == [1, 0, 1]


def test_a_bell_at_the_border_is_cut_off() -> None:
    heat = made([[11.9, 7.9, 0, 8, 8, 1, 0]], [0]).heatmap[0]
    assert heat[ROWS - 1, COLUMNS - 1] == 1
    assert (heat > 0).sum() == 25  # a reach of 4: five rows and five columns are left


def test_values_stand_in_the_order_of_the_maps() -> None:
    (values,) = made([[1.0, -2.0, 0.7, 4.0, 2.0, 1.5, 0.3]], [1], [[3.0, -1.0]]).values
    x, y = (1.0 + 12) / 0.8, (-2.0 + 8) / 0.8
    wanted = [x - 16, y - 7, 0.7, math.log(4), math.log(2), math.log(1.5), math.sin(0.3), math.cos(0.3), 3, -1]
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_objects_after_the_last_allowed_are_left_out() -> None:
    count = MOST + 20
    boxes = np.tile([0.0, 0, 0, 2, 2, 1, 0], (count, 1))
    labels = np.repeat([1, 0], [MOST, 20])
    found = assign(boxes, np.zeros((count, 2)), labels, grid(), CLASSES)
    assert len(found.cells) == MOST
    assert found.heatmap[0].any()  # class by class, so the 20 of class 0 come first


def test_no_object_is_no_fault() -> None:
    found = assign(np.zeros((0, 7)), np.zeros((0, 2)), np.zeros(0, np.int64), grid(), CLASSES)
    assert found.values.shape == (0, 10)
    assert not found.heatmap.any()
    flat = made([[0, 0, 0, 0, 2, 1, 0]], [0])  # a box without length
    assert len(flat.cells) == 0


# ---------------------------------------------------------------- the losses


def test_focal_loss_by_hand() -> None:
    logits = torch.zeros(1, 1, 1, 3)
    target = torch.tensor([[[[1.0, 0.5, 0.0]]]])
    hit = -math.log(0.5 + 1e-4) * 0.25
    miss = -math.log(0.5 + 1e-4) * 0.25
    assert focal(logits, target).item() == pytest.approx(hit + miss * 0.5**4 + miss, rel=1e-5)


def test_focal_loss_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 6, (2, 3, 5, 4)), rng.random((2, 3, 5, 4)) * 0.999
    target.reshape(-1)[[3, 40, 77]] = 1
    total = 0.0
    for logit, wanted in zip(logits.flat, target.flat, strict=True):
        p = min(max(1 / (1 + math.exp(-logit)), 1e-4), 1 - 1e-4)
        if wanted == 1:
            total -= math.log(p + 1e-4) * (1 - p) ** 2
        else:
            total -= math.log(1 - p + 1e-4) * p**2 * (1 - wanted) ** 4
    found = focal(torch.tensor(logits, dtype=torch.float32), torch.tensor(target, dtype=torch.float32))
    assert found.item() == pytest.approx(total / 3, rel=1e-4)


def test_focal_loss_without_an_object_is_not_divided_by_zero() -> None:
    logits = torch.zeros(1, 1, 2, 2)
    assert focal(logits, torch.zeros_like(logits)).item() == pytest.approx(-4 * math.log(0.5 + 1e-4) * 0.25, rel=1e-5)


def test_focal_loss_of_hopeless_logits_is_finite() -> None:
    logits = torch.tensor([[[[-200.0, 200.0]]]], requires_grad=True)
    loss = focal(logits, torch.tensor([[[[1.0, 0.0]]]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def maps(seed: int = 0, frames: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"heatmap": CLASSES, **SIZES}
    return {name: torch.randn(frames, size, ROWS, COLUMNS, generator=generator) for name, size in sizes.items()}


def test_box_loss_is_that_of_a_plain_loop() -> None:
    answer = maps()
    rng = np.random.default_rng(1)
    frames, cells = rng.integers(0, 2, 7), rng.integers(0, ROWS * COLUMNS, 7)
    values = rng.normal(0, 1, (7, 10))
    total = 0.0
    for frame, cell, wanted in zip(frames, cells, values, strict=True):
        row, column = divmod(int(cell), COLUMNS)
        said = [
            answer[name][frame, channel, row, column].item() for name, size in SIZES.items() for channel in range(size)
        ]
        total += sum(w * abs(a - b) for w, a, b in zip([1] * 8 + [0.2] * 2, said, wanted, strict=True))
    found = regression(answer, torch.tensor(frames), torch.tensor(cells), torch.tensor(values, dtype=torch.float32))
    assert found.item() == pytest.approx(0.25 * total / (7 + 1e-4), rel=1e-5)


def test_an_unknown_velocity_costs_nothing_and_poisons_nothing() -> None:
    answer = {name: value.requires_grad_() for name, value in maps().items()}
    frames, cells = torch.tensor([0, 1]), torch.tensor([17, 300])
    known = torch.zeros(2, 10)
    unknown = known.clone()
    unknown[1, 8:] = math.nan
    loss = regression(answer, frames, cells, unknown)
    full = regression(answer, frames, cells, known)
    loss.backward()  # type: ignore[no-untyped-call]
    row, column = divmod(300, COLUMNS)
    saved = 0.25 * 0.2 * answer["vel"][1, :, row, column].abs().sum() / (2 + 1e-4)
    assert (full - loss).item() == pytest.approx(saved.item(), rel=1e-4)
    for name, value in answer.items():
        if name != "heatmap":
            assert value.grad is not None
            assert torch.isfinite(value.grad).all()
    assert answer["vel"].grad is not None
    assert answer["vel"].grad[1].abs().sum() == 0
    assert answer["vel"].grad[0].abs().sum() > 0


def test_box_loss_without_an_object_is_nothing() -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert regression(maps(), nothing, nothing, torch.zeros(0, 10)).item() == 0
