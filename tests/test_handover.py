"""What the receiving side is given: files in their folder, findings in the report, and the end of the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awml_deploy_core import deploy
from awml_deploy_core.report import Report

HAND = """
from awml_deploy_core.records import Finding, Handover

@hookimpl
def hand_over(target, artifacts, config):
    if BREAK == "nothing":
        return None
    if BREAK == "no handover":
        return [target]
    if BREAK == "outside":
        return Handover(files={"../label.txt": b""})
    names = "\\n".join(artifact.path.name for artifact in artifacts)
    level = "error" if BREAK == "wrong" else "note"
    found = Finding(level=level, subject="toy.onnx", fact="has a free batch", rule="every size must be fixed")
    files = {"label.txt": b"a\\nb\\n", "param/node.yaml": f"target: {target}\\nfiles: {names}\\n".encode()}
    return Handover(files=files, findings=[found])
"""


@pytest.fixture
def handed(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    def run(broken: str = "", more: str = HAND, stages: str | None = None, **config: Any) -> Report:
        path, name = toy_files(config, broken=broken, more=more)
        return deploy(path, model=name, stages=stages)

    return run


def outcome(report: Report) -> tuple[str, int, str]:
    stage = next(stage for stage in report.stages if stage.name == "handover")
    return stage.status, stage.exit_code, stage.detail


def test_the_files_lie_in_the_folder_of_the_target(handed: Callable[..., Report], tmp_path: Path) -> None:
    report = handed()
    folder = tmp_path / "work/handover/autoware"
    assert (folder / "label.txt").read_bytes() == b"a\nb\n"
    assert (folder / "param/node.yaml").read_text() == "target: autoware\nfiles: toy.onnx\n"
    assert outcome(report) == ("passed", 0, "autoware: 2 files, 1 note")
    (one,) = report.deliveries
    assert one.files == (folder / "label.txt", folder / "param/node.yaml")
    text = (tmp_path / "work/report.md").read_text()
    assert "### Hand-over to autoware" in text
    assert "| `note` | toy.onnx | has a free batch | every size must be fixed |" in text
    assert json.loads((tmp_path / "work/report.json").read_text())["deliveries"][0]["target"] == "autoware"


def test_what_an_earlier_run_left_is_removed(handed: Callable[..., Report], tmp_path: Path) -> None:
    old = tmp_path / "work/handover/autoware/old/label.txt"
    old.parent.mkdir(parents=True)
    old.touch()
    handed()
    assert not old.exists()


def test_a_finding_is_fatal_only_where_the_hand_over_is_required(handed: Callable[..., Report]) -> None:
    assert outcome(handed("wrong")) == ("passed", 0, "autoware: 2 files, 1 error")
    report = handed("wrong", handover={"required": True})
    assert outcome(report) == ("failed", 8, "autoware: 2 files, 1 error; toy.onnx: has a free batch")
    assert (report.status, report.exit_code) == ("failed", 8)
    assert handed(handover={"required": True}).exit_code == 0


def test_nothing_is_said_where_the_plugin_has_nothing(handed: Callable[..., Report], tmp_path: Path) -> None:
    report = handed(more="")
    assert report.deliveries == ()
    assert "handover" not in [stage.name for stage in report.stages]
    assert not (tmp_path / "work/handover").exists()


def test_a_target_that_is_named_and_cannot_be_served_is_skipped(handed: Callable[..., Report]) -> None:
    status, code, detail = outcome(handed(more="", handover={"targets": ["autoware"]}))
    assert (status, code) == ("skipped", 0)
    assert "has no hook hand_over" in detail
    assert outcome(handed(more="", handover={"targets": ["autoware"], "required": True}))[1] == 8


def test_a_plugin_may_have_nothing_for_a_target(handed: Callable[..., Report]) -> None:
    assert outcome(handed("nothing")) == ("passed", 0, "autoware: the plugin has nothing for it")
    assert outcome(handed("nothing", handover={"required": True}))[:2] == ("failed", 8)


def test_without_artifacts_there_is_nothing_to_hand_over(handed: Callable[..., Report]) -> None:
    status, _, detail = outcome(handed(export={"mode": "none"}))
    assert (status, detail) == ("skipped", "no artifact")


def test_a_target_can_be_refused_and_the_stage_left_out(handed: Callable[..., Report]) -> None:
    assert handed(handover={"targets": []}).deliveries == ()
    assert handed(stages="export,verify").deliveries == ()
    assert len(handed(stages="export,handover").deliveries) == 1


@pytest.mark.parametrize(
    ("broken", "words"),
    [("no handover", "answered list instead of a Handover"), ("outside", "not inside the target's folder")],
)
def test_what_the_hook_gets_wrong_is_named(handed: Callable[..., Report], broken: str, words: str) -> None:
    status, code, detail = outcome(handed(broken))
    assert (status, code) == ("failed", 3)
    assert words in detail
