"""A picture shows the truth and every variant, read back from its pixels and its caption."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from awml_deploy_core.records import Picture
from awml_deploy_core.tasks.canvas import GREY, WHITE, colour
from awml_deploy_core.tasks.detection2d import picture, pictures

NAMES = ("car", "truck", "person")
IMAGE = np.full((360, 640, 3), 100, np.uint8)
TRUTH = {"boxes": np.array([[100, 100, 200, 200], [400, 200, 500, 300]], np.float32), "labels": np.array([0, 2])}
STRIP = 33


def found(*scores: float) -> dict[str, Any]:
    boxes = np.array([[110, 110, 210, 210], [300, 60, 350, 90], [10, 300, 60, 340]], np.float32)[: len(scores)]
    return {"boxes": boxes, "labels": np.array([0, 1, 2])[: len(scores)], "scores": np.array(scores, np.float32)}


def pixels(drawn: Picture) -> np.ndarray[Any, Any]:
    with Image.open(BytesIO(drawn.png)) as image:
        return np.asarray(image)


def has(part: np.ndarray[Any, Any], hue: tuple[int, int, int]) -> bool:
    return bool((part == hue).all(axis=-1).any())


def test_truth_and_variants_stand_side_by_side() -> None:
    drawn = picture(IMAGE, TRUTH, {"trained": found(0.9, 0.6, 0.1), "onnx": found(0.9)}, NAMES)
    shown = pixels(drawn)
    assert shown.shape[1] == 2 * 640 + 8
    truth, trained = shown[STRIP : STRIP + 360, :640], shown[STRIP : STRIP + 360, 648:]
    onnx = shown[2 * STRIP + 368 : 2 * STRIP + 728, :640]
    assert [has(part, colour(1)) for part in (truth, trained, onnx)] == [False, True, False]
    assert (truth[101, 120:180] == colour(0)).all(axis=1).any()
    assert (trained[111, 130:180] == colour(0)).all()
    assert (truth[150, 150] == 82).all()
    assert drawn.caption == "truth: 1 car, 1 person; trained: 1 car, 1 truck; onnx: 1 car; scores from 0.25"


def test_a_place_that_is_left_over_has_the_counts() -> None:
    sides = {"trained": found(0.9, 0.6, 0.1), "onnx": found(0.9)}
    shown = pixels(picture(IMAGE, TRUTH, sides, NAMES))
    assert shown.shape[0] == 2 * (STRIP + 360) + 8
    rest = shown[STRIP + 368 :, 648:]
    assert all(has(rest, colour(label)) for label in range(3))
    four = pixels(picture(IMAGE, TRUTH, {**sides, "engine": found(0.9)}, NAMES))
    assert four.shape[0] > shown.shape[0]
    assert not has(four[STRIP + 368 : 2 * STRIP + 728, 648:], colour(1))
    empty = pixels(picture(IMAGE, None, {name: found() for name in "abc"}, NAMES))
    assert empty.shape == shown.shape


def test_what_was_missed_is_dashed_in_white() -> None:
    drawn = pixels(picture(IMAGE, TRUTH, {"onnx": found(0.9)}, NAMES))
    onnx = drawn[STRIP : STRIP + 360, 648:]
    edge = (onnx[200, 402:498] == WHITE).all(axis=1)
    assert 0.3 < edge.mean() < 0.8
    assert not has(onnx[195:305, 395:505], colour(2))


def test_boxes_below_the_score_are_counted_and_not_drawn() -> None:
    few, all_of_them = (picture(IMAGE, None, {"onnx": found(0.9, 0.6, 0.1)}, NAMES, score=cut) for cut in (0.7, 0.05))
    assert few.caption == "onnx: 1 car; scores from 0.7"
    assert all_of_them.caption == "onnx: 1 car, 1 truck, 1 person; scores from 0.05"
    assert [has(pixels(one), colour(2)) for one in (few, all_of_them)] == [False, True]


def test_boxes_follow_the_scale_of_the_panel() -> None:
    large = np.full((1440, 2560), 100, np.uint8)
    boxes = {"boxes": TRUTH["boxes"] * 4, "labels": TRUTH["labels"]}
    drawn = pixels(picture(large, boxes, {"onnx": found()}, NAMES))
    assert (drawn[STRIP + 101, 120:180] == colour(0)).all(axis=1).any()


def test_what_is_not_counted_is_grey() -> None:
    aside = {**TRUTH, "ignore": np.array([True, False]), "crowd": np.array([False, False])}
    truth = pixels(picture(IMAGE, aside, {"onnx": found()}, NAMES))[STRIP : STRIP + 360, :640]
    assert has(truth[95:105, 100:200], GREY)
    assert not has(truth, colour(0))
    assert has(truth, colour(2))


def test_wide_images_stand_below_one_another() -> None:
    shown = pixels(picture(np.zeros((200, 1000, 3), np.uint8), TRUTH, {"onnx": found(0.9)}, NAMES))
    assert shown.shape[1] == 960


def test_without_truth_or_variants_there_is_still_a_picture() -> None:
    assert picture(IMAGE, None, {}, NAMES).caption == "truth: unknown"
    assert picture(IMAGE, TRUTH, {}, NAMES).caption == "truth: 1 car, 1 person"
    assert picture(IMAGE, None, {"onnx": found()}, NAMES).caption == "onnx: nothing; scores from 0.25"
    assert pixels(picture(IMAGE, None, {"onnx": found()}, NAMES)).shape == (STRIP + 540, 960, 3)


def test_many_boxes_have_no_names_on_them() -> None:
    boxes = {"boxes": np.tile(TRUTH["boxes"][:1], (31, 1)), "labels": np.zeros(31, np.int64)}
    for count, words in ((30, ["car", "car 0.50"]), (31, ["", "0.50"])):
        some = {key: value[:count] for key, value in boxes.items()}
        sheets = pictures._truth(some), pictures._prediction({**some, "scores": np.full(count, 0.5)}, 0.25)
        assert [next(pictures._tags(sheet, NAMES, 1.0)).text for sheet in sheets] == words
    truth = pixels(picture(IMAGE, boxes, {}, NAMES))
    assert not (truth[STRIP : STRIP + 140] == colour(0)).all(axis=2).any()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_left_out(number: float) -> None:
    broken = found(0.9, 0.8)
    broken["boxes"][1, 2] = number
    assert picture(IMAGE, None, {"onnx": broken}, NAMES).caption == "onnx: 1 car; scores from 0.25"


def test_labels_without_a_name_are_shown_as_numbers() -> None:
    other = {**found(0.9), "labels": np.array([7])}
    assert picture(IMAGE, None, {"onnx": other}, NAMES).caption == "onnx: 1 7; scores from 0.25"


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(0, 80))
def test_any_boxes_can_be_drawn(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 400, (count, 4)).astype(np.float32)
    given = {"boxes": boxes, "labels": rng.integers(0, 9, count), "scores": rng.random(count)}
    drawn = picture(IMAGE, {"boxes": boxes, "labels": given["labels"]}, {"onnx": given}, NAMES)
    assert drawn.png == picture(IMAGE, {"boxes": boxes, "labels": given["labels"]}, {"onnx": given}, NAMES).png
