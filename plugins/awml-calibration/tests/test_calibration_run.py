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


def awml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    made = awml(folder, "init", "--model", "calibration", "mine")
    assert made.returncode == 0, made.stderr
    assert "awml-deploy --model calibration config.py" in made.stdout
    return folder / "mine"


def test_a_dry_run_does_nothing(deployment: Path) -> None:
    done = awml(deployment, "--model", "calibration", "config.py", "--work-dir", "dry", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "dry/onnx/calibration_status_classifier.onnx" in done.stdout
    assert not (deployment / "dry").exists()


@pytest.mark.slow
def test_the_example_runs_from_weights_to_a_verdict(deployment: Path) -> None:
    done = awml(deployment, "--model", "calibration", "config.py", "--json", *FEW)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, shipped("report"))
    assert report["status"] == "passed"
    assert {one["variant"] for one in report["evaluations"]} == {"trained", "onnx"}
    assert all(one["metrics"]["values"]["accuracy"] >= 0.9 for one in report["evaluations"])
    assert report["unequal"] == []
    assert json.loads((deployment / "work_dir/report.json").read_text()) == report
    manifest = json.loads((deployment / "work_dir/manifest.json").read_text())
    jsonschema.validate(manifest, shipped("manifest"))
    assert manifest["verified"] is True
    assert manifest["config"]["channel_order"] == "bgr"


@pytest.mark.slow
def test_the_file_is_what_the_node_binds_and_the_same_every_time(deployment: Path) -> None:
    for folder in ("one", "two"):
        words = ("--model", "calibration", "config.py", "--stages", "export", "--work-dir", folder)
        assert awml(deployment, *words).returncode == 0
    files = [deployment / folder / "onnx" / "calibration_status_classifier.onnx" for folder in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    model = onnx.load(files[0])

    def shape(value: Any) -> list[str | int]:
        return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]

    assert {value.name: shape(value) for value in model.graph.input} == {"input": ["batch_size", 5, "height", "width"]}
    assert {value.name: shape(value) for value in model.graph.output} == {"output": ["batch_size", 2]}
    assert [each.version for each in model.opset_import if not each.domain] == [16]
    assert {each.key: each.value for each in model.metadata_props}["config.channel_order"] == "bgr"
    assert not {node.op_type for node in model.graph.node} & {"Softmax", "LogSoftmax", "Sigmoid"}
