"""The pipeline around a run: what it hands over, what it makes of the answers, what it counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from awml_centerpoint.architecture import architecture, geometry
from awml_centerpoint.config import Config
from awml_centerpoint.graphs import components
from awml_centerpoint.pipeline import Detector
from awml_centerpoint.voxels import decorate, voxelise
from awml_deploy_core.errors import LoadError
from awml_deploy_core.records import Component

Array = np.ndarray[Any, np.dtype[Any]]


def config(**changes: Any) -> Config:
    """12 x 8 pillars of 1 m, 6 x 4 cells."""
    fields: dict[str, Any] = {
        "point_cloud_range": (-6.0, -4.0, -3.0, 6.0, 4.0, 5.0),
        "voxel_size": (1.0, 1.0, 8.0),
        "feat_channels": (8, 8),
        "layer_strides": (1, 2, 2),
        "max_num_points": 4,
    }
    return Config(**{**fields, **changes})


class Heat:
    """A run whose pillar features are means of points and whose maps grow hot where the canvas is full."""

    device = "cpu"

    def __init__(self, settings: Config) -> None:
        self.components = {component.name: component for component in components(settings)}
        self.calls: list[tuple[str, dict[str, Tensor]]] = []
        self.notes: Counter[str] = Counter()

    def note(self, name: str, value: float = 1) -> None:
        self.notes[name] += int(value)

    def __call__(self, name: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        self.calls.append((name, inputs))
        component: Component = self.components[name]
        (given,) = inputs.values()
        if name == "pts_voxel_encoder":
            return {component.outputs[0].name: given[:, :, :8].amax(1, keepdim=True)}
        shrunk = torch.nn.functional.max_pool2d((given != 0).any(1, keepdim=True).float(), 2)
        found = {}
        for index, output in enumerate(component.outputs):
            size = (len(given), output.shape[1], *shrunk.shape[2:])
            found[output.name] = torch.full(size, index / 10)
            if "heatmap" in output.name or index == 0:
                found[output.name] = 6 * shrunk.expand(size) - torch.arange(1, size[1] + 1)[None, :, None, None] * 3.5
        return found


def frame(seed: int = 0, count: int = 30, columns: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"points": rng.uniform((-6, -4, -3, 0), (6, 4, 5, 1), (count, columns)).astype(np.float32)}


def test_both_graphs_get_what_the_contract_says() -> None:
    run, settings = Heat(config()), config()
    points = torch.from_numpy(frame()["points"])
    Detector(device="cpu", config=settings).predict(frame(), run)
    (first, seen), (second, canvas) = run.calls
    assert (first, second) == ("pts_voxel_encoder", "pts_backbone_neck_head")
    assert (list(seen), list(canvas)) == (["input_features"], ["spatial_features"])
    grid = geometry(settings)
    voxels = voxelise(points, grid)
    expected = decorate(points, voxels, grid, architecture(settings))
    assert torch.equal(seen["input_features"], expected)
    assert canvas["spatial_features"].shape == (1, 8, 8, 12)
    for row, (_, y, x) in enumerate(voxels.coordinates.tolist()):
        assert torch.equal(canvas["spatial_features"][0, :, y, x], expected[row, :, :8].amax(0))


def test_a_box_stands_where_the_point_was() -> None:
    found = Detector(device="cpu", config=config(score_threshold=0.5)).predict(
        {"points": np.array([[3.2, -1.5, 0, 0]], np.float32)}, Heat(config())
    )
    # Cell 4 along x and 1 along y, 2 m each, plus the offset of 0.1 cells that every cell has.
    np.testing.assert_allclose(found["boxes"][:, :3], [[2.2, -1.8, 0.2]], atol=1e-6)
    np.testing.assert_allclose(found["boxes"][:, 3:], [[*[np.exp(0.3)] * 3, np.pi / 4]], rtol=1e-6)
    np.testing.assert_array_equal(found["labels"], [0])
    assert {name: value.dtype for name, value in found.items()} == {
        "boxes": np.float32,
        "scores": np.float32,
        "labels": np.int64,
        "velocities": np.float32,
    }


def test_outputs_are_bound_by_position_as_the_node_does() -> None:
    settings = config(score_threshold=0.5)
    plain, renamed = Heat(settings), Heat(settings)
    expected = Detector(device="cpu", config=settings).predict(frame(), plain)
    for name, component in list(renamed.components.items()):
        outputs = tuple(type(each)(name=f"o{i}", shape=each.shape) for i, each in enumerate(component.outputs))
        inputs = tuple(type(each)(name=f"i{i}", shape=each.shape) for i, each in enumerate(component.inputs))
        renamed.components[name] = Component(name=name, inputs=inputs, outputs=outputs, axes=component.axes)
    found = Detector(device="cpu", config=settings).predict(frame(), renamed)
    assert len(expected["scores"])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_batch_answers_in_order_with_one_call_of_each_graph() -> None:
    settings = config(score_threshold=0.5)
    frames = [frame(0), frame(1, 0), frame(2, 5), frame(3, 60)]
    run, pipeline = Heat(settings), Detector(device="cpu", config=settings)
    together = pipeline.predict_batch(frames, run)
    assert [name for name, _ in run.calls] == ["pts_voxel_encoder", "pts_backbone_neck_head"]
    assert run.calls[1][1]["spatial_features"].shape[0] == 3
    alone = [pipeline.predict(each, Heat(settings)) for each in frames]
    for one, other in zip(together, alone, strict=True):
        for name, value in other.items():
            np.testing.assert_array_equal(one[name], value)
    assert [len(answer["scores"]) > 0 for answer in alone] == [True, False, True, True]
    assert pipeline.predict_batch([], run) == []


@pytest.mark.parametrize("points", [np.zeros((0, 4), np.float32), np.full((5, 4), 99, np.float32)])
def test_a_frame_without_pillars_calls_nothing_and_is_counted(points: Array) -> None:
    run = Heat(config())
    found = Detector(device="cpu", config=config()).predict({"points": points}, run)
    assert run.calls == []
    assert run.notes["frames_without_pillars"] == 1
    assert {name: (value.shape, value.dtype.name) for name, value in found.items()} == {
        "boxes": ((0, 7), "float32"),
        "scores": ((0,), "float32"),
        "labels": ((0,), "int64"),
        "velocities": ((0, 2), "float32"),
    }


def test_what_does_not_reach_the_network_is_counted() -> None:
    points = np.tile(np.array([[0.5, 0.5, 0, 0]], np.float32), (7, 1))
    more = np.array(
        [[np.nan, 0, 0, 0], [0, 0, 0, np.inf], [50, 0, 0, 0], [2.5, 0.5, 0, 0], [2.6, 0.5, 0, 0]], np.float32
    )
    run = Heat(config(max_voxels=1))
    inputs = {"points": np.concatenate([points, more]), "missing_sweeps": 2, "unseen_truths": 4}
    Detector(device="cpu", config=config(max_voxels=1)).predict(inputs, run)
    assert run.notes == {
        "points_not_finite": 2,
        "points_out_of_range": 1,
        "points_over_pillar": 3,
        "points_of_unopened_pillars": 2,
        "pillars_over_max_voxels": 1,
        "sweeps_missing": 2,
        "truths_without_points": 4,
    }


def test_a_frame_that_loses_nothing_says_nothing() -> None:
    run = Heat(config())
    Detector(device="cpu", config=config()).predict(frame(count=3), run)
    assert run.notes == {}


def test_columns_that_do_not_fit_the_encoder_are_refused() -> None:
    with pytest.raises(LoadError, match=r"of shape \(30, 5\), but the encoder sees 4 columns") as error:
        Detector(device="cpu", config=config()).predict({"points": np.zeros((30, 5), np.float32)}, Heat(config()))
    assert "point_columns" in str(error.value.hint)


def test_points_that_may_not_be_written_or_are_tensors_are_fine() -> None:
    locked = frame()["points"]
    locked.flags.writeable = False
    pipeline, settings = Detector(device="cpu", config=config()), config()
    expected = pipeline.predict(frame(), Heat(settings))
    for points in (locked, torch.from_numpy(frame()["points"])):
        np.testing.assert_array_equal(pipeline.predict({"points": points}, Heat(settings))["boxes"], expected["boxes"])


def test_both_tasks_of_a_network_are_read() -> None:
    settings = config(tasks=(("car", "truck"), ("bus", "bicycle", "pedestrian")), score_threshold=0.5)
    found = Detector(device="cpu", config=settings).predict(frame(), Heat(settings))
    assert set(found["labels"]) == {0, 2}
