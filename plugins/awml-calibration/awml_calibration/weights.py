"""The trained network: its architecture from the config, its weights from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from awml_calibration.network import CHANNELS, STAGES, Classifier
from awml_deploy_core.checkpoint import load_state, read_checkpoint
from awml_deploy_core.configfile import read_config
from awml_deploy_core.errors import ConfigError, LoadError

if TYPE_CHECKING:
    from torch import Tensor

    from awml_calibration.hooks import Config


@frozen(kw_only=True)
class Architecture:
    """Which ResNet.

    Args:
        depth: 18, 34, 50 or 101.
        width: Channels of the first stage.
        classes: Number of classes.
    """

    depth: int
    width: int
    classes: int = 2


def load(config: Config) -> Classifier:
    """The network with its trained weights, in eval mode.

    Raises:
        LoadError: If the weights do not fit, naming the keys.
    """
    if config.checkpoint_path is None:
        raise LoadError("checkpoint_path is not set, so there are no weights to load", hint="Name the trained weights.")
    chosen = architecture(config)
    model = Classifier(chosen.depth, chosen.width, CHANNELS, chosen.classes)
    tensors = renamed(read_checkpoint(config.checkpoint_path, trust=config.trust_checkpoint).tensors)
    check_channels(tensors, config.checkpoint_path)
    load_state(model, tensors, source=str(config.checkpoint_path))
    return model.eval()


def architecture(config: Config) -> Architecture:
    """What AWML's model config says if there is one, else the config's own keys."""
    if config.model_config is None:
        return Architecture(depth=config.depth, width=config.base_channels)
    path = config.model_config
    model = _section(read_config(path).values, "model", path)
    backbone, head = _section(model, "backbone", path), _section(model, "head", path)
    kind = str(backbone.get("type", "ResNet")).rpartition(".")[2]
    depth, channels = backbone.get("depth", 18), backbone.get("in_channels", 3)
    if kind != "ResNet" or depth not in STAGES:
        raise ConfigError(
            f"{path}: model.backbone is {kind} of depth {depth}", hint=f"Available: ResNet of depth {_listed(STAGES)}."
        )
    if channels != CHANNELS:
        raise ConfigError(
            f"{path}: model.backbone.in_channels is {channels}, the calibration image has {CHANNELS} channels",
            hint="Name the config of a CalibrationStatusClassification model.",
        )
    return Architecture(depth=depth, width=backbone.get("base_channels", 64), classes=head.get("num_classes", 2))


def _section(values: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    section = values.get(key)
    if not isinstance(section, Mapping):
        hint = "Name AWML's model config, or leave model_config out and set depth."
        raise ConfigError(f"{path}: has no section {key!r}, from which the architecture is read", hint=hint)
    return section


def _listed(numbers: Mapping[int, object]) -> str:
    return ", ".join(map(str, numbers))


def renamed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Torchvision's names as mmpretrain's; other names stay."""
    if "conv1.weight" not in tensors or "backbone.conv1.weight" in tensors:
        return tensors
    return {("head." if name.startswith("fc.") else "backbone.") + name: value for name, value in tensors.items()}


def check_channels(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a network that was trained on other images, before it is called a mismatch of shapes."""
    first = tensors.get("backbone.conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != CHANNELS:
        raise LoadError(
            f"{path}: was trained on images of {first.shape[1]} channels, "
            f"this model takes {CHANNELS} (three colours, depth, intensity)",
            hint="Use a checkpoint of CalibrationStatusClassification; a network for colour images must be trained on.",
        )
