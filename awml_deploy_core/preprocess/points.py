"""What test pipelines do to LiDAR points, a float32 array (N, columns) in `points`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.preprocess.registry import Results, Transform, need, register_transform

__all__: list[str] = []

Points = NDArray[np.float32]


def _columns(load_dim: int, use_dim: int | Sequence[int]) -> list[int]:
    chosen = list(range(use_dim)) if isinstance(use_dim, int) else list(use_dim)
    if not chosen or max(chosen) >= load_dim or min(chosen) < 0:
        raise ConfigError(f"use_dim {use_dim} does not lie in load_dim {load_dim}")
    return chosen


def _read(place: Any, load_dim: int) -> Points:
    """The points of a file; `place` is the info's dict with `lidar_path`."""
    path = place.get("lidar_path") if isinstance(place, Mapping) else None
    if path is None:
        raise LoadError("there is no 'lidar_path' in the sample's lidar_points")
    try:
        numbers = np.load(path) if str(path).endswith(".npy") else np.frombuffer(Path(path).read_bytes(), np.float32)
    except (OSError, ValueError) as error:
        raise LoadError(f"{path}: the points cannot be read: {error}") from error
    if numbers.size % load_dim:
        raise LoadError(
            f"{path}: {numbers.size} numbers do not make rows of {load_dim}", hint="load_dim must be the file's own."
        )
    return np.array(numbers, np.float32).reshape(-1, load_dim)


@register_transform("LoadPointsFromFile", "LoadPointsFromDict")
def load_points(
    *,
    coord_type: str = "LIDAR",
    load_dim: int = 6,
    use_dim: int | Sequence[int] = (0, 1, 2),
    shift_height: bool = False,
    use_color: bool = False,  # noqa: ARG001  only names columns there
    norm_intensity: bool = False,
    norm_elongation: bool = False,
    file_client_args: Any = None,  # noqa: ARG001  files are local here
    backend_args: Any = None,  # noqa: ARG001
) -> Transform:
    """Read `lidar_points.lidar_path` and keep some columns, or take `points` that are there already as they are."""
    columns = _columns(load_dim, use_dim)
    if coord_type not in {"LIDAR", "DEPTH", "CAMERA"}:
        raise ConfigError(f"coord_type {coord_type!r} is not known", hint="There are LIDAR, DEPTH and CAMERA.")
    squeezed = [at for at, wanted in ((3, norm_intensity), (4, norm_elongation)) if wanted]
    if squeezed and len(columns) <= max(squeezed):
        raise ConfigError(f"norm_intensity is of column 3 and norm_elongation of 4, there are {len(columns)} columns")

    def run(results: Results) -> Results:
        if results.get("points") is not None:
            return {**results, "points": np.asarray(results["points"], np.float32)}
        points = _read(need(results, "lidar_points"), load_dim)[:, columns]
        for column in squeezed:
            points[:, column] = np.tanh(points[:, column])
        if shift_height:
            # The floor is where one point in ten thousand lies lower: mmdetection3d's 0.99 is in percent.
            height = points[:, 2:3] - np.percentile(points[:, 2], 0.99)
            points = np.concatenate([points[:, :3], height.astype(np.float32), points[:, 3:]], axis=1)
        return {**results, "points": points}

    return run


@register_transform("LoadPointsFromMultiSweeps")
def load_sweeps(
    *,
    sweeps_num: int = 10,
    load_dim: int = 5,
    use_dim: int | Sequence[int] = (0, 1, 2, 4),
    pad_empty_sweeps: bool = False,
    remove_close: bool = False,
    test_mode: bool = False,  # noqa: ARG001  nothing is left to chance here
    file_client_args: Any = None,  # noqa: ARG001  files are local here
    backend_args: Any = None,  # noqa: ARG001
) -> Transform:
    """Add the points of earlier sweeps in the frame of this one; column 4 becomes their age in seconds.

    The first `sweeps_num` of `lidar_sweeps` are taken. Where the sample has none, `pad_empty_sweeps` repeats its own.
    """
    columns = _columns(load_dim, use_dim)

    def run(results: Results) -> Results:
        points = np.array(need(results, "points"), np.float32)
        if points.shape[1] < 5:
            raise LoadError(f"column 4 is to hold ages, and the points have {points.shape[1]} columns")
        points[:, 4] = 0
        parts = [points]
        if "lidar_sweeps" in results:
            now = need(results, "timestamp")
            parts += [_sweep(one, now, load_dim, remove_close) for one in results["lidar_sweeps"][:sweeps_num]]
        elif pad_empty_sweeps:
            parts += [_far(points) if remove_close else points] * sweeps_num
        return {**results, "points": np.concatenate(parts)[:, columns]}

    return run


def _sweep(sweep: Mapping[str, Any], now: float, load_dim: int, remove_close: bool) -> Points:
    points = _read(sweep.get("lidar_points"), load_dim)
    points = _far(points) if remove_close else points
    try:
        matrix, then = np.asarray(sweep["lidar_points"]["lidar2sensor"]), sweep["timestamp"]
    except KeyError as error:
        raise LoadError(f"a sweep has no {error}") from error
    points[:, :3] = points[:, :3] @ matrix[:3, :3]
    points[:, :3] -= matrix[:3, 3]
    points[:, 4] = now - then
    return points


def _far(points: Points) -> Points:
    """Without the square of two metres around the sensor."""
    kept: Points = points[~(np.abs(points[:, :2]) < 1.0).all(axis=1)]
    return kept


@register_transform("PointsRangeFilter")
def range_filter(*, point_cloud_range: Sequence[float]) -> Transform:
    """Keep the points strictly inside x, y, z low and x, y, z high."""
    limits = np.asarray(point_cloud_range, np.float32)
    if limits.shape != (6,) or not (limits[:3] < limits[3:]).all():
        raise ConfigError(f"point_cloud_range must be six numbers, low before high, got {point_cloud_range!r}")

    def run(results: Results) -> Results:
        points = need(results, "points")
        inside = ((points[:, :3] > limits[:3]) & (points[:, :3] < limits[3:])).all(axis=1)
        return {**results, "points": points[inside]}

    return run
