"""Images on the canvas against OpenCV's own calls and against sizes worked out by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_yolox.letterbox import fit, letterbox, place

Array = np.ndarray[Any, np.dtype[Any]]


def image(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_opencv(images: list[Array], canvas: tuple[int, int], grey: int = 114) -> Array:
    padded = []
    for each in images:
        there = fit((each.shape[0], each.shape[1]), canvas)
        small = cv2.resize(each, there[::-1], interpolation=cv2.INTER_LINEAR)
        below, beside = canvas[0] - there[0], canvas[1] - there[1]
        padded.append(cv2.copyMakeBorder(small, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=(grey,) * 3))
    return np.asarray(cv2.dnn.blobFromImages(padded))


@pytest.mark.parametrize(
    "size", [(64, 96), (128, 192), (127, 191), (50, 96), (96, 50), (64, 64), (31, 17), (200, 300), (1, 300), (300, 1)]
)
@pytest.mark.parametrize("canvas", [(64, 64), (64, 96), (96, 64)])
def test_same_as_opencv_to_the_bit(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    batch, _ = letterbox([image(*size)], canvas)
    np.testing.assert_array_equal(batch, by_opencv([image(*size)], canvas))
    assert batch.dtype == np.float32


def test_images_of_several_sizes_make_one_batch() -> None:
    images = [image(40, 60, 1), image(60, 40, 2), image(64, 64, 3)]
    batch, _ = letterbox(images, (64, 64))
    np.testing.assert_array_equal(batch, by_opencv(images, (64, 64)))
    assert batch.flags.c_contiguous
    assert [fit(each.shape[:2], (64, 64)) for each in images] == [(43, 64), (64, 43), (64, 64)]


def test_colours_stay_blue_green_red_from_0_to_255() -> None:
    plain = np.zeros((32, 32, 3), np.uint8)
    plain[...] = (255, 128, 7)
    batch, _ = letterbox([plain], (64, 64))
    assert batch[0, :, 10, 10].tolist() == [255, 128, 7]


def test_rest_is_grey_below_and_beside() -> None:
    wide, _ = letterbox([image(16, 64)], (64, 64), grey=9)
    assert (wide[0, :, 16:] == 9).all()
    tall, _ = letterbox([image(64, 16)], (64, 64), grey=9)
    assert (tall[0, :, :, 16:] == 9).all()


@pytest.mark.parametrize(
    ("size", "there", "factors"),
    [
        ((1280, 1920), (640, 960), (0.5, 0.5)),  # AWML's cameras
        ((1080, 1440), (720, 960), (2 / 3, 2 / 3)),
        ((721, 1281), (540, 960), (960 / 1281, 540 / 721)),  # 540.33 is cut, so the factors differ
        ((100, 1001), (96, 960), (960 / 1001, 0.96)),  # 95.9 is rounded up
        ((480, 640), (720, 960), (1.5, 1.5)),  # small images grow
        ((1920, 1080), (960, 540), (0.5, 0.5)),
    ],
)
def test_sizes_and_factors_on_960(size: tuple[int, int], there: tuple[int, int], factors: tuple[float, float]) -> None:
    assert fit(size, (960, 960)) == there
    assert place(size, (960, 960)).factors == pytest.approx(factors, rel=1e-12)


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.sampled_from([(960, 960), (544, 960), (32, 640)]))
def test_it_fits_and_fills_one_side(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    there = fit(size, canvas)
    scale = min(Fraction(canvas[side], size[side]) for side in (0, 1))
    assert any(there[side] == canvas[side] for side in (0, 1))
    for side in (0, 1):
        assert 1 <= there[side] <= canvas[side]
        assert abs(there[side] - size[side] * scale) <= Fraction(1, 2) or there[side] == 1
    assert place(size, canvas).scale == pytest.approx(float(scale))


def test_image_itself_is_left_alone() -> None:
    original = image(64, 64)
    before = original.copy()
    batch, _ = letterbox([original], (64, 64))
    batch += 1
    np.testing.assert_array_equal(original, before)
