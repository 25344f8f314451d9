"""The whole story on a small real model: every stage, every way of breaking the export, every exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from awml_deploy_core import deploy
from awml_deploy_core.report import Report


@pytest.fixture
def toy(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    def run(config: dict[str, Any] | None = None, broken: str = "", **options: Any) -> Report:
        evaluation = {"enabled": True, "num_samples": -1, **(config or {}).get("evaluation", {})}
        path, name = toy_files({**(config or {}), "evaluation": evaluation}, broken=broken)
        return deploy(path, model=name, **options)

    return run


def status(report: Report) -> dict[str, str]:
    return {stage.name: stage.status for stage in report.stages}


def test_a_sound_model_passes_every_stage(toy: Callable[..., Report], tmp_path: Path) -> None:
    report = toy()
    assert (report.status, report.exit_code) == ("passed", 0)
    assert status(report) == dict.fromkeys(["load", "record", "export", "verify", "evaluate"], "passed")
    assert [variant.name for variant in report.variants] == ["trained", "exported", "onnx"]
    assert {check.status for check in report.verification.checks} == {"passed"}
    assert [(c.reference, c.candidate) for c in report.verification.checks] == [
        ("trained", "exported"),
        ("exported", "onnx"),
        ("trained", "onnx"),
    ]
    trained, exported = report.evaluations
    assert trained.records == exported.records == 12
    assert trained.metrics is not None
    assert exported.metrics is not None
    assert trained.metrics.values == exported.metrics.values
    assert report.unequal == ()
    for name in ("report.json", "report.md", "manifest.json", "deployment.log", "onnx/toy.onnx"):
        assert (tmp_path / "work" / name).is_file(), name
    assert [path.name for path in (tmp_path / "work").iterdir() if path.name.startswith(".")] == [".lock"]


def test_the_file_says_what_it_was_made_from(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy({"flavour": "sweet"})
    said = {each.key: each.value for each in onnx.load(tmp_path / "work/onnx/toy.onnx").metadata_props}
    assert said["config.flavour"] == "sweet"
    assert len(said["awml.checkpoint_sha256"]) == 64
    assert said["awml.component"] == "toy"


@pytest.mark.parametrize(
    ("broken", "between"),
    [
        ("swapped outputs", ("trained", "exported")),
        ("wrong epsilon", ("trained", "exported")),
        ("perturbed weight", ("trained", "exported")),
        ("rare input", ("trained", "exported")),
    ],
)
def test_a_broken_export_turns_verdict_and_exit_code(
    toy: Callable[..., Report], broken: str, between: tuple[str, str]
) -> None:
    report = toy(broken=broken)
    assert (report.status, report.exit_code) == ("failed", 6)
    wrong = [(check.reference, check.candidate) for check in report.verification.checks if check.status == "failed"]
    assert between in wrong
    assert ("exported", "onnx") not in wrong
    assert status(report)["evaluate"] == "passed"  # sound variants are still evaluated


def test_another_checkpoint_behind_an_existing_file_is_seen(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy()
    other = torch.load(tmp_path / "toy.pth", weights_only=True)
    torch.save({name: tensor + 0.05 * (tensor.dim() > 1) for name, tensor in other.items()}, tmp_path / "other.pth")
    report = toy({"export": {"mode": "none"}}, checkpoint=tmp_path / "other.pth")
    assert report.exit_code == 6
    assert [(c.reference, c.candidate, c.status) for c in report.verification.checks] == [("trained", "onnx", "failed")]


def test_a_batch_that_was_traced_in_stops_the_export(toy: Callable[..., Report]) -> None:
    report = toy(broken="traced batch")
    assert report.exit_code == 4
    stage = next(stage for stage in report.stages if stage.exit_code)
    assert "batch" in stage.detail


def test_weights_changed_in_place_are_no_reference_any_more(toy: Callable[..., Report]) -> None:
    report = toy(broken="in place")
    assert report.exit_code == 3
    assert "changed in place by wrap_for_onnx" in report.stages[0].detail


def test_a_run_that_compares_nothing_is_unverified(toy: Callable[..., Report]) -> None:
    report = toy({"verification": {"enabled": False}})
    assert (report.status, report.exit_code) == ("unverified", 0)


def test_nan_weights_are_refused_by_name(toy: Callable[..., Report], tmp_path: Path) -> None:
    state = torch.load(tmp_path / "toy.pth", weights_only=True)
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    report = toy(checkpoint=tmp_path / "nan.pth")
    assert report.exit_code == 4
    assert "fc.weight" in report.stages[0].detail
    assert not (tmp_path / "work/onnx").exists()


def test_a_missing_checkpoint_names_what_is_there(toy: Callable[..., Report], tmp_path: Path) -> None:
    report = toy(checkpoint=tmp_path / "tony.pth")
    assert report.exit_code == 4
    assert "Did you mean toy.pth?" in report.stages[0].detail


def test_a_failing_sample_is_recorded_and_fatal_beyond_the_limit(toy: Callable[..., Report]) -> None:
    allowed = toy({"evaluation": {"max_failed_samples": 1}}, broken="sample 7")
    assert allowed.exit_code == 0
    assert [(f.id, f.step) for f in allowed.evaluations[0].failures] == [("s7", "load")]
    assert "the disk is on fire" in allowed.evaluations[0].failures[0].reason
    fatal = toy({"evaluation": {"max_failed_samples": 0}}, broken="sample 7")
    assert fatal.exit_code == 4


def test_gates_end_with_7(toy: Callable[..., Report]) -> None:
    report = toy({"evaluation": {"gates": {"accuracy": {"min": 1.01}}}})
    assert report.exit_code == 7
    assert {crossing.variant for crossing in report.crossings} == {"trained", "onnx"}
    unknown = toy({"evaluation": {"gates": {"acuracy": {"min": 0.1}}}})
    assert unknown.exit_code == 2
    assert "Did you mean 'accuracy'?" in unknown.stages[-1].detail


def test_stages_can_be_chosen_and_a_later_run_finds_the_files(toy: Callable[..., Report]) -> None:
    first = toy(stages="export,report")
    assert (first.status, first.exit_code) == ("unverified", 0)
    assert status(first)["evaluate"] == "skipped"
    second = toy(stages="verify,evaluate")
    assert second.exit_code == 0
    assert second.status == "passed"
    assert [variant.name for variant in second.variants] == ["trained", "onnx"]


def test_scenarios_of_the_mode_are_followed(toy: Callable[..., Report]) -> None:
    scenarios = [
        {"ref_backend": "pytorch", "test_backend": "onnx", "tolerance": 1e-3},
        {"ref_backend": "onnx", "ref_device": "cpu", "test_backend": "tensorrt", "test_device": "cuda:0"},
    ]
    report = toy({"verification": {"scenarios": {"onnx": scenarios}}})
    found = [(c.reference, c.candidate, c.status) for c in report.verification.checks]
    assert found == [
        ("trained", "exported", "passed"),
        ("trained", "onnx", "passed"),
        ("onnx", "engine", "skipped"),
    ]
    assert report.exit_code == 0
    required = toy({"verification": {"required": True, "scenarios": {"onnx": scenarios}}})
    assert required.exit_code == 6


def test_an_artifact_that_no_scenario_touches_is_not_proved(toy: Callable[..., Report]) -> None:
    report = toy({"verification": {"scenarios": {"onnx": []}}})
    assert (report.status, report.exit_code) == ("unverified", 0)
    assert "onnx was held against nothing" in next(s.detail for s in report.stages if s.name == "verify")
    required = toy({"verification": {"required": True, "scenarios": {"onnx": []}}})
    assert required.exit_code == 6


def test_names_in_the_file_are_the_config_s(toy: Callable[..., Report], tmp_path: Path) -> None:
    report = toy(
        {
            "model_io": {"input_name": "picture", "output_name": "scores", "batch_size": 2},
            "onnx_config": {"save_file": "named.onnx"},
        }
    )
    assert report.exit_code == 0
    graph = onnx.load(tmp_path / "work/onnx/named.onnx").graph
    assert [each.name for each in graph.input] == ["picture"]
    assert [each.name for each in graph.output] == ["scores"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_weights_may_stand_beside_the_file(toy: Callable[..., Report], monkeypatch: pytest.MonkeyPatch) -> None:
    from awml_deploy_core import export

    asked: list[str] = []
    genuine = export.export_onnx

    def listening(*arguments: Any, **options: Any) -> Any:
        asked.append(options["external_data"])  # the toy's own weights are too small to be put anywhere else
        return genuine(*arguments, **options)

    monkeypatch.setattr(export, "export_onnx", listening)
    assert toy({"onnx_config": {"external_data": "external"}}, stages="export").exit_code == 0
    assert asked == ["external"]


def test_workers_find_the_same_figures(
    toy: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    alone = toy({"evaluation": {"workers": 1}})
    shared = toy({"evaluation": {"workers": 2}})
    for one, two in zip(alone.evaluations, shared.evaluations, strict=True):
        assert one.metrics == two.metrics
    assert shared.evaluations[0].protocol["workers"] == 2


def test_a_truncated_file_is_no_artifact(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy()
    path = tmp_path / "work/onnx/toy.onnx"
    path.write_bytes(path.read_bytes()[:500])
    report = toy({"export": {"mode": "none"}})
    assert report.exit_code == 8
    assert "toy.onnx" in next(stage.detail for stage in report.stages if stage.exit_code)


def test_named_samples_are_compared(toy: Callable[..., Report]) -> None:
    assert toy({"verification": {"samples": ["s3", "s8"]}}).verification.samples == ("s3", "s8")
    wrong = toy({"verification": {"samples": ["s99"]}})
    assert wrong.exit_code == 2
    assert "s9" in wrong.stages[1].detail


# ---------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("load", signal.SIGINT),
        ("record", signal.SIGTERM),
        ("export", signal.SIGINT),
        ("evaluate", signal.SIGTERM),
        ("evaluate", signal.SIGINT),
    ],
)
def test_an_interrupted_run_leaves_nothing_half_done(
    toy: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, number: signal.Signals
) -> None:
    def command(path: Path, *, model: str, **_: Any) -> list[str]:
        return [sys.executable, "-m", "awml_deploy_core", "--model", model, str(path)]

    monkeypatch.setattr(sys.modules[__name__], "deploy", command)
    ready = tmp_path / "ready"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "TOY_READY": str(ready)}
    process = subprocess.Popen(toy(broken=f"pause {stage}"), env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)  # the toy would stand still for 60 seconds
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    left = {str(path.relative_to(tmp_path / "work")) for path in (tmp_path / "work").rglob("*")}
    whole = {".lock", "deployment.log"} | ({"onnx", "onnx/toy.onnx"} if stage == "evaluate" else {"onnx"} & left)
    assert left == whole


# ---------------------------------------------------------------- what a tester found


def test_a_plugin_that_exits_is_a_failure(toy: Callable[..., Report]) -> None:
    report = toy(broken="exit")
    assert report.exit_code == 1
    assert "sys.exit(0)" in next(stage.detail for stage in report.stages if stage.exit_code)


def test_a_file_that_was_replaced_meanwhile_is_not_proved(toy: Callable[..., Report], monkeypatch: Any) -> None:
    from awml_deploy_core.stages import verify

    genuine = verify.verify_ladder

    def replaced(story: Any) -> None:
        path = story.variant("onnx").artifacts[0].path
        path.write_bytes(path.read_bytes() + b"\0")
        genuine(story)

    monkeypatch.setattr(verify, "verify_ladder", replaced)
    report = toy()
    assert report.exit_code == 8
    assert "toy.onnx was changed while this run was using it" in "".join(stage.detail for stage in report.stages)


def test_who_names_the_verification_wants_it_done(toy: Callable[..., Report]) -> None:
    report = toy({"export": {"mode": "none"}}, stages="verify")
    assert (report.status, report.exit_code) == ("failed", 6)


def test_a_report_that_cannot_be_written_is_still_returned(toy: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "work/report.json/inside").mkdir(parents=True)
    report = toy(stages="export")
    assert report.exit_code == 3
    assert report.stages[-1].name == "report"
    assert "report.json" in report.stages[-1].detail


def test_engines_that_are_demanded_are_missed(toy: Callable[..., Report]) -> None:
    report = toy({"evaluation": {"backends": {"onnx": {}, "tensorrt": {"enabled": True}}}})
    assert report.exit_code == 3
    assert [one.variant for one in report.evaluations if one.records] == ["onnx"]


def test_texts_will_do_where_the_function_wants_paths(toy: Callable[..., Report], tmp_path: Path) -> None:
    work = tmp_path / "other"
    report = toy(
        work_dir=str(work), checkpoint=str(tmp_path / "toy.pth"), sets="evaluation.num_samples=2", stages=["export"]
    )
    assert (work / "onnx/toy.onnx").is_file()
    assert report.config["evaluation"]["num_samples"] == 2


def test_what_a_killed_run_recorded_is_swept_away(toy: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "work/.recording-dead").mkdir(parents=True)
    toy(stages="export")
    assert not (tmp_path / "work/.recording-dead").exists()
