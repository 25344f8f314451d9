"""What the example's training sees and does: the same pillars as the deployment, frames that stay true when varied."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file

from awml_centerpoint.example import frames, train
from awml_centerpoint.example.bodies import CLASSES
from awml_centerpoint.example.frames import Drawn, draw, keep, load, vary
from awml_centerpoint.example.pillars import answer, pillars
from awml_centerpoint.example.shapes import Floats
from awml_centerpoint.example.train import ARCHITECTURE, FIRST, GEOMETRY, rate, save
from awml_centerpoint.example.views import Views, batches, inside
from awml_centerpoint.example.write import TOWNS
from awml_centerpoint.network import build
from awml_centerpoint.voxels import decorate, voxelise

SMALL = evolve(GEOMETRY, range=(-10.24, -10.24, -3.0, 10.24, 10.24, 5.0), grid=(64, 64, 1))
"""A corner of the real grid: 64 x 64 pillars."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these lose more by dividing the work than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw(seed) for seed in (0, 1, 2)]


# ---------------------------------------------------------------- pillars


@pytest.mark.parametrize("voxel", [0.4, 0.32])
def test_training_makes_the_pillars_of_the_deployment(drawn: list[Drawn], voxel: float) -> None:
    cells = round(102.4 / voxel)
    geometry = evolve(GEOMETRY, voxel_size=(voxel, voxel, 8.0), grid=(cells, cells, 1))
    clouds = [torch.from_numpy(inside(frame.points, geometry)) for frame in drawn]
    features, place = pillars(torch.cat(clouds), [len(cloud) for cloud in clouds], geometry)
    for number, cloud in enumerate(clouds):
        voxels = voxelise(cloud, geometry)
        assert voxels.unopened == 0
        theirs = (number * cells + voxels.coordinates[:, 1].long()) * cells + voxels.coordinates[:, 2]
        mine = place // cells**2 == number
        order = theirs.argsort()
        assert torch.equal(place[mine], theirs[order])
        wanted = decorate(cloud, voxels, geometry, ARCHITECTURE)[order]
        torch.testing.assert_close(features[mine], wanted, rtol=1e-5, atol=2e-5)


def test_a_frame_is_answered_alike_alone_and_among_others(drawn: list[Drawn]) -> None:
    model = build(ARCHITECTURE).eval()
    clouds = [torch.from_numpy(inside(frame.points, SMALL)) for frame in drawn]
    with torch.no_grad():
        together = answer(model, torch.cat(clouds), [len(cloud) for cloud in clouds], SMALL)
        for number, cloud in enumerate(clouds):
            alone = answer(model, cloud, [len(cloud)], SMALL)
            for name, value in alone.items():
                torch.testing.assert_close(together[name][number], value[0], rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- frames


def corners(boxes: Floats) -> Floats:
    """(N, 8, 3)."""
    signs = np.array([(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)])
    local = signs * boxes[:, None, 3:6] / 2
    flat = (local[..., 0] + 1j * local[..., 1]) * np.exp(1j * boxes[:, None, 6])
    return np.stack([flat.real, flat.imag, local[..., 2]], 2) + boxes[:, None, :3]


@pytest.mark.parametrize("seed", range(6))
def test_points_boxes_and_velocities_are_varied_together(seed: int) -> None:
    """Boxes keep the points at their corners, whichever way they are mirrored and turned."""
    rng = np.random.default_rng(seed)
    boxes = rng.uniform((-40, -40, 0, 1, 1, 1, -3), (40, 40, 2, 9, 3, 3, 3), (20, 7))
    marks, ahead = corners(boxes).reshape(-1, 3), boxes[:, :3].copy()
    ahead[:, :2] += boxes[:, 3:4] * np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], 1)
    velocities = rng.normal(0, 5, (20, 2))
    later = boxes[:, :3].copy()
    later[:, :2] += velocities
    points = np.concatenate([marks, ahead, later])
    numbered = np.column_stack([points, np.arange(len(points)), np.zeros(len(points))]).astype(np.float32)
    frame = Drawn(points=numbered, boxes=boxes, velocities=velocities, labels=np.zeros(20), counts=np.ones(20))
    varied = vary(frame, rng)
    moved = varied.points[np.argsort(varied.points[:, 3])][:, :3]
    assert not np.array_equal(varied.points[:, 3], numbered[:, 3])  # shuffled
    for mine, theirs in zip(corners(varied.boxes), moved[:160].reshape(-1, 8, 3), strict=True):
        gap = np.linalg.norm(mine[:, None] - theirs, axis=2)
        assert gap.min(0).max() < 1e-3
        assert gap.min(1).max() < 1e-3
    scale = varied.boxes[0, 3] / boxes[0, 3]
    front = np.stack([np.cos(varied.boxes[:, 6]), np.sin(varied.boxes[:, 6])], 1) * varied.boxes[:, 3:4]
    np.testing.assert_allclose(varied.boxes[:, :2] + front, moved[160:180, :2], atol=1e-3)
    np.testing.assert_allclose(varied.boxes[:, :2] + varied.velocities, moved[180:, :2], atol=1e-3)
    assert 0.95 <= scale <= 1.05
    assert numbered[0, 0] == np.float32(marks[0, 0])  # the frame that was given is as it was


def test_variations_differ_in_everything() -> None:
    boxes = np.array([[10.0, 3, 1, 4, 2, 2, 0.2]])
    frame = Drawn(
        points=np.zeros((1, 5), np.float32),
        boxes=boxes,
        velocities=boxes[:, :2],
        labels=boxes[:, 0],
        counts=boxes[:, 0],
    )
    found = np.array([vary(frame, np.random.default_rng(seed)).boxes[0] for seed in range(200)])
    assert (found[:, :2] > 0).mean(0) == pytest.approx([0.5, 0.5], abs=0.15)
    assert len(np.unique(found.round(6), axis=0)) == 200
    assert np.std(found, axis=0).min() > 0.01


def test_kept_frames_are_those_that_were_drawn(tmp_path: Path, drawn: list[Drawn]) -> None:
    paths = keep(tmp_path / "cache", [0, 1], 1)
    times = [path.stat().st_mtime_ns for path in paths]
    for path, frame in zip(paths, drawn, strict=False):
        kept = load(path)
        for name in ("points", "boxes", "velocities", "labels", "counts"):
            np.testing.assert_array_equal(getattr(kept, name), getattr(frame, name))
    assert keep(tmp_path / "cache", [0, 1], 1) == paths
    assert [path.stat().st_mtime_ns for path in paths] == times
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["0.npz", "1.npz"]


def test_a_frame_is_two_turns_of_one_ride(drawn: list[Drawn]) -> None:
    for frame in drawn:
        ages = np.unique(frame.points[:, 4])
        assert len(ages) == 2
        assert ages[0] == 0
        assert 0.1 <= ages[1] <= 0.3 + 1e-6
        assert set(frame.labels.tolist()) <= set(range(len(CLASSES)))


def test_what_is_trained_on_is_not_in_the_example() -> None:
    assert max(TOWNS) < FIRST


# ---------------------------------------------------------------- views


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory, drawn: list[Drawn]) -> Views:
    folder = tmp_path_factory.mktemp("kept")
    paths = []
    for number, frame in enumerate(drawn):
        paths.append(folder / f"{number}.npz")
        np.savez(
            paths[-1], **{name: getattr(frame, name) for name in ("points", "boxes", "velocities", "labels", "counts")}
        )
    return Views(paths=tuple(paths), length=5, seed=7, least=3, geometry=SMALL)


def test_a_view_is_the_same_every_time_and_no_two_are(views: Views) -> None:
    one, again, other = views[1], views[1], views[2]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0][:100], other[0][:100])
    reseeded = evolve(views, seed=8)[1]
    assert not torch.equal(one[0][:100], reseeded[0][:100])
    with pytest.raises(IndexError):
        views[5]


def test_views_ask_for_what_can_be_seen(views: Views) -> None:
    far = evolve(views, geometry=GEOMETRY)
    some, more = far[0], evolve(far, least=0)[0]
    assert 0 < len(some[2]) < len(more[2])
    assert (some[1] <= more[1]).all()


def test_batches_hold_every_view_once_and_in_order(views: Views) -> None:
    found = list(batches(views, 2, 0))
    assert [len(batch.lengths) for batch in found] == [2, 2, 1]
    points, heatmap, cells, values = views[3]
    batch = found[1]
    assert torch.equal(batch.points[batch.lengths[0] :], points)
    assert torch.equal(batch.heatmap[1], heatmap)
    assert torch.equal(batch.cells[batch.frames == 1], cells)
    assert torch.equal(batch.values[batch.frames == 1], values)


def test_points_on_the_border_are_out() -> None:
    low, high = SMALL.range[:3], SMALL.range[3:]
    points = np.array(
        [[*low, 1, 2], [*high, 1, 2], [0, 0, 0, 3, 4], [0, 0, low[2], 1, 2], [10.2, 0, 0, 5, 6]], np.float32
    )
    np.testing.assert_array_equal(inside(points, SMALL), np.array([[0, 0, 0, 4], [10.2, 0, 0, 6]], np.float32))


# ---------------------------------------------------------------- learning


def given(**changes: Any) -> argparse.Namespace:
    return argparse.Namespace(device="cpu", amp=False, lr=2e-3, **changes)


def test_a_network_learns_what_it_is_shown(views: Views) -> None:
    torch.manual_seed(0)
    architecture = evolve(ARCHITECTURE, layer_nums=(1, 1, 1), out_channels=(16, 16, 16), upsample_channels=(16, 16, 16))
    model = build(architecture)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    (batch,) = batches(evolve(views, length=1), 1, 0)
    losses = [train._learn(model, optimiser, batch, SMALL, given()) for _ in range(12)]
    assert sum(losses[-1]) < 0.5 * sum(losses[0])
    assert losses[-1][1] < losses[0][1]


def test_learning_rate_rises_and_falls() -> None:
    rates = [rate(step / 400) for step in range(401)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(1)
    assert rates[-1] == pytest.approx(1e-3)
    steps = np.diff(rates)
    assert (steps[:100] > 0).all()
    assert (steps[100:] < 0).all()
    assert rate(1.5) == pytest.approx(1e-3)


def test_training_ends_after_its_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    batch: Any = None
    paced = train._paced([batch] * 50, optimiser, given(steps=40, minutes=2))
    assert len(list(paced)) == 6  # a step every 20 seconds
    assert optimiser.param_groups[0]["lr"] == pytest.approx(2e-3 * 1e-3)
    monkeypatch.undo()
    assert len(list(train._paced([batch] * 50, optimiser, given(steps=40, minutes=60)))) == 40


def test_saved_weights_are_read_back_by_others(tmp_path: Path) -> None:
    model = build(ARCHITECTURE)
    save(model, tmp_path / "one.safetensors")
    save(model, tmp_path / "two.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    found, wanted = load_file(tmp_path / "one.safetensors"), model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_training_needs_nothing_but_torch_numpy_and_attrs() -> None:
    """It runs on machines that are lent for it, without the packages of a deployment."""
    foreign = (
        "click",
        "pluggy",
        "importlib_metadata",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "polygraphy",
        "rich",
        "cv2",
        "PIL",
        "safetensors",
        "yaml",
    )
    code = f"import sys\nfor name in {foreign}: sys.modules[name] = None\nimport awml_centerpoint.example.train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_frames_are_drawn_in_processes_of_their_own() -> None:
    """Drawing must not pull torch in: it would be loaded once for every process."""
    code = f"import sys, {frames.__name__}\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
