"""Road, pavements, markings and shadows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from awml_yolox.example.camera import Camera, outline
from awml_yolox.example.solids import Colour, Face, Floats, points
from awml_yolox.example.street import ROAD, SIDE, WALK, Street

if TYPE_CHECKING:
    from awml_yolox.example.weather import Light

Image = np.ndarray[Any, np.dtype[np.uint8]]
FAR = 160.0
PAINT: Colour = (205, 208, 208)
SCALE = 8
"""Knots of the ground's grain per metre."""


def lay_ground(image: Image, street: Street, light: Light) -> None:
    """Paint everything below the horizon."""
    rng = np.random.default_rng([street.seed, 2])
    ground = np.zeros_like(image)
    mask = np.zeros(image.shape[:2], np.uint8)
    for corners, colour in _areas(street, rng):
        _flat(ground, mask, street.camera, corners, colour)
    ground_f = ground * _grain(street.camera, rng)[..., None]
    lit = light.sky + light.sun * float(street.sun[2])
    shade = _shadows(street, light, image.shape[:2])
    strength = (lit * (1 - shade) + light.sky * 0.55 * shade)[..., None] * np.array(light.cast, np.float32)
    veil = _veil(street.camera, light.sight)[..., None]
    ground_f = ground_f * strength * (1 - veil) + np.array(light.haze, np.float32) * veil
    image[mask > 0] = np.clip(ground_f, 0, 255)[mask > 0].astype(np.uint8)


def _flat(ground: Image, mask: Image, camera: Camera, corners: Floats, colour: Colour) -> None:
    flat = np.concatenate([corners, np.zeros((len(corners), 1))], 1)
    for loop in outline(camera, Face(loops=(flat,), colour=colour)):
        fixed = np.clip(np.round(loop * 16), -(1 << 24), 1 << 24).astype(np.int32)
        cv2.fillPoly(ground, [fixed], colour, cv2.LINE_AA, 4)
        cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_8, 4)


def _strip(x: tuple[float, float], y: tuple[float, float]) -> Floats:
    return np.array([[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]])


def _areas(street: Street, rng: np.random.Generator) -> list[tuple[Floats, Colour]]:
    """Outlines on the ground and their colours, from the lowest to the topmost."""
    tone = rng.uniform(78, 118)
    asphalt = (tone * 1.03, tone, tone * 0.98)
    stone = tuple(float(value) for value in rng.uniform(1.3, 1.75) * tone * np.array([0.96, 1, 1.03]))
    pavement: Colour = (stone[0], stone[1], stone[2])
    earth: Colour = (70, 118, 96) if rng.random() < 0.5 else (pavement[0] * 0.9, pavement[1] * 0.92, pavement[2] * 0.92)
    everywhere = (-5.0, FAR)
    found: list[tuple[Floats, Colour]] = [(_strip(everywhere, (-90, 90)), earth)]
    for side in (-1, 1):
        found.append((_strip(everywhere, (side * ROAD, side * (ROAD + WALK))), pavement))
        wide = (side * ROAD, side * (ROAD + WALK))
        found += [(_strip((x, x + 0.05), wide), _times(pavement, 0.84)) for x in np.arange(0, 40, 1.5)]
        kerb: Colour = (min(pavement[0] * 1.2, 255), min(pavement[1] * 1.2, 255), min(pavement[2] * 1.2, 255))
        found.append((_strip(everywhere, (side * ROAD, side * (ROAD + 0.22))), kerb))
        found.append((_strip(everywhere, (side * ROAD, side * (ROAD - 0.3))), _times(asphalt, 0.8)))
    found.append((_strip(everywhere, (-ROAD + 0.1, ROAD - 0.1)), asphalt))
    if street.corner is not None:
        found.append((_strip((street.corner - SIDE, street.corner + SIDE), (-90, 90)), asphalt))
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform((3, -5), (40, 5))
        shade = rng.uniform(0.72, 1.18)
        patch = _strip((x, x + rng.uniform(1, 9)), (y, y + rng.uniform(0.5, 2.5)))
        found.append((patch, _times(asphalt, shade)))
    return found + _marks(street, rng)


def _times(colour: Colour, share: float) -> Colour:
    return colour[0] * share, colour[1] * share, colour[2] * share


def _marks(street: Street, rng: np.random.Generator) -> list[tuple[Floats, Colour]]:
    worn = float(rng.uniform(0.75, 1.1))
    white = _times(PAINT, worn)
    middle: Colour = (70 * worn, 185 * worn, 225 * worn) if rng.random() < 0.3 else white
    crossing, corner = street.crossing, street.corner
    gap = (crossing - 3.5, (crossing + 3.5) if corner is None else corner + SIDE + 0.5)
    found: list[tuple[Floats, Colour]] = []

    def line(start: float, end: float, y: float, wide: float, colour: Colour) -> None:
        for first, last in ((start, min(end, gap[0])), (max(start, gap[1]), end)):
            if last > first:
                found.append((_strip((first, last), (y - wide, y + wide)), colour))

    if rng.random() < 0.5:
        for y in (-0.14, 0.14):
            line(-5, FAR, y, 0.06, middle)
    else:
        for x in np.arange(rng.uniform(-5, 0), 110, 6):
            line(x, x + 3, 0, 0.08, middle)
    for side in (-1, 1):
        line(-5, FAR, side * 3.75, 0.07, white)
        for x in np.arange(rng.uniform(-3, 3), 60, 6.5) if rng.random() < 0.5 else ():
            line(x, x + 0.12, side * 5, 1.25, white)
    found += [(_strip((crossing - 1.6, crossing + 1.6), (y, y + 0.5)), white) for y in np.arange(-5.8, 5.9, 1.0)]
    found.append((_strip((crossing - 3.0, crossing - 2.6), (-3.6, -0.2)), white))
    if rng.random() < 0.5:
        found += _arrow(float(rng.uniform(7, 14)), -1.9, white)
    for _ in range(2):
        at, angle = rng.uniform((5, -3), (20, 3)), np.linspace(0, 2 * np.pi, 13)[:-1]
        found.append((at + 0.33 * np.stack([np.cos(angle), np.sin(angle)], 1), (66, 64, 62)))
    return found


def _arrow(x: float, y: float, colour: Colour) -> list[tuple[Floats, Colour]]:
    head = np.array([[2.2, 0.55], [2.2, -0.55], [3.6, 0]])
    return [(_strip((x, x + 2.3), (y - 0.1, y + 0.1)), colour), (head + np.array([x, y]), colour)]


def _grain(camera: Camera, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Rough asphalt and stains, as bright spots and dark ones around 1."""
    size = (int(60 * SCALE), int(36 * SCALE))
    fine = rng.normal(1, 0.06, (size[1], size[0])).astype(np.float32)
    stains = cv2.resize(rng.normal(0, 0.07, (9, 14)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    tracks = np.zeros((size[1], 1), np.float32)
    for y in (-2.6, -1.0, 1.0, 2.6):
        tracks += -0.07 * np.exp(-(((np.arange(size[1]) / SCALE - 18 - y) / 0.28) ** 2))[:, None].astype(np.float32)
    texture = fine + stains + tracks
    corners = np.array([[5, -3, 0], [5, 3, 0], [50, 12, 0], [50, -12, 0]], float)
    seen = (corners - camera.at) @ camera.turn.T
    flat = camera.focal * seen[:, :2] / seen[:, 2:] + np.array(camera.size) / 2 - 0.5
    source = (corners[:, :2] + (0, 18)) * SCALE
    warp = cv2.getPerspectiveTransform(source.astype(np.float32), flat.astype(np.float32))
    found = cv2.warpPerspective(texture, warp, camera.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(found)


def _veil(camera: Camera, sight: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How much of the haze lies before each pixel of the ground."""
    width, height = camera.size
    rows = (np.arange(height) - height / 2 + 0.5) / camera.focal
    down = -(camera.turn[2, 2] + rows * camera.turn[1, 2])
    with np.errstate(divide="ignore"):
        away = np.where(down > 1e-4, camera.at[2] / down, 1e4)
    return np.repeat((1 - np.exp(-away / sight)).astype(np.float32)[:, None], width, 1)


def _shadows(street: Street, light: Light, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How much of the sun each pixel of the ground lacks, and the darkness below everything that stands there."""
    cast, close = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for thing in (*street.things, *street.backdrop):
        for group in thing.groups:
            corners = points(group)
            if light.sun > 0.2:
                _dark(cast, street.camera, corners[:, :2] - corners[:, 2:] * street.sun[:2] / street.sun[2], 215)
        low = np.concatenate([points(group) for group in thing.groups])
        if thing.kind is not None:
            _dark(close, street.camera, low[low[:, 2] < 1.0][:, :2], 190)
    both = np.maximum(cv2.GaussianBlur(cast, (0, 0), 0.8), cv2.GaussianBlur(close, (0, 0), 2.0))
    return np.asarray(both.astype(np.float32) / 255)


def _dark(mask: Image, camera: Camera, ground: Floats, strength: int) -> None:
    if len(ground) < 3:
        return
    hull = cv2.convexHull(ground.astype(np.float32))[:, 0]
    flat = np.concatenate([hull, np.zeros((len(hull), 1))], 1).astype(float)
    for loop in outline(camera, Face(loops=(flat,), colour=(0, 0, 0))):
        cv2.fillPoly(
            mask, [np.clip(np.round(loop * 16), -(1 << 24), 1 << 24).astype(np.int32)], (strength,), cv2.LINE_AA, 4
        )
