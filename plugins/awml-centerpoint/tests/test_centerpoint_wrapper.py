"""The two graphs in the file: names, axes, order of outputs, and the same numbers in the y-axis form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from awml_centerpoint.architecture import architecture
from awml_centerpoint.graphs import maps
from awml_centerpoint.hooks import DETECTOR, ENCODER, Config, export_workflow, wrap_for_onnx
from awml_centerpoint.network import CenterPoint, build
from awml_deploy_core.config import ComponentConfig
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.export import Exported, export_onnx
from awml_deploy_core.overrides import resolve
from awml_deploy_core.records import Axis, Component
from awml_deploy_core.settings import Options, settle

SMALL: dict[str, Any] = {
    "point_cloud_range": (-1.6, -1.6, -3.0, 1.6, 1.6, 5.0),
    "voxel_size": (0.2, 0.2, 8.0),
    "max_num_points": 5,
    "max_voxels": 40,
    "feat_channels": (8, 32),
    "layer_nums": (0, 0),
    "layer_strides": (1, 2),
    "out_channels": (4, 6),
    "upsample_strides": (0.5, 1.0),
    "upsample_channels": (4, 4),
    "share_conv_channel": 4,
    "head_conv": 4,
}
SIX = ["heatmap", "reg", "height", "dim", "rot", "vel"]
TWO_TASKS = (("car", "truck", "bus"), ("bicycle", "pedestrian"))


def wrapped(model: nn.Module, name: str, settings: Config) -> nn.Module:
    """As the core asks for it: with the component itself."""
    return wrap_for_onnx(model, next(one for one in export_workflow(settings) if one.name == name), settings)


def config(**fields: Any) -> Config:
    return Config(**{**SMALL, **fields})


def network(settings: Config) -> CenterPoint:
    torch.manual_seed(3)
    model = build(architecture(settings)).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
    return model


def example(component: Component) -> dict[str, Tensor]:
    torch.manual_seed(4)
    channels = component.inputs[0].shape
    if component.name == ENCODER:
        points = torch.randn(12, 5, int(channels[2]))
        points[:, 3:] = 0
        return {"input_features": points}
    return {"spatial_features": torch.randn(1, 32, 16, 16)}


def exported(settings: Config, name: str, path: Path, **options: Any) -> Exported:
    component = next(one for one in export_workflow(settings) if one.name == name)
    module = wrapped(network(settings), name, settings)
    return export_onnx(module, component, example(component), path, **options)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def shapes(values: Any) -> list[tuple[str, list[str | int]]]:
    return [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]) for value in values
    ]


# ---------------------------------------------------------------- what the plugin says of its graphs


def test_the_graphs_are_what_the_node_binds() -> None:
    encoder, detector = export_workflow(Config(point_columns=(0, 1, 2, 3, 4)))
    assert (encoder.name, detector.name) == ("pts_voxel_encoder", "pts_backbone_neck_head") == (ENCODER, DETECTOR)
    assert [(t.name, t.shape, t.dtype) for t in encoder.inputs + encoder.outputs] == [
        ("input_features", ("num_voxels", "num_max_points", 11), "float32"),
        ("pillar_features", ("num_voxels", 1, 32), "float32"),
    ]
    assert encoder.axis("num_voxels") == Axis(name="num_voxels", min=0, max=96000, independent=True)
    assert encoder.axis("num_max_points") == Axis(name="num_max_points", opt=32, max=32)
    (canvas,) = detector.inputs
    assert (canvas.name, canvas.shape) == ("spatial_features", ("batch_size", 32, "H", "W"))
    assert [(t.name, t.shape[0], t.shape[1]) for t in detector.outputs] == [
        (name, "batch_size", channels) for name, channels in zip(SIX, (5, 2, 1, 3, 2, 2), strict=True)
    ]
    assert {t.shape[2:] for t in detector.outputs} == {("H_out", "W_out")}
    assert detector.axis("H") == Axis(name="H", min=4, opt=1020, max=1020)
    assert detector.axis("batch_size") == Axis(name="batch_size", max=2, independent=True)


def test_maps_as_large_as_the_canvas_share_its_axes() -> None:
    settings = config(layer_strides=(1, 1), upsample_strides=(1.0, 1.0), out_size_factor=1)
    assert {t.shape[2:] for t in export_workflow(settings)[1].outputs} == {("H", "W")}


def test_height_and_width_are_y_and_x() -> None:
    settings = config(point_cloud_range=(-3.2, -1.6, -3.0, 3.2, 1.6, 5.0))
    detector = export_workflow(settings)[1]
    assert (detector.axis("H").max, detector.axis("W").max) == (16, 32)


def test_several_tasks_follow_one_another_with_their_numbers() -> None:
    detector = export_workflow(config(tasks=TWO_TASKS))[1]
    assert [t.name for t in detector.outputs] == [f"{name}_{task}" for task in (0, 1) for name in SIX]
    assert [t.shape[1] for t in detector.outputs if "heatmap" in t.name] == [3, 2]
    assert maps(architecture(config(tasks=TWO_TASKS)))[1]["rot"] == "rot_1"


def test_heads_of_ones_own_follow_the_six() -> None:
    heads = {"iou": (1, 2), "rot": (2, 2), "dim": (3, 2), "reg": (2, 2), "height": (1, 2)}
    detector = export_workflow(config(common_heads=heads))[1]
    assert [t.name for t in detector.outputs] == ["heatmap", "reg", "height", "dim", "rot", "iou"]


# ---------------------------------------------------------------- in the file


@pytest.mark.parametrize("opset", range(13, 19))
def test_the_encoder_in_the_file(tmp_path: Path, opset: int) -> None:
    settings, path = config(), tmp_path / "encoder.onnx"
    made = exported(settings, ENCODER, path, opset_version=opset, exporter="torchscript")
    assert made.opset == opset
    graph = onnx.load(path).graph
    assert shapes(graph.input) == [("input_features", ["num_voxels", "num_max_points", 10])]
    assert shapes(graph.output) == [("pillar_features", ["num_voxels", 1, 32])]
    model = network(settings)
    for rows, points in ((12, 5), (1, 5), (0, 5), (7, 3), (2, 32)):
        features = torch.randn(rows, points, 10)
        (found,) = session(path).run(None, {"input_features": features.numpy()})
        with torch.no_grad():
            wanted = model.encode(features).numpy()
        assert found.shape == (rows, 1, 32)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_onnx_itself_reads_the_encoder_the_same_way(tmp_path: Path) -> None:
    settings, path = config(), tmp_path / "encoder.onnx"
    # Below opset 14 ONNX's own evaluator takes the batch norm's momentum for a sign of training.
    exported(settings, ENCODER, path, opset_version=16)
    features = torch.randn(4, 5, 10)
    features[:, 2:] = 0
    answers: Any = ReferenceEvaluator(onnx.load(path)).run(None, {"input_features": features.numpy()})
    found = answers[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, network(settings).encode(features).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("opset", "turned"), [*((opset, True) for opset in range(13, 19)), (18, False)])
def test_the_detector_in_the_file(tmp_path: Path, opset: int, turned: bool) -> None:
    settings, path = config(rot_y_axis_reference=turned), tmp_path / "detector.onnx"
    made = exported(settings, DETECTOR, path, opset_version=opset, exporter="torchscript")
    assert made.opset == opset
    graph = onnx.load(path).graph
    assert shapes(graph.input) == [("spatial_features", ["batch_size", 32, "H", "W"])]
    assert shapes(graph.output) == [
        (name, ["batch_size", channels, "H_out", "W_out"])
        for name, channels in zip(SIX, (5, 2, 1, 3, 2, 2), strict=True)
    ]
    assert not {node.op_type for node in graph.node} & {"Sigmoid", "Exp", "Atan", "TopK"}
    module = wrapped(network(settings), DETECTOR, settings)
    for batch, height, width in ((1, 16, 16), (2, 8, 24)):
        canvas = torch.randn(batch, 32, height, width)
        found = session(path).run(None, {"spatial_features": canvas.numpy()})
        with torch.no_grad():
            wanted = module(canvas)
        for value, other in zip(found, wanted, strict=True):
            assert value.shape == (batch, other.shape[1], height // 2, width // 2)
            np.testing.assert_allclose(value, other.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [ENCODER, DETECTOR])
def test_dynamo_gives_the_same_contract(tmp_path: Path, name: str) -> None:
    settings = config(rot_y_axis_reference=True, tasks=TWO_TASKS)
    old, new = tmp_path / "old.onnx", tmp_path / "new.onnx"
    exported(settings, name, old, opset_version=18, exporter="torchscript")
    made = exported(settings, name, new, opset_version=18, exporter="dynamo")
    assert made.exporter == "dynamo"
    graphs = [onnx.load(path).graph for path in (old, new)]
    assert shapes(graphs[0].input) == shapes(graphs[1].input)
    assert shapes(graphs[0].output) == shapes(graphs[1].output)
    feed = {key: value.numpy() for key, value in example(export_workflow(settings)[name == DETECTOR]).items()}
    for a, b in zip(session(old).run(None, feed), session(new).run(None, feed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "simplify"), [(("car",), True), (tuple("abcdefg"), True), (tuple("abcdefg"), False)], ids=str
)
def test_output_order_survives_simplification_for_any_number_of_classes(
    tmp_path: Path, names: tuple[str, ...], simplify: bool
) -> None:
    settings, path = config(rot_y_axis_reference=True, class_names=names), tmp_path / "detector.onnx"
    exported(settings, DETECTOR, path, opset_version=13, simplify=simplify)
    outputs = shapes(onnx.load(path).graph.output)
    assert [name for name, _ in outputs] == SIX
    assert outputs[0][1][1] == len(names)


# ---------------------------------------------------------------- the y-axis form


@pytest.mark.parametrize("tasks", [(), TWO_TASKS])
def test_the_y_axis_form_is_a_signed_permutation(tasks: tuple[tuple[str, ...], ...]) -> None:
    plain, turned = config(tasks=tasks), config(tasks=tasks, rot_y_axis_reference=True)
    model, canvas = network(plain), torch.randn(2, 32, 16, 16)
    with torch.no_grad():
        x_form = named(plain, wrapped(model, DETECTOR, plain)(canvas))
        y_form = named(turned, wrapped(model, DETECTOR, turned)(canvas))
        trained = model.detect(canvas)
    assert list(x_form) == list(y_form)
    for name, value in y_form.items():
        other = x_form[name]
        if name.startswith("dim"):  # length, width, height -> width, length, height
            assert torch.equal(value, torch.stack([other[:, 1], other[:, 0], other[:, 2]], 1))
        elif name.startswith("rot"):  # sine, cosine -> -cosine, -sine
            assert torch.equal(value, torch.stack([-other[:, 1], -other[:, 0]], 1))
        else:
            assert torch.equal(value, other)
    for task, found in zip(maps(architecture(plain)), trained, strict=True):
        assert all(torch.equal(x_form[output], found[name]) for name, output in task.items())


def named(settings: Config, values: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
    return {t.name: value for t, value in zip(export_workflow(settings)[1].outputs, values, strict=True)}


def test_the_yaw_that_the_node_reads_is_the_trained_one() -> None:
    # The node takes atan2(rot0, rot1) and publishes -that - pi / 2.
    plain, turned = config(), config(rot_y_axis_reference=True)
    model, canvas = network(plain), torch.randn(1, 32, 16, 16)
    with torch.no_grad():
        sine, cosine = model.detect(canvas)[0]["rot"][0].double()
        first, second = wrapped(model, DETECTOR, turned)(canvas)[SIX.index("rot")][0].double()
    published = -torch.atan2(first, second) - torch.pi / 2
    difference = torch.remainder(published - torch.atan2(sine, cosine) + torch.pi, 2 * torch.pi) - torch.pi
    assert float(difference.abs().max()) < 1e-6


def test_the_wrapper_shares_the_weights_and_changes_none() -> None:
    settings = config(rot_y_axis_reference=True)
    model = network(settings)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    detector = wrapped(model, DETECTOR, settings)
    assert wrapped(model, ENCODER, settings) is model.pts_voxel_encoder
    assert not detector.training
    assert {id(p) for p in detector.parameters()} < {id(p) for p in model.parameters()}
    assert set(detector.state_dict()) == {name for name in before if not name.startswith(ENCODER)}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ---------------------------------------------------------------- file names


def files(settings: Config) -> list[str]:
    return [graph.onnx_file for graph in resolve(export_workflow(settings), settings)]


def test_files_are_called_like_the_graphs() -> None:
    assert files(config()) == ["pts_voxel_encoder.onnx", "pts_backbone_neck_head.onnx"]


def test_files_can_be_called_otherwise() -> None:
    said = {
        ENCODER: ComponentConfig(onnx_file="pts_voxel_encoder_centerpoint.onnx"),
        DETECTOR: ComponentConfig(onnx_file="pts_backbone_neck_head_centerpoint.onnx"),
    }
    assert files(config(components=said)) == [one.onnx_file for one in said.values()]


OLDER = """
onnx_config = dict(
    opset_version=16,
    multi_file=True,
    components=dict(
        pts_voxel_encoder=dict(
            name="pts_voxel_encoder", onnx_file="voxel_encoder.onnx", engine_file="voxel_encoder.engine"
        ),
        pts_backbone_neck_head=dict(
            name="pts_backbone_neck_head", onnx_file="backbone_head.onnx", engine_file="backbone_head.engine"
        ),
    ),
)
"""

NEWER = """
onnx_config = dict(opset_version=16)
components = dict(
    pts_voxel_encoder=dict(
        onnx_file="voxel_encoder.onnx",
        io=dict(
            inputs=[dict(name="input_features", dtype="float32")],
            outputs=[dict(name="pillar_features", dtype="float32")],
            dynamic_axes={"input_features": {0: "num_voxels", 1: "num_max_points"}},
        ),
        tensorrt_profile=dict(
            input_features=dict(min_shape=[1000, 32, 10], opt_shape=[20000, 32, 10], max_shape=[96000, 32, 10])
        ),
    ),
    pts_backbone_neck_head=dict(onnx_file="backbone_head.onnx"),
)
"""


@pytest.mark.parametrize("text", [OLDER, NEWER], ids=["multi_file", "components"])
def test_both_forms_of_a_config_name_the_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(f"checkpoint_path = 'epoch_49.pth'\nrot_y_axis_reference = True\n{text}")
    settings = settle(path, Options(model="centerpoint"), config_class=Config).config
    assert isinstance(settings, Config)
    assert settings.rot_y_axis_reference
    assert files(settings) == ["voxel_encoder.onnx", "backbone_head.onnx"]
    encoder, detector = resolve(export_workflow(settings), settings)
    assert encoder.filed.inputs[0].shape == ("num_voxels", "num_max_points", 10)
    assert detector.filed.inputs[0].shape == ("batch_size", 32, "H", "W")
    assert encoder.engine_file == "voxel_encoder.engine"


def test_a_component_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("checkpoint_path = 'x'\ncomponents = dict(voxel_encoder=dict(onnx_file='a.onnx'))\n")
    settings = settle(path, Options(), config_class=Config).config
    assert isinstance(settings, Config)
    with pytest.raises(ConfigError, match=r"components\.voxel_encoder") as caught:
        files(settings)
    assert caught.value.hint == "Did you mean 'pts_voxel_encoder'?"


@pytest.mark.slow
def test_the_released_size_exports(tmp_path: Path) -> None:
    settings = Config(point_columns=(0, 1, 2, 3, 4), rot_y_axis_reference=True)
    with torch.no_grad():
        module = wrapped(network(settings), DETECTOR, settings)
    component = export_workflow(settings)[1]
    made = export_onnx(
        module, component, {"spatial_features": torch.zeros(1, 32, 8, 8)}, tmp_path / "full.onnx", opset_version=13
    )
    weights = sum(p.numel() for p in module.parameters())
    assert 4 * weights < made.artifact.size * 1.01 < 4.2 * weights
