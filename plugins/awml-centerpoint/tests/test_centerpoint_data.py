"""Info files as samples: what is read, in which order, and what is refused with which words."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from awml_centerpoint.config import Config
from awml_centerpoint.hooks import load_samples
from awml_deploy_core.config import RuntimeIO
from awml_deploy_core.errors import ConfigError, ExitCode, LoadError
from awml_deploy_core.records import Sample

POINTS = np.random.default_rng(0).uniform(2, 20, (50, 5)).astype("<f4")
OLDER = np.random.default_rng(1).uniform(2, 20, (30, 5)).astype("<f4")
CLASSES = ["car", "truck", "bus", "bicycle", "pedestrian"]
BOX = [1.0, 2.0, 0.5, 4.0, 1.8, 1.5, 0.25]


def instance(label: int = 0, points: int = 9, **changes: Any) -> dict[str, Any]:
    known = {"bbox_3d": BOX, "bbox_label_3d": label, "num_lidar_pts": points, "velocity": [1.5, -0.5]}
    return changed({**known, "bbox_3d_isvalid": True}, changes)


def sweep(index: int = 0, **changes: Any) -> dict[str, Any]:
    lidar = {"lidar_path": f"lidar/old{index}.bin", "num_pts_feats": 5, "lidar2sensor": np.eye(4).tolist()}
    return {"timestamp": 99.9 - index / 10, "lidar_points": changed(lidar, changes)}


def entry(index: int = 0, **changes: Any) -> dict[str, Any]:
    lidar = {"lidar_path": f"lidar/{index}.bin", "num_pts_feats": 5, "lidar2ego": np.eye(4)}
    known = {"token": f"token{index}", "sample_idx": index, "timestamp": 100.0, "instances": [instance()]}
    return changed({**known, "lidar_points": lidar, "lidar_sweeps": [sweep()]}, changes)


def changed(given: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**given, **changes}.items() if value is not ...}


def info(folder: Path, *entries: Any, classes: Any = CLASSES, **fields: Any) -> Config:
    (folder / "lidar").mkdir(exist_ok=True)
    for index in range(len(entries)):
        POINTS.tofile(folder / f"lidar/{index}.bin")
    for index in range(3):
        OLDER.tofile(folder / f"lidar/old{index}.bin")
    return written(folder, {"data_list": list(entries), "metainfo": {"version": "x", "classes": classes}}, **fields)


def written(folder: Path, content: Any, **fields: Any) -> Config:
    (folder / "infos.pkl").write_bytes(pickle.dumps(content))
    fields = {"point_columns": (0, 1, 2, 3, 4), **fields}
    return Config(runtime_io=RuntimeIO(info_file=folder / "infos.pkl", data_root=folder), **fields)


def samples(config: Config) -> Sequence[Sample]:
    found: Sequence[Sample] = load_samples("evaluate", config)
    return found


def test_every_entry_is_a_sample_with_its_files(tmp_path: Path) -> None:
    found = samples(info(tmp_path, entry(0), entry(1, lidar_sweeps=[])))
    assert [sample.id for sample in found] == ["token0", "token1"]
    assert found[0].files == (tmp_path / "lidar/0.bin", tmp_path / "lidar/old0.bin")
    assert found[1].files == (tmp_path / "lidar/1.bin",)
    assert {sample.sequence for sample in found} == {None}


def test_the_cloud_is_the_key_frame_and_its_sweep_with_lags(tmp_path: Path) -> None:
    points = samples(info(tmp_path, entry()))[0].load().inputs["points"]
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[:50], np.c_[POINTS[:, :4], np.zeros(50)])
    np.testing.assert_allclose(points[50:], np.c_[OLDER[:, :4], np.full(30, 0.1)], atol=1e-6)


def test_only_the_columns_of_the_network_are_handed_on(tmp_path: Path) -> None:
    points = samples(info(tmp_path, entry(), point_columns=(0, 1, 2, 4)))[0].load().inputs["points"]
    np.testing.assert_array_equal(points[:50, :3], POINTS[:, :3])
    np.testing.assert_allclose(np.unique(points[:, 3]), [0, 0.1], atol=1e-6)


@pytest.mark.parametrize(("wanted", "rows", "missing"), [(0, 50, 0), (1, 80, 0), (2, 110, 0), (3, 110, 1)])
def test_the_first_sweeps_are_taken_and_missing_ones_told(tmp_path: Path, wanted: int, rows: int, missing: int) -> None:
    config = info(tmp_path, entry(lidar_sweeps=[sweep(0), sweep(1)]), sweeps=wanted)
    sample = samples(config)[0]
    inputs = sample.load().inputs
    assert inputs["points"].shape == (rows, 5)
    assert inputs["missing_sweeps"] == missing
    assert [path.name for path in sample.files] == ["0.bin", "old0.bin", "old1.bin"][: 1 + wanted]


def test_an_entry_that_knows_no_sweeps_gets_its_key_frame_again(tmp_path: Path) -> None:
    inputs = samples(info(tmp_path, entry(lidar_sweeps=...), sweeps=2))[0].load().inputs
    np.testing.assert_array_equal(inputs["points"], np.tile(np.c_[POINTS[:, :4], np.zeros(50)], (3, 1)))
    assert inputs["missing_sweeps"] == 2


def test_nothing_is_read_before_it_is_loaded(tmp_path: Path) -> None:
    sample = samples(info(tmp_path, entry()))[0]
    (tmp_path / "lidar/old0.bin").unlink()
    with pytest.raises(LoadError, match=r"old0\.bin: the points cannot be read"):
        sample.load()


def test_entries_of_one_name_keep_their_own_ids(tmp_path: Path) -> None:
    found = samples(info(tmp_path, entry(0), entry(1, token="token0"), entry(2, token=..., sample_idx=7)))
    assert [sample.id for sample in found] == ["token0", "token0#2", "7"]


# ---------------------------------------------------------------- truth


def truth(folder: Path, *instances: Any, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = samples(info(folder, entry(instances=list(instances)), **fields))[0].load().ground_truth
    return found


def test_truth_is_the_task_s_tree(tmp_path: Path) -> None:
    found = truth(tmp_path, instance(4, 3), instance(1, 12, velocity=...))
    np.testing.assert_allclose(found["boxes"], [BOX, BOX])
    np.testing.assert_array_equal(found["labels"], [4, 1])
    np.testing.assert_array_equal(found["points"], [3, 12])
    np.testing.assert_array_equal(found["velocities"], [[1.5, -0.5], [np.nan, np.nan]])
    assert [found[name].dtype for name in ("boxes", "labels", "velocities", "points")] == ["f4", "i8", "f4", "i8"]


def test_objects_without_points_or_label_are_left_out(tmp_path: Path) -> None:
    found = truth(tmp_path, instance(0, 0), instance(-1, 5), instance(2, 1), instance(3, num_lidar_pts=...))
    np.testing.assert_array_equal(found["labels"], [2, 3])
    np.testing.assert_array_equal(found["points"], [1, -1])


def test_objects_left_out_for_want_of_points_are_counted_for_the_report(tmp_path: Path) -> None:
    objects = [instance(0, 0), instance(-1, 0), instance(1, 0), instance(2, 1), instance(3, num_lidar_pts=...)]
    (one,) = samples(info(tmp_path, entry(instances=objects)))
    assert one.load().inputs["unseen_truths"] == 2
    (none,) = samples(info(tmp_path, entry(instances=...)))
    assert none.load().inputs["unseen_truths"] == 0


def test_a_frame_without_objects_has_an_empty_truth(tmp_path: Path) -> None:
    found = truth(tmp_path)
    assert [found[name].shape for name in ("boxes", "labels", "velocities", "points")] == [(0, 7), (0,), (0, 2), (0,)]
    config = info(tmp_path, entry(instances=...))
    assert samples(config)[0].load().ground_truth is None


def test_labels_are_folded_by_the_names_of_the_file(tmp_path: Path) -> None:
    names = ["pedestrian", "animal", "bus", "car", "truck", "bicycle"]
    found = truth(tmp_path, *(instance(label) for label in range(6)), classes=names)
    np.testing.assert_array_equal(found["labels"], [4, 2, 0, 1, 3])
    numbered = {name: number for number, name in reversed(list(enumerate(names)))}
    config = written(tmp_path, {"data_list": [entry(instances=[instance(0)])], "metainfo": {"categories": numbered}})
    np.testing.assert_array_equal(samples(config)[0].load().ground_truth["labels"], [4])


def test_a_file_with_fewer_classes_or_none_is_fine(tmp_path: Path) -> None:
    np.testing.assert_array_equal(truth(tmp_path, instance(1), classes=["bus", "car"])["labels"], [0])
    config = written(tmp_path, {"data_list": [entry(instances=[instance(3)])]})
    np.testing.assert_array_equal(samples(config)[0].load().ground_truth["labels"], [3])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bbox_3d": ...}, "entry 0: instance 1: 'bbox_3d' must be 7 finite numbers"),
        ({"bbox_3d": BOX[:6]}, "instance 1: 'bbox_3d' must be 7 finite numbers"),
        ({"bbox_3d": [*BOX[:6], float("nan")]}, "instance 1: 'bbox_3d' must be 7 finite numbers"),
        ({"bbox_label_3d": ...}, "instance 1: 'bbox_label_3d' must be a class's number or -1, got None"),
        ({"bbox_label_3d": "car"}, "instance 1: 'bbox_label_3d' must be a class's number"),
        ({"bbox_label_3d": 5}, "instance 1: 'bbox_label_3d' is 5, but the classes are car, truck"),
        ({"bbox_label_3d": -2}, "instance 1: 'bbox_label_3d' must be a class's number"),
        ({"num_lidar_pts": "many"}, "instance 1: 'num_lidar_pts' must be a number of points"),
        ({"velocity": [1, 2, 3]}, "instance 1: 'velocity' must be 2 numbers"),
    ],
)
def test_faulty_object_is_named_with_its_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError, match=said) as error:
        truth(tmp_path, instance(), instance(**changes))
    assert "infos.pkl" in error.value.message
    assert error.value.hint


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lidar_points": ...}, "entry 1: has no 'lidar_points'"),
        ({"lidar_points": {"num_pts_feats": 5}}, "entry 1: lidar_points: has no 'lidar_path'"),
        ({"lidar_points": {"lidar_path": "a", "num_pts_feats": 4}}, "num_pts_feats is 4, but load_dim is 5"),
        ({"instances": {}}, "entry 1: 'instances' is no list"),
        ({"lidar_sweeps": {}}, "entry 1: 'lidar_sweeps' is no list"),
        ({"lidar_sweeps": [7]}, "entry 1: sweep 0: has no 'lidar_points'"),
        ({"lidar_sweeps": [sweep(lidar_path="")]}, "entry 1: sweep 0: lidar_points: has no 'lidar_path'"),
        ({"lidar_sweeps": [sweep(lidar2sensor=...)]}, "sweep 0: lidar_points: 'lidar2sensor' must be 4x4"),
        ({"lidar_sweeps": [sweep(lidar2sensor=np.full((4, 4), np.nan))]}, "'lidar2sensor' must be 4x4 finite"),
        ({"timestamp": ...}, "entry 1: 'timestamp' must be seconds, got None"),
        ({"timestamp": float("nan")}, "entry 1: 'timestamp' must be seconds, got nan"),
        ({"lidar_sweeps": [{**sweep(), "timestamp": "noon"}]}, "entry 1: sweep 0: 'timestamp' must be seconds"),
    ],
)
def test_faulty_entry_is_named_with_its_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError, match=said) as error:
        samples(info(tmp_path, entry(0), entry(1, **changes)))
    assert "infos.pkl" in error.value.message
    assert error.value.hint
    assert error.value.exit_code is ExitCode.EXPORT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds no data_list"),
        ({"infos": []}, "holds no data_list"),
        ({"data_list": {}}, "holds no data_list"),
        ({"data_list": []}, "data_list is empty"),
        ({"data_list": [7]}, "entry 0: has no 'lidar_points'"),
        ({"data_list": [{"image": {}, "frame_id": "CAM_FRONT"}]}, "entry 0: has no 'lidar_points'"),
        ({"data_list": [entry()], "metainfo": {"classes": "car"}}, "metainfo: the classes are no list of names"),
        ({"data_list": [entry()], "metainfo": {"classes": {"car": 1}}}, "metainfo: the classes are no list of names"),
    ],
)
def test_file_that_is_no_info_file(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        samples(written(tmp_path, content))


def test_an_info_file_for_calibration_is_not_taken_for_one_without_objects(tmp_path: Path) -> None:
    calibration: dict[str, Any] = {"frame_id": "CAM_FRONT", "image": {"img_path": "a.jpg"}, "scene_id": "s"}
    item = entry(**calibration, instances=..., lidar_sweeps=..., token=...)
    with pytest.raises(LoadError, match=r"infos\.pkl: entry 0: .*as AWML's info files for calibration do") as error:
        samples(info(tmp_path, item))
    assert "three dimensions" in str(error.value.hint)
    assert len(samples(info(tmp_path, entry(images={}, instances=...)))) == 1


def test_classes_of_other_names_on_both_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"its classes are CAR, truck.*the network's car, bicycle are not among them"):
        samples(info(tmp_path, entry(), classes=["CAR", "truck", "bus", "pedestrian"]))


def test_no_info_file_named_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"runtime_io\.info_file"):
        samples(Config())


def test_missing_info_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"nowhere\.pkl"):
        samples(Config(runtime_io=RuntimeIO(info_file=tmp_path / "nowhere.pkl")))
