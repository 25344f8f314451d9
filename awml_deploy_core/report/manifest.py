"""The chain of hashes from the checkpoint to the last artifact, and what was proved about each link.

`manifest.json` is what leaves with the files: a reader who has one of them finds its hash here, what it was made from,
by what, and whether anybody has shown that it says the same as the trained network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from awml_deploy_core.files import sha256_file
from awml_deploy_core.judge import Check, Status
from awml_deploy_core.report import Report, Word
from awml_deploy_core.report.proof import place, verified, worst

if TYPE_CHECKING:
    from awml_deploy_core.records import Artifact

__all__ = ["MANIFEST_VERSION", "Entry", "Git", "Manifest", "Proof", "Proved", "Source", "describe"]

MANIFEST_VERSION = 1


@frozen(kw_only=True)
class Source:
    """The checkpoint that everything was made from.

    Args:
        path: As the config names it.
        sha256: Hash of its content.
        size: Bytes.
    """

    path: Path
    sha256: str
    size: int


@frozen(kw_only=True)
class Proof:
    """What one check says about an artifact.

    Args:
        reference: The variant that it was held against.
        candidate: The variant that it is part of.
        devices: Where reference and candidate ran.
        status: How the check ended.
        output: Where the worst error is, in relation to what is allowed.
        error: The worst error, in the output's own unit; null if it has none.
        tolerance: What is allowed there.
    """

    reference: str
    candidate: str
    devices: tuple[str, str]
    status: Status
    output: str | None = None
    error: float | None = None
    tolerance: float | None = None


@frozen(kw_only=True)
class Entry:
    """One file.

    Args:
        component: The graph that it holds.
        format: Kind of file.
        path: As the run wrote it.
        sha256: Hash of its content.
        size: Bytes.
        precision: What it calculates in.
        made_from: Hash of what it was made from; null if nobody knows.
        parent: Path of the file with that hash, if it is the checkpoint or another artifact.
        tool: What made it.
        opset: Version of ONNX's operators in it, if this run exported it.
        ir_version: Version of the file format, if this run exported it.
        receipt: Evidence for its precision.
        verified: Whether checks that passed lead from the trained network to it.
        proofs: Every check that it took part in as the side under test.
    """

    component: str
    format: str
    path: Path
    sha256: str
    size: int
    precision: str
    made_from: str | None
    parent: Path | None
    tool: str
    opset: int | None
    ir_version: int | None
    receipt: str | None
    verified: bool
    proofs: tuple[Proof, ...]


@frozen(kw_only=True)
class Proved:
    """The verdict of the verification.

    Args:
        status: How it ended.
        counts: How many checks ended how.
        samples: Ids of the samples.
    """

    status: Status
    counts: Mapping[Status, int]
    samples: tuple[str, ...]


@frozen(kw_only=True)
class Git:
    """The repository that the command was run in.

    Args:
        commit: What was checked out.
        dirty: Whether anything differed from it.
    """

    commit: str
    dirty: bool


@frozen(kw_only=True)
class Manifest:
    """Where the artifacts of a run come from, and what is known about them.

    Args:
        model: Name of the model.
        plugin: Distribution and version that brought it.
        status: The verdict over everything.
        exit_code: What the process said.
        verified: Whether there are artifacts and all of them are.
        started: When, in UTC, ISO 8601.
        command: The command line, to do it again.
        work_dir: Where everything lies.
        checkpoint: What everything was made from; null if there is none.
        artifacts: The files.
        verification: The verdict of the verification.
        git: State of the repository that the command was run in; null outside of one.
        environment: Versions, machine, threads.
        config: The resolved settings.
    """

    model: str
    plugin: str
    status: Word
    exit_code: int
    verified: bool
    started: str
    command: tuple[str, ...]
    work_dir: Path
    checkpoint: Source | None
    artifacts: tuple[Entry, ...]
    verification: Proved
    git: Git | None
    environment: Mapping[str, str]
    config: Mapping[str, Any]


def describe(report: Report, git: Mapping[str, str] | None = None) -> Manifest:
    """The manifest of a run.

    Args:
        report: What the run found out.
        git: As `provenance.git_state` answers.
    """
    checkpoint = _checkpoint(report)
    entries = tuple(_entry(report, checkpoint, artifact) for artifact in report.artifacts)
    verification = report.verification
    return Manifest(
        model=report.model,
        plugin=report.plugin,
        status=report.status,
        exit_code=report.exit_code,
        verified=bool(entries) and all(entry.verified for entry in entries),
        started=report.started,
        command=report.command,
        work_dir=report.work_dir,
        checkpoint=checkpoint,
        artifacts=entries,
        verification=Proved(status=verification.status, counts=verification.counts, samples=verification.samples),
        git=Git(commit=git["commit"], dirty=git["dirty"] == "True") if git else None,
        environment=report.environment,
        config=report.config,
    )


def _checkpoint(report: Report) -> Source | None:
    said = report.config.get("checkpoint_path")
    path = Path(said) if said else None
    if path is None or not path.is_file():
        return None
    return Source(path=path, sha256=sha256_file(path), size=path.stat().st_size)


def _entry(report: Report, checkpoint: Source | None, artifact: Artifact) -> Entry:
    users = [variant.name for variant in report.variants if artifact in variant.artifacts]
    proved = verified(report.verification)
    sources = {other.sha256: other.path for other in report.artifacts if other != artifact}
    if checkpoint is not None:
        sources[checkpoint.sha256] = checkpoint.path
    note = next((one for one in report.exports if one.component == artifact.component), None)
    exported = note if artifact.format == "onnx" and artifact.precision == "fp32" else None
    return Entry(
        component=artifact.component,
        format=artifact.format,
        path=artifact.path,
        sha256=artifact.sha256,
        size=artifact.size,
        precision=artifact.precision,
        made_from=artifact.made_from,
        parent=sources.get(artifact.made_from or ""),
        tool=artifact.tool,
        opset=exported.opset if exported else None,
        ir_version=exported.ir_version if exported else None,
        receipt=artifact.receipt,
        verified=bool(users) and proved.issuperset(users),
        proofs=tuple(_proof(check) for check in report.verification.checks if check.candidate in users),
    )


def _proof(check: Check) -> Proof:
    found = worst(check)
    return Proof(
        reference=check.reference,
        candidate=check.candidate,
        devices=check.devices,
        status=check.status,
        output=place(found.comparison) if found else None,
        error=found.would_pass if found else None,
        tolerance=found.tolerance if found else None,
    )
