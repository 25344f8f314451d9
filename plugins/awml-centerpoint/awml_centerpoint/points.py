"""Points from files, and several sweeps as one cloud."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from awml_deploy_core.errors import LoadError

__all__ = ["LAG", "Sweep", "cloud", "read_points"]

Array = np.ndarray[Any, np.dtype[Any]]

LAG = 4
"""Column that holds a ring in the file and seconds since the sweep in the cloud."""

CLOSE = 1.0
"""Metres around a sweep's sensor, along x and along y, whose points are the vehicle itself."""


@frozen(kw_only=True, eq=False)
class Sweep:
    """An earlier turn of the sensor.

    Args:
        path: File of its points.
        lag: Seconds from it to the key frame.
        lidar_to_sensor: From the key frame's axes to this sweep's, 4x4.
    """

    path: Path
    lag: float
    lidar_to_sensor: Array


def cloud(path: Path, load_dim: int, sweeps: Sequence[Sweep], *, pad: int = 0) -> Array:
    """The key frame and its sweeps in the key frame's axes, float32 (points, load_dim), with the lag in column 4.

    Points that are no numbers stay in: whoever makes pillars drops and counts them.

    Args:
        path: File of the key frame.
        load_dim: Columns of every file.
        sweeps: What is merged with it, in the order of the info file.
        pad: How often the key frame stands in for sweeps that do not exist, without what is close to the sensor.

    Raises:
        LoadError: If a file is missing or no whole number of points, naming it.
    """
    key = read_points(path, load_dim)
    _set_lag(key, 0.0)
    return np.concatenate([key, *[_distant(key)] * pad, *(_moved(sweep, load_dim) for sweep in sweeps)])


def read_points(path: Path, columns: int) -> Array:
    """Rows of float32, writable; a file may be empty.

    Raises:
        LoadError: If the file is missing or its size is no whole number of points.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "Check runtime_io.data_root, and that the data set is complete, earlier sweeps too."
        raise LoadError(f"{path}: the points cannot be read: {error.strerror}", hint=hint) from error
    if len(data) % (4 * columns):
        raise LoadError(
            f"{path}: has {len(data)} bytes, which is no whole number of points of {columns} float32",
            hint="The file is cut off, or load_dim and num_pts_feats are not its columns.",
        )
    return np.frombuffer(data, "<f4").reshape(-1, columns).astype(np.float32)


def _moved(sweep: Sweep, load_dim: int) -> Array:
    """A sweep's points where the key frame sees them. AWML's own product, with points as rows."""
    points = _distant(read_points(sweep.path, load_dim))
    with np.errstate(invalid="ignore", over="ignore"):  # points that are no numbers
        points[:, :3] = points[:, :3] @ sweep.lidar_to_sensor[:3, :3]
        points[:, :3] -= sweep.lidar_to_sensor[:3, 3]
    _set_lag(points, sweep.lag)
    return points


def _distant(points: Array) -> Array:
    """Points that are not of the vehicle that carries the sensor."""
    near = (np.abs(points[:, :2]) < CLOSE).all(1)
    return np.asarray(points[~near])


def _set_lag(points: Array, lag: float) -> None:
    if points.shape[1] > LAG:
        points[:, LAG] = lag
