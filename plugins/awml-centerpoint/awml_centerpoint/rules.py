"""What Autoware's node for CenterPoint takes for granted, held against a config and its graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from attrs import frozen

from awml_centerpoint.architecture import Architecture, Geometry
from awml_centerpoint.config import DETECTOR, ENCODER, LABELS, Config
from awml_centerpoint.graphs import ORDER, channels
from awml_deploy_core.errors import ArtifactError
from awml_deploy_core.records import Finding

POINTS, FEATURES = 32, 32
"""Points of a pillar and features of one, numbers in the node's own code."""

LAYOUTS = {
    9: ((0, 1, 2, 4), "backward"),
    10: ((0, 1, 2, 4), "pillar"),
    11: ((0, 1, 2, 3, 4), "pillar"),
}
"""Columns and encoder behind each number of channels that the node knows how to make."""

VARIANCE = {"reg": 4, "height": 2, "dim": 6, "rot": 4, "vel": 4}
PLAIN = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}

LAST = ("Conv", "ConvTranspose")
FORBIDDEN = ("Sigmoid", "Exp", "HardSigmoid", "Softmax", "Atan")

Level = Literal["error", "warning", "note"]
Shape = tuple[int | str, ...]


@frozen(kw_only=True)
class Graph:
    """What of an ONNX file matters to the node.

    Args:
        path: The file.
        inputs: Shape of each input, by position.
        outputs: Name and shape of each output, by position.
        tails: For each output the operators behind the last convolution, the last one first.
        opset: Version of ONNX's operators.
    """

    path: Path
    inputs: tuple[Shape, ...]
    outputs: tuple[tuple[str, Shape], ...]
    tails: tuple[tuple[str, ...], ...]
    opset: int


@frozen(kw_only=True)
class Case:
    """What is held against the rules; a graph is None where no file was handed over."""

    config: Config
    made: Architecture
    grid: Geometry
    encoder: Graph | None
    detector: Graph | None


def read(path: Path) -> Graph:
    """Look at an ONNX file without its weights.

    Raises:
        ArtifactError: If it is none, or cut short.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # whatever the parser says of it
        raise _broken(path) from error
    if not (model.opset_import and model.graph.output):
        raise _broken(path)
    made = {name: node for node in model.graph.node for name in node.output}
    return Graph(
        path=path,
        inputs=tuple(map(_shape, model.graph.input)),
        outputs=tuple((value.name, _shape(value)) for value in model.graph.output),
        tails=tuple(tuple(_tail(value.name, made)) for value in model.graph.output),
        opset=next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx")),
    )


def _broken(path: Path) -> ArtifactError:
    return ArtifactError(f"{path}: is no ONNX file, or is cut short", hint="Export it again.")


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(dim.dim_param or int(dim.dim_value) for dim in value.type.tensor_type.shape.dim)


def _tail(name: str, made: dict[str, onnx.NodeProto]) -> Iterator[str]:
    """Operators from an output back to the nearest convolution, along first inputs."""
    while name in made and made[name].op_type not in LAST:
        yield made[name].op_type
        name = made[name].input[0] if made[name].input else ""


def findings(case: Case) -> list[Finding]:
    """Everything that the node would trip over, errors first."""
    found = [finding for rule in RULES for finding in rule(case)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _find(level: Level, subject: str, fact: str, rule: str) -> Finding:
    return Finding(level=level, subject=subject, fact=fact, rule=rule)


# ---------------------------------------------------------------- the config


def _points(case: Case) -> Iterator[Finding]:
    if case.grid.max_num_points != POINTS:
        fact = f"a pillar keeps {case.grid.max_num_points} points"
        yield _find("error", "max_num_points", fact, f"The node is compiled for {POINTS} points in a pillar.")
    if case.made.features != FEATURES:
        fact = f"a pillar has {case.made.features} features"
        yield _find("error", "feat_channels", fact, f"The node is compiled for {FEATURES} features of a pillar.")


def _layout(case: Case) -> Iterator[Finding]:
    number, columns = case.made.channels, case.grid.columns
    rule = "The node makes 9 or 10 channels from x, y, z, lag, and 11 from x, y, z, intensity, lag."
    if number not in LAYOUTS:
        yield _find("error", "encoder_in_feature_size", f"the encoder takes {number} channels", rule)
    elif (columns, case.made.encoder) != LAYOUTS[number]:
        shown = ", ".join(map(str, columns))
        fact = f"its {number} channels come from the columns {shown} and the encoder {case.made.encoder!r}"
        yield _find("error", "point_feature_size", fact, rule)


def _cells(case: Case) -> Iterator[Finding]:
    """The node divides in single precision and cuts off, so a whole number can become one less."""
    low, high, size = (
        np.asarray(v, np.float32) for v in (case.grid.range[:3], case.grid.range[3:], case.grid.voxel_size)
    )
    counted = ((high - low) / size).astype(int).tolist()
    for axis, cells, wanted in zip("xyz", counted, case.grid.grid, strict=True):
        if cells != wanted:
            fact = f"along {axis} the node counts {cells} voxels where training had {wanted}"
            rule = "The number of voxels is (max - min) / size in single precision, cut off to a whole number."
            yield _find("error", "point_cloud_range", fact, rule)


def _form(case: Case) -> Iterator[Finding]:
    rule = "The node reads dim as width, length, height and rot as (-cos, -sin): rot_y_axis_reference = True."
    asked, turned = case.config.rot_y_axis_reference, _turned(case.detector)
    if asked and turned is False:
        fact = "rot leaves the last convolution as it is, though the config wants the y-axis form"
        yield _find("error", case.detector.path.name if case.detector else DETECTOR, fact, rule)
    elif not asked and not turned:
        fact = "boxes are given from the x axis: sides would be swapped and yaw turned"
        yield _find("error", "rot_y_axis_reference", fact, rule)


def _turned(graph: Graph | None) -> bool | None:
    """Whether channels of `rot` are rearranged behind the last convolution, None if that cannot be seen."""
    found = [] if graph is None else zip(graph.outputs, graph.tails, strict=True)
    shown = next((tail for (name, _), tail in found if name == "rot"), None)
    return None if shown is None else bool({"Gather", "Slice", "Split", "Concat"} & set(shown))


def _classes(case: Case) -> Iterator[Finding]:
    for name in case.config.class_names:
        if name.upper() not in LABELS:
            rule = f"Known are {', '.join(LABELS[1:])}; anything else is published as UNKNOWN."
            yield _find("warning", "class_names", f"{name.upper()} is no class of Autoware", rule)
    lengths = case.config.yaw_norm_thresholds
    if lengths is not None and any(not 0 <= length < 1 for length in lengths):
        rule = "A threshold outside 0 to 1 counts as 0."
        yield _find("warning", "yaw_norm_thresholds", f"{lengths} is not all from 0 to below 1", rule)
    if not case.config.score_thresholds:
        fact = f"every class takes {case.config.score_threshold:g} at every distance"
        rule = "Published parameters have 0.35; min_confidence_scores has one number a class and distance."
        yield _find("note", "score_thresholds", fact, rule)


# ---------------------------------------------------------------- the graphs


def _present(case: Case) -> Iterator[Finding]:
    for name, graph in ((ENCODER, case.encoder), (DETECTOR, case.detector)):
        if graph is None:
            rule = "The node reads both ONNX files and builds its engines from them."
            yield _find("error", name, "no ONNX file is handed over", rule)


def _opset(case: Case) -> Iterator[Finding]:
    for graph in (case.encoder, case.detector):
        if graph is not None and graph.opset > 17:
            fact = f"it has opset {graph.opset}"
            rule = "TensorRT 8.6 reads up to opset 17; the released files have 13."
            yield _find("warning", graph.path.name, fact, rule)


def _encoder(case: Case) -> Iterator[Finding]:
    graph = case.encoder
    if graph is None:
        return
    wanted: Shape = (case.grid.max_voxels, POINTS, case.made.channels)
    rule = f"Input 0 is bound as [max_voxel_size, {POINTS}, encoder_in_feature_size]."
    yield from _bound(f"{graph.path.name}: input 0", graph.inputs[0], wanted, rule)
    name, shape = graph.outputs[0]
    rule = f"Output 0 holds {FEATURES} numbers a pillar, as [max_voxel_size, 1, {FEATURES}]."
    subject = f"{graph.path.name}: {name}"
    if len(graph.outputs) != 1:
        yield _find("error", graph.path.name, f"it has {len(graph.outputs)} outputs", "The node binds one output.")
    if len(shape) == 2:
        yield _find("warning", subject, "it lacks the axis of size 1 in the middle", rule)
    else:
        yield from _bound(subject, shape, (case.grid.max_voxels, 1, FEATURES), rule)


def _detector(case: Case) -> Iterator[Finding]:
    graph = case.detector
    if graph is None:
        return
    wanted: Shape = (1, FEATURES, case.grid.grid[1], case.grid.grid[0])
    rule = f"Input 0 is bound as [1, {FEATURES}, grid_y, grid_x]."
    yield from _bound(f"{graph.path.name}: input 0", graph.inputs[0], wanted, rule)
    order = "The node binds six outputs by position: heatmap, reg, height, dim, rot, vel."
    if len(graph.outputs) != len(ORDER):
        names = ", ".join(name for name, _ in graph.outputs)
        yield _find("error", graph.path.name, f"it has {len(graph.outputs)} outputs: {names}", order)
        return
    cells = [size // case.grid.out_size_factor for size in (case.grid.grid[1], case.grid.grid[0])]
    numbers = {"heatmap": len(case.config.class_names), **(VARIANCE if has_variance(case.made) else PLAIN)}
    rule = "Each output is bound as [1, channels, grid_y / downsample_factor, grid_x / downsample_factor]."
    for place, ((name, shape), expected) in enumerate(zip(graph.outputs, ORDER, strict=True), 1):
        subject = f"{graph.path.name}: {name}"
        if name != expected and name in ORDER:
            yield _find("error", subject, f"it stands in place {place}, where the node reads {expected}", order)
            continue
        yield from _bound(subject, shape, (1, numbers[expected], *cells), rule)


def _bound(subject: str, shape: Shape, wanted: Shape, rule: str) -> Iterator[Finding]:
    """A named axis takes any size; a number must be the one that the node binds."""
    if len(shape) != len(wanted):
        yield _find("error", subject, f"it has {len(shape)} axes", rule)
        return
    wrong = [(place, a, b) for place, (a, b) in enumerate(zip(shape, wanted, strict=True)) if a != b]
    for place, size, other in wrong:
        if isinstance(size, int):
            yield _find("error", subject, f"axis {place} is {size}, the node binds {other}", rule)


def _raw(case: Case) -> Iterator[Finding]:
    graph = case.detector
    if graph is None:
        return
    for (name, _), tail in zip(graph.outputs, graph.tails, strict=True):
        for operator in FORBIDDEN:
            if operator in tail:
                rule = "The node applies sigmoid, exp and atan2 itself and wants what the last convolution gives."
                yield _find("error", f"{graph.path.name}: {name}", f"it has passed {operator}", rule)


def _variance(case: Case) -> Iterator[Finding]:
    found = channels(case.made, 0)
    doubled = [name for name, number in VARIANCE.items() if found.get(name) == number]
    if doubled and not has_variance(case.made):
        fact = f"{', '.join(doubled)} have channels for a variance, the others have none"
        yield _find("error", "common_heads", fact, "has_variance doubles the channels of every map but the heat map.")


def has_variance(made: Architecture) -> bool:
    """Whether every regressed map has twice its channels."""
    found = channels(made, 0)
    return all(found.get(name) == number for name, number in VARIANCE.items())


Rule = Callable[[Case], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    _present,
    _points,
    _layout,
    _cells,
    _form,
    _classes,
    _encoder,
    _detector,
    _raw,
    _variance,
    _opset,
)
