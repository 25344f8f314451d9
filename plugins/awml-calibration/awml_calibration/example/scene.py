"""One street, seen by a camera and by a LiDAR that look at the very same geometry.

The depth edges of the points therefore lie on the edges of the picture, as long as the calibration is right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from attrs import frozen

from awml_calibration.example.rays import GROUND, SKY, Hits, cast, shaded
from awml_calibration.example.surface import grain, ground, material
from awml_calibration.noise import Doubles

if TYPE_CHECKING:
    from awml_calibration.example.solids import Floats
    from awml_calibration.example.street import Street

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

BEAMS, STEPS = 64, 960
"""Rows of the LiDAR and its steps in one turn."""

_TILE = 16


@frozen(kw_only=True, eq=False)
class Lens:
    """A camera.

    Args:
        matrix: Focal lengths and principal point in pixels, 3x3.
        distortion: k1, k2, p1, p2, k3.
        size: Width and height in pixels, multiples of 8.
        pose: Its place in the street, 4x4; it looks along its z, y points down.
    """

    matrix: Doubles
    distortion: Doubles
    size: tuple[int, int]
    pose: Doubles


def photograph(street: Street, lens: Lens, rng: np.random.Generator) -> Bytes:
    """A picture, blue green red, with four rays to the pixel."""
    width, height = lens.size
    rays = _camera_rays(lens)
    origin = lens.pose[:3, 3].astype(np.float32)
    light = _untile(_light(street, origin, rays, cast(origin, rays, street.solids)), 2 * height, 2 * width)
    light = light.reshape(height, 2, width, 2, 3).mean((1, 3))
    return _develop(light, rng)


def _camera_rays(lens: Lens) -> Floats:
    width, height = lens.size
    u, v = np.meshgrid(np.arange(2 * width) / 2 - 0.25, np.arange(2 * height) / 2 - 0.25)
    pixels = _tile(np.stack([u, v], 2)).reshape(-1, 1, 2)
    if lens.distortion.any():
        flat = cv2.undistortPoints(pixels, lens.matrix, lens.distortion).reshape(-1, 2)
    else:
        flat = (pixels[:, 0] - lens.matrix[:2, 2]) / lens.matrix[[0, 1], [0, 1]]
    heading = np.column_stack([flat, np.ones(len(flat))]) @ lens.pose[:3, :3].T
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    bundles: Floats = heading.astype(np.float32).reshape(-1, _TILE * _TILE, 3)
    return bundles


def _tile(grid: Any) -> Any:
    rows, columns, depth = grid.shape
    split = grid.reshape(rows // _TILE, _TILE, columns // _TILE, _TILE, depth)
    return split.swapaxes(1, 2).reshape(-1, _TILE * _TILE, depth)


def _untile(bundles: Floats, rows: int, columns: int) -> Floats:
    split = bundles.reshape(rows // _TILE, columns // _TILE, _TILE, _TILE, 3)
    picture: Floats = split.swapaxes(1, 2).reshape(rows, columns, 3)
    return picture


def _light(street: Street, origin: Floats, rays: Floats, hits: Hits) -> Floats:
    """What comes back along each ray."""
    sun, sky, haze = street.daylight
    heading, owner, far = rays.reshape(-1, 3), hits.owner.reshape(-1), hits.distance.reshape(-1)
    colour, _ = _surfaces(street, origin, rays, hits)
    normal = hits.normal.reshape(-1, 3)
    facing = np.maximum(normal @ street.sun, 0)
    low = np.flatnonzero(owner == GROUND)
    facing[low[shaded(origin + heading[low] * far[low, None], street.sun, street.solids)]] = 0
    ambient = sky * (0.62 + 0.38 * normal[:, 2])
    lit = colour * (sun * facing + ambient)[:, None] * np.array([1.03, 1, 0.97], np.float32)
    mist = (1 - np.exp(-np.where(np.isfinite(far), far, 0) / 260))[:, None]
    lit = lit * (1 - mist) + np.array(haze, np.float32) * mist
    above = owner == SKY
    lit[above] = _sky(street, heading[above])
    return np.asarray(lit, np.float32)


def _sky(street: Street, heading: Floats) -> Floats:
    sun, _, haze = street.daylight
    up = np.clip(heading[:, 2], 0.02, 1)
    zenith = np.array([0.30, 0.48, 0.78], np.float32) * (0.5 + 0.4 * sun) + 0.25 * (1 - sun)
    blue = np.array(haze, np.float32) + (zenith - np.array(haze, np.float32)) * np.sqrt(up)[:, None]
    x, y = heading[:, 0] / (up + 0.15), heading[:, 1] / (up + 0.15)
    cloud = 0.6 * grain(x * 1.5, y * 1.5, street.seed + 3) + 0.4 * grain(x * 4, y * 4, street.seed + 4)
    cover = np.clip((cloud - 0.45) * 3, 0, 1)[:, None]
    return np.asarray(blue * (1 - 0.6 * cover) + 0.56 * cover)


def _surfaces(street: Street, origin: Floats, rays: Floats, hits: Hits) -> tuple[Floats, Floats]:
    """Colour and LiDAR reflectivity of what each ray met; zero for the sky."""
    heading, owner, far = rays.reshape(-1, 3), hits.owner.reshape(-1), hits.distance.reshape(-1)
    normal = hits.normal.reshape(-1, 3)
    colour, back = np.zeros((len(owner), 3), np.float32), np.zeros(len(owner), np.float32)
    order = np.argsort(owner, kind="stable")
    names, starts = np.unique(owner[order], return_index=True)
    for name, chosen in zip(names, np.split(order, starts[1:]), strict=True):
        if name == SKY:
            continue
        points = origin + heading[chosen] * far[chosen, None]
        found = ground(points, street) if name == GROUND else material(points, normal[chosen], street.solids[name])
        colour[chosen], back[chosen] = found
    return colour, back


def _develop(light: Floats, rng: np.random.Generator) -> Bytes:
    """Exposure, the camera's own blur, tone curve and noise."""
    exposure = 0.52 / max(float(np.median(light)) + 0.15, 1e-3) * rng.uniform(0.85, 1.15)
    seen = cv2.GaussianBlur(np.minimum(light * exposure, 2), (0, 0), 0.55)
    toned = np.minimum((seen / (1 + 0.35 * seen) * 1.25) ** (1 / 1.6), 1)
    toned = 0.4 * toned + 0.6 * toned * toned * (3 - 2 * toned)
    noisy = toned * 255 + rng.normal(0, 1.6, toned.shape)
    return np.ascontiguousarray(np.clip(noisy, 0, 255).astype(np.uint8)[..., ::-1])


def scan(
    street: Street, pose: Doubles, rng: np.random.Generator, sector: tuple[float, float] = (-np.pi, np.pi)
) -> Floats:
    """One turn of the LiDAR, (N, 5): x, y, z in its own axes, intensity from 0 to 255, the beam's number.

    Args:
        street: What it looks at.
        pose: Its place in the street, 4x4; x ahead, z up.
        rng: Draws the errors of range and intensity, and the returns that are lost.
        sector: The part of the turn that is wanted, in radians to the left of ahead.
    """
    columns = max(int(STEPS * (sector[1] - sector[0]) / (2 * np.pi)) // _TILE, 1) * _TILE
    azimuth = np.linspace(*sector, columns, endpoint=False)
    elevation = np.linspace(np.radians(-24), np.radians(12), BEAMS)
    up, around = np.meshgrid(elevation, azimuth, indexing="ij")
    own = np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], 2)
    beam = np.broadcast_to(np.arange(BEAMS)[:, None, None], (*up.shape, 1))
    own, beam = _tile(own), _tile(beam).reshape(-1)
    rays = (own @ pose[:3, :3].T).astype(np.float32)
    origin = pose[:3, 3].astype(np.float32)
    hits = cast(origin, rays, street.solids)
    _, back = _surfaces(street, origin, rays, hits)
    grazing = np.abs((rays * hits.normal).sum(2)).reshape(-1)
    away = hits.distance.reshape(-1)
    seen = np.flatnonzero((away < 120) & (rng.random(len(away)) > 0.03) & (back * grazing > 0.0015))
    reach = (away[seen] + rng.normal(0, 0.015, len(seen)))[:, None]
    intensity = 255 * np.clip(back[seen] * grazing[seen] ** 0.3 * rng.normal(1, 0.06, len(seen)), 0, 1)
    return np.column_stack([own.reshape(-1, 3)[seen] * reach, intensity, beam[seen]]).astype(np.float32)
