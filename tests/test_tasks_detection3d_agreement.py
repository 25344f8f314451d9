"""When two predictions for a frame are the same: what rounding does must pass, what a fault does must not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.judge import DISAGREEMENT
from awml_deploy_core.tasks.detection3d import agree

FULL, HALF = DISAGREEMENT["float32"], DISAGREEMENT["float16"]


def boxes(count: int, seed: int = 0, score: float | None = None) -> dict[str, Any]:
    """Boxes on a grid, so far apart that none is another's neighbour."""
    rng = np.random.default_rng(seed)
    places = np.arange(count)
    rows = np.column_stack(
        [
            5 + 6 * (places % 7),
            6.0 * (places // 7),
            np.zeros(count),
            *rng.uniform(1, 5, (3, count)),
            rng.uniform(-3, 3, count),
        ]
    )
    scores = np.sort(rng.uniform(0.2, 0.95, count))[::-1].copy() if score is None else np.full(count, score)
    return {"boxes": rows, "scores": scores, "labels": places % 3, "velocities": rng.normal(0, 4, (count, 2))}


def changed(tree: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**tree, **values}


def without(tree: dict[str, Any], *rows: int) -> dict[str, Any]:
    return {name: np.delete(values, rows, axis=0) for name, values in tree.items()}


def test_a_prediction_agrees_with_itself_and_nothing_with_nothing() -> None:
    found = agree(boxes(9), boxes(9))
    assert (found.matched, found.unmatched, found.score) == (9, 0, 1)
    assert found.distances == {"centre": 0, "size": 0, "yaw": 0, "score": 0, "velocity": 0}
    nothing = agree(boxes(0), boxes(0))
    assert (nothing.matched, nothing.unmatched, nothing.score, dict(nothing.distances)) == (0, 0, 1, {})


def test_distances_are_the_largest_of_the_pairs() -> None:
    one = boxes(5)
    two = changed(one, boxes=one["boxes"].copy(), scores=one["scores"].copy(), velocities=one["velocities"].copy())
    two["boxes"][1, :3] += [0.1, 0.2, 0.2]  # 0.3 away
    two["boxes"][2, 4] += 0.05
    two["boxes"][3, 6] += 2 * math.pi + 0.07
    two["scores"][4] -= 0.01
    two["velocities"][0] += [0.3, 0.4]
    expected = {"centre": 0.3, "size": 0.05, "yaw": 0.07, "score": 0.01, "velocity": 0.5}
    assert agree(one, two).distances == pytest.approx(expected)
    del two["velocities"]
    assert "velocity" not in agree(one, two).distances


@given(st.integers(0, 30), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rounding_passes_in_either_format_in_any_order(count: int, seed: int) -> None:
    one, rng = boxes(count, seed), np.random.default_rng(seed)
    for size, allowed in ((1e-4, FULL), (1e-2, HALF)):
        order = rng.permutation(count)
        noise = rng.uniform(-size, size, one["boxes"].shape)
        two = changed(one, boxes=one["boxes"] + noise, scores=one["scores"] + rng.uniform(-size, size, count))
        found = agree(one, {name: torch.from_numpy(values[order].copy()) for name, values in two.items()})
        assert (found.matched, found.unmatched) == (count, 0)
        assert 1 - found.score <= allowed


def test_a_box_on_the_edge_of_being_kept_decides_nothing() -> None:
    # The model keeps boxes from 0.1 on; rounding pushed one over the edge. Nothing else is in the frame, or one box.
    for count in (1, 2):
        one = boxes(count)
        one["scores"][-1] = 0.1001
        found = agree(one, without(one, count - 1))
        assert (found.matched, found.unmatched) == (count - 1, 1)
        assert 1 - found.score <= FULL
    high = boxes(1, score=0.401)
    assert 1 - agree(high, boxes(0)).score > FULL
    assert 1 - agree(high, boxes(0), score_threshold=0.4).score <= FULL


def test_a_sure_box_that_is_lost_found_or_renamed_is_a_failure_even_among_ten() -> None:
    one = boxes(10, score=0.8)
    for two in (without(one, 3), changed(one, labels=np.append(one["labels"][:-1], 7))):
        for pair in ((one, two), (two, one)):
            assert 1 - agree(*pair).score > FULL
    found = agree(one, without(one, 3))
    assert (found.matched, found.unmatched) == (9, 1)
    # 9 pairs of 10 + 9 boxes, all of one weight: what is lost is 1 of 19.
    assert found.score == pytest.approx(1 - 0.64 / (19 * 0.64))


@pytest.mark.parametrize("column", [3, 4, 5, 6])
def test_boxes_that_turn_or_stretch_are_not_the_same_though_their_centres_are(column: int) -> None:
    one = boxes(8)
    two = changed(one, boxes=one["boxes"].copy())
    two["boxes"][:, column] = two["boxes"][:, column] + math.pi if column == 6 else two["boxes"][:, column] * 1.5
    found = agree(one, two)
    assert (found.matched, found.unmatched, found.score) == (8, 0, 0)
    assert max(found.distances["yaw"], found.distances["size"]) > 0.4


def test_length_and_width_that_changed_places_do_not_pass() -> None:
    one = boxes(8)
    one["boxes"][:, 3:6] = [4.0, 2.0, 1.5]
    assert agree(one, changed(one, boxes=one["boxes"][:, [0, 1, 2, 4, 3, 5, 6]])).score == 0


def test_scores_that_drift_count_by_as_much() -> None:
    one = boxes(6, score=0.8)
    # 0.64 against 0.36 for each pair: what both have is 0.36 twice, of 1.00 altogether.
    assert agree(one, changed(one, scores=np.full(6, 0.6))).score == pytest.approx(0.72)


def test_boxes_pair_up_one_to_one_within_the_radius() -> None:
    one = boxes(1, score=0.9)
    twice = {name: np.concatenate([values, values]) for name, values in one.items()}
    assert (agree(one, twice).matched, agree(one, twice).unmatched) == (1, 1)
    for moved, matched in ((0.49, 1), (0.51, 0)):
        two = changed(one, boxes=one["boxes"] + [moved, 0, 0, 0, 0, 0, 0])
        assert agree(one, two).matched == matched
        assert agree(one, two, radius=0.6).matched == 1


@pytest.mark.parametrize("key", ["boxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_two_predictions_without_numbers_have_not_proved_one_another(key: str, value: float) -> None:
    broken = changed(boxes(3), **{key: np.full_like(boxes(3)[key], value)})
    assert agree(broken, broken).score == 0
    assert agree(boxes(3), broken).score == 0


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_score_lies_between_0_and_1_and_both_sides_are_alike(left: int, right: int, seed: int) -> None:
    one, two = boxes(left, seed), boxes(right, seed + 1)
    there, back = agree(one, two), agree(two, one)
    assert 0 <= there.score <= 1
    assert there.score == pytest.approx(back.score)
    assert (there.matched, there.unmatched) == (back.matched, back.unmatched)
