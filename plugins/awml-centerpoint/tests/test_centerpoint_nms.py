"""Thinning out: greedy loops and shapely's polygons as oracles."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_centerpoint.nms import circle, near, overlap, rotate, thin, touching

shapely = pytest.importorskip("shapely")

Array = np.ndarray[Any, np.dtype[Any]]
Box = tuple[float, float, float, float, float]


def polygon(box: Any) -> Any:
    x, y, length, width, yaw = map(float, box)
    cos, sin = math.cos(yaw), math.sin(yaw)
    corners = [(length / 2 * a, width / 2 * b) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return shapely.Polygon([(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in corners])


def exact(left: Any, right: Any) -> float:
    one, other = polygon(left), polygon(right)
    shared = one.intersection(other).area
    union = one.area + other.area - shared
    return float(shared / union) if union else 0.0


def greedy(count: int, falls: Callable[[int, int], bool]) -> list[bool]:
    """The rule as one would write it down."""
    stays = [True] * count
    for better in range(count):
        for worse in range(better + 1, count):
            if stays[better] and stays[worse] and falls(better, worse):
                stays[worse] = False
    return stays


def boxes(rng: np.random.Generator, count: int, spread: float) -> Array:
    lows, highs = (-spread, -spread, 0.2, 0.2, -7), (spread, spread, 9, 4, 7)
    return rng.uniform(lows, highs, (count, 5)).astype(np.float32)


# ---------------------------------------------------------------- overlap

metres = st.sampled_from([-4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0]) | st.floats(-6, 6)
sides = st.sampled_from([0.5, 1.0, 2.0, 4.0]) | st.floats(0.01, 12)
angles = st.sampled_from([k * math.pi / 4 for k in range(-8, 9)]) | st.floats(-10, 10)
box = st.tuples(metres, metres, sides, sides, angles)


@settings(max_examples=500)
@given(box, box)
def test_overlap_is_shapely_s(left: Box, right: Box) -> None:
    found = overlap(np.array([left]), np.array([right]))[0]
    assert found == pytest.approx(exact(left, right), abs=1e-9)
    assert overlap(np.array([right]), np.array([left]))[0] == pytest.approx(found, abs=1e-9)


@given(box, st.floats(-1e4, 1e4), st.floats(-10, 10))
def test_overlap_does_not_depend_on_where_both_stand(given_box: Box, shift: float, turn: float) -> None:
    first = np.array([given_box])
    second = first + np.array([0.3, -0.2, 0.5, 0.1, 0.4])
    far = (each + np.array([shift, -shift, 0, 0, 2 * math.pi]) for each in (first, second))
    assert overlap(*far)[0] == pytest.approx(overlap(first, second)[0], abs=1e-8)


@given(box)
def test_a_box_covers_itself_however_it_is_written(given_box: Box) -> None:
    x, y, length, width, yaw = given_box
    same = [(x, y, length, width, yaw + math.pi), (x, y, width, length, yaw + math.pi / 2)]
    found = overlap(np.array([given_box] * 3), np.array([given_box, *same]))
    np.testing.assert_allclose(found, 1, atol=1e-9)


def test_overlap_of_hand_worked_cases() -> None:
    unit = [0, 0, 2, 2, 0]
    others = [[1, 0, 2, 2, 0], [2, 0, 2, 2, 0], [0, 0, 1, 1, 0], [0, 0, 2, 2, math.pi / 4], [5, 0, 2, 2, 0]]
    octagon = 8 * (math.sqrt(2) - 1)
    expected = [2 / 6, 0, 1 / 4, octagon / (8 - octagon), 0]
    np.testing.assert_allclose(overlap(np.array([unit] * 5), np.array(others)), expected, atol=1e-12)


def test_boxes_that_are_none_overlap_nothing_and_disturb_nobody() -> None:
    odd = np.array([[0, 0, 0, 0, 0], [0, 0, np.inf, 2, 0], [np.nan, 0, 2, 2, 0], [np.inf, 0, 2, 2, 0]], np.float32)
    fine = np.array([[0, 0, 2, 2, 0], [0.1, 0, 2, 2, 0]], np.float32)
    np.testing.assert_array_equal(overlap(odd, np.repeat(fine[:1], 4, 0)), 0)
    assert rotate(np.concatenate([odd, fine]), 0.2).tolist() == [True] * 5 + [False]
    assert circle(np.concatenate([odd[2:], fine])[:, :2], 1.0).tolist() == [True] * 3 + [False]


# ---------------------------------------------------------------- who stays


@settings(max_examples=200)
@given(
    st.integers(0, 25).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, 24), st.integers(0, 24))))
    )
)
def test_thinning_is_the_greedy_loop(drawn: tuple[int, set[tuple[int, int]]]) -> None:
    count, pairs = drawn
    close = {pair for pair in pairs if pair[0] < pair[1] < count}
    first, second = (np.array([pair[side] for pair in sorted(close)], np.int64) for side in (0, 1))
    assert thin(first, second, count).tolist() == greedy(count, lambda a, b: (a, b) in close)


def test_a_long_chain_is_decided_link_by_link() -> None:
    links = np.arange(999)
    assert thin(links, links + 1, 1000).tolist() == [True, False] * 500


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), max_size=30), st.sampled_from([1.0, 2.0, 4.0]))
def test_circles_compare_squared_distance(steps: list[tuple[int, int]], squared: float) -> None:
    centres = np.array(steps, np.float32).reshape(-1, 2) / 2

    def apart(a: int, b: int) -> float:
        return float(((centres[a] - centres[b]) ** 2).sum())

    count = len(centres)
    assert circle(centres, squared).tolist() == greedy(count, lambda a, b: apart(a, b) <= squared)
    assert circle(centres, squared, inclusive=False).tolist() == greedy(count, lambda a, b: apart(a, b) < squared)


def test_squared_metres_are_no_metres() -> None:
    centres = np.array([[0, 0], [1.5, 0], [3.5, 0]], np.float32)
    assert circle(centres, 4.0).tolist() == [True, False, True]
    assert circle(centres, 2.0).tolist() == [True, True, True]


@pytest.mark.parametrize(("count", "spread"), [(0, 1), (1, 1), (40, 2), (150, 12), (200, 60)])
def test_rotated_boxes_fall_as_by_shapely(count: int, spread: float) -> None:
    drawn = boxes(np.random.default_rng(count), count, spread)
    polygons = [polygon(each) for each in drawn]

    def share(a: int, b: int) -> float:
        shared = polygons[a].intersection(polygons[b]).area
        return float(shared / (polygons[a].area + polygons[b].area - shared))

    assert rotate(drawn, 0.2).tolist() == greedy(count, lambda a, b: share(a, b) >= 0.2)


def test_overlap_at_the_threshold_falls() -> None:
    pair = np.array([[0, 0, 2, 2, 0], [1, 0, 2, 2, 0]])
    share = float(overlap(pair[:1], pair[1:])[0])
    assert rotate(pair, share).tolist() == [True, False]
    assert rotate(pair, np.nextafter(share, 1)).tolist() == [True, True]


def test_no_overlapping_pair_is_overlooked() -> None:
    drawn = boxes(np.random.default_rng(5), 80, 15)
    seen = set(zip(*(each.tolist() for each in touching(drawn)), strict=True))
    meeting = {(a, b) for a in range(80) for b in range(a + 1, 80) if exact(drawn[a], drawn[b]) > 0}
    assert meeting <= seen
    assert len(seen) < 80 * 79 / 2


def test_pairs_come_in_blocks_as_they_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    centres = np.random.default_rng(0).uniform(-3, 3, (50, 2))
    once = near(centres, lambda square, _: square < 1)
    monkeypatch.setattr("awml_centerpoint.nms.BLOCK", 150)
    blocks = near(centres, lambda square, _: square < 1)
    for a, b in zip(once, blocks, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.diff(blocks[0]) >= 0).all()


def test_a_thousand_boxes_are_quick() -> None:
    drawn = boxes(np.random.default_rng(0), 1000, 60)
    rotate(drawn, 0.2)
    began = time.process_time()
    rotate(drawn, 0.2)
    assert time.process_time() - began < 0.5
