"""The camera: where a point of the street lies in the picture, and what lies in front of what."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from attrs import frozen

from awml_yolox.example.solids import Face, Floats, Part, Thing, Tube, points

Mask = np.ndarray[Any, np.dtype[np.bool_]]
NEAR = 0.4


@frozen(kw_only=True, eq=False)
class Camera:
    """A pinhole.

    Args:
        at: Its place in the street.
        turn: Rows are its axes: right, down, ahead.
        focal: In pixels.
        size: Width and height of the picture.
    """

    at: Floats
    turn: Floats
    focal: float
    size: tuple[int, int]


def aim(at: tuple[float, float, float], yaw: float, pitch: float, focal: float, size: tuple[int, int]) -> Camera:
    """A camera that looks along x, turned to the left by yaw and upwards by pitch."""
    ahead = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0])
    return Camera(at=np.array(at, float), turn=np.stack([right, np.cross(ahead, right), ahead]), focal=focal, size=size)


def pixels(camera: Camera, seen: Floats) -> Floats:
    """Pixels of points in the camera's axes."""
    middle = np.array(camera.size) / 2 - 0.5
    return np.asarray(camera.focal * seen[:, :2] / seen[:, 2:] + middle)


def outline(camera: Camera, part: Part) -> list[Floats]:
    """The part's outlines in the picture; empty where it is behind the camera or turned away from it."""
    if isinstance(part, Tube):
        return _limb(camera, part)
    return _polygon(camera, part)


def _polygon(camera: Camera, face: Face) -> list[Floats]:
    if face.normal is not None and face.normal @ (camera.at - face.loops[0][0]) <= 0:
        return []
    seen = (np.concatenate(face.loops) - camera.at) @ camera.turn.T
    ends = np.cumsum([len(loop) for loop in face.loops])[:-1]
    if seen[:, 2].min() > NEAR:
        return np.split(pixels(camera, seen), ends)
    clipped = [_clip(loop) for loop in np.split(seen, ends)]
    return [pixels(camera, loop) for loop in clipped if len(loop)]


def _clip(seen: Floats) -> Floats:
    """What lies beyond the near plane."""
    inside = seen[:, 2] > NEAR
    if inside.all():
        return seen
    found = []
    for index in range(len(seen)):
        one, two = seen[index - 1], seen[index]
        if inside[index - 1] != inside[index]:
            found.append(one + (NEAR - one[2]) / (two[2] - one[2]) * (two - one))
        if inside[index]:
            found.append(two)
    return np.array(found)


_ROUND = np.linspace(-np.pi / 2, np.pi / 2, 6)
_FLAT = np.array([-np.pi / 2, np.pi / 2])


def _limb(camera: Camera, limb: Tube) -> list[Floats]:
    seen = (limb.ends - camera.at) @ camera.turn.T
    if seen[:, 2].min() <= NEAR:
        return []
    flat, radius = pixels(camera, seen), camera.focal * np.array(limb.radii) / seen[:, 2]
    along = flat[1] - flat[0]
    angle = np.arctan2(along[1], along[0]) + (_FLAT if limb.flat else _ROUND)
    way = np.stack([np.cos(angle), np.sin(angle)], 1)
    return [np.concatenate([flat[1] + radius[1] * way, flat[0] - radius[0] * way])]


def footprint(thing: Thing) -> Floats:
    """The smallest rectangle on the ground that holds the thing, (4, 2)."""
    ground = np.concatenate([points(group)[:, :2] for group in thing.groups]).astype(np.float32)
    corners = np.asarray(cv2.boxPoints(cv2.minAreaRect(ground)), float)
    return np.asarray(corners + 1e-3 * (corners - corners.mean(0)))


def apart(one: Floats, two: Floats) -> bool:
    """Whether two rectangles leave a line between them."""
    return bool(_beyond(one[None], two[None]).any() or _beyond(two[None], one[None]).any())


def _lines(corners: Floats) -> tuple[Floats, Floats]:
    """Outward normals of the edges (n, 4, 2) and their offsets (n, 4)."""
    along = np.roll(corners, -1, 1) - corners
    normal = np.stack([along[..., 1], -along[..., 0]], -1)
    offset = (normal * corners).sum(-1)
    inward = (normal * corners.mean(1)[:, None]).sum(-1) > offset
    return np.where(inward[..., None], -normal, normal), np.where(inward, -offset, offset)


def _beyond(one: Floats, two: Floats) -> Mask:
    """Whether a whole rectangle of the second lies outside an edge of the first: (first, edge, second)."""
    normal, offset = _lines(one)
    level = np.einsum("aek,bck->aebc", normal, two) - offset[:, :, None, None]
    return np.asarray((level > 0).all(-1))


def back_to_front(camera: Camera, things: list[Thing]) -> list[int]:
    """The order in which things must be painted so that the nearer ones hide the farther ones."""
    corners = np.stack([footprint(thing) for thing in things])
    normal, offset = _lines(corners)
    eye = camera.at[:2]
    outside = (normal @ eye) > offset
    beyond = _beyond(corners, corners)
    # A line between two things with the eye on the second's side: the first cannot hide the second.
    harmless = (beyond & outside[:, :, None]).any(1) | (beyond & ~outside[:, :, None]).any(1).T
    hides = ~harmless & harmless.T
    far = np.linalg.norm(corners.mean(1) - eye, axis=1)
    left, found = set(range(len(things))), []
    while left:
        rest = sorted(left)
        free = [index for index in rest if not hides[index, rest].any()] or rest
        chosen = max(free, key=lambda index: float(far[index]))
        found.append(chosen)
        left.remove(chosen)
    return found
