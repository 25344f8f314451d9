"""The example and the presets on disk: complete, the same everywhere, and readable."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from awml_deploy_core.settings import Options, settle
from awml_yolox.example.scene import draw
from awml_yolox.example.train import FIRST_HELD_OUT, FIRST_SCENE, architecture
from awml_yolox.example.views import INPUT
from awml_yolox.example.write import INFO, SCENES, write, write_data
from awml_yolox.hooks import CLASS_NAMES, Config
from awml_yolox.network import named

PRESETS = ("yolox_s_opt_elan_960x960_t4dataset", "yolox_s_640_coco")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("street")
    write(directory)
    return directory


@pytest.fixture(scope="module")
def config(folder: Path) -> Config:
    found = settle(folder / "config.py", Options(model="yolox"), config_class=Config).config
    assert isinstance(found, Config)
    return found


def test_the_folder_holds_what_the_config_names(folder: Path, config: Config) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.py", "data", "weights.safetensors"]
    assert config.checkpoint_path == Path("weights.safetensors")
    assert config.runtime_io.ann_file == Path("data") / INFO
    assert config.runtime_io.img_prefix == Path("data")
    assert config.class_names == CLASS_NAMES


def test_shipped_weights_are_small(folder: Path) -> None:
    assert (folder / "weights.safetensors").stat().st_size < 2_000_000


def test_the_config_describes_a_network_of_the_training_script(config: Config) -> None:
    mine = named(
        config.arch,
        deepen_factor=config.deepen_factor,
        widen_factor=config.widen_factor,
        out_channels=config.out_channels,
        num_elan_blocks=config.num_elan_blocks,
    )
    assert mine == architecture(2, 0.1875, 24, 1)
    assert config.input_size == INPUT


def test_the_pictures_are_those_of_the_info_file(folder: Path) -> None:
    info = json.loads((folder / "data" / INFO).read_text())
    assert tuple(info["metainfo"]["classes"]) == CLASS_NAMES
    assert len(info["data_list"]) == SCENES
    labels = set()
    for seed, item in enumerate(info["data_list"]):
        image = cv2.imread(str(folder / "data" / item["img_path"]), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (item["height"], item["width"], 3)
        labels |= {instance["bbox_label"] for instance in item["instances"]}
        if seed in (0, SCENES - 1):
            scene = draw(seed)
            np.testing.assert_array_equal(image, scene.image)
            assert [instance["bbox"] for instance in item["instances"]] == scene.boxes.tolist()
            assert [instance["bbox_label"] for instance in item["instances"]] == scene.labels.tolist()
    assert labels == set(range(8))


def test_the_training_never_sees_the_examples_streets() -> None:
    assert min(FIRST_SCENE, FIRST_HELD_OUT) > SCENES


def test_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert write_data(one, range(2)).read_bytes() == write_data(two, range(2)).read_bytes()
    for name in ("street_00.png", "street_01.png"):
        written = (one / "images" / name).read_bytes()
        assert written == (two / "images" / name).read_bytes() == (folder / "data" / "images" / name).read_bytes()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_config_of_this_model(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text((files("awml_yolox.presets") / f"{name}.py").read_text())
    found = settle(path, Options(model="yolox"), config_class=Config).config
    assert isinstance(found, Config)
    assert len(set(found.names)) == (8 if "elan" in name else 80)


def test_every_preset_is_tested() -> None:
    folder = files("awml_yolox.presets")
    assert {entry.name for entry in folder.iterdir() if entry.name.endswith(".py")} == {
        "__init__.py",
        *(f"{name}.py" for name in PRESETS),
    }


def test_the_preset_for_autoware_has_nothing_free(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text((files("awml_yolox.presets") / f"{PRESETS[0]}.py").read_text())
    found = settle(path, Options(model="yolox"), config_class=Config).config
    assert isinstance(found, Config)
    assert found.model_io.batch_size == 6
    assert found.input_size == (960, 960)
    assert found.onnx_config.opset_version == 11
    assert found.onnx_config.save_file == "yolox_s_opt_elan_batch_6.onnx"
    assert found.in_graph == "outside"
