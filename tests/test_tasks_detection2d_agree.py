"""When two detections agree: what rounding does is no disaster, what is wrong is not hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.tasks.detection2d import agree

Tree = dict[str, Any]
HERE, THERE, ELSEWHERE = (0, 0, 100, 100), (200, 0, 300, 100), (500, 500, 600, 600)


def found(*rows: tuple[int, float, Sequence[float]]) -> Tree:
    boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    return {"boxes": boxes, "scores": scores, "labels": np.array([row[0] for row in rows], np.int64)}


def some(seed: int, count: int) -> Tree:
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2)) * 500
    boxes = np.concatenate([corner, corner + 10 + rng.random((count, 2)) * 100], 1).astype(np.float32)
    return {"boxes": boxes, "scores": rng.random(count).astype(np.float32), "labels": rng.integers(0, 3, count)}


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_a_prediction_agrees_with_itself_in_any_order(seed: int, count: int) -> None:
    one = some(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    same = agree(one, {key: value[order] for key, value in one.items()})
    assert (same.matched, same.unmatched, same.score) == (count, 0, 1)
    assert same.distances == pytest.approx({"scores": 0, "boxes": 0}, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12))
def test_agreement_has_no_sides_and_counts_every_box(seed: int, left: int, right: int) -> None:
    one, other = some(seed, left), some(seed + 1, right)
    other["boxes"][: min(left, right)] = one["boxes"][: min(left, right)] + 3
    there, back = agree(one, other), agree(other, one)
    assert there == back
    assert 2 * there.matched + there.unmatched == left + right
    assert 0 <= there.score <= 1


def test_distances_are_the_largest_among_the_pairs() -> None:
    left = found((0, 0.9, HERE), (1, 0.8, THERE))
    right = found((1, 0.7, THERE), (0, 0.875, (0, 0, 100, 80)))
    done = agree(left, right)
    assert (done.matched, done.unmatched, done.score) == (2, 0, 1)
    assert done.distances == {"scores": pytest.approx(0.1), "boxes": pytest.approx(0.2)}


def test_partners_have_one_label_and_enough_overlap_and_nobody_else() -> None:
    assert agree(found((0, 0.9, HERE)), found((1, 0.9, HERE))).score == 0
    assert agree(found((0, 0.9, HERE)), found((0, 0.9, (0, 0, 100, 45)))).score == 0
    assert agree(found((0, 0.9, HERE)), found((0, 0.9, (0, 0, 100, 45))), iou_threshold=0.4).score == 1
    double = agree(found((0, 0.9, HERE)), found((0, 0.9, HERE), (0, 0.9, HERE)))
    assert (double.matched, double.unmatched) == (1, 1)
    assert double.score == pytest.approx(2 / 3)


def test_partners_are_the_nearest() -> None:
    left = found((0, 0.9, (0, 0, 100, 100)), (0, 0.8, (0, 10, 100, 110)))
    right = found((0, 0.8, (0, 10, 100, 110)), (0, 0.9, (0, 0, 100, 100)))
    done = agree(left, right)
    assert done.matched == 2
    assert done.distances == {"scores": 0, "boxes": 0}
    exchanged = agree(left, {**right, "scores": right["scores"][::-1]})
    assert exchanged.distances == {"scores": pytest.approx(0.1), "boxes": 0}


def test_equal_boxes_are_paired_by_their_scores() -> None:
    left, right = found((0, 0.9, HERE), (0, 0.3, HERE)), found((0, 0.3, HERE), (0, 0.9, HERE))
    assert agree(left, right).distances["scores"] == 0


def test_nothing_on_both_sides_agrees_and_nothing_on_one_does_not() -> None:
    assert (agree(found(), found()).matched, agree(found(), found()).score) == (0, 1)
    alone = agree(found((0, 0.9, HERE)), found())
    assert (alone.matched, alone.unmatched, alone.score) == (0, 1, 0)


def test_a_box_at_the_threshold_weighs_next_to_nothing_even_alone() -> None:
    near = found((0, 0.3001, HERE))
    assert agree(near, found()).score == 0
    done = agree(near, found(), score_threshold=0.3)
    assert (done.matched, done.unmatched) == (0, 1)
    assert done.score == pytest.approx(1 - 0.0001 / 0.05, abs=1e-4)
    assert agree(found((0, 0.36, HERE)), found(), score_threshold=0.3).score == 0


def test_a_box_that_the_other_side_had_no_room_for_weighs_little() -> None:
    left = found((0, 0.9, HERE), (0, 0.505, THERE))
    right = found((0, 0.9, HERE), (0, 0.5, ELSEWHERE))
    assert agree(left, right, score_threshold=0.1).score == pytest.approx(0.5)
    assert agree(left, right, score_threshold=0.1, max_detections=2).score == pytest.approx(1 - 0.1 / 4, abs=1e-6)
    assert agree(left, right, score_threshold=0.1, max_detections=3).score == pytest.approx(0.5)


def test_a_box_that_suppression_just_dropped_weighs_little() -> None:
    sure, beside = (0, 0.9, HERE), (0, 0.7, (0, 0, 100, 65.5))
    left, right = found(sure, beside), found(sure)
    assert agree(left, right).score == pytest.approx(1 - 1 / 3)
    assert agree(left, right, nms_threshold=0.65).score == pytest.approx(1 - 0.1 / 3, abs=1e-6)
    assert agree(left, right, nms_threshold=0.9).score == pytest.approx(1 - 1 / 3)
    other = found(sure, (1, 0.7, (0, 0, 100, 65.5)))
    assert agree(other, right, nms_threshold=0.65).score == pytest.approx(1 - 1 / 3)


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["boxes", "scores"])
def test_what_is_no_number_agrees_with_nothing(key: str, number: float) -> None:
    broken = found((0, 0.9, HERE), (0, 0.8, THERE))
    broken[key][1] = number
    done = agree(broken, broken, score_threshold=0.3, nms_threshold=0.65)
    assert (done.matched, done.unmatched, done.score) == (1, 2, 0.5)
    assert all(math.isfinite(value) for value in done.distances.values())


def test_tensors_are_taken() -> None:
    one = some(0, 5)
    assert agree({key: torch.from_numpy(value) for key, value in one.items()}, one).matched == 5


def test_many_boxes_of_one_label_are_no_burden() -> None:
    one = some(0, 3000)
    one["labels"][:] = 0
    other = {**one, "boxes": one["boxes"] + np.float32(0.01)}
    assert agree(one, other).matched == 3000
