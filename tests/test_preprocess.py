"""Finding a config's test pipeline, making a function of it, and saying what is wrong with it."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config

from awml_deploy_core.errors import ConfigError, LoadError, PluginError
from awml_deploy_core.preprocess import build_preprocessing_pipeline, register_transform, registry

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
STEPS = [
    {"type": "LoadImageFromFile", "backend_args": None},
    {"type": "mmdet.LoadAnnotations", "with_bbox": True},
    {"type": "Resize", "scale": (20, 20), "keep_ratio": True, "_scope_": "mmdet"},
    {"type": "mmdet.datasets.transforms.Pad", "pad_to_square": True, "pad_val": {"img": (114.0, 114.0, 114.0)}},
    {"type": "PackDetInputs", "meta_keys": ("img_path", "ori_shape", "img_shape", "scale_factor")},
]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.known()
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))


def test_a_pipeline_makes_inputs_and_says_what_it_did() -> None:
    sample = {"img": IMAGE, "img_path": "a.png", "more": 1}
    done = build_preprocessing_pipeline(STEPS)(sample)
    assert done["inputs"].shape == (3, 20, 20)
    assert done["inputs"].dtype == np.uint8
    assert (done["inputs"][:, 15:] == 114).all()
    assert done["data_samples"] == {
        "img_path": "a.png",
        "ori_shape": (30, 40),
        "img_shape": (20, 20),
        "scale_factor": (0.5, 0.5),
    }
    assert sample == {"img": IMAGE, "img_path": "a.png", "more": 1}


@pytest.mark.parametrize(
    "place",
    [
        {"test_pipeline": STEPS},
        {"test_dataloader": {"dataset": {"pipeline": STEPS}}},
        {"test_dataloader": {"dataset": {"type": "RepeatDataset", "dataset": {"pipeline": STEPS}}}},
        {"test_dataloader": {"dataset": {"type": "ConcatDataset", "datasets": [{"pipeline": STEPS}]}}},
        {"data": {"test": {"pipeline": STEPS}}},
    ],
)
def test_the_pipeline_is_found_where_configs_have_it(place: dict[str, Any], tmp_path: Path) -> None:
    expected = build_preprocessing_pipeline(STEPS)({"img": IMAGE})["inputs"]
    file = tmp_path / "model.py"
    file.write_text("\n".join(f"{key} = {value!r}" for key, value in place.items()))
    for given in (place, file, str(file), Config(place), Config.fromfile(file)):
        np.testing.assert_array_equal(build_preprocessing_pipeline(given)({"img": IMAGE})["inputs"], expected)


def test_of_two_pipelines_the_named_one_is_used_and_the_difference_is_said(caplog: pytest.LogCaptureFixture) -> None:
    both = {"test_pipeline": STEPS, "test_dataloader": {"dataset": {"pipeline": STEPS[:1]}}}
    logging.getLogger("awml_deploy_core").propagate = True
    with caplog.at_level(logging.WARNING):
        assert "inputs" in build_preprocessing_pipeline(both)({"img": IMAGE})
    assert "test_dataloader.dataset.pipeline differs from test_pipeline, which is used" in caplog.text


def test_new_style_configs_name_classes(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "from mmengine.config import read_base\n"
        "with read_base():\n    from .base import *\n"
        "from mmdet.datasets.transforms import PackDetInputs, Resize\n"
        "test_pipeline = [dict(type='LoadImageFromFile'), dict(type=Resize, scale=(8, 6)), dict(type=PackDetInputs)]\n"
    )
    (tmp_path / "base.py").write_text("answer = 42\n")
    assert build_preprocessing_pipeline(file)({"img": IMAGE})["inputs"].shape == (3, 6, 8)


@pytest.mark.parametrize(
    ("config", "fact", "hint"),
    [
        ({"test_pipelin": STEPS}, "there is no test_pipeline", "test_pipelin"),
        ({}, "there is no test_pipeline", "Set test_pipeline"),
        (3, "a model's config is wanted, got int", "mmengine"),
        ({"test_pipeline": "Resize"}, "test_pipeline: a list of transforms is wanted, got str", ""),
        ({"test_pipeline": [{"scale": 3}]}, r"test_pipeline\[0\]: a transform is a dict with a `type`", ""),
        ([{"type": "Resise", "scale": 3}], r"test_pipeline\[0\]: there is no transform 'Resise'", "'Resize'"),
        ([{"type": "Mosaik3000"}], "there is no transform 'Mosaik3000'", "register_transform"),
        ([{"type": "Resize", "scales": 3}], r"\[0\] Resize: there is no argument 'scales'", "'scale'"),
        ([{"type": "Normalize", "mean": [0]}], "Normalize: it needs std", ""),
        ([{"type": "Resize", "scale": (3, -1)}], "Resize: scale must be a size of two positive whole numbers", ""),
        ([{"type": "Resize", "scale": 3, "backend": "pillow"}], "the backend 'pillow' is not supported", "cv2"),
        ([{"type": "Resize", "scale": 3, "interpolation": "linear"}], "interpolation 'linear'", "bilinear"),
        ([{"type": "Compose", "transforms": [{"type": "Paad"}]}], r"Compose: transforms\[0\]: .* 'Paad'", "'Pad'"),
    ],
)
def test_what_cannot_be_meant_is_named_with_the_nearest(config: Any, fact: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=fact) as caught:
        build_preprocessing_pipeline(config)
    assert hint in (caught.value.hint or "")


def test_a_fault_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("test_pipeline = [dict(type='Resise')]")
    with pytest.raises(ConfigError, match=r"model\.py: test_pipeline\[0\]"):
        build_preprocessing_pipeline(file)


def test_a_sample_that_lacks_something_says_where_and_what() -> None:
    run = build_preprocessing_pipeline([{"type": "Resize", "scale": 3}])
    with pytest.raises(LoadError, match=r"test_pipeline\[0\] Resize: the sample has no 'img' here, it has points"):
        run({"points": 0})
    load = build_preprocessing_pipeline([{"type": "LoadImageFromFile"}])
    with pytest.raises(LoadError, match="no 'img_path'"):
        load({})


# ---------------------------------------------------------------- transforms of one's own


def test_a_function_can_be_registered() -> None:
    @register_transform("Brighten", "Lighten")
    def brighten(*, by: int) -> registry.Transform:
        return lambda results: {**results, "img": results["img"] + by}

    run = build_preprocessing_pipeline([{"type": "foo.Brighten", "by": 2}, {"type": "Lighten", "by": 3}])
    assert run({"img": 1})["img"] == 6
    with pytest.raises(ConfigError, match="Brighten: there is no argument 'amount'"):
        build_preprocessing_pipeline([{"type": "Brighten", "amount": 1}])


def test_classes_of_either_kind_can_be_registered() -> None:
    @register_transform()
    class AsInMMDetection:
        def __init__(self, by: int = 1) -> None:
            self.by = by

        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return {**results, "img": results["img"] + self.by}

    @register_transform("Doubled")
    class Callable:
        def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
            return {**results, "img": results["img"] * 2}

    @register_transform("InPlace")
    def in_place() -> registry.Transform:
        def run(results: dict[str, Any]) -> dict[str, Any]:
            results["img"] += 1
            return results

        return run

    steps = [{"type": "AsInMMDetection", "by": 4}, {"type": "Doubled"}]
    assert build_preprocessing_pipeline(steps)({"img": 1})["img"] == 10
    sample = {"img": 1}
    assert build_preprocessing_pipeline([{"type": "InPlace"}, *steps])(sample)["img"] == 12
    assert sample == {"img": 1}


def test_a_name_is_not_taken_by_accident() -> None:
    def mine(**_: Any) -> registry.Transform:
        return lambda results: {**results, "mine": True}

    with pytest.raises(PluginError, match=r"transform 'Resize' of .*mine is there already, from .*sizes\.resize"):
        register_transform("Resize")(mine)
    register_transform("Resize", replace=True)(mine)
    assert build_preprocessing_pipeline([{"type": "Resize", "scale": 3}])({})["mine"]


def test_a_module_that_is_loaded_again_may_register_again() -> None:
    def make() -> Any:
        def again(**_: Any) -> registry.Transform:
            return lambda results: results

        return again

    register_transform("Again")(make())
    register_transform("Again")(make())


# ---------------------------------------------------------------- nothing by chance

CHANCE: list[tuple[dict[str, Any], str]] = [
    ({"type": "RandomFlip", "prob": 0.5}, "prob 0.5 leaves a flip to chance"),
    ({"type": "RandomFlip", "flip_ratio": [0.0, 0.5]}, "leaves a flip to chance"),
    ({"type": "RandomFlip3D", "flip_ratio_bev_horizontal": 0.5}, "a flip is left to chance"),
    ({"type": "GlobalRotScaleTrans"}, "rot_range .* changes the points by chance"),
    (
        {
            "type": "GlobalRotScaleTrans",
            "rot_range": [0, 0],
            "scale_ratio_range": [1.0, 1.0],
            "translation_std": [1, 0, 0],
        },
        "translation_std .* changes the points by chance",
    ),
    ({"type": "MultiScaleFlipAug3D", "transforms": [], "flip": True}, "flip would average"),
    ({"type": "MultiScaleFlipAug3D", "transforms": [], "pts_scale_ratio": 0.9}, "pts_scale_ratio 0.9 would scale"),
    ({"type": "MultiScaleFlipAug3D", "transforms": [], "img_scale": [(1, 2), (3, 4)]}, "img_scale must be one, got 2"),
    ({"type": "MultiScaleFlipAug", "transforms": [], "allow_flip": True}, "flip would average"),
    ({"type": "TestTimeAug", "transforms": [[{"type": "Pad"}, {"type": "Pad"}]]}, "a list of one choice is wanted"),
]


@pytest.mark.parametrize(("step", "fact"), CHANCE)
def test_what_is_left_to_chance_is_refused(step: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        build_preprocessing_pipeline([step])


@pytest.mark.parametrize(
    "step",
    [
        {"type": "RandomFlip"},
        {"type": "RandomFlip", "prob": 0.0},
        {"type": "RandomFlip3D"},
        {"type": "GlobalRotScaleTrans", "rot_range": [0, 0], "scale_ratio_range": [1.0, 1.0]},
        {"type": "LoadAnnotations3D", "with_bbox_3d": True},
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "DefaultFormatBundle3D", "class_names": ["car"], "with_label": False},
    ],
)
def test_what_does_nothing_at_test_time_does_nothing(step: dict[str, Any]) -> None:
    done = build_preprocessing_pipeline([step])({"img": IMAGE, "points": IMAGE[0]})
    assert done["img"] is IMAGE
    np.testing.assert_array_equal(done["points"], IMAGE[0])


def test_one_scale_in_an_augmentation_is_a_plain_pipeline() -> None:
    plain = build_preprocessing_pipeline([{"type": "Resize", "scale": (20, 16)}, {"type": "PackDetInputs"}])
    old = {
        "type": "MultiScaleFlipAug",
        "img_scale": (20, 16),
        "flip": False,
        "transforms": [
            {"type": "Resize", "keep_ratio": False},
            {"type": "RandomFlip", "flip_ratio": 0.5},
            {"type": "ImageToTensor", "keys": ["img"]},
            {"type": "Collect", "keys": ["img"]},
        ],
    }
    new = {
        "type": "MultiScaleFlipAug",
        "scales": [(20, 16)],
        "resize_cfg": {"type": "Resize", "keep_ratio": False},
        "transforms": [{"type": "PackDetInputs"}],
    }
    choices = {
        "type": "TestTimeAug",
        "transforms": [[{"type": "Resize", "scale": (20, 16)}], [{"type": "PackDetInputs"}]],
    }
    expected = plain({"img": IMAGE})["inputs"]
    for step in (old, new, choices):
        np.testing.assert_array_equal(build_preprocessing_pipeline([step])({"img": IMAGE})["inputs"], expected)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, awml_deploy_core.preprocess as p; print(sorted({'cv2', 'torch', 'numpy'} & set(sys.modules)));"
        "p.build_preprocessing_pipeline([dict(type='PointsRangeFilter', point_cloud_range=[0, 0, 0, 1, 1, 1])]);"
        "print(sorted({'cv2', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['numpy']", "[]"]
