"""What a config says arrives where it acts: every setting that a stage of the run hands on."""

from __future__ import annotations

import hashlib
import json
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

import awml_deploy_core.export
from awml_deploy_core import deploy
from awml_deploy_core.config import Backend, BackendSettings, Config, EvaluationConfig, ExportConfig, Gate
from awml_deploy_core.errors import RequirementError
from awml_deploy_core.ladder import find_onnx
from awml_deploy_core.overrides import resolve
from awml_deploy_core.records import Component, Tensor
from awml_deploy_core.report import Report, Stage, verdict
from awml_deploy_core.stages.evaluate import broken_limits

ABSENT = "cuda:77"  # a GPU that no machine has

Run = Callable[..., Report]


@pytest.fixture
def toy(toy_files: Callable[..., tuple[Path, str]]) -> Run:
    def run(config: dict[str, Any] | None = None, broken: str = "", more: str = "", **options: Any) -> Report:
        path, name = toy_files(config, broken=broken, more=more)
        return deploy(path, model=name, **options)

    return run


def stage(report: Report, name: str) -> Stage:
    return next(one for one in report.stages if one.name == name)


# ---------------------------------------------------------------- export


def test_every_setting_of_onnx_config_reaches_the_exporter(
    toy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "opset_version": 16,
        "max_ir_version": 9,
        "exporter": "torchscript",
        "do_constant_folding": False,
        "keep_initializers_as_inputs": True,
        "simplify": False,
    }
    real, heard = awml_deploy_core.export.export_onnx, dict[str, Any]()

    def listen(*arguments: Any, **options: Any) -> Any:
        heard.update(options)
        return real(*arguments, **options)

    monkeypatch.setattr(awml_deploy_core.export, "export_onnx", listen)
    report = toy({"onnx_config": said})
    assert report.exit_code == 0
    assert {key: heard[key] for key in said} == said
    model = onnx.load(tmp_path / "work/onnx/toy.onnx")
    assert [each.version for each in model.opset_import if not each.domain] == [16]
    assert {each.name for each in model.graph.initializer} < {each.name for each in model.graph.input}


def test_a_reader_that_is_too_old_is_named(toy: Run) -> None:
    report = toy({"onnx_config": {"max_ir_version": 3}})
    assert report.exit_code == 4
    assert "at most 3 is allowed" in stage(report, "export").detail


def test_the_manifest_leads_from_the_file_to_the_checkpoint(toy: Run, tmp_path: Path) -> None:
    toy()
    checkpoint = hashlib.sha256((tmp_path / "toy.pth").read_bytes()).hexdigest()
    manifest = json.loads((tmp_path / "work/manifest.json").read_text())
    (artifact,) = manifest["artifacts"]
    assert artifact["made_from"] == manifest["checkpoint"]["sha256"] == checkpoint
    assert artifact["parent"] == str(tmp_path / "toy.pth")
    assert artifact["sha256"] == hashlib.sha256((tmp_path / "work/onnx/toy.onnx").read_bytes()).hexdigest()


def test_the_most_precise_word_says_where_an_existing_file_lies(tmp_path: Path) -> None:
    component = Component(
        name="net",
        inputs=(Tensor(name="x", shape=(1,)),),
        outputs=(Tensor(name="y", shape=(1,)),),
        axes=(),
    )
    for name in ("backend", "models", "export", "work/onnx"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "net.onnx").write_bytes(b"")
    backend = {Backend.ONNX: BackendSettings(model_dir=tmp_path / "backend")}
    models = {Backend.ONNX: tmp_path / "models" / "net.onnx"}

    def found(export: Path | None, **evaluation: Any) -> str:
        place = ExportConfig(mode="none", work_dir=tmp_path / "work", onnx_path=export)
        config = Config(export=place, evaluation=EvaluationConfig(**evaluation))
        (artifact,) = find_onnx(config, resolve((component,), config))
        return str(artifact.path.parent.relative_to(tmp_path))

    assert found(tmp_path / "export", backends=backend, models=models) == "backend"
    assert found(tmp_path / "export", models=models) == "models"
    assert found(tmp_path / "export") == "export"
    assert found(None) == "work/onnx"


# ---------------------------------------------------------------- recording and verification


def test_recording_starts_where_the_config_says(toy: Run) -> None:
    both = toy({"export": {"sample_idx": 5}, "runtime_io": {"sample_idx": 2}}, stages="export,verify")
    assert both.verification.samples == ("s5", "s6", "s7")
    first = toy({"export": {"sample_idx": 0}, "runtime_io": {"sample_idx": 2}}, stages="export,verify")
    assert first.verification.samples == ("s0", "s1", "s2")
    data = toy({"runtime_io": {"sample_idx": 2}, "verification": {"num_verify_samples": 2}}, stages="export,verify")
    assert data.verification.samples == ("s2", "s3")


def test_tolerances_of_the_config_decide(toy: Run) -> None:
    def code(**verification: Any) -> int:
        report = toy({"verification": verification}, broken="perturbed weight", stages="export,verify")
        return stage(report, "verify").exit_code

    assert code() == 6
    assert code(tolerance=1.0) == 0
    assert code(tolerances={"logits": 1.0}) == 0
    assert code(tolerances={"toy.logits": 1.0}) == 0
    assert code(tolerance=1.0, tolerances={"logits": 1e-9}) == 6


def test_a_scenario_has_a_tolerance_of_its_own(toy: Run, tmp_path: Path) -> None:
    toy(broken="perturbed weight", stages="export")

    def code(**scenario: Any) -> int:
        scenarios = {"none": [{"ref_backend": "pytorch", "test_backend": "onnx", **scenario}]}
        values = {"export": {"mode": "none"}, "verification": {"tolerance": 1e-9, "scenarios": scenarios}}
        return toy(values, stages="verify").exit_code

    assert code() == 6
    assert code(tolerance=1.0) == 0


def test_predictions_are_compared_by_the_rule_of_the_task(toy: Run) -> None:
    report = toy(stages="export,verify")
    scopes = {verdict.comparison.scope for check in report.verification.checks for verdict in check.verdicts}
    assert scopes == {"component", "chained", "prediction"}
    without = toy({"task_type": None}, stages="export,verify")
    assert {v.comparison.scope for c in without.verification.checks for v in c.verdicts} == {"component", "chained"}


def test_the_alias_of_a_device_is_that_of_its_section(toy: Run) -> None:
    scenarios = {"onnx": [{"ref_backend": "pytorch", "test_backend": "onnx", "test_device": "cuda"}]}
    own = toy({"verification": {"devices": {"cuda": ABSENT}, "scenarios": scenarios}}, stages="export,verify")
    common = toy({"devices": {"cuda": ABSENT}, "verification": {"scenarios": scenarios}}, stages="export,verify")
    for report in (own, common):
        check = report.verification.checks[-1]
        assert (check.devices, check.status) == (("cpu", ABSENT), "skipped")
        assert check.skipped is not None
        assert (check.skipped.reason, ABSENT in check.skipped.detail) == ("no device", True)


# ---------------------------------------------------------------- evaluation


BATCHES = """
class Batched(Pipeline):
    def predict_batch(self, inputs, run):
        return [self.predict(one, run) for one in inputs]

@hookimpl
def build_pipeline(device, config):
    return Batched()
"""


def test_the_evaluation_follows_its_section(toy: Run) -> None:
    said = {"enabled": True, "num_samples": 5, "num_warmup": 2, "batch_size": 4}
    told: list[tuple[str, int, int]] = []
    report = toy(
        {"evaluation": said}, more=BATCHES, stages="export,evaluate", progress=lambda *words: told.append(words)
    )
    for evaluation in report.evaluations:
        assert evaluation.records == 5
        assert (evaluation.protocol["warmup"], evaluation.protocol["batch_size"]) == (2, 4)
    assert ("evaluate trained", 5, 5) in told
    assert ("evaluate onnx", 5, 5) in told


def test_a_backend_is_left_out_demanded_or_taken_if_it_is_there(toy: Run) -> None:
    def evaluate(**backends: Any) -> Report:
        values = {"export": {"mode": "none"}, "evaluation": {"enabled": True, "num_samples": 2, "backends": backends}}
        return toy(values, stages="evaluate")

    only = evaluate(pytorch={}, onnx={"enabled": False})
    assert [one.variant for one in only.evaluations] == ["trained"]
    auto = evaluate(pytorch={}, onnx={})
    assert auto.exit_code == 0
    assert [one.skipped and one.skipped.reason for one in auto.evaluations] == [None, "no artifact"]
    for demanded in ({"enabled": True}, {"required": True}):
        report = evaluate(pytorch={}, onnx=demanded)
        assert report.exit_code == 8
        assert "evaluation.backends.onnx" in stage(report, "evaluate").detail


def test_a_device_that_is_absent_is_skipped_or_fatal(toy: Run) -> None:
    def evaluate(**onnx_backend: Any) -> Report:
        backends = {"pytorch": {}, "onnx": {"device": "cuda", **onnx_backend}}
        evaluation = {"enabled": True, "num_samples": 2, "backends": backends}
        return toy({"devices": {"cuda": ABSENT}, "evaluation": evaluation}, stages="export,evaluate")

    auto = evaluate()
    assert auto.exit_code == 0
    skipped = auto.evaluations[-1].skipped
    assert skipped is not None
    assert (skipped.reason, ABSENT in skipped.detail) == ("no device", True)
    assert evaluate(enabled=True).exit_code == 3


UNSEEDED = """
def load(index):
    return Frame(inputs=np.random.default_rng().normal(size=(3, 8, 8)).astype(np.float32))
"""


def test_variants_that_saw_other_inputs_are_named(toy: Run, tmp_path: Path) -> None:
    report = toy({"evaluation": {"enabled": True, "num_samples": 3}}, more=UNSEEDED, stages="export,evaluate,report")
    assert report.unequal == (("onnx", ("s0", "s1", "s2")),)
    assert "other inputs" in (tmp_path / "work/report.md").read_text()


@pytest.mark.parametrize(
    ("value", "base", "higher", "broken"),
    [
        (0.75, 1.0, True, False),
        (0.74, 1.0, True, True),
        (1.5, 1.0, True, False),
        (1.25, 1.0, False, False),
        (1.26, 1.0, False, True),
        (0.5, 1.0, False, False),
        (0.9, None, True, True),
        (None, 1.0, True, True),
        (float("nan"), 1.0, True, True),
    ],
)
def test_a_drop_is_held_against_the_trained_figure(
    value: float | None, base: float | None, higher: bool, broken: bool
) -> None:
    assert bool(list(broken_limits(Gate(max_drop=0.25), value, base, higher_is_better=higher))) is broken


# ---------------------------------------------------------------- the report


def test_the_earliest_failure_gives_the_code() -> None:
    stages = (Stage(name="verify", status="failed", exit_code=6), Stage(name="evaluate", status="failed", exit_code=7))
    assert verdict(stages) == ("failed", 6)
    assert verdict((Stage(name="load", status="failed", exit_code=4), *stages)) == ("failed", 4)


def test_what_was_read_in_other_words_stands_in_the_report(toy: Run, tmp_path: Path) -> None:
    report = toy({"codebase_config": {"type": "mmdet"}}, stages="export,report")
    assert [note for note in report.notes if "codebase_config" in note]
    assert "codebase_config" in (tmp_path / "work/report.md").read_text()


EMPTY = """
@hookimpl
def load_samples(purpose, config):
    return []
"""


def test_an_empty_data_set_is_named_with_the_remedy(toy: Run) -> None:
    report = toy(more=EMPTY)
    assert report.exit_code == 4
    assert "the data set is empty" in report.stages[0].detail
    assert "runtime_io" in report.stages[0].detail


def test_a_work_folder_that_cannot_be_made_is_named(toy: Run, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file of the user's")
    with pytest.raises(RequirementError, match="is a file") as caught:
        toy()
    assert caught.value.hint
    assert (tmp_path / "work").read_text() == "a file of the user's"


PAUSE = """
@hookimpl
def compare_predictions(reference, candidate, config):
    Path(os.environ["TOY_READY"]).touch()
    time.sleep(60)
"""


def test_an_interrupted_verification_leaves_only_what_was_finished(
    toy_files: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    path, name = toy_files(more=PAUSE)
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "awml_deploy_core", "--model", name, str(path)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "TOY_READY": str(ready)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    left = {str(each.relative_to(tmp_path / "work")) for each in (tmp_path / "work").rglob("*")}
    assert left == {".lock", "deployment.log", "onnx", "onnx/toy.onnx"}
