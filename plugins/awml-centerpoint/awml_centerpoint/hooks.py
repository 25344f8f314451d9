"""CenterPoint: boxes in three dimensions from LiDAR points, by two graphs with a scatter between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from awml_centerpoint.config import CLASS_NAMES, DETECTOR, ENCODER, Config
from awml_deploy_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from awml_deploy_core.records import (
        Agreement,
        Artifact,
        Component,
        Frame,
        Handover,
        Metrics,
        Picture,
        Pipeline,
        Record,
        Sample,
    )

__all__ = ["CLASS_NAMES", "DETECTOR", "ENCODER", "Config"]


@hookimpl
def load_model(config: Config) -> nn.Module:
    """The trained network."""
    from awml_centerpoint.weights import load

    return load(config)


@hookimpl
def load_samples(purpose: Literal["evaluate", "calibrate"], config: Config) -> Sequence[Sample]:
    """Every frame of the info file."""
    from awml_centerpoint.architecture import settled
    from awml_centerpoint.data import samples

    del purpose
    return samples(settled(config))


@hookimpl
def export_workflow(config: Config) -> tuple[Component, ...]:
    """Two graphs, with the names, the axes and the order of outputs that Autoware's node binds."""
    from awml_centerpoint.graphs import components

    return components(config)


@hookimpl
def wrap_for_onnx(model: nn.Module, component: Component, config: Config) -> nn.Module:
    """One of the two graphs; the y-axis form is a matter of layout, so the reference has it too."""
    from awml_centerpoint.wrapper import wrap

    return wrap(model, component.name, config)


@hookimpl
def build_pipeline(device: str, config: Config) -> Pipeline:
    """Pillars, encoder, scatter, detector, boxes."""
    from awml_centerpoint.architecture import settled
    from awml_centerpoint.pipeline import Detector

    return Detector(device=device, config=settled(config))


@hookimpl
def compute_metrics(records: Sequence[Record], config: Config) -> Metrics:
    """Average precision of boxes, by AWML's definition or nuScenes'."""
    from awml_centerpoint.architecture import class_names
    from awml_deploy_core.tasks.detection3d import RANGES, metrics

    ranges = config.metric_ranges or RANGES
    return metrics(
        records,
        class_names(config),
        style=config.metric,
        t4_compat=config.t4_compat,
        ranges=ranges,
        min_points=config.min_points,
        class_range=ranges[-1][1],
    )


@hookimpl
def compare_predictions(reference: Any, candidate: Any, config: Config) -> Agreement:
    """Which boxes both found."""
    from awml_centerpoint.architecture import class_names, settled
    from awml_deploy_core.tasks.detection3d import agree

    config = settled(config)
    least = config.score_threshold
    if config.decoding == "autoware":
        least = min(min(config.score_thresholds.get(name, (least,))) for name in class_names(config))
    return agree(reference, candidate, score_threshold=least)


@hookimpl
def draw_sample(frame: Frame, predictions: Mapping[str, Any], config: Config) -> Picture:
    """The points from above with true and found boxes."""
    from awml_centerpoint.architecture import class_names, geometry
    from awml_deploy_core.tasks.detection3d import picture

    low_high = geometry(config).range
    reach = max(abs(low_high[place]) for place in (0, 1, 3, 4))
    return picture(frame.inputs["points"], frame.ground_truth, predictions, class_names(config), reach=reach)


@hookimpl
def hand_over(target: str, artifacts: Sequence[Artifact], config: Config) -> Handover | None:
    """The parameter files of Autoware's node, and what it would trip over."""
    from awml_centerpoint.handover import autoware

    return autoware(artifacts, config) if target == "autoware" else None


@hookimpl
def write_example(directory: Path) -> bool:
    """Simulated LiDAR sequences, a small trained network and a config."""
    from awml_centerpoint.example.write import write

    write(directory)
    return True
