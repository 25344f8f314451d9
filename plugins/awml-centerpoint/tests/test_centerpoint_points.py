"""Point files and merged sweeps: what is in the cloud, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from awml_centerpoint.points import Sweep, cloud, read_points
from awml_deploy_core.errors import ExitCode, LoadError

Array = np.ndarray[Any, np.dtype[Any]]


def written(path: Path, points: Any) -> Path:
    np.asarray(points, "<f4").tofile(path)
    return path


def turn(degrees: float, shift: tuple[float, float, float]) -> Array:
    angle, matrix = np.radians(degrees), np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = shift
    return matrix


def test_rows_are_read_as_they_stand_and_may_be_written(tmp_path: Path) -> None:
    points = np.arange(20, dtype=np.float32).reshape(4, 5)
    found = read_points(written(tmp_path / "a.bin", points), 5)
    np.testing.assert_array_equal(found, points)
    assert found.dtype == np.float32
    assert found.flags.writeable


def test_an_empty_file_is_a_frame_without_points(tmp_path: Path) -> None:
    assert read_points(written(tmp_path / "a.bin", []), 5).shape == (0, 5)
    assert cloud(tmp_path / "a.bin", 5, [], pad=2).shape == (0, 5)


def test_a_cut_file_is_named_with_its_size_and_columns(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(99))
    with pytest.raises(LoadError, match=r"a\.bin: has 99 bytes, .* of 5 float32") as error:
        read_points(tmp_path / "a.bin", 5)
    assert error.value.exit_code is ExitCode.EXPORT
    assert "load_dim" in str(error.value.hint)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"gone\.bin: the points cannot be read"):
        read_points(tmp_path / "gone.bin", 5)


def test_the_ring_of_the_key_frame_becomes_a_lag_of_zero(tmp_path: Path) -> None:
    path = written(tmp_path / "a.bin", [[1, 2, 3, 200, 17]])
    np.testing.assert_array_equal(cloud(path, 5, []), [[1, 2, 3, 200, 0]])


def test_a_file_of_four_columns_has_no_lag(tmp_path: Path) -> None:
    path = written(tmp_path / "a.bin", [[1, 2, 3, 200]])
    np.testing.assert_array_equal(cloud(path, 4, []), [[1, 2, 3, 200]])


def test_a_sweep_is_moved_and_gets_its_lag(tmp_path: Path) -> None:
    key = written(tmp_path / "key.bin", [[9, 9, 0, 1, 5]])
    path = written(tmp_path / "old.bin", [[3, 0, 1, 50, 7]])
    # A quarter turn to the left from key to sweep: a point ahead of the sweep lies to the right of the key frame.
    sweep = Sweep(path=path, lag=0.1, lidar_to_sensor=turn(90, (0.5, 0.25, -1)))
    found = cloud(key, 5, [sweep])
    np.testing.assert_allclose(found, [[9.0, 9.0, 0.0, 1.0, 0.0], [-0.5, -3.25, 2.0, 50.0, 0.1]], atol=1e-6)


def test_a_rotation_undoes_what_the_matrix_does(tmp_path: Path) -> None:
    # Without a shift the row product is the exact inverse, so points that the matrix moved come back.
    rng, matrix = np.random.default_rng(0), turn(33, (0, 0, 0))
    here = rng.uniform(2, 30, (50, 3))
    there = np.c_[here @ matrix[:3, :3].T, np.zeros((50, 2))]
    sweep = Sweep(path=written(tmp_path / "old.bin", there), lag=0.2, lidar_to_sensor=matrix)
    found = cloud(written(tmp_path / "key.bin", []), 5, [sweep])
    np.testing.assert_allclose(found[:, :3], here, atol=1e-5)


def test_what_is_close_to_a_sweep_s_sensor_is_dropped_before_it_is_moved(tmp_path: Path) -> None:
    rows = [[0.9, -0.9, 0, 1, 0], [1.0, 0, 0, 2, 0], [0, -1.5, 0, 3, 0], [-0.99, 0.99, 50, 4, 0]]
    key, old = written(tmp_path / "key.bin", rows), written(tmp_path / "old.bin", rows)
    found = cloud(key, 5, [Sweep(path=old, lag=1, lidar_to_sensor=turn(0, (5, 0, 0)))])
    assert found[:, 3].tolist() == [1, 2, 3, 4, 2, 3]
    assert found[4, 0] == -4


def test_the_key_frame_stands_in_for_sweeps(tmp_path: Path) -> None:
    key = written(tmp_path / "key.bin", [[0.5, 0, 0, 1, 3], [7, 0, 0, 2, 3]])
    assert cloud(key, 5, [], pad=2)[:, 3:].tolist() == [[1, 0], [2, 0], [2, 0], [2, 0]]


def test_points_that_are_no_numbers_stay_for_the_pipeline_to_count(tmp_path: Path) -> None:
    rows = [[np.nan, 5, 0, 1, 0], [np.inf, 5, 0, 1, 0], [5, 5, 0, 1, 0]]
    key, old = written(tmp_path / "key.bin", rows), written(tmp_path / "old.bin", rows)
    found = cloud(key, 5, [Sweep(path=old, lag=0, lidar_to_sensor=turn(10, (0, 0, 0)))])
    assert np.isfinite(found).all(1).tolist() == [False, False, True] * 2
