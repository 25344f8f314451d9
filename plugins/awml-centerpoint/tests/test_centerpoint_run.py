"""The shipped example as a user runs it: two commands, from nothing to a verdict that a program can read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest

from awml_deploy_core.report.contract import shipped

COMMAND = [sys.executable, "-m", "awml_deploy_core"]
FEW = ["--set", "evaluation.num_samples=8", "--set", "evaluation.num_warmup=1"]
FILES = ("pts_voxel_encoder.onnx", "pts_backbone_neck_head.onnx")
MAPS = {"heatmap": 5, "reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


def awml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    made = awml(folder, "init", "--model", "centerpoint", "mine")
    assert made.returncode == 0, made.stderr
    assert "awml-deploy --model centerpoint config.py" in made.stdout
    return folder / "mine"


def test_a_dry_run_does_nothing(deployment: Path) -> None:
    done = awml(deployment, "--model", "centerpoint", "config.py", "--work-dir", "dry", "--dry-run")
    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert f"dry/onnx/{name}" in done.stdout
    assert not (deployment / "dry").exists()


@pytest.mark.slow
def test_the_example_runs_from_weights_to_a_verdict(deployment: Path) -> None:
    done = awml(deployment, "--model", "centerpoint", "config.py", "--json", *FEW)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, shipped("report"))
    assert report["status"] == "passed"
    assert {one["variant"] for one in report["evaluations"]} == {"trained", "onnx"}
    figures = [one["metrics"]["values"]["mAP"] for one in report["evaluations"]]
    assert min(figures) >= 0.5
    assert figures[0] == pytest.approx(figures[1], abs=0.002)
    assert all(one["notes"].get("pillars_over_max_voxels", 0) == 0 for one in report["evaluations"])
    assert report["unequal"] == []
    manifest = json.loads((deployment / "work_dir/manifest.json").read_text())
    jsonschema.validate(manifest, shipped("manifest"))
    assert manifest["verified"] is True
    pictures = list((deployment / "work_dir" / "pictures").glob("*.png"))
    assert len(pictures) == 4
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    handed = {path.name for path in (deployment / "work_dir" / "handover" / "autoware").iterdir()}
    assert {"ml_package.param.yaml", "detection_class_remapper.param.yaml", "deploy_metadata.yaml"} <= handed
    assert not [one for one in _findings(report) if one["level"] == "error"]


def _findings(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for each in report["deliveries"] for finding in each["findings"]]


@pytest.mark.slow
def test_the_files_are_what_the_node_binds_and_the_same_every_time(deployment: Path) -> None:
    for folder in ("one", "two"):
        words = ("--model", "centerpoint", "config.py", "--stages", "export", "--work-dir", folder)
        done = awml(deployment, *words)
        assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (deployment / "one/onnx" / name).read_bytes() == (deployment / "two/onnx" / name).read_bytes()
    encoder, head = (onnx.load(deployment / "one/onnx" / name).graph for name in FILES)

    def shape(value: Any) -> list[str | int]:
        return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]

    assert [(one.name, shape(one)) for one in encoder.input] == [
        ("input_features", ["num_voxels", "num_max_points", 10])
    ]
    assert [(one.name, shape(one)) for one in encoder.output] == [("pillar_features", ["num_voxels", 1, 32])]
    assert [(one.name, shape(one)) for one in head.input] == [("spatial_features", ["batch_size", 32, "H", "W"])]
    assert [(one.name, shape(one)[:2]) for one in head.output] == [
        (name, ["batch_size", channels]) for name, channels in MAPS.items()
    ]
    # The node applies these itself.
    assert not {node.op_type for node in head.node} & {"Sigmoid", "Exp"}
