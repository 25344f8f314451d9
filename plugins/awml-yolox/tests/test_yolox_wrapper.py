"""What the network looks like from outside: rows, boxes, and the graphs that hold them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor, nn

from awml_deploy_core.config import ModelIO, OnnxConfig
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.export import export_onnx
from awml_deploy_core.overrides import resolve
from awml_deploy_core.records import Component
from awml_yolox.hooks import Config, export_workflow, wrap_for_onnx
from awml_yolox.network import Yolox, build, named
from awml_yolox.suppression import kept_scores, survivors

SMALL: dict[str, Any] = {
    "deepen_factor": 0.5,
    "widen_factor": 0.125,
    "stage_blocks": (1, 1, 1, 1),
    "num_elan_blocks": 1,
}
SIZE = (64, 96)
DEBRIS = {"Shape", "Gather", "ConstantOfShape", "Expand", "Range", "Loop", "If", "Identity", "NonZero"}


def network(**fields: Any) -> Yolox:
    """A network whose boxes differ in size and whose scores differ from one another."""
    torch.manual_seed(2)
    model = build(named("opt-elan", **SMALL, **fields)).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
            elif "multi_level_conv_" in name:
                value.mul_(4)
    return model


class Patches(nn.Module):
    """Stands in for a network where boxes matter: every cell looks at its own pixels, so that no two are alike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        convs = [nn.Conv2d(3, 13, stride, stride) for stride in (8, 16, 32)]
        for conv in convs:
            nn.init.normal_(conv.weight, 0, 1 / (128 * conv.stride[0]))
            conv.bias = nn.Parameter(torch.tensor([1.0] * 8 + [0, 0, 1.2, 1.2] + [1]))
        self.levels = nn.ModuleList(convs)

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """Classes, boxes and objectness."""
        return tuple(level(images - 128).split((8, 4, 1), dim=1) for level in self.levels)


def config(**fields: Any) -> Config:
    return Config(**{"input_size": SIZE, **SMALL, **fields})


def component(settings: Config) -> Component:
    (graph,) = resolve(export_workflow(settings), settings)
    return graph.component


def images(batch: int = 2) -> Tensor:
    torch.manual_seed(4)
    return torch.rand(batch, 3, *SIZE) * 255


def wrapped(settings: Config, model: nn.Module | None = None, *, exact: bool = True) -> nn.Module:
    return wrap_for_onnx(model or network(), component(settings), exact, settings)


def by_hand(model: nn.Module, x: Tensor, *, decode: bool = False) -> np.ndarray[Any, Any]:
    """Row after row, from the levels of the network, in float64."""
    rows = []
    with torch.no_grad():
        levels = [[part.double().numpy() for part in level] for level in model(x)]
    for (classes, boxes, objectness), stride in zip(levels, (8, 16, 32), strict=True):
        for row in range(SIZE[0] // stride):
            for column in range(SIZE[1] // stride):
                x0, y0, w, h = boxes[:, :, row, column].T
                if decode:
                    x0, y0, w, h = (x0 + column) * stride, (y0 + row) * stride, np.exp(w) * stride, np.exp(h) * stride
                said = np.concatenate([objectness, classes], axis=1)[:, :, row, column]
                rows.append(np.concatenate([np.stack([x0, y0, w, h], axis=1), 1 / (1 + np.exp(-said))], axis=1))
    return np.stack(rows, axis=1)


@pytest.mark.parametrize(
    "fields", [{}, {"postprocessing": "decode"}, {"onnx_config": OnnxConfig(decode_in_inference=True)}]
)
def test_rows_are_what_the_node_reads(fields: dict[str, Any]) -> None:
    model, x, settings = network(), images(), config(**fields)
    with torch.no_grad():
        rows = wrapped(settings, model)(x).numpy()
    assert rows.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 5 + 8)
    np.testing.assert_allclose(rows, by_hand(model, x, decode=bool(fields)), rtol=1e-4, atol=1e-5)


def exported(
    tmp_path: Path, settings: Config, model: nn.Module | None = None, *, batch: int = 1, **options: Any
) -> onnx.ModelProto:
    module = wrapped(settings, model, exact=False)
    path = tmp_path / "yolox.onnx"
    export_onnx(module, component(settings), {"images": images(batch)}, path, **options)
    loaded = onnx.load(path)
    assert {"images"} == {value.name for value in loaded.graph.input}
    return loaded


def dims(value: Any) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def run(model: onnx.ModelProto, x: Tensor) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": x.numpy()}))


@pytest.mark.parametrize(
    ("said", "batch", "aspp"), [(None, 1, False), (2, 2, False), (None, 1, True)], ids=["dynamic", "static", "aspp"]
)
def test_graph_has_no_sizes_to_compute(tmp_path: Path, said: int | None, batch: int, aspp: bool) -> None:
    settings = config(model_io=ModelIO(batch_size=said), aspp=aspp)
    model = network(aspp=aspp)
    graph = exported(tmp_path, settings, model, batch=batch)
    operators = Counter(node.op_type for node in graph.graph.node)
    assert not DEBRIS & set(operators)
    assert (operators["Reshape"], operators["Transpose"]) == (3, 1)
    assert dims(graph.graph.input[0]) == [said or "batch_size", 3, *SIZE]
    assert dims(graph.graph.output[0]) == [said or "batch_size", 126, 13]
    x = images(batch if said else 3)
    (rows,) = run(graph, x)
    np.testing.assert_allclose(rows, by_hand(model, x), rtol=1e-3, atol=1e-4)


def test_graph_computes_the_same_in_onnxs_own_evaluator(tmp_path: Path) -> None:
    settings = config(postprocessing="decode")
    model = network()
    graph = exported(tmp_path, settings, model)
    assert not DEBRIS & {node.op_type for node in graph.graph.node}
    x = images(1)
    answer: Any = ReferenceEvaluator(graph).run(None, {"images": x.numpy()})
    rows = answer[0]
    np.testing.assert_allclose(rows, by_hand(model, x, decode=True), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_dynamo_gives_the_same_graph(tmp_path: Path) -> None:
    model = network()
    graph = exported(tmp_path, config(), model, opset_version=18, exporter="dynamo")
    assert not DEBRIS & {node.op_type for node in graph.graph.node}
    np.testing.assert_allclose(run(graph, images())[0], by_hand(model, images()), rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------- boxes out of the graph


def one_by_one(
    rows: np.ndarray[Any, Any], score: float, overlap: float, *, every_class: bool
) -> list[tuple[float, int, Any]]:
    """Boxes of one image, without any shortcut: each candidate against all that were kept before."""
    candidates = []
    for x, y, w, h, objectness, *classes in rows:
        labels = range(len(classes)) if every_class else [int(np.argmax(classes))]
        corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        candidates += [(objectness * classes[i], i, corners) for i in labels if objectness * classes[i] >= score]
    kept: list[tuple[float, int, Any]] = []
    for candidate in sorted(candidates, key=lambda each: -each[0]):
        if all(other[1] != candidate[1] or iou(candidate[2], other[2]) <= overlap for other in kept):
            kept.append(candidate)
    return kept


def iou(a: Any, b: Any) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def assert_boxes(answer: Any, model: nn.Module, x: Tensor, limits: tuple[int, float, float], **rule: Any) -> None:
    most, score, overlap = limits
    counts, boxes, scores, labels = (np.asarray(each) for each in answer)
    assert [str(each.dtype) for each in (counts, labels)] == ["int32", "int32"]
    assert boxes.shape == (len(x), most, 4)
    for image, rows in enumerate(by_hand(model, x, decode=True)):
        expected = one_by_one(rows, score, overlap, **rule)[:most]
        count = counts[image, 0]
        assert count == len(expected) > 5
        np.testing.assert_allclose(scores[image, :count], [each[0] for each in expected], rtol=1e-4)
        assert labels[image, :count].tolist() == [each[1] for each in expected]
        np.testing.assert_allclose(boxes[image, :count], [each[2] for each in expected], rtol=1e-3, atol=1e-3)
        assert not boxes[image, count:].any()
        assert not scores[image, count:].any()
        assert not labels[image, count:].any()


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ({}, (100, 0.01, 0.65)),
        ({"score_threshold": 0.3, "nms_threshold": 0.2, "max_detections": 90}, (90, 0.3, 0.2)),
        ({"max_detections": 7}, (7, 0.01, 0.65)),
        ({"max_detections": 1000}, (126, 0.01, 0.65)),
    ],
)
def test_standard_suppression_end_to_end(
    tmp_path: Path, fields: dict[str, Any], limits: tuple[int, float, float]
) -> None:
    settings, model = config(postprocessing="nms", **fields), Patches()
    with torch.no_grad():
        answer = wrapped(settings, model)(images(2))
    assert_boxes(answer, model, images(2), limits, every_class=False)
    graph = exported(tmp_path, settings, model)
    assert_boxes(run(graph, images(3)), model, images(3), limits, every_class=False)
    operators = {node.op_type for node in graph.graph.node}
    assert "NonMaxSuppression" in operators
    assert not (DEBRIS - {"Gather"}) & operators
    assert {node.domain for node in graph.graph.node} == {""}


class GatherElements(OpRun):
    """The evaluator's own goes through numpy's choose, which ends at 32 rows."""

    def _run(self, data: Any, indices: Any, axis: int = 0) -> tuple[Any, ...]:
        return (np.take_along_axis(data, indices, axis),)


def test_suppression_agrees_with_onnxs_own_evaluator(tmp_path: Path) -> None:
    settings, model = config(postprocessing="nms", nms_threshold=0.3), Patches()
    graph = exported(tmp_path, settings, model)
    answer = ReferenceEvaluator(graph, new_ops=[GatherElements]).run(None, {"images": images(2).numpy()})
    assert_boxes(answer, model, images(2), (100, 0.01, 0.3), every_class=False)


def test_nothing_found_is_zero_boxes(tmp_path: Path) -> None:
    settings = config(postprocessing="nms", score_threshold=1.0)
    for answer in run(exported(tmp_path, settings, Patches()), images(2)):
        assert not answer.any()


def test_plugin_stands_in_the_graph_with_its_attributes(tmp_path: Path) -> None:
    settings = config(postprocessing="efficient_nms", model_io=ModelIO(batch_size=1))
    graph = exported(tmp_path, settings).graph
    (node,) = [node for node in graph.node if node.op_type == "EfficientNMS_TRT"]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert attributes == {
        "background_class": -1,
        "box_coding": 1,
        "iou_threshold": pytest.approx(0.65),
        "max_output_boxes": 100,
        "plugin_version": b"1",
        "score_activation": 0,
        "score_threshold": pytest.approx(0.3),
    }
    assert node.domain == "TRT"
    assert {value.name: dims(value) for value in graph.output} == {
        "num_detections": [1, 1],
        "detection_boxes": [1, 100, 4],
        "detection_scores": [1, 100],
        "detection_classes": [1, 100],
    }
    assert list(node.output) == [value.name for value in graph.output]
    assert not DEBRIS - {"Identity"} & {each.op_type for each in graph.node}


def test_plugin_is_given_centres_and_products(tmp_path: Path) -> None:
    """The graph up to the plugin, run where it can be."""
    settings, model, x = config(postprocessing="efficient_nms"), network(), images(1)
    graph = exported(tmp_path, settings, model)
    (node,) = [node for node in graph.graph.node if node.op_type == "EfficientNMS_TRT"]
    graph.graph.node.remove(node)
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.input)
    for each, shape in zip(graph.graph.output, ([1, 126, 4], [1, 126, 8]), strict=True):
        each.CopyFrom(onnx.helper.make_tensor_value_info(each.name, onnx.TensorProto.FLOAT, shape))
    boxes, scores = run(graph, x)
    rows = by_hand(model, x, decode=True)
    np.testing.assert_allclose(boxes, rows[..., :4], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scores, rows[..., 4:5] * rows[..., 5:], rtol=1e-3, atol=1e-5)


def test_plugins_rule_in_torch() -> None:
    settings, model = config(postprocessing="efficient_nms", score_threshold=0.2, nms_threshold=0.5), Patches()
    with torch.no_grad():
        answer = wrapped(settings, model)(images(2))
    assert_boxes(answer, model, images(2), (100, 0.2, 0.5), every_class=True)


# ---------------------------------------------------------------- edits and suppression


def test_relu6_becomes_relu_in_the_exported_module_alone() -> None:
    settings, model = config(replace_relu6=True), network()
    trained = wrapped(settings, model)
    before = trained(images())
    assert not any(isinstance(module, nn.ReLU) for module in trained.modules() if type(module) is nn.ReLU)
    edited = wrapped(settings, network(), exact=False)
    assert not any(isinstance(module, nn.ReLU6) for module in edited.modules())
    assert torch.equal(trained(images()), before)
    assert not torch.equal(edited(images()), before)


def test_relu6_that_is_not_there_cannot_be_replaced() -> None:
    settings = config(replace_relu6=True, activation="Swish")
    with pytest.raises(ConfigError, match="the network has no ReLU6"):
        wrapped(settings, network(activation="Swish"), exact=False)


def test_boxes_without_an_area_suppress_nothing() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [0, 0, 10, 9]])
    assert survivors(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.5, 10) == [0, 1, 2]


def test_equal_scores_keep_the_first_and_equal_overlap_keeps_both() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5]])
    assert survivors(boxes, torch.tensor([0.5, 0.5, 0.4]), 0.5, 10) == [0, 2]
    assert survivors(boxes, torch.tensor([0.5, 0.5, 0.4]), 0.5, 1) == [0]


def test_suppression_is_that_of_onnx_runtime() -> None:
    node = onnx.helper.make_node("NonMaxSuppression", ["b", "s", "m", "o"], ["k"])
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    kinds = {"b": (floats, None), "s": (floats, None), "m": (whole, [1]), "o": (floats, [1])}
    inputs = [onnx.helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()]
    output = onnx.helper.make_tensor_value_info("k", whole, None)
    graph = onnx.helper.make_graph([node], "nms", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    torch.manual_seed(0)
    for overlap in (0.2, 0.5, 0.8):
        boxes, scores = torch.rand(2, 80, 4) * 30, torch.rand(2, 3, 80)
        boxes[..., 2:] += boxes[..., :2]
        given = {"b": boxes.numpy(), "s": scores.numpy(), "m": np.array([12]), "o": np.array([overlap], np.float32)}
        (places,) = session.run(None, given)
        expected = np.zeros((2, 3, 80), np.float32)
        expected[tuple(places.T)] = scores.numpy()[tuple(places.T)]
        np.testing.assert_array_equal(kept_scores(boxes, scores, overlap, 12).numpy(), expected)
