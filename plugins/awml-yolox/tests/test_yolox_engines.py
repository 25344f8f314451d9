"""The example as TensorRT-RTX engines in every precision; they are built without a GPU and run nowhere here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import onnx
import pytest
import torch

from awml_deploy_core import deploy
from awml_deploy_core.build.engine import build_engine
from awml_deploy_core.build.flavor import choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.cast.narrow import narrow
from awml_deploy_core.export import export_onnx
from awml_deploy_core.records import Artifact
from awml_deploy_core.report import Report
from awml_yolox.hooks import Config, export_workflow, wrap_for_onnx
from awml_yolox.network import build, named

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
pytestmark = pytest.mark.slow

NARROW = {"fp16": "HALF", "bf16": "BF16"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from awml_yolox.hooks import write_example

    folder = tmp_path_factory.mktemp("example")
    write_example(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        opset = "onnx_config.opset_version=22"  # the first with convolutions in bfloat16
        report = deploy("config.py", model="yolox", sets=[opset], stages="export,report")
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
    return deploy(folder / "config.py", model="yolox", sets=[*sets], stages="build,report")


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


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The 960 x 960 network with seeded weights, as an ONNX file."""
    settings = Config(max_batch=1)
    torch.manual_seed(0)
    (component,) = export_workflow(settings)
    model = build(named("opt-elan", classes=8)).eval()
    module = wrap_for_onnx(model, component, exact=False, config=settings)
    path = tmp_path_factory.mktemp("real") / "real.onnx"
    image = torch.full((1, 3, 960, 960), 114.0)
    fixed = attrs.evolve(component, axes=(attrs.evolve(component.axes[0], dynamic=False, min=1, max=1),))
    return export_onnx(module, fixed, {"images": image}, path, opset_version=17).artifact


@pytest.mark.parametrize("policy", ["fp32", "fp16"])
def test_the_network_of_real_size_builds(real: Artifact, tmp_path: Path, policy: Any) -> None:
    source = real
    if policy == "fp16":
        onnx.save(narrow(onnx.load(real.path)).model, tmp_path / "half.onnx")
        data = (tmp_path / "half.onnx").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        source = attrs.evolve(real, path=tmp_path / "half.onnx", sha256=digest, size=len(data))
    flavor = choose("tensorrt_rtx")
    artifact, built = build_engine(source, tmp_path / "real.engine", flavor=flavor, plan=plan(policy, flavor))
    assert built.receipt.holds is True
    assert {layer.dtype for layer in built.receipt.facts.compute} == {NARROW.get(policy, "FLOAT")}
    assert artifact.size > 14_829_063 * (2 if policy == "fp16" else 4) * 0.95
