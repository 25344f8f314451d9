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

from awml_centerpoint.architecture import architecture
from awml_centerpoint.hooks import DETECTOR, ENCODER, Config, export_workflow, wrap_for_onnx
from awml_centerpoint.network import build
from awml_deploy_core import deploy
from awml_deploy_core.build.engine import build_engine
from awml_deploy_core.build.flavor import choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.cast.narrow import narrow
from awml_deploy_core.export import export_onnx
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


@pytest.mark.parametrize("policy", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [ENCODER, DETECTOR])
def test_the_released_size_builds(tmp_path: Path, name: str, policy: Any) -> None:
    """Seeded weights, exported at a small size and built for the real one: nothing is run at 1020 x 1020 here."""
    settings = Config(point_columns=(0, 1, 2, 3, 4), rot_y_axis_reference=True)
    torch.manual_seed(0)
    component = next(one for one in export_workflow(settings) if one.name == name)
    module = wrap_for_onnx(build(architecture(settings)).eval(), component, settings)
    small = {"input_features": torch.zeros(2, 32, 11), "spatial_features": torch.zeros(1, 32, 8, 8)}
    given = component.inputs[0].name
    source = export_onnx(module, component, {given: small[given]}, tmp_path / "full.onnx", opset_version=17).artifact
    if policy == "fp16":
        half = narrow(onnx.load(source.path)).model
        onnx.save(half, tmp_path / "half.onnx")
        data = (tmp_path / "half.onnx").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        source = attrs.evolve(source, path=tmp_path / "half.onnx", sha256=digest, size=len(data))
    sizes = {"input_features": (40000, 32, 11), "spatial_features": (1, 32, 1020, 1020)}[given]
    flavor = choose("tensorrt_rtx")
    artifact, built = build_engine(
        source,
        tmp_path / "full.engine",
        flavor=flavor,
        plan=plan(policy, flavor),
        profiles=[{given: Range(min=sizes, opt=sizes, max=sizes)}],
    )
    assert built.receipt.holds is True
    assert {layer.dtype for layer in built.receipt.facts.compute} == {NARROW.get(policy, "FLOAT")}
    weights = sum(parameter.numel() for parameter in module.parameters())
    assert artifact.size > weights * (2 if policy == "fp16" else 4)
