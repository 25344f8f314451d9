"""One turn of a spinning LiDAR.

All beams of one step of the turn lie in one upright plane. An upright column cuts that plane in a rectangle, whose near
and far side are the same for every beam; so each pair of column and step is worked out once, and only the heights beam
by beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from awml_centerpoint.example import terrain as land
from awml_centerpoint.example.shapes import BRIGHTNESS, LOSS, NAMES, Floats, Ints, Rng, Shapes, rows

if TYPE_CHECKING:
    from awml_centerpoint.example.terrain import Terrain

STEPS = 720
"""Positions in one turn."""

BEAMS = np.radians(np.concatenate([np.linspace(-25, -8, 12), np.linspace(-7, 2, 25), np.linspace(3.5, 12, 3)]))
"""How far up each beam looks."""

MOUNT = 1.95
"""Height of the LiDAR above the ground below the vehicle; it stands over the origin of the vehicle's axes."""

REACH = 70.0
"""Metres, along the ground, after which nothing is met."""

ERROR = 0.015
"""Standard error of a range in metres."""

GROUND = -1
_LADDER = np.concatenate([np.arange(2.5, 30, 0.4), np.arange(30, REACH + 1, 1.0)])


@frozen(kw_only=True, eq=False)
class Pose:
    """Where the vehicle stands: x, y, height of the ground there, and the direction that it looks in."""

    x: float
    y: float
    z: float
    yaw: float


@frozen(kw_only=True, eq=False)
class Scan:
    """What came back.

    Args:
        points: (N, 5) float32: x ahead, y left, z up from the ground below the vehicle, intensity 0 to 255, beam.
        column: Which column each point lies on, or GROUND.
    """

    points: Floats
    column: Ints


def scan(shapes: Shapes, ground: Terrain, pose: Pose, rng: Rng) -> Scan:
    """One turn, with errors of range, lost returns and intensities.

    Args:
        shapes: What stands about.
        ground: What it stands on.
        pose: Where the vehicle stands.
        rng: Draws all that is by chance.
    """
    steps = np.arange(STEPS) * (2 * np.pi / STEPS) - np.pi
    heading = steps + pose.yaw
    away, column = _meet(shapes, pose, heading, rng)
    floor = _ground(ground, pose, heading)
    lower = floor < away
    away, column = np.where(lower, floor, away), np.where(lower, GROUND, column)
    step, beam = np.nonzero(away < REACH)
    away, column = away[step, beam], column[step, beam]
    brightness, loss = _light(
        shapes, ground, pose, column=column, away=away, heading=heading[step], rise=np.tan(BEAMS)[beam]
    )
    kept = rng.random(len(away)) >= loss
    step, beam, away, column, brightness = step[kept], beam[kept], away[kept], column[kept], brightness[kept]
    reach = away / np.cos(BEAMS[beam]) + rng.normal(0, ERROR, len(away))
    along = reach * np.cos(BEAMS[beam])
    intensity = np.clip(brightness * rng.normal(1, 0.08, len(away)), 0, 255)
    up = MOUNT + reach * np.sin(BEAMS[beam])
    points = np.stack([along * np.cos(steps[step]), along * np.sin(steps[step]), up, intensity, beam], 1)
    return Scan(points=points.astype(np.float32), column=column)


def _meet(shapes: Shapes, pose: Pose, heading: Floats, rng: Rng) -> tuple[Floats, Ints]:
    """Metres along the ground to the nearest column, step by beam, and which one it is."""
    column, step = _pairs(shapes, pose, heading)
    near, far = _cut(rows(shapes, column), pose, heading[step])
    crossed = (near < far) & (near > 0) & (near < REACH)
    column, step, near, far = column[crossed], step[crossed], near[crossed], far[crossed]
    low, high = shapes.low[column] - pose.z - MOUNT, shapes.high[column] - pose.z - MOUNT
    at = _beams(near, far, low, high)
    porous = shapes.gaps[column] > 0
    at[porous] = _through(at[porous], near[porous], far[porous], shapes.gaps[column[porous]], rng)
    pair, beam = np.nonzero(at < REACH)
    # Positive floats sort like the whole numbers of the same bits: one minimum finds the distance and whose it is.
    distance = at[pair, beam].astype(np.float32)
    key = (distance.view(np.uint32).astype(np.uint64) << np.uint64(32)) | column[pair].astype(np.uint64)
    first = np.full((STEPS, len(BEAMS)), np.uint64(0x7F800000) << np.uint64(32))
    np.minimum.at(first, (step[pair], beam), key)
    nearest = (first >> np.uint64(32)).astype(np.uint32).view(np.float32).astype(np.float64)
    return nearest, (first & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _pairs(shapes: Shapes, pose: Pose, heading: Floats) -> tuple[Ints, Ints]:
    """Columns and the steps in which each may be met."""
    c, s = np.cos(shapes.yaw), np.sin(shapes.yaw)
    offset = shapes.centre - (pose.x, pose.y)
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    local = signs * shapes.half[:, None]
    x = offset[:, :1] + local[..., 0] * c[:, None] - local[..., 1] * s[:, None]
    y = offset[:, 1:] + local[..., 0] * s[:, None] + local[..., 1] * c[:, None]
    middle = np.arctan2(offset[:, 1], offset[:, 0])
    spread = (np.arctan2(y, x) - middle[:, None] + np.pi) % (2 * np.pi) - np.pi
    width = 2 * np.pi / STEPS
    begin = np.ceil((middle + spread.min(1) - heading[0]) / width).astype(np.int64)
    end = np.floor((middle + spread.max(1) - heading[0]) / width).astype(np.int64)
    near = np.hypot(*offset.T) - np.hypot(*shapes.half.T) < REACH
    count = np.where(near, np.maximum(end - begin + 1, 0), 0)
    column = np.repeat(np.arange(len(shapes)), count)
    within = np.arange(len(column)) - np.repeat(np.cumsum(count) - count, count)
    return column, (begin[column] + within) % STEPS


def _cut(shapes: Shapes, pose: Pose, heading: Floats) -> tuple[Floats, Floats]:
    """Where each ray's upright plane enters and leaves its column; near >= far where it passes by."""
    c, s = np.cos(shapes.yaw), np.sin(shapes.yaw)
    x, y = pose.x - shapes.centre[:, 0], pose.y - shapes.centre[:, 1]
    a, b = shapes.half.T
    start = np.stack([(x * c + y * s) / a, (y * c - x * s) / b])
    way = np.stack([np.cos(heading - shapes.yaw) / a, np.sin(heading - shapes.yaw) / b])
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    sides = np.stack([(-1 - start) / way, (1 - start) / way])
    near, far = sides.min(0).max(0), sides.max(0).min(0)
    # Scaled by its half axes, an ellipse is the unit circle.
    square, slope = (way * way).sum(0), (way * start).sum(0)
    root = np.sqrt(np.maximum(slope**2 - square * ((start * start).sum(0) - 1), 0))
    near = np.where(shapes.round, (-slope - root) / square, near)
    return near, np.where(shapes.round, (-slope + root) / square, far)


def _beams(near: Floats, far: Floats, low: Floats, high: Floats) -> Floats:
    """Metres along the ground to where each beam meets a column; heights count from the LiDAR."""
    rise = np.tan(BEAMS)
    entry = near[:, None] * rise
    side = (entry >= low[:, None]) & (entry <= high[:, None])
    top = high[:, None] / rise
    bottom = low[:, None] / rise
    down = (entry > high[:, None]) & (rise < 0) & (top < far[:, None])
    up = (entry < low[:, None]) & (rise > 0) & (bottom < far[:, None])
    return np.where(side, near[:, None], np.where(down, top, np.where(up, bottom, np.inf)))


def _through(at: Floats, near: Floats, far: Floats, gaps: Floats, rng: Rng) -> Floats:
    """Rays that go some way into leaves, or right through them."""
    deeper = at + rng.random(at.shape) * 0.7 * (far - near)[:, None]
    return np.where(rng.random(at.shape) < gaps[:, None], np.inf, np.minimum(deeper, np.maximum(far[:, None], at)))


def _ground(ground: Terrain, pose: Pose, heading: Floats) -> Floats:
    """Metres to the ground, step by beam: where the line between two rungs of a ladder of heights is crossed."""
    x = pose.x + np.cos(heading)[:, None] * _LADDER
    y = pose.y + np.sin(heading)[:, None] * _LADDER
    level = land.height(ground, x, y) - pose.z - MOUNT
    seen = np.maximum.accumulate(level / _LADDER, 1)
    rise = np.tan(BEAMS)
    found = np.full((len(heading), len(BEAMS)), np.inf)
    for beam, slope in enumerate(rise):
        rung = (seen < slope).sum(1)
        step = np.flatnonzero((rung > 0) & (rung < len(_LADDER)))
        before, after = rung[step] - 1, rung[step]
        under = slope * _LADDER[before] - level[step, before]
        over = level[step, after] - slope * _LADDER[after]
        share = under / np.maximum(under + over, 1e-9)
        found[step, beam] = _LADDER[before] + share * (_LADDER[after] - _LADDER[before])
    return found


def _light(
    shapes: Shapes, ground: Terrain, pose: Pose, *, column: Ints, away: Floats, heading: Floats, rise: Floats
) -> tuple[Floats, Floats]:
    """How bright each return is, and the chance that it is lost."""
    x, y = pose.x + away * np.cos(heading), pose.y + away * np.sin(heading)
    kerb = land.aside(ground, x, y) > land.ROAD
    floor = np.where(kerb, NAMES.index("pavement"), NAMES.index("asphalt"))
    solid = column != GROUND
    material = np.where(solid, shapes.material[column], floor)
    facing = np.where(solid, _facing(shapes, column, x, y, heading), np.abs(rise) / np.hypot(1, rise))
    brightness = BRIGHTNESS[material] * (0.25 + 0.75 * facing)
    # A return fades with the square of its way and drowns in the LiDAR's own noise.
    power = BRIGHTNESS[material] * np.maximum(facing, 0.02) / np.maximum(away, 1) ** 2
    faint = np.exp(-power / 8e-4)
    return brightness, 1 - (1 - LOSS[material]) * (1 - faint)


def _facing(shapes: Shapes, column: Ints, x: Floats, y: Floats, heading: Floats) -> Floats:
    """Cosine between the ray and the side that it meets; tops count as faced."""
    c, s = np.cos(shapes.yaw[column]), np.sin(shapes.yaw[column])
    dx, dy = x - shapes.centre[column, 0], y - shapes.centre[column, 1]
    local = np.stack([dx * c + dy * s, dy * c - dx * s], 1) / shapes.half[column]
    end = np.abs(local[:, 0]) > np.abs(local[:, 1])
    flat = np.where(end, np.abs(np.cos(heading - shapes.yaw[column])), np.abs(np.sin(heading - shapes.yaw[column])))
    return np.asarray(np.where(shapes.round[column], 0.8, flat))
