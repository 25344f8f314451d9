"""Panels, boxes, tags and legends are where they should be, read back from the pixels."""

from __future__ import annotations

from io import BytesIO
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from awml_deploy_core.tasks.canvas import GREY, WHITE, Panel, Tag, colour, encode, legend, photograph, stack, tally

RED = (255, 0, 0)


def panel(width: int = 200, height: int = 100) -> Panel:
    return Panel(image=Image.new("RGB", (width, height), (90, 90, 90)))


def where(image: Image.Image, hue: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    hit: np.ndarray[Any, Any] = (np.asarray(image) == hue).all(axis=2)
    return hit


def test_a_box_is_drawn_on_its_edges_with_a_dark_rim() -> None:
    drawn = panel()
    drawn.box((20, 10, 80, 60), RED)
    hit = where(drawn.image, RED)
    assert hit[10:12, 20:81].all()
    assert hit[59:61, 20:81].all()
    assert hit[10:61, 20:22].all()
    assert hit[10:61, 79:81].all()
    assert not hit[12:59, 22:79].any()
    assert where(drawn.image, (10, 12, 16))[9, 20:81].all()
    assert (np.asarray(drawn.image)[30, 50] == 90).all()


def test_a_dashed_box_has_dark_gaps_on_the_same_edges() -> None:
    drawn = panel()
    drawn.box((20, 10, 80, 60), RED, dashed=True)
    hit, gap = where(drawn.image, RED), where(drawn.image, (10, 12, 16))
    for edge in (np.s_[10, 22:79], np.s_[60, 22:79], np.s_[12:59, 20], np.s_[12:59, 80]):
        assert (hit | gap)[edge].all()
        assert 0.3 < hit[edge].mean() < 0.8


@pytest.mark.parametrize("place", [(-50, -50, -10, -10), (300, 0, 400, 50), (0, 200, 50, 300)])
def test_what_lies_outside_is_not_drawn(place: Any) -> None:
    drawn = panel()
    before = np.asarray(drawn.image).copy()
    drawn.box(place, RED)
    assert not drawn.tag(Tag(text="car", box=place, colour=RED))
    np.testing.assert_array_equal(np.asarray(drawn.image), before)


NUMBER = st.floats(-1e6, 1e6)


@settings(deadline=None, max_examples=60)
@given(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), st.booleans())
def test_any_box_can_be_drawn(place: tuple[float, float, float, float], dashed: bool) -> None:
    drawn = panel()
    drawn.box(place, RED, dashed=dashed)
    drawn.tag(Tag(text="traffic light 0.91", box=place, colour=RED))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(-20, 220), st.integers(-20, 120)), max_size=25))
def test_tags_stay_inside_and_never_hide_one_another(corners: list[tuple[int, int]]) -> None:
    drawn = panel()
    written = sum(drawn.tag(Tag(text="car 0.91", box=(x, y, x + 30, y + 20), colour=RED)) for x, y in corners)
    assert written == len(drawn.taken)
    for x1, y1, x2, y2 in drawn.taken:
        assert 0 <= x1 < x2 <= 200
        assert 0 <= y1 < y2 <= 100
    for one, other in combinations(drawn.taken, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_tag_stands_above_its_box_and_below_where_there_is_no_room() -> None:
    drawn = panel()
    assert drawn.tag(Tag(text="car", box=(50, 50, 90, 80), colour=RED))
    assert drawn.taken[0][3] <= 50
    assert where(drawn.image, RED)[:50, 50:].any()
    assert drawn.tag(Tag(text="car", box=(50, 50, 90, 80), colour=RED))
    assert drawn.taken[1][1] >= 80 or drawn.taken[1][0] >= drawn.taken[0][2]


def test_words_are_dark_on_light_and_light_on_dark() -> None:
    for hue, ink in (((240, 228, 66), (10, 12, 16)), ((20, 20, 120), WHITE)):
        drawn = panel()
        drawn.tag(Tag(text="HHHHH", box=(50, 50, 90, 80), colour=hue))
        assert where(drawn.image, ink).any()


def test_photographs_have_the_width_of_a_panel_and_keep_their_shape() -> None:
    for shape in ((1080, 1920, 3), (90, 160), (540, 960, 1)):
        shown, scale = photograph(np.full(shape, 100, np.uint8))
        assert (shown.width, shown.height) == (640, 360)
        assert scale == pytest.approx(640 / shape[1])
        assert np.asarray(shown).max() == 82
    tall, scale = photograph(np.zeros((4000, 100), np.float32), 640)
    assert (tall.width, tall.height) == (24, 960)
    assert scale == pytest.approx(0.24)
    assert photograph(np.zeros((2, 2), np.uint8))[0].size == (16, 16)


def test_titles_stand_above_and_are_cut_where_there_is_no_room() -> None:
    short, long = panel(300).titled("onnx", "7 boxes"), panel(300).titled("onnx:fp16 " * 20, "7 boxes " * 20)
    for titled in (short, long):
        assert titled.size == (300, 133)
        assert (np.asarray(titled)[33:] == 90).all()
        assert where(titled, WHITE)[:33].any()
    assert where(short, GREY)[:33, 200:].any()
    assert not where(long, WHITE)[:33, 294:].any()


def test_pictures_are_stacked_in_rows() -> None:
    parts = [Image.new("RGB", (10, 6 + number), (number, 200, 0)) for number in range(3)]
    whole = np.asarray(stack(parts, columns=2, gap=4))
    assert whole.shape == (7 + 4 + 8, 24, 3)
    assert [tuple(whole[y, x]) for y, x in ((0, 0), (0, 14), (11, 0))] == [(0, 200, 0), (1, 200, 0), (2, 200, 0)]


def test_a_legend_takes_as_many_lines_as_it_needs() -> None:
    entries = [(f"class {label}", colour(label)) for label in range(12)]
    wide, narrow = legend(entries, 1200), legend(entries, 200)
    assert (wide.width, narrow.width) == (1200, 200)
    assert narrow.height > 3 * wide.height
    for one in (wide, narrow):
        assert all(where(one, hue).any() for _, hue in entries)


def test_a_tally_has_a_line_per_name_as_far_as_there_is_room() -> None:
    rows = [(f"class {label}", colour(label), (label, 2, 0)) for label in range(12)]
    large, small = (tally("boxes", ("truth", "trained", "onnx"), rows, (640, high)) for high in (433, 160))
    assert (large.size, small.size) == ((640, 433), (640, 160))
    assert all(where(large, hue).any() for _, hue, _ in rows)
    assert [where(small, hue).any() for _, hue, _ in rows] == [True] * 3 + [False] * 9
    tops = [np.flatnonzero(where(large, hue).any(axis=1))[0] for _, hue, _ in rows]
    assert tops == sorted(tops)
    assert large.tobytes() == tally("boxes", ("truth", "trained", "onnx"), rows, (640, 433)).tobytes()
    changed = [(name, hue, (*numbers[:2], 7)) for name, hue, numbers in rows]
    other = np.asarray(tally("boxes", ("truth", "trained", "onnx"), changed, (640, 433)))
    columns = np.flatnonzero((other != np.asarray(large)).any(axis=(0, 2)))
    assert columns.min() > 600
    assert tally("boxes", ("a" * 200,), [("b" * 200, RED, (1,))], (100, 40)).size == (100, 40)


def test_colours_differ_and_come_again() -> None:
    assert len({colour(label) for label in range(12)}) == 12
    assert colour(12) == colour(0)
    assert all(max(one) > 150 for one in map(colour, range(12)))


def test_equal_pictures_are_equal_files_that_pillow_reads() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    assert encode(image) == encode(image.copy())
    with Image.open(BytesIO(encode(image))) as read:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image))
