"""Faults that an audit found, each held closed by a test."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awml_deploy_core import backends, deploy, plan, story
from awml_deploy_core.errors import ConfigError
from awml_deploy_core.example import write
from awml_deploy_core.report import Report
from awml_deploy_core.settings import Options, settle

COMMAND = f"{sys.executable} -m awml_deploy_core"

Run = Callable[..., Report]


@pytest.fixture
def toy(toy_files: Callable[..., tuple[Path, str]]) -> Run:
    def run(config: dict[str, Any] | None = None, edit: str = "pass", **options: Any) -> Report:
        path, name = toy_files(config, edit=edit)
        return deploy(path, model=name, **options)

    return run


@pytest.mark.parametrize(
    "edit",
    [
        "model.fc.weight.data.mul_(1.5)",
        "model.fc.weight.data = model.fc.weight.data * 1.5",
        "model.fc.weight.detach().numpy()[:] *= 1.5",
    ],
)
def test_no_way_of_editing_the_copy_moves_the_reference(toy: Run, edit: str) -> None:
    assert toy(edit=edit, stages="export,verify").exit_code != 0


def test_only_a_chain_from_the_trained_network_is_a_proof(toy: Run, tmp_path: Path) -> None:
    toy(stages="export")
    scenarios = {"none": [{"ref_backend": "onnx", "test_backend": "onnx"}]}
    report = toy({"export": {"mode": "none"}, "verification": {"scenarios": scenarios}}, stages="verify,report")
    assert json.loads((tmp_path / "work/manifest.json").read_text())["verified"] is False
    assert report.exit_code == 6  # it was asked for by name


def test_required_makes_an_unverified_run_impossible(toy: Run) -> None:
    with pytest.raises(ConfigError, match="required"):
        toy({"verification": {"enabled": False, "required": True}}, stages="export,verify")


def test_a_gate_that_nothing_was_held_against_is_not_kept(toy: Run) -> None:
    evaluation = {"enabled": True, "backends": {"tensorrt": {}}, "gates": {"accuracy": {"min": 0.9}}}
    assert toy({"evaluation": evaluation}).exit_code == 7


def test_a_sound_variant_is_evaluated_beside_one_that_is_not(toy: Run) -> None:
    chosen = {"pytorch": {"enabled": True, "device": "cuda:77"}, "onnx": {}}
    report = toy({"evaluation": {"enabled": True, "num_samples": 2, "backends": chosen}}, stages="export,evaluate")
    assert report.exit_code == 3
    assert [one.variant for one in report.evaluations if one.records] == ["onnx"]


def test_a_provider_that_is_absent_is_a_skip_like_a_device(toy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine with a GPU and the package onnxruntime, which runs on the CPU alone.
    monkeypatch.setattr(backends.runner, "require_device", lambda _device, _name: None)
    chosen = {"pytorch": {"device": "cpu"}, "onnx": {"device": "cuda:0"}}
    report = toy({"evaluation": {"enabled": True, "num_samples": 2, "backends": chosen}}, stages="export,evaluate")
    assert report.exit_code == 0
    assert [bool(one.skipped) for one in report.evaluations] == [False, True]


def test_the_alias_cuda_means_the_same_for_the_export(toy: Run) -> None:
    report = toy({"export": {"device": "cuda"}, "devices": {"cuda": "cuda:77"}}, stages="export")
    assert [variant.device for variant in report.variants][:1] == ["cuda:77"]


def test_an_evaluation_alone_records_nothing(toy: Run) -> None:
    report = toy({"evaluation": {"enabled": True, "num_samples": 2}}, stages="evaluate")
    assert "record" not in [stage.name for stage in report.stages]


def test_the_shape_of_a_tensor_is_heard(toy: Run) -> None:
    said = {"toy": {"io": {"inputs": [{"name": "image", "shape": [5, 99, 99]}]}}}
    report = toy({"components": said}, stages="export")
    assert (report.exit_code, "components.toy.io" in report.stages[0].detail) == (2, True)


def test_a_program_around_us_does_not_hear_details(toy: Run) -> None:
    heard: list[logging.LogRecord] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    handler = Ear()
    logging.getLogger().addHandler(handler)
    try:
        toy(stages="export")
    finally:
        logging.getLogger().removeHandler(handler)
    assert [record for record in heard if record.levelno < logging.WARNING] == []


def test_a_reader_that_is_gone_is_no_bug() -> None:
    command = f"{COMMAND} plugins --no-load --json | true; exit ${{PIPESTATUS[0]}}"
    # `true` has left long before Python has started.
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


EXAMPLE = """
from awml_deploy_core import hookimpl

@hookimpl
def write_example(directory):
    (directory / "config.py").write_text("")
    return True
"""


def test_an_example_can_be_written_into_the_present_folder(
    fake_distribution: Callable[..., Path], required_hooks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = required_hooks + EXAMPLE
    fake_distribution("awml-here", entry_points={"here": "here.hooks"}, modules={"here.hooks": source})
    (tmp_path / "site/here/__init__.py").touch()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    write("here", Path())
    assert (tmp_path / "mine/config.py").is_file()
    assert Path("config.py").is_file()


def test_a_model_config_is_code_too(toy: Run, tmp_path: Path) -> None:
    toy(stages="export")
    (tmp_path / "model.py").write_text("depth = 18\n")
    safe = tmp_path / "config.json"
    safe.write_text(json.dumps({"checkpoint_path": str(tmp_path / "toy.pth"), "export": {"mode": "none"}}))
    with pytest.raises(ConfigError, match=r"model\.py"):
        deploy(safe, model="toy0", model_config=tmp_path / "model.py", safe_config=True, stages="report")


def test_the_checkpoint_of_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("evaluation = {'models': {'pytorch': 'old.pth'}}\n")
    assert settle(path, Options(checkpoint=Path("new.pth"))).config.checkpoint_path == Path("new.pth")


@pytest.mark.parametrize("stages", ["", " , "])
def test_no_stage_at_all_is_a_mistake(toy: Run, stages: str) -> None:
    with pytest.raises(ConfigError, match="--stages"):
        toy(stages=stages)


def test_a_plan_promises_only_what_can_be_done(toy: Run, tmp_path: Path) -> None:
    toy(stages="export")
    values = {"export": {"mode": "none", "work_dir": str(tmp_path / "work")}, "evaluation": {"enabled": True}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    planned = dict(plan.plan(story.prepare(path, story.options(model="toy0"))))
    assert "trained" not in planned["evaluate"]
    assert "trained" not in planned["verify"]
