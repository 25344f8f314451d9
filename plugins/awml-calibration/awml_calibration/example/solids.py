"""Solids that rays can hit: prisms of any convex outline, and ellipsoids."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from attrs import frozen

Floats = np.ndarray[Any, np.dtype[Any]]
"""Single precision is enough to draw with."""

Surface = Literal["plain", "facade", "body", "glass", "wheel", "leaf", "sign", "kerb", "cloth"]


@frozen(kw_only=True, eq=False)
class Solid:
    """A convex thing in the street.

    Args:
        origin: Where its own coordinates begin, in the street's.
        rotation: Turns its own directions into the street's.
        planes: Rows (normal, offset) in its own coordinates, inside where normal . x <= offset; empty if an ellipsoid.
        radii: Half axes; of an ellipsoid its shape, else half the box around it.
        centre: Middle of the sphere that holds it, in the street's coordinates.
        reach: Radius of that sphere.
        surface: What it is made of.
        colour: Its main colour, red green blue from 0 to 1.
        seed: Varies what the surface draws.
    """

    origin: Floats
    rotation: Floats
    planes: Floats
    radii: Floats
    centre: Floats
    reach: float
    surface: Surface
    colour: tuple[float, float, float]
    seed: int = 0


def turn(yaw: float) -> Floats:
    """The rotation about the vertical axis."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


LYING = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
"""Lays a prism on its side: its height runs along y."""


def outline(length: float, width: float, bevel: float = 0.0) -> Floats:
    """A rectangle around the origin, anticlockwise, with its corners cut by `bevel`."""
    x, y, b = length / 2, width / 2, bevel
    if not b:
        return np.array([(-x, -y), (x, -y), (x, y), (-x, y)], np.float32)
    corners = [(b - x, -y), (x - b, -y), (x, b - y), (x, y - b), (x - b, y), (b - x, y), (-x, y - b), (-x, b - y)]
    return np.array(corners, np.float32)


def circle(radius: float, sides: int = 10) -> Floats:
    """A regular polygon."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    return (radius * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32)


def prism(
    base: Floats,
    height: float,
    at: tuple[float, float, float],
    surface: Surface,
    colour: tuple[float, float, float],
    *,
    rotation: Floats | None = None,
    top: tuple[float, float, float] = (1, 1, 0),
    seed: int = 0,
) -> Solid:
    """A convex outline drawn upwards; `top` scales its upper end in x and y and shifts it along x."""
    rotation = np.eye(3, dtype=np.float32) if rotation is None else rotation
    low = np.column_stack([base, np.zeros(len(base), np.float32)])
    high = np.column_stack([base[:, 0] * top[0] + top[2], base[:, 1] * top[1], np.full(len(base), height, np.float32)])
    normals = np.cross(np.roll(low, -1, 0) - low, high - low)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    sides = np.column_stack([normals, (normals * low).sum(1)])
    ends = np.array([[0, 0, -1, 0], [0, 0, 1, height]])
    planes = np.vstack([sides, ends]).astype(np.float32)
    corners = np.vstack([low, high])
    middle = (corners.min(0) + corners.max(0)) / 2
    origin = np.array(at, np.float32)
    return Solid(
        origin=origin,
        rotation=rotation,
        planes=planes,
        radii=(np.ptp(corners, axis=0) / 2).astype(np.float32),
        centre=origin + rotation @ middle.astype(np.float32),
        reach=float(np.linalg.norm(corners - middle, axis=1).max()),
        surface=surface,
        colour=colour,
        seed=seed,
    )


def ellipsoid(
    radii: tuple[float, float, float],
    at: tuple[float, float, float],
    surface: Surface,
    colour: tuple[float, float, float],
    *,
    seed: int = 0,
) -> Solid:
    """A stretched ball around `at`."""
    origin = np.array(at, np.float32)
    return Solid(
        origin=origin,
        rotation=np.eye(3, dtype=np.float32),
        planes=np.zeros((0, 4), np.float32),
        radii=np.array(radii, np.float32),
        centre=origin,
        reach=max(radii),
        surface=surface,
        colour=colour,
        seed=seed,
    )


def hit(solid: Solid, origin: Floats, directions: Floats) -> tuple[Floats, Floats]:
    """Distance along each ray to the solid (infinite for a miss) and the outward normal there, in the street's axes."""
    start = solid.rotation.T @ (origin - solid.origin)
    heading = directions @ solid.rotation
    distance, normal = _flat(solid, start, heading) if len(solid.planes) else _round(solid, start, heading)
    return distance, normal @ solid.rotation.T


def _flat(solid: Solid, start: Floats, heading: Floats) -> tuple[Floats, Floats]:
    """A ray is inside from the last face that it enters through to the first that it leaves through."""
    enter = np.zeros(heading.shape[:-1], np.float32)
    leave = np.full(heading.shape[:-1], np.inf, np.float32)
    face = np.zeros(heading.shape[:-1], np.int8)
    for index, plane in enumerate(solid.planes):
        slope, gap = heading @ plane[:3], plane[3] - plane[:3] @ start
        with np.errstate(divide="ignore", invalid="ignore"):
            at = gap / slope
        if gap < 0:  # the start is outside of this face: only rays that run against its normal come in
            at[slope >= 0] = np.inf
            later = at > enter
            enter[later] = at[later]
            face[later] = index
        else:
            at[slope <= 0] = np.inf
            np.minimum(leave, at, out=leave)
    distance = np.where((enter > 0) & (enter < leave), enter, np.float32(np.inf))
    return distance, solid.planes[face, :3]


def _round(solid: Solid, start: Floats, heading: Floats) -> tuple[Floats, Floats]:
    begin, way = start / solid.radii, heading / solid.radii
    a, b, c = (way * way).sum(-1), way @ begin, float(begin @ begin) - 1
    inner = b * b - a * c
    with np.errstate(invalid="ignore"):
        distance = (-b - np.sqrt(inner)) / a
    distance = np.where((inner > 0) & (distance > 0), distance, np.float32(np.inf))
    point = begin + np.where(np.isfinite(distance), distance, 0)[..., None] * way
    normal = point / solid.radii
    return distance, normal / np.linalg.norm(normal, axis=-1, keepdims=True)
