"""What goes to Autoware beside the graph, and what its node would trip over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from awml_deploy_core.config import BackendConfig, CommonConfig, ModelIO
from awml_deploy_core.export import export_onnx
from awml_deploy_core.files import sha256_file
from awml_deploy_core.overrides import resolve
from awml_deploy_core.records import Artifact, Handover
from awml_yolox.hooks import CLASS_NAMES, Config, export_workflow, hand_over, wrap_for_onnx
from awml_yolox.network import build, named

Sizes = list[str | int]


def made(
    folder: Path,
    *,
    shape: Sizes | None = None,
    output: Sizes | None = None,
    outputs: int = 1,
    operators: tuple[str, ...] = ("Clip",),
    opset: int = 17,
    name: str = "yolox.onnx",
) -> Path:
    """A file with these shapes; the node reads nothing else of it."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape or [1, 3, 960, 960])
    rows = [
        helper.make_tensor_value_info(f"output{i}", TensorProto.FLOAT, output or [1, 18900, 13]) for i in range(outputs)
    ]
    limits = [
        helper.make_tensor("low", TensorProto.FLOAT, [], [0]),
        helper.make_tensor("high", TensorProto.FLOAT, [], [6]),
    ]
    nodes = [helper.make_node(kind, ["images", "low", "high"], [kind]) for kind in operators]
    graph = helper.make_graph(nodes, "yolox", [image], rows, limits)
    path = folder / name
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def artifact(path: Path, *, kind: Literal["onnx", "engine"] = "onnx", precision: str = "fp32") -> Artifact:
    return Artifact(component="yolox", format=kind, path=path, sha256=sha256_file(path), size=1, precision=precision)


def handed(path: Path, **fields: Any) -> Handover:
    answer = hand_over("autoware", [artifact(path)], Config(**fields))
    assert answer is not None
    return answer


def said(answer: Handover, *levels: str) -> str:
    return "\n".join(f"{f.subject}: {f.fact} | {f.rule}" for f in answer.findings if not levels or f.level in levels)


def content(answer: Handover, name: str) -> str:
    found = answer.files[name]
    assert isinstance(found, bytes)
    return found.decode()


def parameters(answer: Handover, name: str = "yolox.param.yaml") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(content(answer, name))["/**"]["ros__parameters"]
    return found


def test_a_real_graph_has_nothing_to_trip_over(tmp_path: Path) -> None:
    small: dict[str, Any] = {"deepen_factor": 0.5, "widen_factor": 0.125, "stage_blocks": (1, 1, 1, 1)}
    config = Config(input_size=(64, 96), model_io=ModelIO(batch_size=1), decoding="autoware", **small)
    (graph,) = resolve(export_workflow(config), config)
    module = wrap_for_onnx(build(named("opt-elan", **small)).eval(), graph.component, False, config)
    path = tmp_path / "yolox.onnx"
    export_onnx(module, graph.component, {"images": torch.rand(1, 3, 64, 96)}, path)
    answer = hand_over("autoware", [artifact(path)], config)
    assert answer is not None
    assert said(answer, "error", "warning") == ""
    assert parameters(answer)["clip_value"] == 6.0


def test_files_are_what_the_node_reads(tmp_path: Path) -> None:
    answer = handed(made(tmp_path))
    assert content(answer, "label.txt") == "".join(f"{name}\n" for name in CLASS_NAMES)
    assert content(answer, "label_remap.csv").splitlines() == [
        "name,id",
        "unknown,0",
        "car,1",
        "truck,2",
        "bus,3",
        "trailer,4",
        "motorcycle,5",
        "pedestrian,7",
        "bicycle,6",
    ]
    assert parameters(answer) == {
        "model_path": "yolox.onnx",
        "label_path": "label.txt",
        "score_threshold": 0.35,
        "nms_threshold": 0.7,
        "precision": "fp16",
        "calibration_algorithm": "Entropy",
        "calibration_image_list_path": "",
        "clip_value": 6.0,
        "dla_core_id": -1,
        "quantize_first_layer": False,
        "quantize_last_layer": False,
        "profile_per_layer": False,
        "gpu_id": 0,
        "is_publish_color_mask": False,
        "overlap_roi_score_threshold": 0.3,
        "roi_remap_path": "label_remap.csv",
        "semantic_segmentation_color_map_path": "",
        "is_roi_overlap_segmentation": False,
        "roi_overlay_segmentation_label": dict.fromkeys(
            ("UNKNOWN", "CAR", "TRUCK", "BUS", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN", "ANIMAL", "HAZARD"), False
        ),
    }


def test_parameters_up_to_v0_43_have_their_older_names(tmp_path: Path) -> None:
    answer = handed(made(tmp_path))
    older, newer = parameters(answer, "yolox_v0.43.param.yaml"), parameters(answer)
    assert older.keys() - newer.keys() == {
        "preprocess_on_gpu",
        "color_map_path",
        "is_roi_overlap_segment",
        "roi_overlay_segment_label",
    }
    assert older["color_map_path"] == "not-specified"
    assert all(older[key] == newer[key] for key in older.keys() & newer.keys())


def test_values_come_from_config_and_graph(tmp_path: Path) -> None:
    precise = BackendConfig(common_config=CommonConfig(precision_policy="fp32"))
    fields: dict[str, Any] = {"backend_config": precise, "decoding": "autoware"}
    path = made(tmp_path, operators=("Relu",), name="other.onnx")
    found = parameters(handed(path, score_threshold=0.5, nms_threshold=1.0, **fields))
    expected = {"model_path": "other.onnx", "score_threshold": 0.5, "nms_threshold": 1.0, "precision": "fp32"}
    assert found.items() >= {**expected, "clip_value": 0.0}.items()
    assert isinstance(found["nms_threshold"], float)


def test_thresholds_of_awmls_rule_are_not_the_nodes(tmp_path: Path) -> None:
    answer = handed(made(tmp_path), score_threshold=0.01, nms_threshold=0.65)
    assert parameters(answer).items() >= {"score_threshold": 0.35, "nms_threshold": 0.7}.items()
    assert "made by AWML's rule" in said(answer, "note")


BOXES: dict[str, Any] = {"outputs": 4, "operators": ("EfficientNMS_TRT",)}


@pytest.mark.parametrize(
    ("graph", "fields", "level", "fact"),
    [
        ({"shape": ["batch_size", 3, 960, 960]}, {}, "error", "input is (batch_size, 3, 960, 960), batch_size free"),
        ({"shape": [1, 3, "height", "width"]}, {}, "error", "height, width free"),
        ({"shape": [6, 3, 960, 960]}, {}, "warning", "its batch is fixed to 6"),
        ({"shape": [1, 5, 960, 960]}, {}, "error", "its inputs are (1, 5, 960, 960)"),
        ({"output": [1, 18900, 15]}, {}, "error", "a row has 15 values, 8 labels make 13"),
        ({}, {"class_names": ("car", "bus")}, "error", "a row has 13 values, 2 labels make 7"),
        ({"output": [1, 18901, 13]}, {}, "error", "18901 rows, strides 8, 16 and 32 of 960 x 960 make 18900"),
        ({"output": [1, 18900]}, {}, "error", "its output is (1, 18900)"),
        ({}, {"postprocessing": "decode"}, "error", "boxes are decoded in the graph"),
        ({"outputs": 2}, {}, "error", "it has 3 inputs and outputs"),
        ({"outputs": 4}, {}, "error", "it has 5 inputs and outputs"),
        (BOXES, {"postprocessing": "efficient_nms"}, "note", "with scores from 0.3 and overlaps up to 0.65"),
        (BOXES, {"postprocessing": "nms"}, "warning", "with scores from 0.01 and overlaps up to 0.65"),
        (BOXES, {"postprocessing": "nms", "score_threshold": 0.4}, "note", "with scores from 0.4"),
        ({"opset": 18}, {}, "note", "its operators are of opset 18"),
        ({"name": "yolox_s_opt_elan_batch_6.onnx"}, {}, "warning", "its name says batch 6, its input says 1"),
        ({}, {"class_names": ("car ", "", "a,b", *"cdefg")}, "error", "'car ', '', 'a,b' cannot stand there"),
        ({}, {"class_names": ("traffic light", *"bcdefgh")}, "note", "traffic light, b, c, d, e, f, g, h will be"),
        ({}, {}, "note", "up to v0.43 trailer will be published as UNKNOWN"),
        ({}, {"pad_value": 0}, "warning", "images are filled up with 0"),
    ],
)
def test_what_the_node_would_trip_over(
    tmp_path: Path, graph: dict[str, Any], fields: dict[str, Any], level: str, fact: str
) -> None:
    assert fact in said(handed(made(tmp_path, **graph), **fields), level)


@pytest.mark.parametrize(
    ("policy", "operators", "level", "fact"),
    [
        ("explicit_int8", ("Relu",), "error", "no ReLU6, so clip_value is 0"),
        ("bf16", ("Clip",), "warning", "precision_policy is 'bf16', fp16 was written"),
    ],
)
def test_precisions_that_the_node_cannot_have(
    tmp_path: Path, policy: Any, operators: tuple[str, ...], level: str, fact: str
) -> None:
    config = BackendConfig(common_config=CommonConfig(precision_policy=policy))
    assert fact in said(handed(made(tmp_path, operators=operators), backend_config=config), level)


def test_int8_with_relu6_needs_no_images(tmp_path: Path) -> None:
    config = BackendConfig(common_config=CommonConfig(precision_policy="explicit_int8"))
    answer = handed(made(tmp_path), backend_config=config)
    assert parameters(answer).items() >= {"precision": "int8", "clip_value": 6.0}.items()
    assert said(answer, "error") == ""


def test_a_sound_graph_has_notes_alone(tmp_path: Path) -> None:
    answer = handed(made(tmp_path))
    assert said(answer, "error", "warning") == ""
    known = ("person", "pedestrian", "motorbike", "motorcycle", "bicycle", "car", "truck", "bus")
    assert handed(made(tmp_path), decoding="autoware", class_names=known).findings == ()


def test_engines_are_built_on_the_vehicle(tmp_path: Path) -> None:
    path = tmp_path / "yolox.engine"
    path.write_bytes(b"plan")
    answer = hand_over("autoware", [artifact(path, kind="engine")], Config())
    assert answer is not None
    assert "there is no ONNX file" in said(answer, "error")


def test_the_file_in_full_precision_is_the_one_for_the_node(tmp_path: Path) -> None:
    half, full = made(tmp_path, name="yolox.fp16.onnx"), made(tmp_path)
    answer = hand_over("autoware", [artifact(half, precision="fp16"), artifact(full)], Config())
    assert answer is not None
    assert parameters(answer)["model_path"] == "yolox.onnx"


def test_other_targets_get_nothing(tmp_path: Path) -> None:
    assert hand_over("triton", [artifact(made(tmp_path))], Config()) is None
