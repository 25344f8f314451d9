"""Who is about on the roads and beside them. Traffic keeps to the left."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import frozen

from awml_centerpoint.example import bodies
from awml_centerpoint.example.shapes import Rng, Shapes
from awml_centerpoint.example.terrain import LANES, ROAD, SPAN


@frozen(kw_only=True, eq=False)
class Mover:
    """A road user; it keeps its direction and speed.

    Args:
        label: Index into `bodies.CLASSES`.
        size: Length, width, height.
        body: What it is built of, around the origin.
        start: x, y at time zero.
        yaw: Where it looks.
        velocity: Metres per second along x and y.
    """

    label: int
    size: bodies.Size
    body: Shapes
    start: tuple[float, float]
    yaw: float
    velocity: tuple[float, float]


def _mover(rng: Rng, kind: str, where: tuple[float, float], yaw: float, speed: float) -> Mover:
    size, body = bodies.draw(kind, rng)
    velocity = (speed * float(np.cos(yaw)), speed * float(np.sin(yaw)))
    return Mover(label=bodies.CLASSES.index(kind), size=size, body=body, start=where, yaw=yaw, velocity=velocity)


def traffic(rng: Rng, crossing: float, along: bool, ride: tuple[float, ...]) -> Iterator[Mover]:
    """All who wish to be there, whether they have room or not.

    Args:
        rng: Draws them.
        crossing: x of the road that runs along y.
        along: Whether the road along x drives, else the other one.
        ride: The vehicle that carries the LiDAR, as in `Town`.
    """
    yield from _lanes(rng, crossing, along, ride)
    yield from _parked(rng, crossing)
    yield from _sidewalk(rng, crossing, along)


def _lanes(rng: Rng, crossing: float, along: bool, ride: tuple[float, ...]) -> Iterator[Mover]:
    """Both roads, lane by lane: one road drives, the other waits at the crossing."""
    for sign in (1, -1):
        for lane in LANES:
            heading = 0.0 if sign > 0 else np.pi
            speed = ride[3] if sign > 0 else float(rng.uniform(4, 13))
            clear = ride[0] if abs(sign * lane - ride[1]) < 1.5 else None
            for x, kind in _queue(rng, clear, None if along else crossing):
                yaw = heading + rng.normal(0, 0.03)
                yield _mover(rng, kind, (x, sign * lane + rng.normal(0, 0.2)), yaw, speed if along else 0.0)
            for y, kind in _queue(rng, None, 0.0 if along else None):
                yaw = sign * np.pi / 2 + rng.normal(0, 0.03)
                start = (crossing - sign * lane + rng.normal(0, 0.2), y)
                yield _mover(rng, kind, start, yaw, 0.0 if along else float(speed))


def _queue(rng: Rng, clear: float | None, stop: float | None) -> Iterator[tuple[float, str]]:
    """Places along a lane; none within reach of `clear`, none on the crossing road around `stop`."""
    at = -SPAN + rng.uniform(0, 25)
    while at < SPAN:
        kind = str(rng.choice(["car", "truck", "bus", "bicycle"], p=[0.62, 0.2, 0.12, 0.06]))
        room = {"car": 2.6, "truck": 5.4, "bus": 6.2, "bicycle": 1.2}[kind]
        at += room
        free = clear is None or abs(at - clear) > room + 4.5
        if free and (stop is None or abs(at - stop) > ROAD + room + 2.5):
            yield at, kind
        at += room + (rng.uniform(1.5, 9) if stop is not None else rng.uniform(4, 32))


def _parked(rng: Rng, crossing: float) -> Iterator[Mover]:
    for side in (-1, 1):
        x = -SPAN + rng.uniform(0, 10)
        while x < SPAN:
            if rng.random() < 0.45 and abs(x - crossing) > ROAD + 6:
                kind = str(rng.choice(["car", "truck"], p=[0.88, 0.12]))
                yaw = (0.0 if rng.random() < 0.9 else np.pi) + (0 if side > 0 else np.pi) + rng.normal(0, 0.04)
                yield _mover(rng, kind, (x, side * 8.2 + rng.normal(0, 0.08)), yaw, 0.0)
                x += 5 if kind == "truck" else 0
            x += rng.uniform(6.2, 9)


def _sidewalk(rng: Rng, crossing: float, along: bool) -> Iterator[Mover]:
    """People and bicycles beside the roads and on the crossing."""
    taken: list[tuple[float, float]] = []
    for _ in range(int(rng.integers(26, 48))):
        kind = "bicycle" if rng.random() < 0.32 else "pedestrian"
        beside, far = rng.choice([-1, 1]) * (ROAD + rng.uniform(0.9, 3.6)), rng.uniform(-55, 55)
        main = rng.random() < 0.65
        where = (far, beside) if main else (crossing + beside, far)
        yaw = float((0.0 if main else np.pi / 2) + np.pi * rng.integers(2) + rng.normal(0, 0.2))
        if kind == "pedestrian" and rng.random() < 0.3:
            yaw = float(rng.uniform(-np.pi, np.pi))
        inside = min(abs(where[1]), abs(where[0] - crossing)) < ROAD + 0.6
        if inside or any(np.hypot(where[0] - x, where[1] - y) < 2.2 for x, y in taken):
            continue
        taken.append(where)
        walk = 0.0 if rng.random() < 0.2 else rng.uniform(0.7, 1.8)
        yield _mover(rng, kind, where, yaw, walk if kind == "pedestrian" else rng.uniform(2, 6))
    for _ in range(int(rng.integers(0, 5))):
        # On the zebra of the road that waits.
        over, step = rng.uniform(-ROAD, ROAD), rng.choice([-1, 1]) * (ROAD + rng.uniform(-1.6, 0.2))
        where = (crossing + over, step) if along else (crossing + step, over)
        yaw = (0.0 if along else np.pi / 2) + np.pi * rng.integers(2) + rng.normal(0, 0.1)
        yield _mover(rng, "pedestrian", where, yaw, rng.uniform(0.8, 1.7))
