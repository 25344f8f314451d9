"""The shipped example and the network of real size, as a user runs them: from nothing to a verdict and pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import onnx
import pytest
import torch
from torch import nn

from awml_deploy_core.report.contract import shipped
from awml_yolox.example.scene import draw
from awml_yolox.example.train import packed
from awml_yolox.hooks import CLASS_NAMES
from awml_yolox.letterbox import letterbox
from awml_yolox.network import build, named

COMMAND = [sys.executable, "-m", "awml_deploy_core"]
PRESET = "yolox_s_opt_elan_960x960_t4dataset"


def awml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    made = awml(folder, "init", "--model", "yolox", "mine")
    assert made.returncode == 0, made.stderr
    assert "awml-deploy --model yolox config.py" in made.stdout
    return folder / "mine"


def values(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {one["variant"]: one["metrics"]["values"] for one in report["evaluations"]}


def shape(value: Any) -> list[str | int]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


@pytest.mark.slow
def test_the_example_runs_from_weights_to_pictures(deployment: Path) -> None:
    done = awml(deployment, "--model", "yolox", "config.py", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, shipped("report"))
    assert report["status"] == "passed"
    assert report["unequal"] == []
    figures = values(report)
    assert set(figures) == {"trained", "onnx"}
    for name in ("mAP", "AP50"):
        assert round(figures["trained"][name], 3) == round(figures["onnx"][name], 3)
    assert figures["onnx"]["AP50"] >= 0.8
    pictures = sorted((deployment / "work_dir/pictures").glob("*.png"))
    assert len(pictures) == 4
    assert all(cv2.imread(str(path)) is not None for path in pictures)
    handed = {path.name: path.read_text() for path in (deployment / "work_dir/handover/autoware").iterdir()}
    assert handed["label.txt"].split() == list(CLASS_NAMES)
    assert 'model_path: "yolox_street.onnx"' in handed["yolox.param.yaml"]
    manifest = json.loads((deployment / "work_dir/manifest.json").read_text())
    jsonschema.validate(manifest, shipped("manifest"))
    assert manifest["verified"] is True


@pytest.mark.slow
def test_the_file_is_what_the_node_reads_and_the_same_every_time(deployment: Path) -> None:
    for folder in ("one", "two"):
        words = ("--model", "yolox", "config.py", "--stages", "export", "--work-dir", folder)
        assert awml(deployment, *words).returncode == 0
    paths = [deployment / folder / "onnx" / "yolox_street.onnx" for folder in ("one", "two")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    model = onnx.load(paths[0])
    assert {value.name: shape(value) for value in model.graph.input} == {"images": [1, 3, 256, 384]}
    assert {value.name: shape(value) for value in model.graph.output} == {"output": [1, 2016, 13]}
    assert not {node.op_type for node in model.graph.node} & {"NonMaxSuppression", "Shape", "Gather"}


@pytest.mark.slow
def test_relu_in_place_of_relu6_is_measured_and_not_passed_over(deployment: Path) -> None:
    words = ("--model", "yolox", "config.py", "--work-dir", "relu", "--json", "--set", "replace_relu6=true")
    done = awml(deployment, *words)
    assert done.returncode == 6, done.stderr
    report = json.loads(done.stdout)
    figures = values(report)
    assert figures["trained"]["mAP"] - figures["onnx"]["mAP"] > 0.005
    kinds = {node.op_type for node in onnx.load(deployment / "relu/onnx/yolox_street.onnx").graph.node}
    assert "Relu" in kinds
    assert "Clip" not in kinds


def spread(model: nn.Module) -> None:
    """Weights with which some cells are surer than others; those of a new network all say the same."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, part in model.named_modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
                part.weight *= 0.1 if "conv_reg" in name else 0.3 if part.bias is not None else 1.0
                if part.bias is not None and "conv_reg" not in name:
                    part.bias.normal_(-4, 0.2)


def score_of_rank(network: nn.Module, picture: Any, rank: int) -> float:
    """So many cells are surer than this."""
    batch, _ = letterbox([picture], (960, 960))
    with torch.no_grad():
        levels = network(torch.from_numpy(batch))
    scores = [(classes.sigmoid().amax(1) * objects.sigmoid()[:, 0]).flatten() for classes, _, objects in levels]
    return float(torch.cat(scores).topk(rank).values[-1])


@pytest.mark.slow
def test_the_network_of_real_size_is_exported_and_verified(tmp_path: Path) -> None:
    """The preset, but for the weights, which are seeded, the data, which is one drawn image, and the batch of 1."""
    assert awml(tmp_path, "init", "--model", "yolox", "big", "--preset", PRESET).returncode == 0
    assert awml(tmp_path, "config", "check", "--model", "yolox", "big/config.py").returncode == 0
    network = build(named("opt-elan", classes=8)).eval()
    spread(network)
    picture = cv2.resize(draw(0).image, (1920, 1200))
    (tmp_path / "weights.safetensors").write_bytes(packed(network.state_dict(), {"seed": "0"}))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/street.png"), picture)
    changed = {
        "checkpoint_path": "weights.safetensors",
        "runtime_io": '{"img_prefix": "images"}',
        "export.mode": "onnx",
        "model_io.batch_size": "1",
        "onnx_config.save_file": "yolox_s_opt_elan_batch_1.onnx",
        "verification.num_verify_samples": "1",
        "evaluation.enabled": "false",
        # Boxes there must be, or nothing would be compared.
        "score_threshold": f"{score_of_rank(network, picture, 50):.6f}",
    }
    words = [word for key, value in changed.items() for word in ("--set", f"{key}={value}")]
    done = awml(tmp_path, "--model", "yolox", "big/config.py", "--work-dir", "out", "--json", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "passed"
    model = onnx.load(tmp_path / "out/onnx/yolox_s_opt_elan_batch_1.onnx")
    assert {value.name: shape(value) for value in model.graph.input} == {"images": [1, 3, 960, 960]}
    assert {value.name: shape(value) for value in model.graph.output} == {"output": [1, 18900, 13]}
    assert [each.version for each in model.opset_import if not each.domain] == [11]
    assert sum(tensor.data_type == onnx.TensorProto.FLOAT for tensor in model.graph.initializer) >= 100
