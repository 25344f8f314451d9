"""The drawn streets: camera and LiDAR see one geometry, and the same seed draws the same street."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from attrs import evolve

from awml_calibration.example.rays import GROUND, SKY, cast, shaded
from awml_calibration.example.rig import SIZE, Rig, mount
from awml_calibration.example.scene import photograph, scan
from awml_calibration.example.solids import Floats, circle, ellipsoid, outline, prism, turn
from awml_calibration.example.street import Street, lay_out
from awml_calibration.image import project, rectify


@pytest.fixture(scope="module")
def street() -> Street:
    return lay_out(3)


@pytest.fixture(scope="module")
def rig() -> Rig:
    return mount(np.random.default_rng(3))


def ray(*direction: float) -> Floats:
    bundle: Floats = np.array(direction, np.float32).reshape(1, 1, 3)
    return np.asarray(bundle / np.linalg.norm(bundle))


# ---------------------------------------------------------------- rays by hand


def test_ray_meets_the_near_face_of_a_box() -> None:
    box = prism(outline(2, 4), 3, (10, 0, 0), "plain", (1, 1, 1))
    hits = cast(np.array([0, 0, 1], np.float32), ray(1, 0, 0), [box])
    assert hits.distance.item() == pytest.approx(9)
    np.testing.assert_allclose(hits.normal.ravel(), [-1, 0, 0], atol=1e-6)
    assert hits.owner.item() == 0


def test_ray_meets_a_turned_box() -> None:
    box = prism(outline(2, 2), 3, (10, 0, 0), "plain", (1, 1, 1), rotation=turn(np.pi / 4))
    hits = cast(np.array([0, 0.01, 1], np.float32), ray(1, 0, 0), [box])
    assert hits.distance.item() == pytest.approx(10 - np.sqrt(2) + 0.01, abs=1e-4)
    np.testing.assert_allclose(hits.normal.ravel(), [-np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-6)


def test_ray_meets_a_ball() -> None:
    ball = ellipsoid((2, 1, 1), (10, 0, 1), "leaf", (1, 1, 1))
    hits = cast(np.array([0, 0, 1], np.float32), ray(1, 0, 0), [ball])
    assert hits.distance.item() == pytest.approx(8)
    np.testing.assert_allclose(hits.normal.ravel(), [-1, 0, 0], atol=1e-5)


def test_the_nearest_of_two_wins_whatever_the_order() -> None:
    near, far = (prism(circle(1), 3, (x, 0, 0), "plain", (1, 1, 1)) for x in (5, 9))
    for solids in ([near, far], [far, near]):
        hits = cast(np.array([0, 0, 1], np.float32), ray(1, 0, 0), solids)
        assert solids[hits.owner.item()] is near


def test_past_everything_is_ground_or_sky() -> None:
    box = prism(outline(1, 1), 1, (10, 50, 0), "plain", (1, 1, 1))
    down = cast(np.array([0, 0, 2], np.float32), ray(1, 0, -1), [box])
    assert down.owner.item() == GROUND
    assert down.distance.item() == pytest.approx(2 * np.sqrt(2))
    assert cast(np.array([0, 0, 2], np.float32), ray(1, 0, 1), [box]).owner.item() == SKY


def test_shadow_lies_away_from_the_sun() -> None:
    sun = np.array([1, 0, 1], np.float32) / np.sqrt(np.float32(2))
    solids = [
        prism(outline(1, 1), 2, (0, 0, 0), "plain", (1, 1, 1)),
        ellipsoid((1, 1, 1), (20, 0, 3), "leaf", (1, 1, 1)),
    ]
    points = np.array(
        [[-1, 0, 0], [-2.4, 0, 0], [-2.6, 0, 0], [1, 0, 0], [-1, 0.6, 0], [17, 0, 0], [15, 0, 0]], np.float32
    )
    assert shaded(points, sun, solids).tolist() == [True, True, False, False, False, True, False]


# ---------------------------------------------------------------- camera and LiDAR together


def test_same_seed_same_bytes(street: Street, rig: Rig) -> None:
    lens = rig.lenses["CAM_FRONT"]
    one, two = (photograph(lay_out(3), lens, np.random.default_rng(0)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (SIZE[1], SIZE[0], 3)
    other = photograph(lay_out(4), lens, np.random.default_rng(0))
    assert (one != other).mean() > 0.5


def test_pictures_are_well_exposed(street: Street, rig: Rig) -> None:
    for lens in rig.lenses.values():
        grey = photograph(street, lens, np.random.default_rng(0)).mean(2)
        assert 60 < grey.mean() < 200
        assert grey.std() > 30


def test_points_lie_where_the_rays_of_their_beam_end(street: Street, rig: Rig) -> None:
    points = scan(street, rig.lidar, np.random.default_rng(0))
    away = np.linalg.norm(points[:, :3], axis=1)
    heading = (points[:, :3] / away[:, None] @ rig.lidar[:3, :3].T).astype(np.float32)
    hits = cast(rig.lidar[:3, 3].astype(np.float32), heading[:, None], street.solids)
    # The error of range is 15 mm; at an edge a ray that is off by a rounding may miss.
    assert (np.abs(hits.distance[:, 0] - away) < 0.08).mean() > 0.999
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 255
    assert len(points) > 30_000


@pytest.mark.parametrize("channel", ["CAM_FRONT", "CAM_FRONT_LEFT"])
def test_projected_points_lie_on_the_picture_of_their_surface(street: Street, rig: Rig, channel: str) -> None:
    """A picture of what each pixel belongs to, straightened as images are, names the owner of nearly every point."""
    lens = rig.lenses[channel]
    points = scan(street, rig.lidar, np.random.default_rng(0))
    u, v = np.meshgrid(np.arange(SIZE[0], dtype=float), np.arange(SIZE[1], dtype=float))
    flat = cv2.undistortPoints(np.stack([u, v], 2).reshape(-1, 1, 2), lens.matrix, lens.distortion).reshape(-1, 2)
    heading = np.column_stack([flat, np.ones(len(flat))]) @ lens.pose[:3, :3].T
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    hits = cast(lens.pose[:3, 3].astype(np.float32), heading.astype(np.float32)[:, None], street.solids)
    depth = (hits.distance * (heading @ lens.pose[:3, 2])[:, None]).reshape(SIZE[1], SIZE[0])
    depth = np.where(np.isfinite(depth), depth, 500).astype(np.float32)
    straight, camera = rectify(depth, lens.matrix, lens.distortion)
    to_camera = np.linalg.inv(lens.pose) @ rig.lidar

    def agreement(pose: Floats) -> float:
        pixels, away, _ = project(points, pose, camera, SIZE, 128)
        seen = straight[pixels[:, 1], pixels[:, 0]]
        return float((np.abs(seen - away) < 0.05 * away).mean())

    wrong = to_camera.copy()
    wrong[:3, :3] = turn(np.radians(2)) @ wrong[:3, :3]
    assert agreement(to_camera) > 0.85
    assert agreement(wrong) < agreement(to_camera) - 0.1


def test_distortion_bends_the_picture(street: Street, rig: Rig) -> None:
    lens = rig.lenses["CAM_FRONT_LEFT"]
    assert lens.distortion.any()
    bent = photograph(street, lens, np.random.default_rng(0))
    straight, camera = rectify(bent, lens.matrix, lens.distortion)
    direct = photograph(street, evolve(lens, matrix=camera, distortion=np.zeros(5)), np.random.default_rng(0))
    assert np.abs(straight.astype(float) - direct).mean() < 0.3 * np.abs(bent.astype(float) - direct).mean()
