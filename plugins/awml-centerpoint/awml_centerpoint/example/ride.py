"""A ride through a town: what the LiDAR gets at each moment, and what is there to be found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import frozen

from awml_centerpoint.example import town as streets
from awml_centerpoint.example.lidar import scan
from awml_centerpoint.example.shapes import Floats, Ints
from awml_centerpoint.example.town import Truth


@frozen(kw_only=True, eq=False)
class Moment:
    """One turn of the LiDAR.

    Args:
        time: Seconds since the ride began.
        pose: From the vehicle's axes to the town's, 4x4.
        points: (N, 5) float32: x, y, z in the vehicle's axes, intensity, beam.
        truth: All road users.
        counts: Points inside each of their boxes.
    """

    time: float
    pose: Floats
    points: Floats
    truth: Truth
    counts: Ints


def moments(seed: int, times: Sequence[float]) -> list[Moment]:
    """Some moments of the ride through the town of that seed; the same for the same seed, whatever came before."""
    town = streets.found(seed)
    return [_moment(town, time, np.random.default_rng([seed, 1, number])) for number, time in enumerate(times)]


def _moment(town: streets.Town, time: float, rng: np.random.Generator) -> Moment:
    own = streets.pose(town, time)
    points = scan(streets.standing(town, time), town.ground, own, rng).points
    pose = np.eye(4)
    c, s = np.cos(own.yaw), np.sin(own.yaw)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:3, 3] = own.x, own.y, own.z
    truth = streets.truth(town, time)
    return Moment(time=time, pose=pose, points=points, truth=truth, counts=inside(points, truth.boxes))


def inside(points: Floats, boxes: Floats) -> Ints:
    """How many points lie in each box, its surface included."""
    counts = np.zeros(len(boxes), np.int64)
    order = np.argsort(points[:, 0], kind="stable")
    x = points[order, 0]
    for index, box in enumerate(boxes):
        reach = float(np.hypot(box[3], box[4])) / 2
        first, last = np.searchsorted(x, (box[0] - reach, box[0] + reach))
        offset = points[order[first:last], :3].astype(np.float64) - box[:3]
        c, s = np.cos(box[6]), np.sin(box[6])
        local = np.stack([offset[:, 0] * c + offset[:, 1] * s, offset[:, 1] * c - offset[:, 0] * s, offset[:, 2]], 1)
        counts[index] = (np.abs(local) <= box[3:6] / 2).all(1).sum()
    return counts


def merge(key: Moment, earlier: Moment) -> Floats:
    """The points of two turns in the axes of the first, (N, 5): x, y, z, intensity, seconds of age."""
    ours, theirs = key.points.copy(), earlier.points.copy()
    change = np.linalg.inv(key.pose) @ earlier.pose
    theirs[:, :3] = theirs[:, :3] @ change[:3, :3].T + change[:3, 3]
    ours[:, 4], theirs[:, 4] = 0, key.time - earlier.time
    return np.concatenate([ours, theirs])
