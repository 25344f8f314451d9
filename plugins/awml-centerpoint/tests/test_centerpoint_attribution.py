"""Whose fault it is: a run breaks the encoder, the head, or what lies around them, and its report says which."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from awml_centerpoint import hooks, pipeline
from awml_centerpoint.architecture import architecture
from awml_centerpoint.config import DETECTOR, ENCODER, Config
from awml_centerpoint.decode import decode
from awml_centerpoint.network import build
from awml_centerpoint.scatter import scatter
from awml_centerpoint.voxels import decorate
from awml_centerpoint.wrapper import wrap
from awml_deploy_core import Component, deploy, hookimpl
from awml_deploy_core.judge import Check
from awml_deploy_core.report import Report, proof
from awml_deploy_core.report.advice import attribution

NETWORK: dict[str, Any] = {
    "point_cloud_range": (-8.0, -8.0, -3.0, 8.0, 8.0, 5.0),
    "voxel_size": (0.5, 0.5, 8.0),
    "max_num_points": 8,
    "max_voxels": 500,
    "feat_channels": (8,),
    "layer_nums": (1, 1, 1),
    "layer_strides": (2, 2, 2),
    "out_channels": (8, 8, 8),
    "upsample_strides": (1, 2, 4),
    "upsample_channels": (8, 8, 8),
    "share_conv_channel": 8,
    "head_conv": 8,
    "score_threshold": 0.3,
}
OTHERS: dict[str, Any] = {
    "task_type": "detection3d",
    "checkpoint_path": "weights.pth",
    "sweeps": 0,
    "runtime_io": {"info_file": "infos.pkl", "data_root": "."},
    "export": {"mode": "onnx", "work_dir": "work"},
    "onnx_config": {"exporter": "torchscript", "simplify": False},
    "verification": {"enabled": True, "num_verify_samples": 2},
    "evaluation": {"enabled": False},
}
MAPS = {"heatmap", "reg", "height", "dim", "rot", "vel"}

Places = dict[tuple[str | None, str], bool]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Report]:
    """Two frames of random points and a network from a seed; answers what runs them from weights to a report."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    entries = []
    for name in ("first", "second"):
        points = rng.uniform((-8, -8, -2, 0, 0), (8, 8, 2, 255, 40), (300, 5)).astype(np.float32)
        points.tofile(tmp_path / f"{name}.bin")
        entries.append({"token": name, "lidar_points": {"lidar_path": f"{name}.bin", "num_pts_feats": 5}})
    content = {"metainfo": {"classes": list(hooks.CLASS_NAMES)}, "data_list": entries}
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(content))
    torch.manual_seed(0)
    model = build(architecture(Config(**NETWORK)))
    for name, parameter in model.named_parameters():
        if name.endswith(("heatmap.1.weight", "heatmap.1.bias")):
            nn.init.normal_(parameter, std=2.0)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    settings = {**NETWORK, **OTHERS}
    (tmp_path / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    return lambda: deploy("config.py", model="centerpoint")


def edit(monkeypatch: pytest.MonkeyPatch, change: Callable[[nn.Module, str], nn.Module]) -> None:
    """Let the plugin change what is exported, and nothing else."""

    def wrap_for_onnx(model: nn.Module, component: Component, exact: bool, config: Config) -> nn.Module:
        made = wrap(model, component.name, config)
        return made if exact else change(made, component.name)

    monkeypatch.setattr(hooks, "wrap_for_onnx", hookimpl(wrap_for_onnx))


def check(report: Report, reference: str, candidate: str) -> Check:
    (found,) = (one for one in report.verification.checks if (one.reference, one.candidate) == (reference, candidate))
    return found


def alone(found: Check) -> Places:
    """Component and output, and whether it is right on equal inputs."""
    return _places(found, "component")


def chained(found: Check) -> Places:
    return _places(found, "chained")


def _places(found: Check, scope: str) -> Places:
    here = [one for one in found.verdicts if one.comparison.scope == scope]
    sums: Places = {}
    for one in here:
        place = one.comparison.component, one.comparison.output
        sums[place] = sums.get(place, True) and one.passed
    return sums


def wrong(places: Places) -> set[tuple[str | None, str]]:
    return {place for place, passed in places.items() if not passed}


def heads(names: set[str]) -> set[tuple[str | None, str]]:
    return {(DETECTOR, name) for name in names}


def table(report: Report) -> str:
    """The rows of the written report about the rung at which the fault enters."""
    text = (report.work_dir / "report.md").read_text(encoding="utf-8")
    first = text.partition("**Failed:")[2].partition("**Failed:")[0].partition("<details>")[0]
    return "\n".join(line for line in first.splitlines() if line.startswith("|"))


def sentence(report: Report) -> str:
    """Where the report tells its reader to look."""
    entry = proof.blame(report)
    assert entry is not None
    return attribution(entry).partition(": look at ")[2]


def blamed(report: Report) -> tuple[str, str]:
    entry = proof.blame(report)
    assert entry is not None
    return entry.reference, entry.candidate


# ---------------------------------------------------------------- nothing is broken


def test_a_sound_run_compares_every_place_alone_and_chained_and_finds_boxes(run: Callable[[], Report]) -> None:
    report = run()
    assert (report.status, report.exit_code) == ("passed", 0), report.stages
    every = {(ENCODER, "pillar_features"), *heads(MAPS)}
    for found in report.verification.checks:
        assert set(alone(found)) == set(chained(found)) == every
        boxes = [one.comparison for one in found.verdicts if one.comparison.scope == "prediction"]
        assert [comparison.sample for comparison in boxes] == ["first", "second"]
        # A prediction without boxes would agree with anything.
        assert all(comparison.stats and comparison.stats.count > 5 for comparison in boxes)


# ---------------------------------------------------------------- the graphs


def test_a_broken_encoder_is_named_and_the_head_is_not(
    run: Callable[[], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(made: nn.Module, component: str) -> nn.Module:
        if component == ENCODER:
            name, weight = next((name, value) for name, value in made.named_parameters() if value.ndim == 2)
            owner = made.get_submodule(name.rpartition(".")[0])
            owner.weight = nn.Parameter(weight * 1.05)
        return made

    edit(monkeypatch, change)
    report = run()
    assert report.exit_code == 6
    assert blamed(report) == ("trained", "exported")
    found = check(report, "trained", "exported")
    assert wrong(alone(found)) == {(ENCODER, "pillar_features")}
    # What follows is wrong with it, and the report says that errors from before are in there.
    assert wrong(chained(found)) >= {(ENCODER, "pillar_features"), (DETECTOR, "heatmap")}
    assert "pts_voxel_encoder.pillar_features" in table(report)
    assert sentence(report) == "what the hook wrap_for_onnx changes for the export of pts_voxel_encoder"
    assert check(report, "exported", "onnx").status == "passed"


class Swapped(nn.Module):
    """Width before length, where the trained network has length before width."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, spatial_features: Tensor) -> tuple[Tensor, ...]:
        """The maps, `dim` in another order."""
        heat, reg, height, dim, *rest = self.inner(spatial_features)
        return heat, reg, height, dim[:, [1, 0, 2]], *rest


def test_a_swapped_channel_of_the_head_is_named_and_nothing_else(
    run: Callable[[], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(monkeypatch, lambda made, component: Swapped(made) if component == DETECTOR else made)
    report = run()
    assert report.exit_code == 6
    assert blamed(report) == ("trained", "exported")
    found = check(report, "trained", "exported")
    assert wrong(alone(found)) == wrong(chained(found)) == heads({"dim"})
    assert "pts_backbone_neck_head.dim" in table(report)
    assert sentence(report) == "what the hook wrap_for_onnx changes for the export of pts_backbone_neck_head"
    assert "pts_voxel_encoder" not in table(report)


# ---------------------------------------------------------------- around the graphs


class Kept:
    """A canvas that is made once and never emptied, so that every frame is added to those before it."""

    def __init__(self) -> None:
        self.canvas: Tensor | None = None

    def __call__(self, features: Sequence[Tensor], places: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
        """What was there before, and this frame."""
        frame = scatter(features, places, grid)
        self.canvas = frame if self.canvas is None else self.canvas + frame
        return self.canvas


def test_what_lies_between_the_graphs_is_told_from_both(
    run: Callable[[], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "scatter", Kept())
    report = run()
    assert report.exit_code == 6
    for found in report.verification.checks:
        # Each graph is right by itself, and the first one also behind what comes before it.
        assert wrong(alone(found)) == set()
        assert wrong(chained(found)) >= heads({"heatmap"})
        assert all(component == DETECTOR for component, _ in wrong(chained(found)))
    assert "pts_backbone_neck_head.heatmap (chained)" in table(report)
    assert sentence(report).startswith("what the pipeline does between pts_voxel_encoder and pts_backbone_neck_head")
    assert "pts_voxel_encoder" not in table(report)


def test_what_lies_before_the_encoder_is_told_from_it(
    run: Callable[[], Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = torch.Generator().manual_seed(0)

    def shaken(*given: Any) -> Tensor:
        """Points that a careless loader moves by chance, anew every time."""
        features = decorate(*given)
        return features + torch.rand(features.shape, generator=rng) * 0.1

    monkeypatch.setattr(pipeline, "decorate", shaken)
    report = run()
    assert report.exit_code == 6
    found = check(report, "trained", "exported")
    assert wrong(alone(found)) == set()
    assert (ENCODER, "pillar_features") in wrong(chained(found))
    assert "pts_voxel_encoder.pillar_features (chained)" in table(report)
    assert sentence(report).startswith("what the pipeline does before pts_voxel_encoder")


def test_what_lies_behind_the_head_is_told_from_it(run: Callable[[], Report], monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[Mapping[str, Any]] = []

    def forgetful(tasks: Sequence[Mapping[str, Tensor]], *others: Any) -> Any:
        """Boxes of which every other call forgets which way is left."""
        times.append({})
        mirrored = [{**maps, "reg": maps["reg"] + len(times) % 2 * 8} for maps in tasks]
        return decode(mirrored, *others)

    monkeypatch.setattr(pipeline, "decode", forgetful)
    report = run()
    assert report.exit_code == 6
    found = check(report, "trained", "exported")
    assert wrong(alone(found)) == wrong(chained(found)) == set()
    failed = [one.comparison for one in found.verdicts if not one.passed]
    assert {comparison.scope for comparison in failed} == {"prediction"}
    assert "pts_" not in table(report)
    assert sentence(report).startswith("what the pipeline does behind pts_backbone_neck_head")
