"""YOLOX-opt-ELAN and YOLOX: boxes of cars, people and whatever else a camera sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen, validators

from awml_deploy_core.config import Config as CoreConfig
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.hookspecs import hookimpl
from awml_deploy_core.records import Axis, Component, Sample, Tensor

if TYPE_CHECKING:
    from torch import nn

    from awml_deploy_core.records import Agreement, Artifact, Frame, Handover, Metrics, Picture, Pipeline, Record

COMPONENT = "yolox"
"""The graph's name, and the stem of its files where a config says nothing else."""

CLASS_NAMES = ("unknown", "car", "truck", "bus", "trailer", "motorcycle", "pedestrian", "bicycle")
"""The order of AWML's T4 dataset models, where a config does not name the classes."""

STRIDES = (8, 16, 32)
"""Pixels per cell on each level, in the order of the output's rows."""

THRESHOLDS = {"awml": (0.01, 0.65), "autoware": (0.35, 0.7), "efficient_nms": (0.3, 0.65)}
"""Least score and largest overlap by whose rule it is: AWML's test_cfg, the node's defaults, AWML's exporter's."""

ELAN_ONLY = ("num_elan_blocks", "stage_blocks", "add_identity", "expand_ratio", "aspp")

Arch = Literal["opt-elan", "nano", "tiny", "s", "m", "l", "x"]
Activation = Literal["ReLU6", "ReLU", "Swish"]
InGraph = Literal["outside", "decode", "nms", "efficient_nms"]


def _positive(_instance: Any, _attribute: Any, value: Any) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"must be above 0, got {value}")


def _share(_instance: Any, _attribute: Any, value: Any) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"must lie between 0 and 1, got {value}")


def _counts(_instance: Any, _attribute: Any, value: Any) -> None:
    if value is not None and min(value) < 1:
        raise ValueError(f"must be at least 1, got {min(value)}")


def _sizes(_instance: Any, _attribute: Any, value: Any) -> None:
    if any(size < STRIDES[-1] or size % STRIDES[-1] for size in value):
        raise ValueError(_indivisible(value))


def _indivisible(size: tuple[int, int]) -> str:
    step = STRIDES[-1]
    lower = [max(step, each // step * step) for each in size]
    upper = [max(step, -(-each // step) * step) for each in size]
    near = " and ".join(dict.fromkeys(f"{height} x {width}" for height, width in (lower, upper)))
    return f"height and width must be multiples of {step}, got {size[0]} x {size[1]}; the nearest are {near}"


@frozen(kw_only=True)
class Config(CoreConfig):
    """Settings of this model beside the common ones.

    `model_config`, where given, wins over the fields that describe the network.

    Args:
        arch: The network: `opt-elan` is AWML's YOLOX_opt_ELAN, the others are the sizes of stock YOLOX.
        deepen_factor: Multiplies the number of blocks; None takes the arch's own, as everywhere below.
        widen_factor: Multiplies the number of channels.
        activation: The function after each convolution.
        out_channels: Channels that the neck gives to the head.
        feat_channels: Channels inside the head.
        stacked_convs: Convolutions of each of the head's two towers.
        num_elan_blocks: Blocks in each ELAN of the neck. Only `opt-elan`.
        stage_blocks: Blocks of the four stages before `deepen_factor`. Only `opt-elan`.
        add_identity: Whether the blocks of each of the four stages add their input. Only `opt-elan`.
        expand_ratio: Share of channels inside a block of the backbone. Only `opt-elan`.
        aspp: Whether the first three stages have parallel dilated convolutions (mmdet's arch `P5_ASPP`).
            Only `opt-elan`.
        depthwise: Whether convolutions are split into a depthwise and a pointwise one, as in `nano`.
        input_size: Height and width of the network's image, multiples of 32. `model_io.input_shape` wins over it.
        pad_value: Grey with which an image is filled up to that size.
        preprocessing: `letterbox` is what AWML and Autoware do; `model_config` follows the `test_pipeline` found there.
        replace_relu6: Export ReLU in place of ReLU6, as some accelerators want. The numbers change, and the report
            says by how much.
        postprocessing: What stands in the graph: `outside` nothing, `decode` boxes in pixels, `nms` boxes after
            non-maximum suppression by standard ONNX, `efficient_nms` the same by a TensorRT plugin, which no other
            runtime has. `onnx_config.decode_in_inference = True` is another word for `decode`.
        decoding: Whose rule makes boxes out of the output: `awml` takes the best class of each row and suppresses
            within a class, `autoware` takes every class above the threshold and suppresses across classes.
        score_threshold: Boxes below it are dropped; None takes the rule's own.
        nms_threshold: Overlap above which the weaker box is dropped; None takes the rule's own.
        max_detections: Most boxes per image, the best ones; None takes all of them, and 100 where the graph ends in
            non-maximum suppression.
        metric: `coco` is the mean over overlaps of 0.5 to 0.95, `voc` the 11-point mean at 0.5 that AWML reports.
        max_batch: Largest number of images that go through the network together; `model_io.batch_size` fixes it.
    """

    arch: Arch = "opt-elan"
    deepen_factor: float | None = field(default=None, validator=_positive)
    widen_factor: float | None = field(default=None, validator=_positive)
    activation: Activation | None = None
    out_channels: int | None = field(default=None, validator=_positive)
    feat_channels: int | None = field(default=None, validator=_positive)
    stacked_convs: int | None = field(default=None, validator=_positive)
    num_elan_blocks: int | None = field(default=None, validator=_positive)
    stage_blocks: tuple[int, int, int, int] | None = field(default=None, validator=_counts)
    add_identity: tuple[bool, bool, bool, bool] | None = None
    expand_ratio: float | None = field(default=None, validator=_positive)
    aspp: bool | None = None
    depthwise: bool | None = None
    input_size: tuple[int, int] = field(default=(960, 960), validator=_sizes)
    pad_value: int = field(default=114, validator=[validators.ge(0), validators.le(255)])
    preprocessing: Literal["letterbox", "model_config"] = "letterbox"
    replace_relu6: bool = False
    postprocessing: InGraph = "outside"
    decoding: Literal["awml", "autoware"] = "awml"
    score_threshold: float | None = field(default=None, validator=_share)
    nms_threshold: float | None = field(default=None, validator=_share)
    max_detections: int | None = field(default=None, validator=_positive)
    metric: Literal["coco", "voc"] = "coco"
    max_batch: int = field(default=8, validator=validators.ge(1))

    def __attrs_post_init__(self) -> None:
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"class_names: {', '.join(map(repr, twice))} stands there more than once")
        foreign = [key for key in ELAN_ONLY if self.arch != "opt-elan" and getattr(self, key) is not None]
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: only arch 'opt-elan' has it, arch is {self.arch!r}")
        if self.onnx_config.decode_in_inference is False and self.postprocessing != "outside":
            raise ValueError(
                f"postprocessing is {self.postprocessing!r}, but onnx_config.decode_in_inference is False: "
                "leave out one of the two"
            )
        if self.in_graph == "nms" and self.decoding == "autoware":
            raise ValueError("postprocessing 'nms' follows AWML's rule; Autoware's rule is its node's own, 'outside'")

    @property
    def in_graph(self) -> InGraph:
        """What stands in the graph behind the network, under either of its names."""
        decoded = self.onnx_config.decode_in_inference and self.postprocessing == "outside"
        return "decode" if decoded else self.postprocessing

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.class_names or CLASS_NAMES

    @property
    def thresholds(self) -> tuple[float, float]:
        """Least score and largest overlap: what is set, else the rule's own; a graph with the plugin has its own."""
        score, overlap = THRESHOLDS["efficient_nms" if self.in_graph == "efficient_nms" else self.decoding]
        said = self.score_threshold, self.nms_threshold
        return score if said[0] is None else said[0], overlap if said[1] is None else said[1]

    @property
    def boxes_out(self) -> int:
        """Boxes per image of a graph that ends in non-maximum suppression."""
        return self.max_detections or 100


@hookimpl
def load_model(config: Config) -> nn.Module:
    """The detector with its trained weights."""
    from awml_yolox.weights import load

    return load(config)


@hookimpl
def load_samples(purpose: Literal["evaluate", "calibrate"], config: Config) -> Sequence[Sample]:
    """Every image of the info file, the COCO file or the folder."""
    from awml_yolox.data import samples

    del purpose
    return samples(config)


@hookimpl
def export_workflow(config: Config) -> tuple[Component, ...]:
    """One graph, with the names that Autoware's node knows."""
    if config.preprocessing == "model_config" and config.model_config is None:
        # Not a rule of the class: the command line may name the file after the config has been read.
        hint = "Name it as second file on the command line, or set model_config."
        raise ConfigError("preprocessing is 'model_config', but no such file is named", hint=hint)
    height, width = _image_size(config)
    batch = Axis(name="batch_size", max=config.max_batch, independent=True)
    images = Tensor(name="images", shape=(batch.name, 3, height, width))
    rows = sum((height // stride) * (width // stride) for stride in STRIDES)
    return (Component(name=COMPONENT, inputs=(images,), outputs=_outputs(config, rows), axes=(batch,)),)


def _image_size(config: Config) -> tuple[int, int]:
    said = config.model_io.input_shape
    if said is None or len(said) != 3 or -1 in said:
        return config.input_size
    size = (said[1], said[2])
    if any(each % STRIDES[-1] for each in size):
        raise ConfigError(f"model_io.input_shape: {_indivisible(size)}", hint="Take one of those.")
    return size


def _outputs(config: Config, rows: int) -> tuple[Tensor, ...]:
    if config.in_graph in ("outside", "decode"):
        return (Tensor(name="output", shape=("batch_size", rows, 5 + len(config.names))),)
    most = min(config.boxes_out, rows)
    return (
        Tensor(name="num_detections", shape=("batch_size", 1), dtype="int32"),
        Tensor(name="detection_boxes", shape=("batch_size", most, 4)),
        Tensor(name="detection_scores", shape=("batch_size", most)),
        Tensor(name="detection_classes", shape=("batch_size", most), dtype="int32"),
    )


@hookimpl
def wrap_for_onnx(model: nn.Module, component: Component, exact: bool, config: Config) -> nn.Module:
    """The network behind its face: rows of box, objectness and classes, or boxes."""
    from awml_yolox.wrapper import wrap

    return wrap(model, component, exact=exact, config=config)


@hookimpl
def build_pipeline(device: str, config: Config) -> Pipeline:
    """Letterbox, run, decode, suppress."""
    from awml_yolox.pipeline import Detector

    return Detector(device=device, config=config)


@hookimpl
def compute_metrics(records: Sequence[Record], config: Config) -> Metrics:
    """Mean average precision by COCO's or VOC's definition."""
    from awml_deploy_core.tasks.detection2d import metrics

    return metrics(records, config.names, style=config.metric)


@hookimpl
def compare_predictions(reference: Any, candidate: Any, config: Config) -> Agreement:
    """Which boxes both found; one that stands right at a threshold weighs little."""
    from awml_deploy_core.tasks.detection2d import agree

    score, overlap = config.thresholds
    most = config.boxes_out if config.in_graph in ("nms", "efficient_nms") else config.max_detections
    return agree(reference, candidate, score_threshold=score, nms_threshold=overlap, max_detections=most)


@hookimpl
def draw_sample(frame: Frame, predictions: Mapping[str, Any], config: Config) -> Picture:
    """The image with the true boxes and each variant's."""
    from awml_deploy_core.tasks.detection2d import picture

    return picture(frame.inputs["image"][..., ::-1], frame.ground_truth, predictions, config.names)


@hookimpl
def hand_over(target: str, artifacts: Sequence[Artifact], config: Config) -> Handover | None:
    """What Autoware's node needs beside the graph."""
    from awml_yolox.handover import autoware

    return autoware(artifacts, config) if target == "autoware" else None


@hookimpl
def write_example(directory: Path) -> bool:
    """Drawn streets, a small trained network and a config."""
    from awml_yolox.example.write import write

    write(directory)
    return True
