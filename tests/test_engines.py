"""From the config to an engine: precision written into the graph, rehearsed, built by TensorRT-RTX, and its receipt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from awml_deploy_core import deploy, plan, story
from awml_deploy_core.build import flavor
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.report import Report, Stage

EVALUATION = {"enabled": True, "num_samples": -1}


@pytest.fixture
def built(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    def run(policy: str = "auto", broken: str = "", more: str = "", **config: Any) -> Report:
        common = {"precision_policy": policy, **config.pop("common", {})}
        backend = {"common_config": common, **config.pop("backend", {})}
        export = {"mode": "both", **config.pop("export", {})}
        values = {"evaluation": EVALUATION, "backend_config": backend, "export": export, **config}
        path, name = toy_files(values, broken=broken, more=more)
        return deploy(path, model=name)

    return run


def stage(report: Report, name: str) -> Stage:
    return next(stage for stage in report.stages if stage.name == name)


def receipt(folder: Path, name: str = "toy") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"work/tensorrt/{name}.engine.json").read_text())
    return found


@pytest.mark.parametrize(
    ("policy", "dtype", "tf32"),
    [("auto", "FLOAT", True), ("fp32", "FLOAT", False), ("fp32_tf32", "FLOAT", True), ("fp16", "HALF", False)],
)
def test_every_policy_builds_with_a_receipt(
    built: Callable[..., Report], tmp_path: Path, policy: str, dtype: str, tf32: bool
) -> None:
    report = built(policy)
    assert report.exit_code == 0, report.stages
    facts = receipt(tmp_path)["receipt"]
    assert facts["holds"] is True
    assert {layer["dtype"] for layer in facts["facts"]["compute"]} == {dtype}
    assert ("TF32" in facts["facts"]["flags"]) is tf32
    engine = tmp_path / "work/tensorrt/toy.engine"
    (artifact,) = [one for one in report.artifacts if one.format == "engine"]
    assert artifact.path == engine
    assert artifact.size == engine.stat().st_size
    assert artifact.precision == policy
    assert report.engines[0].holds is True
    assert f"| `toy` | {policy} | TensorRT-RTX " in (tmp_path / "work/report.md").read_text()


def test_half_precision_is_rehearsed_before_the_engine(built: Callable[..., Report], tmp_path: Path) -> None:
    report = built("fp16")
    assert [variant.name for variant in report.variants] == ["trained", "exported", "onnx", "onnx:fp16", "engine"]
    half = onnx.load(tmp_path / "work/onnx/toy.fp16.onnx")
    weights = {tensor.data_type for tensor in half.graph.initializer}
    assert weights <= {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    checks = {(check.reference, check.candidate): check for check in report.verification.checks}
    assert checks["onnx", "onnx:fp16"].status == "passed"
    errors = [verdict.would_pass for verdict in checks["onnx", "onnx:fp16"].verdicts]
    assert 0 < max(error or 0 for error in errors) < 0.1, "half precision shows, and no more"
    evaluated = {one.variant: one for one in report.evaluations}
    assert evaluated["onnx:fp16"].metrics is not None
    assert [one.name for one in report.stages][:6] == ["load", "record", "export", "cast", "verify", "build"]
    source = next(artifact for artifact in report.artifacts if artifact.path.name == "toy.fp16.onnx")
    engine = next(artifact for artifact in report.artifacts if artifact.format == "engine")
    assert engine.made_from == source.sha256, "the chain leads through the rehearsed file"


def test_int8_is_calibrated_on_the_samples_for_it(built: Callable[..., Report], tmp_path: Path) -> None:
    report = built("explicit_int8", common={"calibration": {"num_samples": 5}})
    assert report.exit_code == 0, report.stages
    assert any("ranges by minmax from 5 calls" in note for note in report.notes)
    facts = receipt(tmp_path)["receipt"]["facts"]
    assert facts["quantized"] == facts["graph_quantized"] > 0


def test_without_a_driver_the_engine_is_skipped_by_its_reason(built: Callable[..., Report]) -> None:
    report = built("fp32")
    engine = next(one for one in report.evaluations if one.variant == "engine")
    skipped = [check.skipped for check in report.verification.checks if check.candidate == "engine"]
    assert engine.skipped is not None
    assert {skip.reason for skip in [*skipped, engine.skipped] if skip} == {"no driver"}
    assert len(skipped) == 2


def test_a_wrong_export_builds_nothing(built: Callable[..., Report], tmp_path: Path) -> None:
    report = built("fp16", broken="swapped outputs")
    assert report.exit_code == 6
    build = stage(report, "build")
    assert build.skipped is not None
    assert build.skipped.reason == "parent failed"
    assert not (tmp_path / "work/tensorrt").exists()


def test_a_second_run_takes_the_graph_that_is_there(toy_files: Callable[..., tuple[Path, str]]) -> None:
    path, name = toy_files(
        {"export": {"mode": "both"}, "backend_config": {"common_config": {"precision_policy": "fp16"}}}
    )
    assert "unchanged" not in stage(deploy(path, model=name), "cast").detail
    assert "unchanged" in stage(deploy(path, model=name), "cast").detail
    kept = deploy(path, model=name, sets=["backend_config.common_config.keep.ops=['Gemm']"])
    assert "unchanged" not in stage(kept, "cast").detail
    assert any("stays in float32: kept as Gemm" in note for note in kept.notes)


def test_each_component_may_have_its_own_policy(built: Callable[..., Report]) -> None:
    report = built("fp32", components={"toy": {"precision_policy": "fp16"}})
    assert report.engines[0].policy == "fp16"


def test_what_is_kept_must_be_there(built: Callable[..., Report]) -> None:
    cast = stage(built("fp16", common={"keep": {"ops": ["Gem"]}}), "cast")
    assert cast.exit_code == 2
    assert "Did you mean 'Gemm'?" in cast.detail


# ---------------------------------------------------------------- sizes


def test_the_profile_comes_from_the_axes_and_the_recording(built: Callable[..., Report], tmp_path: Path) -> None:
    built("fp32")
    (profile,) = receipt(tmp_path)["profiles"]
    assert profile["image"] == {"min": [1, 3, 8, 8], "opt": [1, 3, 8, 8], "max": [4, 3, 8, 8]}


def test_the_config_may_say_the_profile_in_either_form(built: Callable[..., Report], tmp_path: Path) -> None:
    shapes = {"min_shape": (1, 3, 8, 8), "opt_shape": (2, 3, 8, 8), "max_shape": (3, 3, 8, 8)}
    built("fp32", backend={"model_inputs": [{"input_shapes": {"image": shapes}}]})
    assert receipt(tmp_path)["profiles"][0]["image"]["opt"] == [2, 3, 8, 8]
    built("fp32", components={"toy": {"tensorrt_profile": {"image": {**shapes, "opt_shape": (3, 3, 8, 8)}}}})
    assert receipt(tmp_path)["profiles"][0]["image"]["opt"] == [3, 3, 8, 8]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"image": {"max_shape": (9, 3, 8, 8)}}, "may be at most 4, the profile says 9"),
        ({"imag": {"max_shape": (4, 3, 8, 8)}}, "did you mean 'image'?"),
        ({"image": {"max_shape": (4, 3, 16, 8)}}, "is 8 in the graph, the profile says 16"),
    ],
)
def test_a_profile_that_the_graph_does_not_take_is_refused(
    built: Callable[..., Report], shapes: dict[str, Any], words: str
) -> None:
    build = stage(built("fp32", backend={"model_inputs": [{"input_shapes": shapes}]}), "build")
    assert build.exit_code == 2
    assert words in build.detail


# ---------------------------------------------------------------- what is not there


def test_mode_both_goes_without_an_engine_where_no_tensorrt_is(
    built: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flavor, "installed", tuple)
    report = built("fp16")
    assert report.exit_code == 0
    build = stage(report, "build")
    assert build.skipped is not None
    assert build.skipped.reason == "no package"
    assert "onnx:fp16" in [one.variant for one in report.evaluations], "the precision is rehearsed all the same"
    assert any("pip install 'awml-deploy-core[tensorrt-rtx]'" in note for note in report.notes)


def test_mode_trt_demands_a_tensorrt(
    built: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built("fp32")
    monkeypatch.setattr(flavor, "installed", tuple)
    report = built("fp32", export={"mode": "trt", "onnx_path": str(tmp_path / "work/onnx")})
    assert stage(report, "build").exit_code == report.exit_code == 3


def test_a_flavor_that_is_not_installed_is_named(
    built: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built("fp32")
    monkeypatch.setattr(flavor, "installed", lambda: ("tensorrt_rtx",))
    report = built(
        "fp32", common={"flavor": "tensorrt"}, export={"mode": "trt", "onnx_path": str(tmp_path / "work/onnx")}
    )
    build = stage(report, "build")
    assert build.exit_code == 3
    assert "the package tensorrt is not installed" in build.detail


def test_mode_trt_builds_from_files_that_are_there(built: Callable[..., Report], tmp_path: Path) -> None:
    built("fp32", export={"mode": "onnx"})
    assert not (tmp_path / "work/tensorrt").exists()
    report = built("fp16", export={"mode": "trt", "onnx_path": str(tmp_path / "work/onnx")})
    assert report.exit_code == 0, report.stages
    assert (tmp_path / "work/tensorrt/toy.engine").is_file()


def test_mode_trt_without_a_file_says_so(built: Callable[..., Report], tmp_path: Path) -> None:
    export = stage(built("fp32", export={"mode": "trt", "onnx_path": str(tmp_path / "work/onnx")}), "export")
    assert export.exit_code == 8
    assert "no such ONNX file" in export.detail


def test_a_policy_that_the_tensorrt_cannot_give_is_refused(built: Callable[..., Report]) -> None:
    report = built("fp16", common={"typing": "weak"})
    assert stage(report, "cast").exit_code == report.exit_code == 3
    assert "takes every type from the graph" in stage(report, "cast").detail


def test_bfloat16_is_built_and_its_rehearsal_skipped(built: Callable[..., Report]) -> None:
    report = built("bf16", onnx_config={"opset_version": 22, "exporter": "torchscript"})
    assert report.exit_code == 0, report.stages
    checks = {(check.reference, check.candidate): check for check in report.verification.checks}
    skip = checks["onnx", "onnx:bf16"].skipped
    assert skip is not None
    assert skip.reason == "not supported"
    assert report.engines[0].holds is True


def test_a_program_that_is_not_there_is_named(
    built: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = built("fp32", common={"builder": "trtexec"})
    build = stage(report, "build")
    assert build.skipped is not None
    assert "there is no program trtexec on the PATH" in build.skipped.detail
    report = built("fp32", common={"builder": "trtexec", "flavor": "tensorrt_rtx"})
    assert "TensorRT-RTX has another program" in str(stage(report, "build").skipped)


def test_a_device_alone_asks_for_no_engine(toy_files: Callable[..., tuple[Path, str]]) -> None:
    path, name = toy_files({"evaluation": EVALUATION})
    report = deploy(path, model=name, device="cpu")
    assert [one.variant for one in report.evaluations] == ["trained", "onnx"]


def test_a_plan_names_the_graph_in_another_precision(
    toy_files: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    common = {"precision_policy": "fp16"}
    path, name = toy_files({"export": {"mode": "both"}, "backend_config": {"common_config": common}})
    planned = plan.plan(story.prepare(path, story.options(model=name)))
    stages = [one for one, _ in planned]
    assert stages.index("cast") < stages.index("verify") < stages.index("build")
    assert str(tmp_path / "work/onnx/toy.fp16.onnx") in dict(planned)["cast"]


def test_what_a_killed_build_left_is_swept_away(built: Callable[..., Report], tmp_path: Path) -> None:
    left = tmp_path / "work/tensorrt/.awml-build-dead"
    left.mkdir(parents=True)
    (left / "toy.engine").write_bytes(b"half")
    assert built("fp32").exit_code == 0
    assert not left.exists()


@pytest.mark.parametrize("level", [-1, 6])
def test_a_level_that_no_tensorrt_has_is_refused(built: Callable[..., Report], level: int) -> None:
    # TensorRT-RTX takes any number and says nothing.
    with pytest.raises(ConfigError, match=rf"must be from 0 to 5, got {level} @ .*optimization_level"):
        built("fp32", common={"optimization_level": level})
