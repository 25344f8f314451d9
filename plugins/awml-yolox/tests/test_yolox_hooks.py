"""What the plugin says of itself: its graph, its settings, its configs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import awml_yolox
from awml_deploy_core.config import ModelIO, OnnxConfig
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.overrides import resolve
from awml_deploy_core.records import Axis, Component, Frame, Record
from awml_deploy_core.settings import Options, settle
from awml_deploy_core.strict import describe
from awml_yolox.hooks import (
    CLASS_NAMES,
    COMPONENT,
    Config,
    compare_predictions,
    compute_metrics,
    draw_sample,
    export_workflow,
)

HERE = Path(awml_yolox.__file__).parent


def shapes(component: Component) -> list[tuple[str, tuple[int | str, ...], str]]:
    return [(t.name, t.shape, t.dtype) for t in component.inputs + component.outputs]


def test_graph_is_what_the_node_binds() -> None:
    (component,) = export_workflow(Config())
    assert component.name == COMPONENT == "yolox"
    assert shapes(component) == [
        ("images", ("batch_size", 3, 960, 960), "float32"),
        ("output", ("batch_size", 18900, 13), "float32"),
    ]
    assert component.axes == (Axis(name="batch_size", max=8, independent=True),)


@pytest.mark.parametrize(
    ("fields", "image", "rows"),
    [
        ({"input_size": (416, 416)}, (416, 416), (3549, 13)),
        ({"input_size": (640, 960), "class_names": ("car", "bus")}, (640, 960), (12600, 7)),
        ({"model_io": ModelIO(input_shape=(3, 64, 96))}, (64, 96), (126, 13)),
        ({"model_io": ModelIO(input_shape=(-1, -1, -1)), "input_size": (64, 96)}, (64, 96), (126, 13)),
        ({"postprocessing": "decode", "input_size": (64, 96)}, (64, 96), (126, 13)),
    ],
)
def test_rows_follow_from_size_and_classes(fields: dict[str, Any], image: Any, rows: Any) -> None:
    config = Config(**fields)
    (graph,) = resolve(export_workflow(config), config)
    assert [t[1] for t in shapes(graph.component)] == [("batch_size", 3, *image), ("batch_size", *rows)]


def test_batch_can_be_fixed() -> None:
    config = Config(model_io=ModelIO(batch_size=6), max_batch=6)
    (graph,) = resolve(export_workflow(config), config)
    assert graph.component.axis("batch_size") == Axis(
        name="batch_size", dynamic=False, min=6, opt=6, max=6, independent=True
    )


@pytest.mark.parametrize("postprocessing", ["nms", "efficient_nms"])
@pytest.mark.parametrize(("asked", "most"), [(None, 100), (20, 20), (500, 126)])
def test_boxes_have_the_outputs_of_the_plugin(postprocessing: Any, asked: int | None, most: int) -> None:
    (component,) = export_workflow(Config(postprocessing=postprocessing, max_detections=asked, input_size=(64, 96)))
    assert shapes(component)[1:] == [
        ("num_detections", ("batch_size", 1), "int32"),
        ("detection_boxes", ("batch_size", most, 4), "float32"),
        ("detection_scores", ("batch_size", most), "float32"),
        ("detection_classes", ("batch_size", most), "int32"),
    ]


def test_sizes_that_do_not_fit_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"got 100 x 960; the nearest are 96 x 960 and 128 x 960"):
        export_workflow(Config(model_io=ModelIO(input_shape=(3, 100, 960))))


def test_decode_has_two_names() -> None:
    assert Config(onnx_config=OnnxConfig(decode_in_inference=True)).in_graph == "decode"
    assert Config(onnx_config=OnnxConfig(decode_in_inference=True), postprocessing="nms").in_graph == "nms"
    assert Config(onnx_config=OnnxConfig(decode_in_inference=False)).in_graph == "outside"


@pytest.mark.parametrize(
    "path", [*sorted(HERE.glob("presets/[!_]*.py")), *HERE.glob("example/config.py")], ids=lambda p: p.stem
)
def test_shipped_configs_are_right(path: Path) -> None:
    settled = settle(path, Options(model="yolox"), config_class=Config)
    assert not settled.notes
    assert isinstance(settled.config, Config)
    assert export_workflow(settled.config)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("arch = 'opt_elan'", "did you mean 'opt-elan'"),
        ("input_size = (950, 960)", "multiples of 32, got 950 x 960; the nearest are 928 x 960 and 960 x 960"),
        ("input_size = (0, 960)", "multiples of 32, got 0 x 960; the nearest are 32 x 960"),
        ("input_size = 960", "expected a list"),
        ("score_threshold = 1.5", "must lie between 0 and 1, got 1.5"),
        ("nms_threshold = -0.1", "must lie between 0 and 1"),
        ("max_detections = 0", "must be above 0, got 0"),
        ("widen_factor = 0.0", "must be above 0"),
        ("pad_value = 256", "pad_value"),
        ("max_batch = 0", "max_batch"),
        ("stage_blocks = (1, 0, 1, 1)", "must be at least 1, got 0"),
        ("activation = 'Mish'", "allowed: ReLU6, ReLU, Swish"),
        ("arch = 's'\naspp = True", "aspp: only arch 'opt-elan' has it"),
        ("postprocessing = 'nms'\ndecoding = 'autoware'", "follows AWML's rule"),
        ("postprocessing = 'nms'\nonnx_config = dict(decode_in_inference=False)", "leave out one of the two"),
        ("class_names = ['car', 'bus', 'car']", "class_names: 'car' stands there more than once"),
        ("replace_relu = True", "did you mean 'replace_relu6'"),
    ],
)
def test_faulty_settings_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(f"checkpoint_path = 'x'\n{line}\n")
    with pytest.raises(ConfigError, match=said):
        settle(path, Options(), config_class=Config)


def test_every_setting_is_described() -> None:
    assert [name for name, text in describe(Config).items() if not text] == []


def boxes(*corners: tuple[int, int, int, int], score: float = 0.9) -> dict[str, Any]:
    count = len(corners)
    return {
        "boxes": np.array(corners, np.float32).reshape(-1, 4),
        "scores": np.full(count, score, np.float32),
        "labels": np.ones(count, np.int64),
    }


@pytest.mark.parametrize("metric", ["coco", "voc"])
def test_metrics_agreement_and_picture_are_the_tasks(metric: Any) -> None:
    found = boxes((10, 10, 60, 60))
    truth = {"boxes": found["boxes"], "labels": found["labels"]}
    record = Record(id="a", index=0, prediction=found, ground_truth=truth)
    metrics = compute_metrics([record], Config(metric=metric))
    assert metrics.values[metrics.primary] == 1.0
    assert ("AP75" in metrics.values) == (metric == "coco")
    assert any(key.endswith("/car") for key in metrics.values)
    assert CLASS_NAMES[1] == "car"
    assert compare_predictions(found, boxes((10, 10, 60, 60), (70, 70, 90, 90)), Config()).unmatched == 1
    graph = Config(postprocessing="efficient_nms")
    assert graph.thresholds == (0.3, 0.65)
    weak = {**boxes((10, 10, 60, 60)), "scores": np.array([0.301], np.float32)}
    nothing = boxes()
    assert compare_predictions(weak, nothing, graph).score > 0.9 > compare_predictions(weak, nothing, Config()).score
    frame = Frame(inputs={"image": np.zeros((100, 120, 3), np.uint8)}, ground_truth=truth)
    assert draw_sample(frame, {"trained": found}, Config()).png.startswith(b"\x89PNG")


def test_the_hooks_module_imports_nothing_heavy() -> None:
    code = "import sys, awml_yolox.hooks; print([m for m in ('torch', 'cv2', 'onnx', 'numpy') if m in sys.modules])"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == "[]"


def test_the_model_config_may_come_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("checkpoint_path = 'x'\npreprocessing = 'model_config'\n")
    named = settle(path, Options(model_config=Path("theirs.py")), config_class=Config).config
    assert isinstance(named, Config)
    assert export_workflow(named)
    nameless = settle(path, Options(), config_class=Config).config
    assert isinstance(nameless, Config)
    with pytest.raises(ConfigError, match="no such file is named") as error:
        export_workflow(nameless)
    assert "second file on the command line" in (error.value.hint or "")
