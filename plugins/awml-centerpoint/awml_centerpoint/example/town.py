"""A crossing of two roads with all that stands and moves there, drawn anew for each seed. Traffic keeps to the left."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from attrs import frozen

from awml_centerpoint.example import terrain as land
from awml_centerpoint.example.lidar import Pose
from awml_centerpoint.example.scenery import scenery
from awml_centerpoint.example.shapes import Floats, Ints, Shapes, gather, place
from awml_centerpoint.example.terrain import LANES, Terrain
from awml_centerpoint.example.tracks import LASTING, Tracks, join, meets
from awml_centerpoint.example.traffic import Mover, traffic

APART = 0.15
"""Metres that road users keep from one another."""
CARRIER = (4.8, 1.9)
"""Length and width of the vehicle with the LiDAR."""


@frozen(kw_only=True, eq=False)
class Town:
    """A place at any time.

    Args:
        ground: What all stands on.
        scenery: What never moves and is no object.
        movers: The road users.
        ride: The vehicle that carries the LiDAR: x, y, yaw at time zero, speed, turn in radians per second.
    """

    ground: Terrain
    scenery: Shapes
    movers: tuple[Mover, ...]
    ride: tuple[float, float, float, float, float]


@frozen(kw_only=True, eq=False)
class Truth:
    """The road users as the vehicle sees them.

    Args:
        boxes: (N, 7): x, y, z of the middle, length, width, height, yaw.
        labels: (N,) index into `bodies.CLASSES`.
        velocities: (N, 2): over the ground, in the vehicle's axes.
    """

    boxes: Floats
    labels: Ints
    velocities: Floats


def found(seed: int) -> Town:
    """The town of that seed."""
    rng = np.random.default_rng(seed)
    crossing = float(rng.uniform(12, 45) * rng.choice([-1, 1]))
    ground = land.shape(rng, crossing)
    along = bool(rng.random() < 0.6)  # which of the two roads may drive
    speed = float(rng.uniform(3, 12)) if along else float(rng.choice([0.0, rng.uniform(2, 5)]))
    lane = float(rng.choice(LANES)) + rng.normal(0, 0.15)
    ride = (0.0, lane, float(rng.normal(0, 0.03)), speed, float(rng.normal(0, 0.03)))
    movers, taken = _admit(traffic(rng, crossing, along, ride), _carrier(ride))
    return Town(ground=ground, scenery=scenery(rng, ground, taken), movers=movers, ride=ride)


def pose(town: Town, time: float) -> Pose:
    """Where the LiDAR's vehicle stands."""
    x, y, yaw = _ridden(town.ride, time)
    return Pose(x=x, y=y, z=float(land.height(town.ground, np.array(x), np.array(y))), yaw=yaw)


def _ridden(ride: tuple[float, ...], time: float) -> tuple[float, float, float]:
    x, y, yaw, speed, turn = ride
    middle = yaw + turn * time / 2
    return float(x + speed * time * np.cos(middle)), float(y + speed * time * np.sin(middle)), yaw + turn * time


def standing(town: Town, time: float) -> Shapes:
    """All columns; those of road users carry their number."""
    moved = [place(mover.body, _at(town, mover, time), mover.yaw, owner) for owner, mover in enumerate(town.movers)]
    return gather([town.scenery, *moved])


def truth(town: Town, time: float) -> Truth:
    """Every road user, seen or not."""
    own = pose(town, time)
    c, s = np.cos(own.yaw), np.sin(own.yaw)
    turn = np.array([[c, -s], [s, c]])
    where = np.array([_at(town, mover, time) for mover in town.movers])
    size = np.array([mover.size for mover in town.movers])
    middle = (where[:, :2] - (own.x, own.y)) @ turn
    up = where[:, 2] - own.z + size[:, 2] / 2
    yaw = np.array([mover.yaw for mover in town.movers]) - own.yaw
    boxes = np.column_stack([middle, up, size, (yaw + np.pi) % (2 * np.pi) - np.pi])
    velocities = np.array([mover.velocity for mover in town.movers]) @ turn
    return Truth(boxes=boxes, labels=np.array([mover.label for mover in town.movers]), velocities=velocities)


def _at(town: Town, mover: Mover, time: float) -> tuple[float, float, float]:
    x, y = mover.start[0] + mover.velocity[0] * time, mover.start[1] + mover.velocity[1] * time
    return x, y, float(land.height(town.ground, np.array(x), np.array(y)))


def _admit(wished: Iterable[Mover], taken: Tracks) -> tuple[tuple[Mover, ...], Tracks]:
    """Those who run into nobody who was admitted before them, and what is taken then."""
    admitted = []
    for mover in wished:
        track = _track(mover.start, mover.velocity, mover.size[:2], mover.yaw)
        if not meets(track, taken, APART).any():
            admitted.append(mover)
            taken = join([taken, track])
    return tuple(admitted), taken


def _track(
    start: tuple[float, float],
    velocity: tuple[float, float],
    size: tuple[float, float],
    yaw: float,
    span: tuple[float, float] = (0.0, LASTING),
) -> Tracks:
    half = np.array([size]) / 2
    begin, end = np.array(span)[:, None]
    return Tracks(
        start=np.array([start]), velocity=np.array([velocity]), half=half, yaw=np.array([yaw]), begin=begin, end=end
    )


def _carrier(ride: tuple[float, ...], steps: int = 6) -> Tracks:
    """The vehicle with the LiDAR: its bend as some straight pieces."""
    parts = []
    for begin, end in itertools.pairwise(np.linspace(0, LASTING, steps + 1)):
        x, y, _ = _ridden(ride, begin)
        _, _, yaw = _ridden(ride, (begin + end) / 2)
        speed = (float(np.cos(yaw) * ride[3]), float(np.sin(yaw) * ride[3]))
        start = (x - speed[0] * begin, y - speed[1] * begin)
        parts.append(_track(start, speed, CARRIER, yaw, (begin, end)))
    return join(parts)
