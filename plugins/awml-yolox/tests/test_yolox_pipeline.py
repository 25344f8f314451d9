"""The pipeline around a run: what it hands over, and what it makes of the answer of every kind of graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.overrides import resolve
from awml_deploy_core.records import Component
from awml_yolox.hooks import COMPONENT, Config, build_pipeline, export_workflow
from awml_yolox.letterbox import letterbox
from awml_yolox.pipeline import Detector
from awml_yolox.wrapper import wrap

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = (64, 96)
NAMES = ("car", "person", "sign")


def config(**changes: Any) -> Config:
    return Config(input_size=SIZE, class_names=NAMES, **changes)


def image(height: int = 50, width: int = 80, seed: int = 0) -> dict[str, Array]:
    return {"image": np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)}


class Levels(nn.Module):
    """A network that sees things which depend on the brightness of the image, so that every image has its own."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        answer = []
        light = images.mean((1, 2, 3))[:, None, None, None] / 128 - 1
        for stride in (8, 16, 32):
            size = (SIZE[0] // stride, SIZE[1] // stride)
            maps = [torch.randn(1, many, *size, generator=generator) for many in (len(NAMES), 4, 1)]
            classes, boxes, objectness = (each + light for each in maps)
            answer.append((2 * classes, boxes, 3 * objectness - 2))
        return answer


class Fake:
    """A run around the wrapper that would be exported, or around numbers."""

    device = "cpu"

    def __init__(self, settings: Config, answer: Mapping[str, Tensor] | None = None) -> None:
        (graph,) = resolve(export_workflow(settings), settings)
        self.components = {COMPONENT: graph.component}
        self.notes: Counter[str] = Counter()
        self.calls: list[Tensor] = []
        self.answer = answer
        self.face = wrap(Levels(), graph.component, exact=True, config=settings).eval()

    def note(self, name: str, value: float = 1) -> None:
        self.notes[name] += int(value)

    def __call__(self, component: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        assert component == COMPONENT
        (images,) = inputs.values()
        assert list(inputs) == ["images"]
        self.calls.append(images)
        if self.answer is not None:
            return dict(self.answer)
        found = self.face(images)
        names = [tensor.name for tensor in self.components[COMPONENT].outputs]
        return dict(zip(names, [found] if isinstance(found, Tensor) else found, strict=True))


def row_of(box: tuple[float, float, float, float], stride: int = 8) -> tuple[int, list[float]]:
    """The row of the cell in which a box of the canvas has its centre, and what stands in it."""
    x, y, w, h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    column, line = int(x // stride), int(y // stride)
    values = [x / stride - column, y / stride - line, float(np.log(w / stride)), float(np.log(h / stride))]
    return line * (SIZE[1] // stride) + column, values


def rows_with(*boxes: tuple[tuple[float, float, float, float], float, int], rows: int = 126) -> Tensor:
    answer = torch.zeros(1, rows, 5 + len(NAMES))
    for box, score, label in boxes:
        place, values = row_of(box)
        answer[0, place, :5] = torch.tensor([*values, 1.0])
        answer[0, place, 5 + label] = score
    return answer


def test_images_go_in_as_the_contract_says() -> None:
    run = Fake(config())
    build_pipeline("cpu", config()).predict(image(), run)
    (images,) = run.calls
    assert images.dtype is torch.float32
    np.testing.assert_array_equal(images.numpy(), letterbox([image()["image"]], SIZE)[0])


def test_boxes_come_out_in_pixels_of_the_original_image() -> None:
    """An image of twice the canvas: 128 x 192, so the box on it is twice as large."""
    answer = {"output": rows_with(((10, 20, 30, 60), 0.75, 2))}
    found = build_pipeline("cpu", config()).predict(image(128, 192), Fake(config(), answer))
    np.testing.assert_allclose(found["boxes"], [[20, 40, 60, 120]], rtol=1e-5)
    np.testing.assert_allclose(found["scores"], [0.75])
    assert found["labels"].tolist() == [2]
    assert {name: str(each.dtype) for name, each in found.items()} == {
        "boxes": "float32", "scores": "float32", "labels": "int64"
    }  # fmt: skip


def test_a_drawn_rectangle_is_found_where_it_was_drawn() -> None:
    """End to end without a network: the box of the canvas where the letterboxed rectangle really lies."""
    frame = np.zeros((300, 420, 3), np.uint8)
    cv2.rectangle(frame, (100, 50), (299, 249), (255, 255, 255), -1)
    canvas, _ = letterbox([frame], SIZE)
    down, across = np.nonzero(canvas[0, 0, :, :89] > 128)
    seen = (float(across.min()), float(down.min()), float(across.max() + 1), float(down.max() + 1))
    found = build_pipeline("cpu", config()).predict(
        {"image": frame}, Fake(config(), {"output": rows_with((seen, 0.9, 0))})
    )
    np.testing.assert_allclose(found["boxes"], [[100, 50, 300, 250]], atol=420 / 96)


@pytest.mark.parametrize("decoding", ["awml", "autoware"])
def test_a_batch_is_the_same_as_one_by_one(decoding: str) -> None:
    images = [image(50, 80, 1), image(200, 100, 2), image(64, 96, 3)]
    images[1]["image"] //= 2
    settings = config(decoding=decoding)
    pipeline, run = Detector(device="cpu", config=settings), Fake(settings)
    together = pipeline.predict_batch(images, run)
    assert [tuple(call.shape) for call in run.calls] == [(3, 3, *SIZE)]
    for frame, found in zip(images, together, strict=True):
        alone = pipeline.predict(frame, Fake(settings))
        for name, value in found.items():
            np.testing.assert_allclose(value, alone[name], rtol=1e-4, atol=1e-4)
    assert len({len(found["scores"]) for found in together}) > 1


def test_empty_batch() -> None:
    assert Detector(device="cpu", config=config()).predict_batch([], Fake(config())) == []


@pytest.mark.parametrize("decoding", ["awml", "autoware"])
def test_decoding_in_the_graph_changes_nothing(decoding: str) -> None:
    outside, inside = config(decoding=decoding), config(decoding=decoding, postprocessing="decode")
    a, b = (build_pipeline("cpu", each).predict(image(), Fake(each)) for each in (outside, inside))
    assert len(a["scores"]) > 3
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-3)


def test_suppression_in_the_graph_changes_nothing() -> None:
    outside, inside = config(score_threshold=0.05), config(score_threshold=0.05, postprocessing="nms")
    run = Fake(inside)
    a, b = (build_pipeline("cpu", each).predict(image(), other)
            for each, other in ((outside, Fake(outside)), (inside, run)))  # fmt: skip
    assert 3 < len(a["scores"]) < 100
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-3)
    assert not run.notes


def plugin_answer(boxes: list[list[float]], scores: list[float], count: int) -> dict[str, Tensor]:
    labels = [place % 3 for place in range(len(scores))]
    return {
        "num_detections": torch.tensor([[count]], dtype=torch.int32),
        "detection_boxes": torch.tensor([boxes]),
        "detection_scores": torch.tensor([scores]),
        "detection_classes": torch.tensor([labels], dtype=torch.int32),
    }


def test_answer_of_the_tensorrt_plugin_is_read_up_to_its_count() -> None:
    settings = config(postprocessing="efficient_nms")
    boxes = [[0.0, 8.0, 16.0, 24.0], [1.0, 1.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0], [7.0] * 4]
    run = Fake(settings, plugin_answer(boxes, [0.5, 0.9, float("nan"), 0.0], 3))
    found = build_pipeline("cpu", settings).predict(image(128, 192), run)
    np.testing.assert_allclose(found["boxes"], [[2, 2, 4, 4], [0, 16, 32, 48]])
    np.testing.assert_allclose(found["scores"], [0.9, 0.5])
    assert found["labels"].tolist() == [1, 0]
    assert found["labels"].dtype == np.int64
    assert run.notes == {"boxes_not_finite": 1}


def test_answer_of_the_tensorrt_plugin_by_autoware_s_rule_is_whole_pixels_inside() -> None:
    settings = config(postprocessing="efficient_nms", decoding="autoware")
    run = Fake(settings, plugin_answer([[-3.0, 8.7, 16.2, 900]], [0.5], 1))
    found = build_pipeline("cpu", settings).predict(image(128, 192), run)
    np.testing.assert_array_equal(found["boxes"], [[0, 17, 32, 126]])  # corner and size are cut separately


def test_a_full_answer_of_the_graph_is_noted() -> None:
    settings = config(postprocessing="nms", max_detections=2)
    run = Fake(settings)
    found = build_pipeline("cpu", settings).predict(image(), run)
    assert len(found["scores"]) == 2
    assert run.notes == {"images_with_as_many_boxes_as_the_graph_gives": 1}


def test_best_boxes_are_kept_where_their_number_is_limited_and_the_others_counted() -> None:
    free, capped = Fake(config()), Fake(config())
    everything = build_pipeline("cpu", config()).predict(image(), free)
    best = build_pipeline("cpu", config(max_detections=4)).predict(image(), capped)
    for name in best:
        np.testing.assert_array_equal(best[name], everything[name][:4])
    assert not free.notes
    assert capped.notes == {"boxes_capped": len(everything["scores"]) - 4}


def test_rows_that_are_not_finite_are_noted() -> None:
    answer = rows_with(((10, 20, 30, 60), 0.75, 2), ((50, 20, 70, 60), 0.75, 2))
    answer[0, row_of((10, 20, 30, 60))[0], 2] = float("inf")
    run = Fake(config(), {"output": answer})
    assert len(build_pipeline("cpu", config()).predict(image(), run)["scores"]) == 1
    assert run.notes == {"boxes_not_finite": 1}


@pytest.mark.parametrize(
    ("decoding", "score", "kept"), [("awml", 0.02, 1), ("awml", 0.005, 0), ("autoware", 0.4, 1), ("autoware", 0.3, 0)]
)
def test_each_rule_has_its_own_threshold(decoding: str, score: float, kept: int) -> None:
    settings = config(decoding=decoding)
    answer = {"output": rows_with(((10, 20, 30, 60), score, 2))}
    assert len(build_pipeline("cpu", settings).predict(image(), Fake(settings, answer))["scores"]) == kept


@pytest.mark.parametrize(
    ("decoding", "changes", "kept"),
    [
        ("awml", {}, 2),  # 3 of 5 squares are shared
        ("awml", {"nms_threshold": 0.5}, 1),
        ("awml", {"score_threshold": 0.85}, 1),
        ("autoware", {}, 2),
        ("autoware", {"nms_threshold": 0.5}, 1),
        ("autoware", {"score_threshold": 0.85}, 1),
    ],
)
def test_settings_win_over_the_rule_s_own(decoding: str, changes: dict[str, float], kept: int) -> None:
    settings = config(decoding=decoding, **changes)
    answer = {"output": rows_with(((16, 16, 56, 32), 0.9, 2), ((24, 16, 72, 32), 0.8, 2))}
    overlap = 32 / 56
    assert 0.5 < overlap < 0.65
    assert len(build_pipeline("cpu", settings).predict(image(), Fake(settings, answer))["scores"]) == kept


def test_size_is_that_of_the_run_not_of_the_config() -> None:
    run = Fake(config())
    build_pipeline("cpu", evolve(config(), input_size=(960, 960))).predict(image(), run)
    assert run.calls[0].shape[2:] == SIZE


def test_fill_is_the_config_s() -> None:
    run = Fake(config())
    build_pipeline("cpu", config(pad_value=3)).predict(image(10, 80), run)
    assert (run.calls[0][0, :, 20:] == 3).all()


def test_half_precision_answers_are_taken() -> None:
    answer = {"output": rows_with(((10, 20, 30, 60), 0.75, 2)).half()}
    found = build_pipeline("cpu", config()).predict(image(64, 96), Fake(config(), answer))
    np.testing.assert_allclose(found["boxes"], [[10, 20, 30, 60]], rtol=1e-2)
    assert found["scores"].dtype == np.float32


def test_component_is_declared_with_the_sizes_that_it_is_run_with() -> None:
    component: Component = Fake(config()).components[COMPONENT]
    assert component.inputs[0].shape[2:] == SIZE


# ---------------------------------------------------------------- by the model's config

TEST_PIPELINE = """
model = dict(data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32{more}))
test_pipeline = [
    dict(type="LoadImageFromFile", backend_args=None),
    dict(type="Resize", scale=({size}, {size}), keep_ratio=True),
    dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
"""


def by_model_config(folder: Path, size: int = 64, more: str = "", **changes: Any) -> Config:
    (folder / "model.py").write_text(TEST_PIPELINE.format(size=size, more=more))
    return evolve(square(**changes), preprocessing="model_config", model_config=folder / "model.py")


def square(**changes: Any) -> Config:
    return Config(input_size=(64, 64), class_names=NAMES, **changes)


@pytest.mark.parametrize("size", [(50, 80), (128, 128), (300, 201)])
@pytest.mark.parametrize("decoding", ["awml", "autoware"])
def test_awml_s_test_pipeline_is_the_letterbox(tmp_path: Path, size: tuple[int, int], decoding: str) -> None:
    plain, settings = square(decoding=decoding), by_model_config(tmp_path, decoding=decoding)
    place, values = row_of((10, 20, 30, 60))
    rows = torch.zeros(1, 84, 5 + len(NAMES))
    rows[0, place - 2 * 4, :6] = torch.tensor([*values, 1, 0.9])  # 8 cells a line here, not 12
    runs = [Fake(each, {"output": rows}) for each in (plain, settings)]
    found = [build_pipeline("cpu", each).predict(image(*size), run)
             for each, run in zip((plain, settings), runs, strict=True)]  # fmt: skip
    torch.testing.assert_close(runs[0].calls, runs[1].calls, rtol=0, atol=0)
    np.testing.assert_allclose(found[0]["boxes"], found[1]["boxes"], rtol=1e-6)
    assert len(found[0]["boxes"]) == 1


def test_normalisation_of_the_model_config_is_followed(tmp_path: Path) -> None:
    settings = by_model_config(tmp_path, more=", mean=[1, 2, 3], std=[10, 20, 40], bgr_to_rgb=True")
    run = Fake(settings, {"output": torch.zeros(1, 84, 5 + len(NAMES))})
    build_pipeline("cpu", settings).predict(image(64, 64), run)
    expected = (image(64, 64)["image"][..., ::-1] - np.array([1, 2, 3])) / [10, 20, 40]
    np.testing.assert_allclose(run.calls[0][0].numpy(), expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)


def test_model_config_that_makes_images_of_another_size_is_refused(tmp_path: Path) -> None:
    settings = by_model_config(tmp_path, size=128)
    with pytest.raises(ConfigError, match="makes images of 3 x 128 x 128, the network takes 3 x 64 x 64"):
        build_pipeline("cpu", settings).predict(image(), Fake(settings))
