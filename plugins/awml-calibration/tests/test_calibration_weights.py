"""Checkpoints: mmengine's and torchvision's names load, everything else is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from awml_calibration.hooks import Config, load_model
from awml_calibration.network import Classifier
from awml_deploy_core.errors import ConfigError, ExitCode, LoadError


def config(path: Path, **fields: Any) -> Config:
    return Config(checkpoint_path=path, **{"base_channels": 4, **fields})


def state(width: int = 4, **fields: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return Classifier(18, width, **fields).state_dict()


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    return path


def test_mmengine_checkpoint_loads_in_eval_mode(tmp_path: Path) -> None:
    weights = state()
    model = load_model(config(saved(tmp_path, {"meta": {"epoch": 3}, "state_dict": weights, "optimizer": {}})))
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_torchvision_names_load(tmp_path: Path) -> None:
    weights = state()
    renamed = {name.removeprefix("backbone.").removeprefix("head."): value for name, value in weights.items()}
    assert "layer1.0.conv1.weight" in renamed
    assert "fc.bias" in renamed
    model = load_model(config(saved(tmp_path, renamed)))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_architecture_comes_from_the_model_config(tmp_path: Path) -> None:
    model_config = tmp_path / "model.py"
    model_config.write_text(
        "model = dict(backbone=dict(type='mmpretrain.ResNet', depth=50, in_channels=5, base_channels=8),"
        " head=dict(num_classes=3))"
    )
    torch.manual_seed(0)
    weights = Classifier(50, 8, classes=3).state_dict()
    model = load_model(config(saved(tmp_path, weights), depth=18, base_channels=4, model_config=model_config))
    assert model.state_dict()["head.fc.weight"].shape == (3, 8 * 8 * 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = dict(backbone=dict(depth=18), head=dict())", "in_channels is 3"),
        ("model = dict(backbone=dict(type='VGG', in_channels=5), head=dict())", "VGG"),
        ("model = dict(backbone=dict(depth=152, in_channels=5), head=dict())", "152"),
        ("model = dict(head=dict())", "'backbone'"),
        ("x = 1", "'model'"),
    ],
)
def test_model_config_of_something_else_is_a_config_error(tmp_path: Path, text: str, said: str) -> None:
    model_config = tmp_path / "model.py"
    model_config.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_model(config(saved(tmp_path, state()), model_config=model_config))


def test_wrong_channel_count_is_said_in_channels(tmp_path: Path) -> None:
    path = saved(tmp_path, state(channels=3))
    with pytest.raises(LoadError, match=r"weights\.pth: was trained on images of 3 channels, this model takes 5") as e:
        load_model(config(path))
    assert e.value.exit_code is ExitCode.EXPORT
    assert e.value.hint


def broken(name: str) -> dict[str, Tensor]:
    weights = dict(state())
    if name == "missing":
        del weights["backbone.layer2.0.downsample.0.weight"]
    elif name == "unexpected":
        weights["neck.weight"] = torch.zeros(1)
    elif name == "shape":
        weights["head.fc.bias"] = torch.zeros(7)
    else:
        weights["backbone.layer4.1.bn2.bias"] = torch.full((32,), float("nan"))
    return weights


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "layer2.0.downsample.0.weight"),
        ("unexpected", "neck.weight"),
        ("shape", "head.fc.bias"),
        ("nan", "layer4.1.bn2.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        load_model(config(saved(tmp_path, broken(name))))


def test_no_checkpoint_is_a_load_error() -> None:
    with pytest.raises(LoadError, match="checkpoint_path"):
        load_model(Config())
