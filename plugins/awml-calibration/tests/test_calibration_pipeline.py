"""The pipeline around a run: what it hands over and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import Tensor

from awml_calibration.draw import overlay
from awml_calibration.hooks import Config, build_pipeline, compare_predictions, compute_metrics, draw_sample
from awml_calibration.image import View, compose
from awml_calibration.pipeline import Status
from awml_deploy_core.records import Component, Frame, Record


def view(size: tuple[int, int] = (32, 24), seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    return View(
        image=rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8),
        camera=np.array([[30.0, 0, size[0] / 2], [0, 30, size[1] / 2], [0, 0, 1]]),
        distortion=np.array([-0.1, 0.01, 0, 0, 0]),
        points=rng.uniform((-5, -5, 1, 0), (5, 5, 60, 255), (200, 4)).astype(np.float32),
        lidar_to_camera=np.eye(4),
    )


class Mean:
    """A run whose logits are means of the image, so that every image has an answer of its own."""

    device = "cpu"
    components: Mapping[str, Component] = {}

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Tensor]]] = []

    def note(self, name: str, value: float = 1) -> None:
        pass

    def __call__(self, component: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        self.calls.append((component, inputs))
        image = inputs["input"]
        return {"output": torch.stack([image[:, 0].mean((1, 2)), 40 * image[:, 4].mean((1, 2))], 1)}


class Fixed(Mean):
    """A run in half precision that always says the same."""

    def __call__(self, component: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        return {"output": torch.tensor([[1.0, 3.0]], dtype=torch.float16)}


def test_one_image_goes_in_as_the_contract_says() -> None:
    run = Mean()
    build_pipeline("cpu", Config()).predict(view(), run)
    ((component, inputs),) = run.calls
    assert component == "calibration_status_classifier"
    assert list(inputs) == ["input"]
    assert inputs["input"].dtype is torch.float32
    expected = compose(view(), order="bgr", max_depth=128, dilation=1)
    np.testing.assert_array_equal(inputs["input"].numpy(), expected[None])


def test_settings_reach_the_image() -> None:
    run = Mean()
    config = Config(channel_order="rgb", max_depth=30.0, dilation_size=2)
    build_pipeline("cpu", config).predict(view(), run)
    expected = compose(view(), order="rgb", max_depth=30, dilation=2)
    np.testing.assert_array_equal(run.calls[0][1]["input"][0].numpy(), expected)


def test_prediction_is_softmax_and_its_largest() -> None:
    found = build_pipeline("cpu", Config()).predict(view(), Fixed())
    assert found["label"] == 1
    assert type(found["label"]) is int
    np.testing.assert_allclose(found["scores"], [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))], rtol=1e-6)
    assert found["scores"].dtype == np.float32


def test_batch_answers_in_order_and_joins_equal_sizes() -> None:
    views = [view(seed=0), view((40, 24), seed=1), view(seed=2), view((40, 24), seed=3), view(seed=4)]
    pipeline, run = Status(device="cpu", config=Config()), Mean()
    together = pipeline.predict_batch(views, run)
    assert [tuple(inputs["input"].shape) for _, inputs in run.calls] == [(3, 5, 24, 32), (2, 5, 24, 40)]
    alone = [pipeline.predict(one, Mean()) for one in views]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a["scores"], b["scores"], rtol=1e-6)
    assert len({float(answer["scores"][0]) for answer in alone}) == 5


def test_empty_batch() -> None:
    assert Status(device="cpu", config=Config()).predict_batch([], Mean()) == []


def test_metrics_know_the_classes_without_being_told() -> None:
    records = [
        Record(id=str(i), index=i, prediction={"label": p, "scores": np.array([0.5, 0.5])}, ground_truth={"label": t})
        for i, (p, t) in enumerate([(1, 1), (1, 0), (0, 0), (1, 1)])
    ]
    found = compute_metrics(records, Config())
    assert found.values[found.primary] == pytest.approx(0.75)
    assert found.values["recall/miscalibrated"] == pytest.approx(0.5)


def test_agreement_is_of_labels() -> None:
    ours, theirs = ({"label": label, "scores": np.array([0.4, 0.6])} for label in (1, 0))
    assert compare_predictions(ours, ours).score == 1
    assert compare_predictions(ours, theirs).score == 0


def test_picture_shows_points_and_verdict() -> None:
    frame = Frame(inputs=view(), ground_truth={"label": 0})
    prediction = {"label": 0, "scores": np.array([0.9, 0.1], np.float32)}
    found = draw_sample(frame, {"onnx": prediction}, Config())
    assert "truth: miscalibrated" in found.caption
    assert "onnx: miscalibrated" in found.caption
    assert found.png.startswith(b"\x89PNG")


def test_overlay_enlarges_a_small_image_and_marks_the_point_where_it_lies() -> None:
    dark = evolve(view(), image=np.zeros((24, 32, 3), np.uint8), distortion=np.zeros(5))
    near, far = (overlay(evolve(dark, points=np.array([[0, 0, z, 9]], np.float32)), 128) for z in (4, 70))
    assert near.shape == (720, 960, 3)
    for picture in (near, far):
        rows, columns = np.nonzero(picture.any(2))
        assert (rows.mean(), columns.mean()) == (360, 480)
        assert len(rows) == 9
    # Red green blue: near points are red, far ones blue.
    assert near[360, 480, 0] > near[360, 480, 2]
    assert far[360, 480, 2] > far[360, 480, 0]
