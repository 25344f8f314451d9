"""The five channels: against a plain reference with OpenCV, a slow painter, and cases worked by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_calibration.image import Array, View, compose, paint, project, rectify

CAMERA = np.array([[60.0, 0, 32], [0, 62, 24], [0, 0, 1]])
BENT = np.array([-0.25, 0.07, 0.001, -0.0005, -0.01])
TO_CAMERA = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, 0.3], [0, 0, 0, 1.0]])


def view(count: int = 400, distortion: Array = BENT, seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    points = rng.uniform((-5, -20, -10, 0, 0), (160, 20, 10, 255, 3), (count, 5)).astype(np.float32)
    image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return View(image=image, camera=CAMERA, distortion=distortion, points=points, lidar_to_camera=TO_CAMERA)


def plainly(seen: View, max_depth: float = 128.0, dilation: int = 1) -> Array:
    """The contract, point by point, from far to near."""
    image, camera, coefficients = seen.image, seen.camera, seen.distortion
    height, width = image.shape[:2]
    if any(coefficients != 0):
        straight, _ = cv2.getOptimalNewCameraMatrix(camera, coefficients, (width, height), 0, (width, height))
        image = cv2.undistort(image, camera, coefficients, newCameraMatrix=straight)
        camera, coefficients = straight, np.zeros(5)
    depth, intensity = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    inside = []
    for x, y, z, strength, _ in seen.points:
        at = seen.lidar_to_camera @ np.array([x, y, z, 1.0])
        if at[2] <= 0:
            continue
        ((u, v),) = cv2.projectPoints(at[None, :3], np.zeros(3), np.zeros(3), camera, coefficients)[0][0]
        if 0 <= u <= width - 1 and 0 <= v <= height - 1 and at[2] < max_depth:
            inside.append((at[2], int(u), int(v), strength))
    for z, u, v, strength in sorted(inside, key=lambda point: -point[0]):
        rows, columns = slice(max(v - dilation, 0), v + dilation + 1), slice(max(u - dilation, 0), u + dilation + 1)
        depth[rows, columns] = 255 * z / max_depth
        intensity[rows, columns] = strength
    stack: Array = np.stack([*image.transpose(2, 0, 1).astype(np.float32), depth, intensity])
    return np.asarray(stack / np.float32(255))


@pytest.mark.parametrize("distortion", [BENT, np.zeros(5)], ids=["bent", "straight"])
@pytest.mark.parametrize(("max_depth", "dilation"), [(128.0, 1), (60.0, 0), (128.0, 3)])
def test_image_is_the_contract_written_plainly(distortion: Array, max_depth: float, dilation: int) -> None:
    seen = view(distortion=distortion)
    made = compose(seen, order="bgr", max_depth=max_depth, dilation=dilation)
    expected = plainly(seen, max_depth, dilation)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert (expected[3] > 0).mean() > 0.02
    np.testing.assert_array_equal(made, expected)


def test_rgb_swaps_the_colours_and_nothing_else() -> None:
    seen = view()
    blue_first = compose(seen, order="bgr", max_depth=128, dilation=1)
    np.testing.assert_array_equal(compose(seen, order="rgb", max_depth=128, dilation=1), blue_first[[2, 1, 0, 3, 4]])


def test_without_distortion_the_image_is_the_camera_s_own() -> None:
    image, camera = rectify(view().image, CAMERA, np.zeros(5))
    np.testing.assert_array_equal(image, view().image)
    np.testing.assert_array_equal(camera, CAMERA)


def test_one_coefficient_is_enough_to_straighten() -> None:
    _, camera = rectify(view().image, CAMERA, np.array([0, 0, 0, 0, 0.3]))
    assert not np.array_equal(camera, CAMERA)


def by_hand(*rows: tuple[float, ...]) -> View:
    """Points in the camera's own axes on a 10 x 8 image of focal length 10 around (5, 4)."""
    camera = np.array([[10.0, 0, 5], [0, 10, 4], [0, 0, 1]])
    points = np.array(rows, np.float32).reshape(-1, 5)
    return View(image=np.zeros((8, 10, 3), np.uint8), camera=camera, distortion=np.zeros(5), points=points,
                lidar_to_camera=np.eye(4))  # fmt: skip


def test_one_point_by_hand() -> None:
    # (0.29, -0.11, 2) projects to (6.45, 3.45), so to pixel (6, 3); depth 2 of 128 m.
    made = compose(by_hand((0.29, -0.11, 2, 51, 9)), order="bgr", max_depth=128, dilation=1)
    depth, intensity = np.zeros((8, 10), np.float32), np.zeros((8, 10), np.float32)
    depth[2:5, 5:8], intensity[2:5, 5:8] = 2 / 128, 51 / 255
    np.testing.assert_allclose(made[3], depth, rtol=1e-6)
    np.testing.assert_allclose(made[4], intensity, rtol=1e-6)


def test_pixels_are_cut_down_not_rounded() -> None:
    made = compose(by_hand((0.199, 0.199, 1, 255, 0)), order="bgr", max_depth=128, dilation=0)
    assert np.argwhere(made[4]).tolist() == [[5, 6]]


def test_square_is_clipped_at_the_border() -> None:
    made = compose(by_hand((-1, -0.75, 2, 255, 0)), order="bgr", max_depth=128, dilation=1)
    assert np.argwhere(made[4]).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ((0, 0, -1, 255, 0), False),
        ((0, 0, 0, 255, 0), False),
        ((0, 0, 128, 255, 0), False),
        ((0, 0, 127.99, 255, 0), True),
        ((4, 0, 10, 255, 0), True),  # u = 9, the last column
        ((4.01, 0, 10, 255, 0), False),
        ((-5, 0, 10, 255, 0), True),  # u = 0
        ((-5.01, 0, 10, 255, 0), False),
        ((0, 3, 10, 255, 0), True),  # v = 7, the last row
        ((0, 3.01, 10, 255, 0), False),
        ((0, -4.01, 10, 255, 0), False),
        ((float("nan"), 0, 1, 255, 0), False),
    ],
)
def test_which_points_are_kept(point: tuple[float, ...], kept: bool) -> None:
    assert bool(compose(by_hand(point), order="bgr", max_depth=128, dilation=0)[4].any()) is kept


def test_nearer_point_wins_whatever_the_order() -> None:
    near, far = (0, 0, 2, 10, 0), (0.1, 0, 4, 200, 0)
    one = compose(by_hand(near, far), order="bgr", max_depth=128, dilation=1)
    np.testing.assert_array_equal(one, compose(by_hand(far, near), order="bgr", max_depth=128, dilation=1))
    assert one[4, 4, 5] == np.float32(10) / np.float32(255)


def test_no_points_make_an_empty_depth() -> None:
    assert not compose(by_hand(), order="bgr", max_depth=128, dilation=1)[3:].any()


def slow_paint(pixels: Array, depth: Array, values: Array, size: tuple[int, int], dilation: int) -> Array:
    canvas = np.zeros((len(values), size[1], size[0]), values.dtype)
    for index in sorted(range(len(depth)), key=lambda i: -depth[i]):
        for row in range(pixels[index, 1] - dilation, pixels[index, 1] + dilation + 1):
            for column in range(pixels[index, 0] - dilation, pixels[index, 0] + dilation + 1):
                if 0 <= row < size[1] and 0 <= column < size[0]:
                    canvas[:, row, column] = values[:, index]
    return canvas


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_painter_is_bit_equal_to_a_slow_one(seed: int, count: int, width: int, height: int, dilation: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.column_stack([rng.integers(0, width, count), rng.integers(0, height, count)])
    depth = rng.integers(1, 12, count) / 4  # with ties
    values = rng.random((2, count), np.float32)
    fast = paint(pixels, depth, values, (width, height), dilation)
    np.testing.assert_array_equal(fast, slow_paint(pixels, depth, values, (width, height), dilation))


def test_projection_is_opencv_s() -> None:
    seen = view(distortion=np.zeros(5))
    pixels, depth, intensity = project(seen.points, TO_CAMERA, CAMERA, (64, 48), 128)
    at = seen.points[:, :3].astype(float) @ TO_CAMERA[:3, :3].T + TO_CAMERA[:3, 3]
    flat = at[:, :2] / at[:, 2:] * [60, 62] + [32, 24]
    kept = (at[:, 2] > 0) & (at[:, 2] < 128) & (flat >= 0).all(1) & (flat <= [63, 47]).all(1)
    np.testing.assert_array_equal(depth, at[kept, 2])
    np.testing.assert_array_equal(intensity, seen.points[kept, 3])
    assert np.abs(pixels + 0.5 - flat[kept]).max() <= 0.5 + 1e-9
