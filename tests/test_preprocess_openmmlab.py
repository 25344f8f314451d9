"""The same numbers as OpenMMLab's own transforms, where their packages are installed."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from awml_deploy_core.preprocess import build_preprocessing_pipeline

SHAPES = [(30, 40, 3), (41, 23, 3), (64, 64, 3), (200, 96, 3)]


def theirs(package: str, steps: list[dict[str, Any]], sample: dict[str, Any]) -> dict[str, Any]:
    """What a package's own transforms make of a sample, built by its own registry."""
    for needed in ("mmcv", package):
        module = "mmcv.transforms" if needed == "mmcv" else f"{needed}.datasets.transforms"
        pytest.importorskip(module, reason=f"needs {needed}", exc_type=ImportError)
    registry = importlib.import_module("mmcv.transforms" if package == "mmcv" else f"{package}.registry").TRANSFORMS
    results = copy.deepcopy(sample)
    for step in steps:
        results = registry.build(copy.deepcopy(step))(results)
    return results


def image(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def sample_of(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"img": image(shape), "img_shape": shape[:2], "ori_shape": shape[:2]}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "step",
    [
        {"type": "Resize", "scale": (50, 37)},
        {"type": "Resize", "scale": (96, 64), "keep_ratio": True},
        {"type": "Resize", "scale": (96, 64), "keep_ratio": True, "interpolation": "area"},
        {"type": "Resize", "scale_factor": 0.7},
        {"type": "Resize", "scale_factor": (1.3, 0.6), "interpolation": "nearest"},
        {"type": "Resize", "scale": 33, "interpolation": "bicubic"},
        {"type": "Resize", "scale": 33, "interpolation": "lanczos"},
        {"type": "Pad", "size": (96, 80), "pad_val": 114},
        {"type": "Pad", "size_divisor": 32, "pad_val": {"img": (1, 2, 3)}},
        {"type": "Pad", "pad_to_square": True, "size_divisor": 32, "padding_mode": "reflect"},
        {"type": "CenterCrop", "crop_size": (21, 14)},
        {"type": "CenterCrop", "crop_size": 50, "auto_pad": True, "pad_cfg": {"type": "Pad", "pad_val": 7}},
        {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
        {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "to_rgb": False},
    ],
)
def test_transforms_of_mmcv(step: dict[str, Any], shape: tuple[int, ...]) -> None:
    expected = theirs("mmcv", [step], sample_of(shape))
    done = build_preprocessing_pipeline([step])(sample_of(shape))
    np.testing.assert_array_equal(done["img"], expected["img"])
    assert done["img"].dtype == expected["img"].dtype
    for key in ("img_shape", "scale_factor", "scale", "keep_ratio"):
        assert done.get(key) == expected.get(key), key


def test_reading_as_mmcv(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a.jpg", "a.png"):
        Image.fromarray(image((30, 40, 3))).save(tmp_path / name)
        for colour in ("color", "grayscale", "unchanged"):
            steps = [{"type": "LoadImageFromFile", "color_type": colour, "to_float32": colour == "grayscale"}]
            expected = theirs("mmcv", steps, {"img_path": str(tmp_path / name)})
            done = build_preprocessing_pipeline(steps)({"img_path": str(tmp_path / name)})
            np.testing.assert_array_equal(done["img"], expected["img"])
            assert done["img"].dtype == expected["img"].dtype


def whole(package: str, steps: list[dict[str, Any]], preprocessor: dict[str, Any], shape: tuple[int, ...]) -> None:
    """A pipeline with the model's part behind it, from both sides."""
    torch = importlib.import_module("torch")
    packed = theirs(package, steps, sample_of(shape))
    importlib.import_module(f"{package}.models")
    model = importlib.import_module(f"{package}.registry").MODELS.build(copy.deepcopy(preprocessor)).eval()
    with torch.no_grad():
        expected = model({"inputs": [packed["inputs"]], "data_samples": [packed["data_samples"]]}, training=False)
    config = {"test_pipeline": steps, "model": {"data_preprocessor": preprocessor}}
    done = build_preprocessing_pipeline(config)(sample_of(shape))
    np.testing.assert_array_equal(done["inputs"], expected["inputs"][0].numpy())
    meta = expected["data_samples"][0].metainfo
    shared = meta.keys() & done["data_samples"].keys()
    assert {"ori_shape", "img_shape"} <= shared
    for key in shared:
        assert tuple(np.ravel(done["data_samples"][key])) == tuple(np.ravel(meta[key])), key


META = {"meta_keys": ("ori_shape", "img_shape", "scale_factor")}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_detector_of_mmdetection(shape: tuple[int, ...]) -> None:
    steps: list[dict[str, Any]] = [
        {"type": "Resize", "scale": (96, 96), "keep_ratio": True},
        {"type": "Pad", "pad_to_square": True, "pad_val": {"img": (114.0, 114.0, 114.0)}},
        {"type": "PackDetInputs", **META},
    ]
    whole("mmdet", steps, {"type": "DetDataPreprocessor", "pad_size_divisor": 32}, shape)
    normal = {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395], "bgr_to_rgb": True}
    whole("mmdet", [steps[0], steps[2]], {"type": "DetDataPreprocessor", **normal, "pad_size_divisor": 32}, shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("edge", ["short", "long", "width", "height"])
def test_a_classifier_of_mmpretrain(shape: tuple[int, ...], edge: str) -> None:
    steps: list[dict[str, Any]] = [
        {"type": "ResizeEdge", "scale": 64, "edge": edge},
        {"type": "CenterCrop", "crop_size": 48},
        {"type": "PackInputs", **META},
    ]
    normal = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    whole("mmpretrain", steps, {"type": "ClsDataPreprocessor", **normal}, shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("test_cfg", [None, {"size_divisor": 32}, {"size": (256, 256)}])
def test_a_segmenter_of_mmsegmentation(shape: tuple[int, ...], test_cfg: Any) -> None:
    normal = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
    preprocessor = {"type": "SegDataPreProcessor", **normal, "size": (64, 64), "pad_val": 3, "test_cfg": test_cfg}
    resizes: list[dict[str, Any]] = [
        {"type": "ResizeToMultiple", "size_divisor": 32},
        {"type": "ResizeShortestEdge", "scale": 48, "max_size": 90},
        {"type": "Resize", "scale": (96, 64), "keep_ratio": True},
    ]
    for step in resizes:
        whole("mmseg", [step, {"type": "PackSegInputs", **META}], preprocessor, shape)


@pytest.mark.parametrize("sweeps", [0, 1, 2, None])
@pytest.mark.parametrize("remove_close", [False, True])
def test_points_of_mmdetection3d(tmp_path: Path, sweeps: int | None, remove_close: bool) -> None:
    rng = np.random.default_rng(0)
    places = [tmp_path / f"{name}.bin" for name in range(4)]
    for place in places:
        rng.normal(0, 3, (200, 5)).astype(np.float32).tofile(place)
    matrix = np.eye(4) + rng.normal(0, 0.1, (4, 4))
    sample = {"lidar_points": {"lidar_path": str(places[0])}, "timestamp": 100.25}
    if sweeps is not None:
        sample["lidar_sweeps"] = [
            {
                "lidar_points": {"lidar_path": str(place), "lidar2sensor": matrix.tolist()},
                "timestamp": 100.25 - 0.05 * age,
            }
            for age, place in enumerate(places[1 : 1 + sweeps], start=1)
        ]
    steps: list[dict[str, Any]] = [
        {"type": "LoadPointsFromFile", "coord_type": "LIDAR", "load_dim": 5, "use_dim": 5},
        {
            "type": "LoadPointsFromMultiSweeps",
            "sweeps_num": 1,
            "use_dim": [0, 1, 2, 4],
            "pad_empty_sweeps": True,
            "remove_close": remove_close,
            "test_mode": True,
        },
        {"type": "PointsRangeFilter", "point_cloud_range": [-4, -4, -2, 4, 4, 2]},
        {"type": "Pack3DDetInputs", "keys": ["points"]},
    ]
    expected = theirs("mmdet3d", steps, sample)["inputs"]["points"].numpy()
    np.testing.assert_array_equal(build_preprocessing_pipeline(steps)(sample)["inputs"]["points"], expected)


@pytest.mark.parametrize(
    "more", [{"shift_height": True}, {"norm_intensity": True}, {"norm_intensity": True, "norm_elongation": True}]
)
def test_columns_of_mmdetection3d(tmp_path: Path, more: dict[str, Any]) -> None:
    np.random.default_rng(0).normal(0, 3, (200, 5)).astype(np.float32).tofile(tmp_path / "a.bin")
    sample = {"lidar_points": {"lidar_path": str(tmp_path / "a.bin")}}
    steps: list[dict[str, Any]] = [
        {"type": "LoadPointsFromFile", "coord_type": "LIDAR", "load_dim": 5, "use_dim": 5, **more},
        {"type": "Pack3DDetInputs", "keys": ["points"]},
    ]
    expected = theirs("mmdet3d", steps, sample)["inputs"]["points"].numpy()
    np.testing.assert_array_equal(build_preprocessing_pipeline(steps)(sample)["inputs"]["points"], expected)
