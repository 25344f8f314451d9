"""The verdict in a sentence, and the command that is most useful next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import attrs

from awml_deploy_core.errors import ExitCode
from awml_deploy_core.report import proof

if TYPE_CHECKING:
    from awml_deploy_core.judge import Check
    from awml_deploy_core.report import Report

__all__ = ["again", "attribution", "following", "sentence"]

_CLASSES = {
    ExitCode.BUG: "a bug in awml-deploy or the plugin",
    ExitCode.CONFIG: "the command line or the config is wrong",
    ExitCode.ENVIRONMENT: "the environment lacks something",
    ExitCode.EXPORT: "loading or exporting failed",
    ExitCode.BUILD: "building an engine failed",
    ExitCode.VERIFICATION: "an artifact does not say what the trained network says, or what is required was not proved",
    ExitCode.EVALUATION: "a figure does not keep its limit",
    ExitCode.ARTIFACT: "an artifact is missing or was changed",
}


def sentence(report: Report) -> str:
    """What the verdict means."""
    if report.status == "failed":
        words = {int(code): text for code, text in _CLASSES.items()}
        return f"exit code {report.exit_code}: {words.get(report.exit_code, 'a stage failed')}"
    undone = [stage.name for stage in report.stages if stage.skipped and stage.skipped.reason == "not supported"]
    if report.status == "passed" and undone:
        return f"the comparisons with the trained network passed; {', '.join(undone)} could not be done"
    if report.status == "passed":
        return "all that was asked for was done, and the comparisons with the trained network passed"
    return "nothing proves that the artifacts say what the trained network says; do not ship them"


_STEPS = {
    "exported": "what the hook wrap_for_onnx changes for the export",
    "onnx": "the exporter, the simplification or ONNX Runtime",
}


def attribution(check: Check) -> str:
    """Where to look for a fault that a rung of the ladder has and its parent has not."""
    found = proof.origin(check)
    between = f"the fault enters between {check.reference} and {check.candidate}"
    several = len({verdict.comparison.component for verdict in check.verdicts} - {None}) > 1
    said = []
    if found.components or not found.before:
        where = f" of {', '.join(found.components)}" if found.components and several else ""
        said.append(f"{_step(check.candidate)}{where}")
    if found.before:
        said.append(_around(found))
    return f"{between}: look at {'; and at '.join(said)}"


def _step(candidate: str) -> str:
    """What lies between a rung and its parent."""
    if candidate.startswith("onnx:"):
        return f"the precision {candidate.removeprefix('onnx:')}, and what `keep` or `calibration` could spare"
    return _STEPS.get(candidate, "the step between them")


def _around(found: proof.Origin) -> str:
    """What no component explains by itself: the pipeline's own work before, between and behind them."""
    if found.before == "calls":
        return "why the pipeline calls other components, though each answers alike on equal inputs"
    if found.before == "prediction":
        return f"what the pipeline does behind {found.after or 'the components'}, whose answers agree"
    own = f"what the pipeline does {f'between {found.after} and' if found.after else 'before'} {found.before}"
    larger = f", or how {found.before} enlarges the error of {found.after}" if found.inherited else ""
    return f"{own}, which is right on equal inputs{larger}"


def again(report: Report, *more: str) -> str | None:
    """The command line of this run with more behind it, None if the run was not started by the command line."""
    if not report.command:
        return None
    program = PurePath(report.command[0])
    if program.name == "__main__.py" and program.parent.name == "awml_deploy_core":
        start: tuple[str, ...] = ("python", "-m", "awml_deploy_core")
    elif program.stem == "awml-deploy":
        start = ("awml-deploy",)
    else:
        return None
    return shlex.join((*start, *report.command[1:], *more))


def following(report: Report) -> tuple[str, str] | None:
    """What to do next and why; None if there is nothing better than reading the report."""
    off = {stage.name for stage in report.stages if stage.skipped and stage.skipped.reason == "disabled"}
    made = bool(report.artifacts)
    if report.exit_code:
        return None
    if "verify" in off and made:
        return _with(report, "prove the artifacts", "verification.enabled=true")
    if "evaluate" in off and made:
        return _with(report, "measure accuracy and latency", "evaluation.enabled=true")
    return None


def _with(report: Report, why: str, said: str) -> tuple[str, str] | None:
    """The same command with one key set, and no other word about that key."""
    command = again(attrs.evolve(report, command=_without(report.command, said.partition("=")[0])), "--set", said)
    return (why, command) if command else None


def _without(words: Sequence[str], key: str) -> tuple[str, ...]:
    kept: list[str] = []
    for word in words:
        if word.startswith(f"{key}=") and kept and kept[-1] == "--set":
            kept.pop()
        elif not word.startswith(f"--set={key}="):
            kept.append(word)
    return tuple(kept)
