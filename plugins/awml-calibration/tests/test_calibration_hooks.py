"""What the plugin says of itself: its graph, its settings, its configs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import awml_calibration
from awml_calibration.hooks import COMPONENT, Config, export_workflow
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.records import Axis
from awml_deploy_core.settings import Options, settle

HERE = Path(awml_calibration.__file__).parent


def test_graph_is_what_the_node_binds() -> None:
    (component,) = export_workflow(Config())
    assert component.name == COMPONENT == "calibration_status_classifier"
    assert [(t.name, t.shape, t.dtype) for t in component.inputs] == [
        ("input", ("batch_size", 5, "height", "width"), "float32")
    ]
    assert [(t.name, t.shape, t.dtype) for t in component.outputs] == [("output", ("batch_size", 2), "float32")]
    assert component.axis("height") == Axis(name="height", min=1080, opt=1860, max=2160)
    assert component.axis("width") == Axis(name="width", min=1920, opt=2880, max=3840)
    assert component.axis("batch_size") == Axis(name="batch_size", max=8, independent=True)


def test_sizes_come_from_the_config() -> None:
    (component,) = export_workflow(Config(height=(64, 96, 128), width=(64, 64, 64), max_batch=1))
    assert component.axis("height") == Axis(name="height", min=64, opt=96, max=128)
    assert component.axis("batch_size").max == 1


@pytest.mark.parametrize(
    "path", [*sorted(HERE.glob("presets/[!_]*.py")), HERE / "example/config.py"], ids=lambda p: p.stem
)
def test_shipped_configs_are_right(path: Path) -> None:
    settled = settle(path, Options(model="calibration"), config_class=Config)
    assert not settled.notes
    config = settled.config
    assert isinstance(config, Config)
    assert config.task_type == "classification"
    assert config.class_names == ("miscalibrated", "calibrated")
    assert config.onnx_config.save_file == "calibration_status_classifier.onnx"
    assert config.onnx_config.opset_version == 16
    (component,) = export_workflow(config)
    for model_input in config.backend_config.model_inputs:
        profile = model_input.input_shapes["input"]
        for size, limit in (("min", "min_shape"), ("opt", "opt_shape"), ("max", "max_shape")):
            expected = (1, 5, getattr(component.axis("height"), size), getattr(component.axis("width"), size))
            assert getattr(profile, limit) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("channel_order = 'gbr'", "channel_order"),
        ("depth = 19", "depth"),
        ("height = (200, 100, 300)", "height"),
        ("width = (8, 100, 300)", "width"),
        ("max_depth = 0.0", "max_depth"),
        ("dilation_size = -1", "dilation_size"),
        ("base_chanels = 12", "base_channels"),
    ],
)
def test_faulty_settings_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(f"checkpoint_path = 'x'\n{line}\n")
    with pytest.raises(ConfigError, match=said):
        settle(path, Options(), config_class=Config)


def test_the_hooks_module_imports_nothing_heavy() -> None:
    code = "import sys, awml_calibration.hooks; print([m for m in ('torch', 'cv2', 'onnx') if m in sys.modules])"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == "[]"
