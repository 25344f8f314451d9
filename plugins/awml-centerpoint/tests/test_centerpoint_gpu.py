"""A GPU says what the CPU says: integers bit for bit, the rest to rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from awml_centerpoint.architecture import Architecture, architecture, class_names, geometry
from awml_centerpoint.config import Config
from awml_centerpoint.decode import Boxes, decode
from awml_centerpoint.graphs import components
from awml_centerpoint.network import build
from awml_centerpoint.pipeline import Detector
from awml_centerpoint.scatter import scatter
from awml_centerpoint.voxels import decorate, voxelise
from awml_centerpoint.wrapper import wrap

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
]

Array = np.ndarray[Any, np.dtype[Any]]
INTEGERS = ("coordinates", "counts", "points", "cells", "slots")
COUNTS = ("not_finite", "outside", "crowded", "unseen", "unopened")


@pytest.fixture(autouse=True)
def _needs_cuda() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.backends.cudnn.allow_tf32 = exact


def cloud(seed: int, count: int, columns: int = 5) -> Tensor:
    """A third of the points on the very edges of pillars, some of them no numbers."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, columns)) * [40, 40, 1, 50, 0.1][:columns]
    points[::3, :2] = np.round(points[::3, :2] / 0.24) * 0.24
    points = points.astype(np.float32)
    points[1::3, 0] = np.nextafter(points[1::3, 0], np.float32(0))
    points[::97, 1], points[::89, 3] = np.nan, np.inf
    return torch.from_numpy(points)


def together(one: Any, other: Any) -> None:
    for name in INTEGERS:
        assert torch.equal(getattr(one, name), getattr(other, name).cpu()), name
    for name in COUNTS:
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize(("count", "most", "cells"), [(0, 32, 96000), (5000, 3, 700), (200_000, 32, 96000)])
def test_pillars_are_the_same_bits(count: int, most: int, cells: int) -> None:
    grid = geometry(Config(max_num_points=most, max_voxels=cells))
    points = cloud(count, count)
    together(voxelise(points, grid), voxelise(points.cuda(), grid))


@pytest.mark.parametrize(
    "network", [Architecture(columns=5), Architecture(columns=5, encoder="backward", with_distance=True)]
)
def test_decoration_is_the_same_to_rounding_and_repeats_bit_for_bit(network: Architecture) -> None:
    grid = geometry(Config(max_voxels=20000))
    points = cloud(1, 60_000)
    host = decorate(points, voxelise(points, grid), grid, network)
    device = [decorate(each, voxelise(each, grid), grid, network) for each in [points.cuda()] * 3]
    assert torch.equal(device[0], device[1])
    assert torch.equal(device[0], device[2])
    torch.testing.assert_close(device[0].cpu(), host, rtol=1e-6, atol=2e-5)


def test_the_canvas_is_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    flat = rng.permutation(40 * 30)[:500]
    places = torch.tensor(np.stack([flat * 0, flat // 40, flat % 40], 1), dtype=torch.int32)
    rows = torch.from_numpy(rng.normal(size=(500, 1, 32)).astype(np.float32))
    device = scatter([rows.cuda(), rows[:9].cuda()], [places.cuda(), places[:9].cuda()], (40, 30, 1))
    assert torch.equal(device.cpu(), scatter([rows, rows[:9]], [places, places[:9]], (40, 30, 1)))


def boxes_of(maps: dict[str, Tensor], settings: Config) -> list[Boxes]:
    return decode([maps], settings, geometry(settings), class_names(settings), lambda name, value: None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nms": "rotate"},
        {"decoding": "autoware", "score_threshold": 0.35},
        {"rot_y_axis_reference": True},
    ],
)
def test_boxes_are_the_same(changes: dict[str, Any]) -> None:
    settings = Config(**changes)
    rng = np.random.default_rng(0)
    channels = {"heatmap": 5, "reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
    maps = {
        name: torch.from_numpy(rng.normal(size=(2, number, 510, 510)).astype(np.float32))
        for name, number in channels.items()
    }
    # Few steps of heat: scores that are equal on one device must be equal on the other.
    maps["heatmap"] = torch.round(maps["heatmap"] * 8) / 8 - 4
    for one, other in zip(
        boxes_of(maps, settings), boxes_of({name: value.cuda() for name, value in maps.items()}, settings), strict=True
    ):
        assert len(one.scores) > 20
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.boxes[:, :3], other.boxes[:, :3])
        np.testing.assert_array_equal(one.velocities, other.velocities)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-6)
        np.testing.assert_allclose(one.boxes[:, 3:], other.boxes[:, 3:], rtol=1e-5, atol=1e-6)


class Torch:
    """A run on the trained modules; between the two graphs nothing may wait for the device."""

    def __init__(self, settings: Config, device: str) -> None:
        torch.manual_seed(0)
        network = build(architecture(settings)).eval()
        for name, parameter in network.named_parameters():
            if name.endswith("heatmap.1.bias"):
                torch.nn.init.zeros_(parameter)
        self.device = device
        self.components = {component.name: component for component in components(settings)}
        self.modules = {name: wrap(network, name, settings).to(device) for name in self.components}
        self.inputs: list[Tensor] = []

    def note(self, name: str, value: float = 1) -> None:
        assert value > 0, name

    def __call__(self, name: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        torch.cuda.set_sync_debug_mode("default")
        assert {value.device.type for value in inputs.values()} == {self.device.partition(":")[0]}
        self.inputs += [value.cpu() for value in inputs.values()]
        answers = self.modules[name](*inputs.values())
        answers = answers if isinstance(answers, tuple) else (answers,)
        if name == "pts_voxel_encoder" and self.device != "cpu":
            torch.cuda.set_sync_debug_mode("error")
        return {output.name: value for output, value in zip(self.components[name].outputs, answers, strict=True)}


@torch.no_grad()
def test_the_whole_pipeline_stays_on_the_device_until_boxes_are_chosen() -> None:
    settings = Config(
        point_cloud_range=(-24.0, -24.0, -3.0, 24.0, 24.0, 5.0),
        voxel_size=(0.5, 0.5, 8.0),
        score_threshold=0.5,
        point_columns=(0, 1, 2, 3, 4),
    )
    frames = [{"points": cloud(seed, 4000).numpy()} for seed in (1, 2)]
    found = {}
    for device in ("cpu", "cuda:0"):
        run = Torch(settings, device)
        found[device] = run.inputs, Detector(device=device, config=settings).predict_batch(frames, run)
    (host_inputs, host), (device_inputs, device_boxes) = found["cpu"], found["cuda:0"]
    for one, other in zip(host_inputs, device_inputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for alone, again in zip(host, device_boxes, strict=True):
        assert len(alone["scores"]) > 5
        # Boxes of nearly equal scores may change places; each must have its twin.
        apart = np.linalg.norm(alone["boxes"][:, None, :2] - again["boxes"][None, :, :2], axis=2)
        assert (apart.min(1) < 1e-2).mean() > 0.9
        turn = alone["boxes"][:, None, 6] - again["boxes"][None, :, 6]
        assert (np.abs(np.sin(turn / 2))[apart < 1e-2] < math.radians(1)).mean() > 0.9
