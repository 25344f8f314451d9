"""CalibrationStatusClassification: does the LiDAR lie where the camera says it does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen, validators

from awml_deploy_core.config import Config as CoreConfig
from awml_deploy_core.hookspecs import hookimpl
from awml_deploy_core.records import Axis, Component, Sample, Tensor

if TYPE_CHECKING:
    from torch import nn

    from awml_deploy_core.records import Agreement, Frame, Metrics, Picture, Pipeline, Record

COMPONENT = "calibration_status_classifier"
"""The graph's name, and the stem of the file that Autoware's node loads."""

CLASS_NAMES = ("miscalibrated", "calibrated")
"""The order of the outputs, where a config does not name them."""

Sizes = tuple[int, int, int]


def _ascending(_instance: object, _attribute: object, value: Sizes) -> None:
    if not 32 <= value[0] <= value[1] <= value[2]:
        raise ValueError(f"must be min, opt, max in ascending order and at least 32, got {value}")


@frozen(kw_only=True)
class Config(CoreConfig):
    """Settings of this model beside the common ones.

    Args:
        depth: Layers of the ResNet; `model_config`, where given, wins over it.
        base_channels: Channels of its first stage; `model_config`, where given, wins over it.
        channel_order: Which colour the first channel holds. `bgr` is what AWML trains on; Autoware's CUDA
            preprocessing makes `rgb`.
        max_depth: Metres that become 255 in the depth channel; farther points are left out.
        dilation_size: Pixels that a point grows to each side.
        noise_seed: Another number draws other wrong calibrations.
        height: Smallest, usual and largest height of an image.
        width: Smallest, usual and largest width of an image.
        max_batch: Largest number of images that go through the network together.
    """

    depth: Literal[18, 34, 50, 101] = 18
    base_channels: int = field(default=64, validator=validators.ge(1))
    channel_order: Literal["bgr", "rgb"] = "bgr"
    max_depth: float = field(default=128.0, validator=validators.gt(0))
    dilation_size: int = field(default=1, validator=validators.ge(0))
    noise_seed: int = 0
    height: Sizes = field(default=(1080, 1860, 2160), validator=_ascending)
    width: Sizes = field(default=(1920, 2880, 3840), validator=_ascending)
    max_batch: int = field(default=8, validator=validators.ge(1))


@hookimpl
def load_model(config: Config) -> nn.Module:
    """The ResNet with its trained weights."""
    from awml_calibration.weights import load

    return load(config)


@hookimpl
def load_samples(purpose: Literal["evaluate", "calibrate"], config: Config) -> Sequence[Sample]:
    """Every entry of the info file, calibrated and miscalibrated."""
    from awml_calibration.data import samples

    del purpose
    return samples(config)


@hookimpl
def export_workflow(config: Config) -> tuple[Component, ...]:
    """One graph, with the names and the free sizes that Autoware's node binds."""
    image = ("batch_size", 5, "height", "width")
    axes = (
        Axis(name="batch_size", max=config.max_batch, independent=True),
        Axis(name="height", min=config.height[0], opt=config.height[1], max=config.height[2]),
        Axis(name="width", min=config.width[0], opt=config.width[1], max=config.width[2]),
    )
    inputs, outputs = Tensor(name="input", shape=image), Tensor(name="output", shape=("batch_size", 2))
    return (Component(name=COMPONENT, inputs=(inputs,), outputs=(outputs,), axes=axes),)


@hookimpl
def build_pipeline(device: str, config: Config) -> Pipeline:
    """Draw the five channels, run, softmax."""
    from awml_calibration.pipeline import Status

    return Status(device=device, config=config)


@hookimpl
def compute_metrics(records: Sequence[Record], config: Config) -> Metrics:
    """Those of every classification, with this model's class names if the config gives none."""
    from awml_deploy_core.tasks.classification import metrics

    return metrics(records, config.class_names or CLASS_NAMES)


@hookimpl
def compare_predictions(reference: Any, candidate: Any) -> Agreement:
    """Whether both say the same of the calibration."""
    from awml_deploy_core.tasks.classification import agree

    return agree(reference, candidate)


@hookimpl
def draw_sample(frame: Frame, predictions: Mapping[str, Any], config: Config) -> Picture:
    """The image with the points where the claimed calibration puts them."""
    from awml_calibration.draw import overlay
    from awml_deploy_core.tasks.classification import picture

    image = overlay(frame.inputs, config.max_depth)
    return picture(image, frame.ground_truth, predictions, config.class_names or CLASS_NAMES)


@hookimpl
def write_example(directory: Path) -> bool:
    """A street scene set, a narrow trained network and a config."""
    from awml_calibration.example.write import write

    write(directory)
    return True
