"""The example's training: its loss against a slow one worked out by loops, its assignment and its score by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from awml_yolox.example.loss import Truths, assign, gather, loss
from awml_yolox.example.score import keep, precision
from awml_yolox.example.train import architecture, follow, packed
from awml_yolox.network import build

Array = np.ndarray[Any, np.dtype[np.float64]]
Levels = list[tuple[Tensor, Tensor, Tensor]]
STRIDES = (8, 16, 32)

# ---------------------------------------------------------------- the same in loops, in double precision


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def entropy(share: float, target: float) -> float:
    """Binary cross entropy; a logarithm is never below -100."""
    yes = max(math.log(share), -100) if share > 0 else -100
    no = max(math.log(1 - share), -100) if share < 1 else -100
    return -(target * yes + (1 - target) * no)


def iou(a: Array, b: Array) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def cells(levels: Levels, image: int) -> list[tuple[Array, float, float, Array, float]]:
    """Class logits, objectness, size, raw box and place (packed with x and y) of each cell, level after level."""
    found = []
    for (classes, raw, objects), stride in zip(levels, STRIDES, strict=True):
        for y in range(classes.shape[2]):
            for x in range(classes.shape[3]):
                numbers = [each[image, :, y, x].double().numpy() for each in (classes, raw, objects)]
                found.append((numbers[0], float(numbers[2][0]), float(x), np.append(numbers[1], [x, y]), float(stride)))
    return found


def corners(raw: Array, stride: float) -> Array:
    x, y = (raw[4] + raw[0]) * stride, (raw[5] + raw[1]) * stride
    wide, high = math.exp(raw[2]) * stride, math.exp(raw[3]) * stride
    return np.array([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2])


def slow_assign(one: list[Any], boxes: Array, labels: list[int]) -> dict[int, tuple[int, float]]:
    """Of each cell that answers for a truth: which, and the overlap."""

    def where(cell: int, truth: int) -> tuple[bool, bool]:
        raw, stride = one[cell][3], one[cell][4]
        x, y = (raw[4] + 0.5) * stride, (raw[5] + 0.5) * stride
        x0, y0, x1, y1 = boxes[truth]
        near = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < 2.5 * stride
        return x0 < x < x1 and y0 < y < y1, near

    usable = [c for c in range(len(one)) if any(any(where(c, t)) for t in range(len(boxes)))]
    overlaps = {(c, t): iou(corners(one[c][3], one[c][4]), boxes[t]) for c in usable for t in range(len(boxes))}
    costs = {}
    for (cell, truth), overlap in overlaps.items():
        scores = [math.sqrt(sigmoid(logit) * sigmoid(one[cell][1])) for logit in one[cell][0]]
        unlike = sum(entropy(score, float(k == labels[truth])) for k, score in enumerate(scores))
        far = 0 if all(where(cell, truth)) else 1e5
        costs[cell, truth] = unlike - 3 * math.log(overlap + 1e-7) + far
    claims: dict[int, list[int]] = {}
    for truth in range(len(boxes)):
        best = sorted((overlaps[c, truth] for c in usable), reverse=True)[:10]
        count = max(int(sum(best)), 1)
        for cell in sorted(usable, key=lambda c: costs[c, truth])[:count]:
            claims.setdefault(cell, []).append(truth)
    owners = {}
    for cell, wanting in claims.items():
        several = range(len(boxes)) if len(wanting) > 1 else wanting
        owner = min(several, key=lambda t: costs[cell, t])
        owners[cell] = (owner, overlaps[cell, owner])
    return owners


def slow_loss(levels: Levels, boxes: list[Array], labels: list[list[int]], *, l1: bool) -> float:
    total, count = 0.0, 0
    for image, (truths, names) in enumerate(zip(boxes, labels, strict=True)):
        one = cells(levels, image)
        owners = slow_assign(one, truths, names) if len(truths) else {}
        count += len(owners)
        total += sum(entropy(sigmoid(cell[1]), float(index in owners)) for index, cell in enumerate(one))
        for index, (truth, overlap) in owners.items():
            logits, _, _, raw, stride = one[index]
            for k, logit in enumerate(logits):
                total += entropy(sigmoid(logit), overlap * (k == names[truth]))
            total += 5 * (1 - overlap**2)
            if l1:
                x0, y0, x1, y1 = truths[truth]
                wanted = [
                    (x0 + x1) / 2 / stride - raw[4],
                    (y0 + y1) / 2 / stride - raw[5],
                    math.log((x1 - x0) / stride + 1e-8),
                    math.log((y1 - y0) / stride + 1e-8),
                ]
                total += sum(abs(a - b) for a, b in zip(raw[:4], wanted, strict=True))
    return total / max(count, 1)


def street(seed: int, size: int = 64, classes: int = 3) -> tuple[Levels, list[Array], list[list[int]]]:
    """Two pictures, the answers of a network that knows a little, and truths of which some lie on one another."""
    rng, made = np.random.default_rng(seed), []
    for stride in STRIDES:
        shape = (2, size // stride, size // stride)
        numbers = [
            rng.normal(mean, 1.2, (shape[0], depth, *shape[1:])) for mean, depth in ((-1, classes), (0.4, 4), (-1, 1))
        ]
        made.append(tuple(torch.from_numpy(each.astype(np.float32)) for each in numbers))
    boxes, labels = [], []
    for count in rng.integers(1, 6, 2):
        low = rng.uniform(0, size - 24, (count, 2))
        boxes.append(np.concatenate([low, low + rng.uniform(3, 24, (count, 2))], 1))
        labels.append(rng.integers(0, classes, count).tolist())
    return [(a, b, c) for a, b, c in made], boxes, labels


def table(boxes: list[Array], labels: list[list[int]], most: int = 7) -> Truths:
    """Truths with filling behind them, which must not matter."""
    filled = np.full((len(boxes), most, 4), 13.0, np.float32)
    names, real = np.zeros((len(boxes), most), np.int64), np.zeros((len(boxes), most), bool)
    for image, (rows, those) in enumerate(zip(boxes, labels, strict=True)):
        filled[image, : len(rows)], names[image, : len(rows)], real[image, : len(rows)] = rows, those, True
    return Truths(boxes=torch.from_numpy(filled), labels=torch.from_numpy(names), real=torch.from_numpy(real))


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_loss_is_that_of_loops_in_double_precision(seed: int, l1: bool) -> None:
    levels, boxes, labels = street(seed)
    expected = slow_loss(levels, boxes, labels, l1=l1)
    assert loss(levels, table(boxes, labels), l1=l1).item() == pytest.approx(expected, rel=2e-5)


def test_crowded_cells_go_to_the_cheaper_truth_as_in_the_loops() -> None:
    shared = 0
    for seed in range(10, 22):
        levels, boxes, labels = street(seed)
        owner, fits = assign(gather(levels), table(boxes, labels))
        for image in range(2):
            expected = slow_assign(cells(levels, image), boxes[image], labels[image])
            assert {int(c): int(owner[image, c]) for c in torch.nonzero(owner[image] >= 0)} == {
                c: truth for c, (truth, _) in expected.items()
            }
            for cell, (_, overlap) in expected.items():
                assert fits[image, cell].item() == pytest.approx(overlap, abs=1e-5)
            shared += len(boxes[image]) > 1
    assert shared > 6


def test_the_loss_has_a_slope_for_every_part_of_the_network() -> None:
    levels, boxes, labels = street(0)
    for each in (tensor for level in levels for tensor in level):
        each.requires_grad_()
    loss(levels, table(boxes, labels), l1=True).backward()  # type: ignore[no-untyped-call]
    for part in range(3):
        slopes = [level[part].grad for level in levels]
        assert all(slope is not None and slope.isfinite().all() for slope in slopes)
        assert any(slope is not None and slope.abs().sum() > 0 for slope in slopes)


# ---------------------------------------------------------------- SimOTA by hand, on 32 x 32 pixels


def squares() -> Levels:
    """Every cell says that its own square is a thing, of class 0 or 1 alike: 16, then 4, then 1 of them."""
    found: Levels = []
    for stride in STRIDES:
        side = 32 // stride
        raw = torch.zeros(1, 4, side, side)
        raw[:, :2] = 0.5
        found.append((torch.zeros(1, 2, side, side), raw, torch.zeros(1, 1, side, side)))
    return found


def owners(levels: Levels, boxes: list[list[float]]) -> dict[int, int]:
    truths = table([np.array(boxes)], [[0] * len(boxes)])
    owner, _ = assign(gather(levels), truths)
    return {int(cell): int(owner[0, cell]) for cell in torch.nonzero(owner[0] >= 0)}


def test_a_truth_goes_to_the_cell_that_fits_it() -> None:
    # Overlaps 1 (cell 5), 1/4 (cell 16, of 16 pixels) and 1/16 (cell 20, of 32): one cell and not two.
    assert owners(squares(), [[8, 8, 16, 16]]) == {5: 0}


def test_a_truth_gets_as_many_cells_as_its_overlaps_add_up_to() -> None:
    levels = squares()
    for y in (0, 1):
        for x in (0, 1):
            levels[0][1][0, :, y, x] = torch.tensor([1.0 - x, 1.0 - y, math.log(2), math.log(2)])
    # Cells 0, 1, 4, 5 and 16 say exactly this box, cell 20 a quarter of it: 5.25 in all.
    assert owners(levels, [[0, 0, 16, 16]]) == {0: 0, 1: 0, 4: 0, 5: 0, 16: 0}


def test_a_cell_that_two_want_goes_to_the_better_fit() -> None:
    # The second overlaps cell 5 by 0.64, its overlaps add up to 1.37, and no other cell costs it less.
    for order in ((0, 1), (1, 0)):
        both = [[8.0, 8, 16, 16], [6.0, 6, 16, 16]]
        assert owners(squares(), [both[place] for place in order]) == {5: order.index(0)}


def test_a_truth_too_small_for_any_middle_still_gets_a_cell() -> None:
    assert owners(squares(), [[0.5, 0.5, 2, 2]]) == {0: 0}


def test_filling_gets_nothing_and_teaches_only_that_nothing_is_there() -> None:
    nothing = table([np.zeros((0, 4))], [[]])
    owner, fits = assign(gather(squares()), nothing)
    assert (owner == -1).all()
    assert (fits == 0).all()
    assert loss(squares(), nothing).item() == pytest.approx(21 * math.log(2), rel=1e-6)


# ---------------------------------------------------------------- what else the script does


def test_precision_by_hand() -> None:
    """Right, wrong (a second hit), right: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1, so 1/2 + 2/3 / 2."""
    truths = [np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 0], [50, 50, 60, 60, 1.0]])]
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 29], [50, 50, 60, 54.5]])
    found = [(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 0, 1]))]
    np.testing.assert_allclose(precision(found, truths, 3), [1 / 2 + 1 / 3, 0, np.nan])


def test_overlapping_boxes_are_dropped_within_a_class_only() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 9, 9.0]])
    scores = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.005, 0]])
    kept, best, labels = keep(boxes, scores)
    assert best.tolist() == [0.9, 0.7]
    assert labels.tolist() == [0, 1]
    np.testing.assert_array_equal(kept, boxes[[0, 2]])


def test_the_average_starts_as_the_network_and_ends_slow() -> None:
    torch.manual_seed(0)
    network, average = build(architecture()), build(architecture())
    follow(average, network, -1)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), average.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        before = network.backbone.stem.conv[0].conv.weight.clone()  # type: ignore[union-attr,index]
        network.backbone.stem.conv[0].conv.weight += 1  # type: ignore[union-attr,index]
    follow(average, network, 10**6)
    moved = average.backbone.stem.conv[0].conv.weight - before  # type: ignore[union-attr,index]
    torch.testing.assert_close(moved, torch.full_like(moved, 2e-3), rtol=1e-2, atol=1e-6)


def test_weights_are_written_as_safetensors_reads_them() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7), "c": torch.ones(2, 2).t()}
    read = load_safetensors(packed(state, {"made": "by hand"}))
    assert set(read) == set(state)
    assert all(torch.equal(read[name], state[name]) and read[name].dtype == state[name].dtype for name in state)


@pytest.mark.slow
def test_the_script_teaches_and_writes_what_the_plugin_loads(tmp_path: Path) -> None:
    words = "--scenes 3 --held-out 2 --steps 3 --batch 2 --workers 0 --every 3 --threads 1 --seed 3"
    for name in ("one.safetensors", "two.safetensors"):
        command = [sys.executable, "-m", "awml_yolox.example.train", str(tmp_path / name), *words.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "step 3: loss" in done.stderr
    written = (tmp_path / "one.safetensors").read_bytes()
    assert written == (tmp_path / "two.safetensors").read_bytes()
    network = build(architecture())
    network.load_state_dict(load_safetensors(written), strict=True)
