"""Older configs are read in today's words, and nothing that mattered is lost in silence."""

from __future__ import annotations

from typing import Any

import pytest

from awml_deploy_core.config import Backend, Config
from awml_deploy_core.dialect import DROPPED, MOVED, REFUSED, translate
from awml_deploy_core.strict import structure


def typed(values: dict[str, Any]) -> Config:
    translation = translate(values)
    assert translation.faults == ()
    return structure(translation.values, Config, where="c.py")


def nested(path: str, value: Any) -> dict[str, Any]:
    for step in reversed(path.split(".")):
        value = {step: value}
    assert isinstance(value, dict)
    return value


NEWER: dict[str, Any] = {
    "task_type": "detection3d",
    "checkpoint_path": "model.pth",
    "export": {"mode": "both", "work_dir": "work_dirs/deployment", "onnx_path": None},
    "runtime_io": {"info_file": "data/info.pkl", "sample_idx": 0},
    "model_io": {
        "input_name": "input",
        "input_shape": (3, 960, 960),
        "input_dtype": "float32",
        "output_name": "output",
        "batch_size": 1,
        "dynamic_axes": {...},
    },
    "onnx_config": {
        "opset_version": 16,
        "do_constant_folding": True,
        "save_file": "model.onnx",
        "multi_file": False,
    },
    "backend_config": {"common_config": {"precision_policy": "auto", "max_workspace_size": 1 << 30}},
    "verification": {
        "enabled": True,
        "num_verify_samples": 3,
        "tolerance": 0.1,
        "devices": {"cpu": "cpu", "cuda": "cuda:0"},
        "scenarios": {
            "both": [
                {"ref_backend": "pytorch", "ref_device": "cpu", "test_backend": "onnx", "test_device": "cpu"},
                {"ref_backend": "onnx", "ref_device": "cpu", "test_backend": "tensorrt", "test_device": "cuda:0"},
            ]
        },
    },
    "evaluation": {
        "enabled": True,
        "num_samples": 100,
        "verbose": False,
        "backends": {
            Backend.PYTORCH: {"enabled": True, "device": "cpu"},
            "onnx": {"enabled": True, "device": "cpu"},
            "tensorrt": {"enabled": True, "device": "cuda:0"},
        },
    },
}

OLDER: dict[str, Any] = {
    "task_type": "detection2d",
    "checkpoint_path": "model.pth",
    "export": {"mode": "both", "verify": True, "device": "cuda:0", "work_dir": "work_dirs"},
    "backend_config": {
        "common_config": {"precision_policy": "explicit_int8", "max_workspace_size": 1 << 30},
        "model_inputs": [...],
    },
    "verification": {"num_verify_samples": 3, "tolerance": 1e-3},
    "evaluation": {
        "enabled": True,
        "num_samples": 100,
        "models": {"pytorch": "m.pth", "onnx": "work_dirs/model.onnx", "tensorrt": "work_dirs/model.engine"},
    },
}


def test_the_newer_documented_form_is_accepted() -> None:
    config = typed(NEWER)
    assert config.evaluation.backends[Backend.PYTORCH].enabled is True
    assert config.verification.scenarios is not None
    assert config.verification.scenarios["both"][1].test_backend is Backend.TENSORRT
    assert config.model_io.dynamic_axes is None  # `{...}` in a document means: as you like
    assert config.model_io.input_shape == (3, 960, 960)


def test_the_older_documented_form_is_accepted() -> None:
    config = typed(OLDER)
    assert config.verification.enabled is True
    assert str(config.evaluation.models[Backend.TENSORRT]) == "work_dirs/model.engine"
    assert config.backend_config.model_inputs == ()
    assert config.backend_config.common_config.precision_policy == "explicit_int8"


def test_the_component_map_is_accepted() -> None:
    config = typed(
        {
            "components": {
                "pts_voxel_encoder": {
                    "onnx_file": "pts_voxel_encoder.onnx",
                    "engine_file": "pts_voxel_encoder.engine",
                    "io": {
                        "inputs": [{"name": "input_features", "dtype": "float32"}],
                        "outputs": [{"name": "pillar_features"}],
                        "dynamic_axes": {"input_features": {0: "num_voxels", 1: "num_max_points"}},
                    },
                    "tensorrt_profile": {
                        "input_features": {
                            "min_shape": [1000, 32, 11],
                            "opt_shape": [20000, 32, 11],
                            "max_shape": [96000, 32, 11],
                        }
                    },
                }
            },
            "tensorrt_config": {"precision_policy": "fp16", "plugin_libraries": ()},
        }
    )
    encoder = config.components["pts_voxel_encoder"]
    assert encoder.tensorrt_profile["input_features"].max_shape == (96000, 32, 11)
    assert config.backend_config.common_config.precision_policy == "fp16"


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_every_moved_key_arrives_and_is_noted(old: str, new: str) -> None:
    translation = translate(nested(old, "value"))
    arrived: Any = translation.values
    for step in new.split("."):
        arrived = arrived[step]
    assert arrived == "value"
    assert translation.notes == (f"`{old}` is read as `{new}`",)


@pytest.mark.parametrize("old", DROPPED)
def test_every_dropped_key_is_noted(old: str) -> None:
    translation = translate(nested(old, {"x": 1}))
    assert f"`{old}` is ignored" in translation.notes[0]
    assert structure(translation.values, Config, where="c.py") == Config()


@pytest.mark.parametrize("old", REFUSED)
def test_every_refused_key_is_a_fault_with_a_remedy(old: str) -> None:
    (fault,) = translate(nested(old, True)).faults
    assert fault.path == f"$.{old}"
    assert fault.hint


def test_a_plugin_s_own_key_is_left_alone() -> None:
    translation = translate({"rot_y_axis_reference": True}, known=frozenset({"rot_y_axis_reference"}))
    assert translation.values == {"rot_y_axis_reference": True}
    assert translation.faults == ()


def test_an_older_and_a_newer_spelling_may_agree_but_not_differ() -> None:
    same = translate({"export": {"verify": False}, "verification": {"enabled": False}})
    assert same.faults == ()
    (fault,) = translate({"export": {"verify": True}, "verification": {"enabled": False}}).faults
    assert fault.path == "$.export.verify"
    assert "keep `verification.enabled`" in fault.hint


def test_the_two_names_of_the_tensorrt_section_join() -> None:
    values = {
        "tensorrt_config": {"precision_policy": "fp16"},
        "backend_config": {"common_config": {"max_workspace_size": 5}},
    }
    assert typed(values).backend_config.common_config.max_workspace_size == 5
    assert typed(values).backend_config.common_config.precision_policy == "fp16"


def test_the_mode_may_be_written_in_capitals() -> None:
    assert typed({"export": {"mode": "ONNX"}}).export.mode == "onnx"


def test_the_given_values_are_left_as_they_were() -> None:
    given = {"export": {"verify": True, "mode": "ONNX"}, "tensorrt_config": {}}
    translate(given)
    assert given == {"export": {"verify": True, "mode": "ONNX"}, "tensorrt_config": {}}


@pytest.mark.parametrize("section", ["export", "verification", "backend_config", "onnx_config", "evaluation"])
def test_a_section_that_is_no_table_is_left_to_the_strict_reader(section: str) -> None:
    assert translate({section: 3, "tensorrt_config": {}, "model_cfg": "m.py"}).values[section] == 3
