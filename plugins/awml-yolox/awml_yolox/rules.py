"""What `autoware_tensorrt_yolox` expects of a graph and of its label file, rule by rule, as its source has it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen
from onnx import numpy_helper

from awml_deploy_core.records import Finding
from awml_yolox.hooks import STRIDES

if TYPE_CHECKING:
    import onnx

    from awml_yolox.hooks import Config

REMAPPED = {
    "UNKNOWN": 0,
    "CAR": 1,
    "TRUCK": 2,
    "BUS": 3,
    "TRAILER": 4,
    "MOTORCYCLE": 5,
    "BICYCLE": 6,
    "PEDESTRIAN": 7,
    "ANIMAL": 8,
    "HAZARD": 9,
}
"""Autoware's ids of an object's class."""

SYNONYMS = {"PERSON": "PEDESTRIAN", "MOTORBIKE": "MOTORCYCLE"}
OVERLAID = ("UNKNOWN", "CAR", "TRUCK", "BUS", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN", "ANIMAL")
"""Classes that may be drawn over a segmentation, which the node asks about even without one."""

OLDER_KNOWS = {"CAR", "PEDESTRIAN", "BUS", "TRUCK", "BICYCLE", "MOTORCYCLE", "UNKNOWN"}
OLDEST_OPSET = 17
"""What TensorRT 8.6 reads, which is all that a vehicle with JetPack 5 has."""

WEAK = 0.1
"""A score below which a box is for measuring, not for driving."""

Shape = tuple[int | str, ...]


def known_class(name: str) -> str:
    """Autoware's class of that name, UNKNOWN where it has none."""
    upper = name.strip().upper()
    upper = SYNONYMS.get(upper, upper)
    return upper if upper in REMAPPED else "UNKNOWN"


@frozen(kw_only=True)
class Graph:
    """What matters of an ONNX file.

    Args:
        name: Name of the file.
        inputs: Shapes in order; a text is a size that is free.
        outputs: Shapes in order.
        opset: Version of the operators.
        clipped: Whether activations are cut off at 6.
        operators: Kinds of nodes.
    """

    name: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    opset: int
    clipped: bool
    operators: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto, name: str) -> Graph:
        """Read it."""
        weights = {tensor.name for tensor in model.graph.initializer}
        return cls(
            name=name,
            inputs=tuple(_shape(value) for value in model.graph.input if value.name not in weights),
            outputs=tuple(map(_shape, model.graph.output)),
            opset=max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
            clipped=_clipped_at_six(model.graph),
            operators=frozenset(node.op_type for node in model.graph.node),
        )

    @property
    def suppresses(self) -> bool:
        """Whether it ends in boxes rather than in rows."""
        return bool({"EfficientNMS_TRT", "NonMaxSuppression"} & self.operators)


def _shape(value: Any) -> Shape:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)


def _clipped_at_six(graph: Any) -> bool:
    values = {t.name: t for t in graph.initializer if not t.dims or list(t.dims) == [1]}
    values |= {
        n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"
    }
    limits = [values.get(node.input[2]) for node in graph.node if node.op_type == "Clip" and len(node.input) > 2]
    return any(limit is not None and float(numpy_helper.to_array(limit).reshape(-1)[0]) == 6.0 for limit in limits)


# ---------------------------------------------------------------- the rules


def findings(graph: Graph, config: Config, settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that the node would trip over, the graph first."""
    yield from _input(graph)
    yield from _output(graph, config)
    yield from _file(graph)
    yield from _labels(config.names)
    yield from _rule(config, graph)
    yield from _precision(config, settings)


def _said(level: Literal["error", "warning", "note"], subject: str, fact: str, rule: str) -> Finding:
    return Finding(level=level, subject=subject, fact=fact, rule=rule)


def _input(graph: Graph) -> Iterator[Finding]:
    if len(graph.inputs) != 1 or len(graph.inputs[0]) != 4 or graph.inputs[0][1] != 3:
        fact = f"its inputs are {_shapes(graph.inputs)}"
        yield _said("error", graph.name, fact, "The first tensor must be one image (batch, 3, height, width).")
        return
    shape = graph.inputs[0]
    free = [str(size) for size in shape if isinstance(size, str)]
    if free:
        fact = f"its input is {_shapes([shape])}, {', '.join(free)} free (set model_io.batch_size)"
        rule = "Batch, height and width are read from the file's input; -1 for a free one breaks the node."
        yield _said("error", graph.name, fact, rule)
    elif shape[0] != 1:
        fact = f"its batch is fixed to {shape[0]}"
        yield _said("warning", graph.name, fact, "A node hands over the one image that it has received.")


def _output(graph: Graph, config: Config) -> Iterator[Finding]:
    tensors = len(graph.inputs) + len(graph.outputs)
    if tensors == 5 and graph.suppresses:
        score, overlap = config.thresholds
        fact = f"boxes come out of the graph, with scores from {score:g} and overlaps up to {overlap:g}"
        rule = "Five tensors mean EfficientNMS: score_threshold, nms_threshold and the number of labels are not used."
        if score < WEAK:
            rule += " So the node publishes all of them: set score_threshold for the vehicle."
        yield _said("warning" if score < WEAK else "note", graph.name, fact, rule)
        return
    if tensors != 2:
        rule = "Two tensors are a plain YOLOX, five one with EfficientNMS, any other number has a segmentation head."
        yield _said("error", graph.name, f"it has {tensors} inputs and outputs", rule)
        return
    if config.in_graph == "decode":
        fact = "boxes are decoded in the graph (postprocessing 'decode')"
        yield _said(
            "error", graph.name, fact, "With two tensors the node decodes rows itself, so it would do it twice."
        )
    yield from _rows(graph, config)


def _rows(graph: Graph, config: Config) -> Iterator[Finding]:
    rows = graph.outputs[0]
    if len(rows) != 3:
        yield _said(
            "error", graph.name, f"its output is {_shapes([rows])}", "The output must be (batch, rows, values)."
        )
        return
    if rows[2] != 5 + len(config.names):
        fact = f"a row has {rows[2]} values, {len(config.names)} labels make {5 + len(config.names)}"
        yield _said("error", graph.name, fact, "A row's length is 5 plus the number of lines in the label file.")
    height, width = graph.inputs[0][2:] if len(graph.inputs[0]) == 4 else ("?", "?")
    if isinstance(height, int) and isinstance(width, int):
        cells = sum((height // stride) * (width // stride) for stride in STRIDES)
        if rows[1] != cells:
            fact = f"it has {rows[1]} rows, strides 8, 16 and 32 of {height} x {width} make {cells}"
            yield _said("error", graph.name, fact, "If the rows do not match, a fourth level of stride 4 is assumed.")


def _file(graph: Graph) -> Iterator[Finding]:
    if graph.opset > OLDEST_OPSET:
        fact = f"its operators are of opset {graph.opset}"
        rule = f"TensorRT 8.6, the last for JetPack 5, reads up to opset {OLDEST_OPSET}; TensorRT 10 reads newer ones."
        yield _said("note", graph.name, fact, rule)
    named = re.search(r"batch_?(\d+)", graph.name)
    batch = graph.inputs[0][0] if graph.inputs and graph.inputs[0] else None
    if named and str(batch) != named[1]:
        fact = f"its name says batch {named[1]}, its input says {batch}"
        yield _said("warning", graph.name, fact, "The node goes by the input; people go by the name.")


def _labels(names: tuple[str, ...]) -> Iterator[Finding]:
    unfit = [name for name in names if not name.strip() or name != name.strip() or set(name) & set(",#\n\r")]
    if unfit:
        rule = "Lines are trimmed and every line counts; the remap file is cut at commas and at #."
        yield _said("error", "label.txt", f"{', '.join(map(repr, unfit))} cannot stand there", rule)
    unknown = [name for name in names if known_class(name) == "UNKNOWN" and name.strip().upper() != "UNKNOWN"]
    if unknown:
        fact = f"{', '.join(unknown)} will be published as UNKNOWN"
        yield _said("note", "label_remap.csv", fact, f"Autoware's classes are {', '.join(REMAPPED)}.")
    newer = [name for name in names if known_class(name) not in OLDER_KNOWS]
    if newer:
        fact = f"up to v0.43 {', '.join(newer)} will be published as UNKNOWN"
        yield _said("note", "label.txt", fact, "Up to v0.43 the node knows no other names than its six and UNKNOWN.")


def _rule(config: Config, graph: Graph) -> Iterator[Finding]:
    if config.decoding == "awml" and not graph.suppresses:
        fact = "the boxes of this run were made by AWML's rule; set decoding to 'autoware' to measure the node's"
        rule = "The node takes every class above 0.35 and suppresses across classes above an overlap of 0.7."
        yield _said("note", "decoding", fact, rule)
    if config.pad_value != 114:
        fact = f"images are filled up with {config.pad_value}"
        yield _said("warning", "pad_value", fact, "The node fills up with 114.")
    if config.preprocessing != "letterbox":
        fact = "images are prepared as model_config says"
        rule = "The node scales to fit, keeps the upper left corner and the colours' order, and does not normalise."
        yield _said("warning", "preprocessing", fact, rule)


def _precision(config: Config, settings: Mapping[str, Any]) -> Iterator[Finding]:
    policy = config.backend_config.common_config.precision_policy
    if policy in ("bf16", "strongly_typed"):
        fact = f"precision_policy is {policy!r}, {settings['precision']} was written"
        yield _said("warning", "precision", fact, "The node knows fp32, fp16 and int8.")
    if settings["precision"] == "int8" and not settings["clip_value"]:
        fact = "the graph has no ReLU6, so clip_value is 0, and no calibration images are named"
        rule = "For int8 the node wants calibration_image_list_path or a clip_value above 0."
        yield _said("error", "precision", fact, rule)


def _shapes(shapes: Any) -> str:
    return ", ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
