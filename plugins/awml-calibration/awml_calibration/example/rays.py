"""Rays into the street: what each one meets first, and how far away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen

from awml_calibration.example.solids import Floats, Solid, hit

Mask = np.ndarray[Any, np.dtype[np.bool_]]

GROUND, SKY = -1, -2


@frozen(kw_only=True, eq=False)
class Hits:
    """What the rays met.

    Args:
        distance: Metres along each ray, infinite into the sky.
        owner: Index of the solid, or GROUND, or SKY.
        normal: Outward normal of the surface, in the street's axes.
    """

    distance: Floats
    owner: np.ndarray[Any, np.dtype[np.int16]]
    normal: Floats


def cast(origin: Floats, directions: Floats, solids: Sequence[Solid]) -> Hits:
    """Follow rays from one point.

    Args:
        origin: Where all rays start.
        directions: Unit vectors in bundles of neighbours, (bundles, rays, 3): a solid that lies outside the cone of
            a bundle costs nothing there.
        solids: What stands on the ground.
    """
    with np.errstate(divide="ignore"):
        distance = np.where(directions[..., 2] < 0, -origin[2] / directions[..., 2], np.float32(np.inf))
    owner = np.where(np.isfinite(distance), GROUND, SKY).astype(np.int16)
    normal = np.zeros_like(directions)
    normal[..., 2] = 1
    near = _in_view(origin, directions, solids)
    for index, solid in enumerate(solids):
        chosen = np.flatnonzero(near[:, index])
        if not len(chosen):
            continue
        at, facing = hit(solid, origin, directions[chosen])
        bundle, ray = np.nonzero(at < distance[chosen])
        distance[chosen[bundle], ray] = at[bundle, ray]
        owner[chosen[bundle], ray] = index
        normal[chosen[bundle], ray] = facing[bundle, ray]
    return Hits(distance=distance, owner=owner, normal=normal)


def _in_view(origin: Floats, directions: Floats, solids: Sequence[Solid]) -> Mask:
    """Which solid's sphere touches which bundle's cone."""
    axis = directions.mean(1)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    spread = np.arccos(np.clip(np.einsum("brc,bc->br", directions, axis).min(1), -1, 1))
    towards = np.stack([solid.centre for solid in solids]) - origin
    away = np.linalg.norm(towards, axis=1)
    reach = np.array([solid.reach for solid in solids])
    size = np.where(away > reach, np.arcsin(np.clip(reach / np.maximum(away, 1e-6), 0, 1)), np.pi)
    angle = np.arccos(np.clip(axis @ (towards / np.maximum(away, 1e-6)[:, None]).T, -1, 1))
    return np.asarray(angle <= spread[:, None] + size)


def shaded(points: Floats, sun: Floats, solids: Sequence[Solid]) -> Mask:
    """Which points on the ground lie in the shadow of a solid; all rays are parallel."""
    side = np.cross(sun, [0, 0, 1]).astype(np.float32)
    side /= np.linalg.norm(side)
    across = np.stack([side, np.cross(side, sun)], 1).astype(np.float32)
    order = np.argsort(points @ across[:, 0])
    points = points[order]
    seen, level = (points @ across).T
    dark = np.zeros(len(points), bool)
    for solid in solids:
        x, y = solid.centre @ across
        first, last = np.searchsorted(seen, (x - solid.reach, x + solid.reach))
        beside = (np.abs(level[first:last] - y) < solid.reach) & ~dark[first:last]
        chosen = first + np.flatnonzero(beside)
        if len(chosen):
            dark[chosen] = _blocks(solid, points[chosen], sun)
    found = np.empty_like(dark)
    found[order] = dark
    return found


def _blocks(solid: Solid, points: Floats, sun: Floats) -> Mask:
    start = (points - solid.origin) @ solid.rotation
    way = sun @ solid.rotation
    if not len(solid.planes):
        begin, heading = start / solid.radii, way / solid.radii
        b, c = begin @ heading, (begin * begin).sum(1) - 1
        return np.asarray((b * b > (heading @ heading) * c) & (b < 0))
    normals, offsets = solid.planes[:, :3], solid.planes[:, 3:]
    slope, gap = (normals @ way)[:, None], offsets - normals @ start.T
    with np.errstate(divide="ignore", invalid="ignore"):
        at = gap / slope
    enter = np.where(slope < 0, at, -np.inf).max(0)
    leave = np.where(slope >= 0, at, np.inf).min(0)
    return np.asarray(np.maximum(enter, 0) < leave)
