"""The presets of real size: written by one command, checked by another, and the networks that were released."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from awml_centerpoint import presets
from awml_centerpoint.architecture import architecture, geometry
from awml_centerpoint.graphs import components
from awml_centerpoint.hooks import Config
from awml_centerpoint.network import build
from awml_deploy_core.settings import Options, settle

COMMAND = [sys.executable, "-m", "awml_deploy_core"]

# Channels of the encoder, pillars along a side, entries and parameters of the weights; the latter two as measured on
# the original modules, the first preset having one channel less than the one that was measured.
PRESETS = {
    "base_2_6_0": (10, 1020, 510, 96000, 180, 4_619_103 - 16),
    "j6gen2_base_2_6_1": (11, 1020, 510, 96000, 180, 4_619_103),
    "short_range_2_convnext": (10, 640, 160, 64000, 196, 3_408_335),
}


def awml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def read(path: Path, **overrides: str) -> Config:
    found = settle(path, Options(model="centerpoint", **overrides), config_class=Config).config  # type: ignore[arg-type]
    assert isinstance(found, Config)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_released_network(name: str, folder: Path) -> None:
    made = awml(folder, "init", "--model", "centerpoint", name, "--preset", name)
    assert made.returncode == 0, made.stderr
    checked = awml(folder / name, "config", "check", "--model", "centerpoint", "config.py")
    assert checked.returncode == 0, checked.stderr
    config = read(folder / name / "config.py")
    channels, pillars, cells, most, entries, parameters = PRESETS[name]
    grid, network = geometry(config), architecture(config)
    assert network.channels == channels
    assert grid.grid == (pillars, pillars, 1)
    assert pillars // grid.out_size_factor == cells
    assert grid.max_voxels == most
    assert grid.max_num_points == 32
    model = build(network)
    assert len(model.state_dict()) == entries
    assert sum(each.numel() for each in model.parameters()) == parameters
    assert config.class_names == ("car", "truck", "bus", "bicycle", "pedestrian")
    assert config.rot_y_axis_reference


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_spells_out_is_what_the_plugin_says(name: str, folder: Path) -> None:
    """Names and order of tensors, and profiles within the axes; a preset shows them, it does not change them."""
    config = read(Path(presets.__file__).parent / f"{name}.py")
    for component in components(config):
        shown = config.components[component.name]
        assert [spec.name for spec in shown.io.inputs or ()] == [tensor.name for tensor in component.inputs]
        assert [spec.name for spec in shown.io.outputs or ()] == [tensor.name for tensor in component.outputs]
        (tensor,) = component.inputs
        profile = shown.tensorrt_profile[tensor.name]
        for sizes in (profile.min_shape, profile.opt_shape, profile.max_shape):
            assert sizes is not None
            for size, axis in zip(sizes, tensor.shape, strict=True):
                if isinstance(axis, int):
                    assert size == axis
                else:
                    known = component.axis(axis)
                    assert known.min <= size <= (known.max or size)


def test_a_preset_that_is_none_is_answered_with_those_there_are(folder: Path) -> None:
    done = awml(folder, "init", "--model", "centerpoint", "none", "--preset", "base_2_6")
    assert done.returncode == 2
    assert "base_2_6_0" in done.stderr
    done = awml(folder, "init", "--model", "centerpoint", "none", "--preset", "xyz")
    assert re.search("base_2_6_0, j6gen2_base_2_6_1, short_range_2_convnext", done.stderr)
    assert not (folder / "none").exists()
