"""What is done to LiDAR points, worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.preprocess import build_preprocessing_pipeline

POINTS = np.random.default_rng(0).normal(0, 5, (50, 5)).astype(np.float32)


def run(sample: dict[str, Any], *steps: dict[str, Any]) -> dict[str, Any]:
    return build_preprocessing_pipeline(list(steps))(sample)


def saved(path: Path, points: np.ndarray[Any, Any] = POINTS) -> dict[str, Any]:
    np.save(path, points) if path.suffix == ".npy" else points.astype(np.float32).tofile(path)
    return {"lidar_points": {"lidar_path": str(path)}}


LOAD = {"type": "LoadPointsFromFile", "coord_type": "LIDAR", "load_dim": 5, "use_dim": 5}


@pytest.mark.parametrize("name", ["a.bin", "a.npy"])
def test_points_are_read_and_columns_chosen(tmp_path: Path, name: str) -> None:
    sample = saved(tmp_path / name)
    np.testing.assert_array_equal(run(sample, LOAD)["points"], POINTS)
    np.testing.assert_array_equal(run(sample, {**LOAD, "use_dim": [0, 1, 2, 4]})["points"], POINTS[:, [0, 1, 2, 4]])
    np.testing.assert_array_equal(run({"points": POINTS}, LOAD)["points"], POINTS)


def test_intensity_elongation_and_height(tmp_path: Path) -> None:
    sample = saved(tmp_path / "a.bin")
    done = run(sample, {**LOAD, "norm_intensity": True, "norm_elongation": True})["points"]
    np.testing.assert_allclose(done[:, 3:], np.tanh(POINTS[:, 3:]), rtol=1e-6)
    np.testing.assert_array_equal(done[:, :3], POINTS[:, :3])
    raised = run(sample, {**LOAD, "use_dim": 4, "shift_height": True})["points"]
    assert raised.shape == (50, 5)
    np.testing.assert_allclose(raised[:, 3], POINTS[:, 2] - np.percentile(POINTS[:, 2], 0.99), rtol=1e-5)
    np.testing.assert_array_equal(raised[:, 4], POINTS[:, 3])


def sweep(path: Path, points: np.ndarray[Any, Any], matrix: np.ndarray[Any, Any], when: float) -> dict[str, Any]:
    place = saved(path, points)["lidar_points"]
    return {"lidar_points": {**place, "lidar2sensor": matrix.tolist()}, "timestamp": when}


def test_sweeps_are_moved_into_the_frame_and_carry_their_age(tmp_path: Path) -> None:
    # A quarter turn and a shift: row vectors times the matrix, less the shift.
    matrix = np.array([[0, -1, 0, 3], [1, 0, 0, -2], [0, 0, 1, 1], [0, 0, 0, 1]], np.float32)
    old = np.array([[4, 5, 6, 9, 9], [0.5, -0.5, 2, 9, 9], [0.5, 7, 2, 9, 9]], np.float32)
    first, second = sweep(tmp_path / "b.bin", old, matrix, 9.5), sweep(tmp_path / "c.bin", old + 100, matrix, 9.0)
    sample = {"points": POINTS, "timestamp": 10.0, "lidar_sweeps": [first, second]}
    step = {"type": "LoadPointsFromMultiSweeps", "sweeps_num": 1, "load_dim": 5, "use_dim": 5, "test_mode": True}
    done = run(sample, step)["points"]
    assert done.shape == (53, 5)
    np.testing.assert_array_equal(done[:50, :4], POINTS[:, :4])
    np.testing.assert_array_equal(done[:50, 4], 0)
    np.testing.assert_allclose(done[50], [5 - 3, -4 + 2, 6 - 1, 9, 0.5])
    np.testing.assert_array_equal(sample["points"], POINTS)
    close = run(sample, {**step, "remove_close": True, "sweeps_num": 2})["points"]
    assert len(close) == 50 + 2 + 3
    assert set(close[:, 4].tolist()) == {0.0, 0.5, 1.0}


def test_without_sweeps_a_frame_may_be_repeated() -> None:
    step = {"type": "LoadPointsFromMultiSweeps", "sweeps_num": 2, "use_dim": [0, 1, 2, 4]}
    sample = {"points": POINTS}
    assert run(sample, step)["points"].shape == (50, 4)
    repeated = run(sample, {**step, "pad_empty_sweeps": True})["points"]
    np.testing.assert_array_equal(repeated, np.concatenate([np.c_[POINTS[:, :3], np.zeros(50, np.float32)]] * 3))
    close = int((np.abs(POINTS[:, :2]) < 1).all(axis=1).sum())
    assert close
    assert len(run(sample, {**step, "pad_empty_sweeps": True, "remove_close": True})["points"]) == 150 - 2 * close


def test_the_range_is_open_on_both_sides() -> None:
    edges = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [0.5, 0.5, 1], [0, 0.5, 0.5]], np.float32)
    done = run({"points": edges}, {"type": "PointsRangeFilter", "point_cloud_range": [0, 0, 0, 1, 1, 1]})
    np.testing.assert_array_equal(done["points"], edges[2:3])


def test_a_whole_pipeline_of_mmdetection3d(tmp_path: Path) -> None:
    config = {
        "model": {
            "data_preprocessor": {
                "type": "Det3DDataPreprocessor",
                "voxel": True,
                "voxel_layer": {"max_num_points": 32, "voxel_size": [0.3, 0.3, 8], "max_voxels": (1, 2)},
            }
        },
        "test_pipeline": [
            LOAD,
            {"type": "LoadPointsFromMultiSweeps", "sweeps_num": 1, "use_dim": [0, 1, 2, 4], "pad_empty_sweeps": True},
            {
                "type": "MultiScaleFlipAug3D",
                "img_scale": (1333, 800),
                "pts_scale_ratio": 1,
                "flip": False,
                "transforms": [
                    {
                        "type": "GlobalRotScaleTrans",
                        "rot_range": [0, 0],
                        "scale_ratio_range": [1.0, 1.0],
                        "translation_std": [0, 0, 0],
                    },
                    {"type": "RandomFlip3D", "flip_ratio_bev_horizontal": 0.5},
                    {"type": "PointsRangeFilter", "point_cloud_range": [-3, -3, -3, 3, 3, 3]},
                ],
            },
            {"type": "Pack3DDetInputs", "keys": ["points", "gt_bboxes_3d"]},
        ],
    }
    sample = {**saved(tmp_path / "a.bin"), "sample_idx": 7}
    done = build_preprocessing_pipeline(config)(sample)
    inside = POINTS[(np.abs(POINTS[:, :3]) < 3).all(axis=1)]
    assert done["inputs"].keys() == {"points"}
    np.testing.assert_array_equal(done["inputs"]["points"][: len(inside), :3], inside[:, :3])
    assert len(done["inputs"]["points"]) == 2 * len(inside)
    assert done["data_samples"]["sample_idx"] == 7
    assert done["data_samples"]["pcd_scale_factor"] == 1


def test_images_beside_points_are_finished_too() -> None:
    steps = [{"type": "Pack3DDetInputs", "keys": ["points", "img"]}]
    config = {"test_pipeline": steps, "data_preprocessor": {"type": "Det3DDataPreprocessor", "pad_size_divisor": 32}}
    done = build_preprocessing_pipeline(config)({"points": POINTS, "img": np.ones((30, 40, 3), np.uint8)})
    assert done["inputs"]["img"].shape == (3, 32, 64)
    np.testing.assert_array_equal(done["inputs"]["points"], POINTS)


@pytest.mark.parametrize(
    ("step", "fact"),
    [
        ({**LOAD, "use_dim": 6}, "use_dim 6 does not lie in load_dim 5"),
        ({**LOAD, "coord_type": "MAP"}, "coord_type 'MAP' is not known"),
        ({**LOAD, "use_dim": 3, "norm_intensity": True}, "there are 3 columns"),
        ({"type": "PointsRangeFilter", "point_cloud_range": [0, 0, 0, -1, 1, 1]}, "low before high"),
        ({"type": "Pack3DDetInputs", "keys": ["gt_bboxes_3d"]}, "neither 'points' nor 'img'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(step: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        build_preprocessing_pipeline([step])


def test_files_that_cannot_be_meant_are_named(tmp_path: Path) -> None:
    sample = saved(tmp_path / "a.bin", np.zeros(7))
    with pytest.raises(LoadError, match=r"a\.bin: 7 numbers do not make rows of 5"):
        run(sample, LOAD)
    (tmp_path / "b.bin").write_bytes(b"abc")
    with pytest.raises(LoadError, match=r"b\.bin: the points cannot be read"):
        run({"lidar_points": {"lidar_path": tmp_path / "b.bin"}}, LOAD)
    with pytest.raises(LoadError, match=r"c\.bin: the points cannot be read: .*No such file"):
        run({"lidar_points": {"lidar_path": tmp_path / "c.bin"}}, LOAD)
    with pytest.raises(LoadError, match="no 'lidar_path'"):
        run({"lidar_points": {}}, LOAD)
    step = {"type": "LoadPointsFromMultiSweeps"}
    with pytest.raises(LoadError, match="the points have 4 columns"):
        run({"points": POINTS[:, :4]}, step)
    place = saved(tmp_path / "d.bin")["lidar_points"]
    with pytest.raises(LoadError, match="a sweep has no 'lidar2sensor'"):
        run({"points": POINTS, "timestamp": 1.0, "lidar_sweeps": [{"lidar_points": place}]}, step)
