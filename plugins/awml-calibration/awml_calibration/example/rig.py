"""A car with one LiDAR on its roof and three cameras, somewhere in a street."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from awml_calibration.example.scene import Lens
from awml_calibration.noise import Doubles, rotation

SIZE = (320, 192)
CAMERAS = {"CAM_FRONT": 0.0, "CAM_FRONT_LEFT": 42.0, "CAM_FRONT_RIGHT": -42.0}
"""Channels of the info file, and how many degrees to the left each one looks."""

_LOOKING = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
"""Turns a camera's axes (right, down, ahead) into the car's (ahead, left, up)."""


@frozen(kw_only=True, eq=False)
class Rig:
    """Where the sensors are.

    Args:
        lidar: Pose of the LiDAR in the street, 4x4.
        lenses: The cameras, by channel.
    """

    lidar: Doubles
    lenses: dict[str, Lens]


def mount(rng: np.random.Generator) -> Rig:
    """A car of its own for every draw: no two have their sensors at the same place."""
    car = _pose(rng.uniform((-3, -2.2, 0), (4, -1.3, 0)), (0, 0, rng.normal(0, 1.5)))
    lidar = car @ _pose(rng.normal((0, 0, 2.05), 0.05), rng.normal(0, 0.5, 3))
    return Rig(lidar=lidar, lenses={name: _lens(rng, car, ahead) for name, ahead in CAMERAS.items()})


def _lens(rng: np.random.Generator, car: Doubles, ahead: float) -> Lens:
    width, height = SIZE
    place = rng.uniform((0.5, -0.2, 1.45), (1.1, 0.2, 1.75))
    place[1] += 0.5 * np.sign(ahead)
    pose = car @ _pose(place, (0, 0, ahead)) @ _pose((0, 0, 0), rng.normal((0, 1.5, 0), (1.2, 2.2, 4)))
    pose[:3, :3] = pose[:3, :3] @ _LOOKING
    focal = rng.uniform(205, 250)
    bent = rng.uniform((-0.30, 0.05, -0.001, -0.001, -0.02), (-0.18, 0.10, 0.001, 0.001, 0.0)) if ahead else np.zeros(5)
    x, y = rng.normal((width / 2, height / 2), 3)
    return Lens(matrix=np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]]), distortion=bent, size=SIZE, pose=pose)


def _pose(place: Doubles | tuple[float, ...], degrees: Doubles | tuple[float, ...]) -> Doubles:
    """A place and turns about the axes ahead, left and up."""
    roll, pitch, yaw = np.radians(degrees)
    pose = np.eye(4)
    pose[:3, :3] = rotation(np.array([0, 0, 1.0]), yaw) @ rotation(np.array([0, 1.0, 0]), pitch)
    pose[:3, :3] = pose[:3, :3] @ rotation(np.array([1.0, 0, 0]), roll)
    pose[:3, 3] = place
    return pose
