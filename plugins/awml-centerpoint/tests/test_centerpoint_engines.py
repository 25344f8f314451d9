"""The example as TensorRT-RTX engines in every precision; they are built without a GPU and run nowhere here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from awml_deploy_core import deploy
from awml_deploy_core.report import Report

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
pytestmark = pytest.mark.slow

NARROW = {"fp16": "HALF", "bf16": "BF16"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from awml_centerpoint.hooks import write_example

    folder = tmp_path_factory.mktemp("example")
    write_example(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        opset = "onnx_config.opset_version=22"  # the first with convolutions in bfloat16
        report = deploy("config.py", model="centerpoint", sets=[opset], stages="export,report")
        assert report.exit_code == 0, report.stages
        yield folder


def built(folder: Path, policy: str) -> Report:
    sets = [
        "export.mode='trt'",
        f"export.onnx_path='{folder}/work_dir/onnx'",
        f"export.work_dir='{folder}/{policy}'",
        f"backend_config.common_config.precision_policy='{policy}'",
        "backend_config.common_config.calibration.num_samples=2",
        "verification.num_verify_samples=1",
    ]
    if policy == "bf16":
        sets.append("backend_config.common_config.keep.ops=['ConvTranspose']")  # TensorRT-RTX builds none in bfloat16
    return deploy(folder / "config.py", model="centerpoint", sets=[*sets], stages="build,report")


@pytest.mark.parametrize("policy", ["auto", "fp32", "fp32_tf32", "fp16", "bf16", "explicit_int8", "strongly_typed"])
def test_every_policy_gives_engines_whose_receipts_hold(exported: Path, policy: str) -> None:
    report = built(exported, policy)
    assert report.exit_code == 0, [stage for stage in report.stages if stage.exit_code]
    assert report.engines
    for note in report.engines:
        assert note.holds is True
        assert note.policy == policy
    for artifact in report.artifacts:
        if artifact.format == "engine":
            receipt = json.loads(artifact.path.with_name(f"{artifact.path.name}.json").read_text())["receipt"]
            dtypes = {layer["dtype"] for layer in receipt["facts"]["compute"]}
            assert NARROW.get(policy, "FLOAT") in dtypes
            assert ("TF32" in receipt["facts"]["flags"]) is (policy in ("auto", "fp32_tf32"))
            if policy == "explicit_int8":
                assert receipt["facts"]["quantized"] > 0


def test_half_precision_halves_the_weights(exported: Path) -> None:
    built(exported, "fp16")
    for path in (exported / "work_dir/onnx").glob("*.onnx"):
        half = exported / "fp16/onnx" / f"{path.stem}.fp16.onnx"
        floats = [tensor for tensor in onnx.load(half).graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
        assert half.stat().st_size < 0.75 * path.stat().st_size or not floats
