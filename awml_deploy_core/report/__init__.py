"""What people and programs read: the report of a run as JSON, Markdown and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from awml_deploy_core.judge import Verification
from awml_deploy_core.records import Artifact, Evaluation, Finding, Skip, Variant

__all__ = [
    "SCHEMA_VERSION",
    "Crossing",
    "Delivery",
    "EngineNote",
    "ExportNote",
    "Report",
    "Shown",
    "Stage",
    "Word",
    "verdict",
]

SCHEMA_VERSION = 1
Word = Literal["passed", "failed", "skipped", "unverified"]


@frozen(kw_only=True)
class Stage:
    """One stage of a run: how it ended, how long it took, and what there is to say."""

    name: Literal["load", "record", "export", "cast", "verify", "build", "evaluate", "handover", "report"]
    status: Word
    seconds: float = 0.0
    detail: str = ""
    skipped: Skip | None = None
    exit_code: int = 0


@frozen(kw_only=True)
class ExportNote:
    """How one ONNX file came about."""

    component: str
    exporter: str
    opset: int
    ir_version: int
    seconds: float
    notes: tuple[str, ...] = ()


@frozen(kw_only=True)
class EngineNote:
    """How one engine came about, and whether it is what was asked for.

    Args:
        component: The graph.
        flavor: Module of the TensorRT that built it.
        version: Its version.
        policy: The precision that was asked for.
        seconds: How long the builder took.
        holds: Whether the receipt proves the precision; null where this machine cannot tell.
        receipt: The proof in words.
        islands: Layers that compute wider than asked, and why.
        profiles: Sizes that it takes: smallest, the one to be fast at, largest.
    """

    component: str
    flavor: str
    version: str
    policy: str
    seconds: float
    holds: bool | None
    receipt: str
    islands: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


@frozen(kw_only=True)
class Crossing:
    """A gate of the evaluation that a variant did not pass."""

    variant: str
    metric: str
    value: float | None
    limit: str


@frozen(kw_only=True)
class Shown:
    """A picture of one sample: the truth and what each variant said."""

    sample: str
    path: Path
    caption: str = ""


@frozen(kw_only=True)
class Delivery:
    """What one target was given beside the artifacts, and what it would trip over."""

    target: str
    files: tuple[Path, ...]
    findings: tuple[Finding, ...] = ()


@frozen(kw_only=True)
class Report:
    """Everything a run found out.

    Args:
        model: Name of the model.
        plugin: Distribution and version that brought it.
        status: The verdict over everything: a run whose artifacts nobody compared is `unverified`.
        exit_code: What the process says; of several failures that of the earliest stage.
        started: When, in UTC, ISO 8601.
        seconds: How long.
        command: The command line, to do it again.
        work_dir: Where everything lies.
        stages: In order.
        variants: The ladder: every way to run the model that there was.
        exports: How the ONNX files came about.
        engines: How the engines came about, with their receipts.
        artifacts: The files.
        verification: What was held against what, with every verdict.
        evaluations: Figures and times by variant.
        crossings: Gates that were not passed.
        unequal: Variants that were given other inputs than the first, with the samples.
        pictures: A few samples, drawn.
        deliveries: What the receiving side was given, and what it would trip over.
        notes: What a reader should know besides.
        environment: Versions, machine, threads.
        config: The resolved settings.
    """

    model: str
    plugin: str
    status: Word
    exit_code: int = 0
    started: str
    seconds: float = 0.0
    command: tuple[str, ...] = ()
    work_dir: Path
    stages: tuple[Stage, ...] = ()
    variants: tuple[Variant, ...] = ()
    exports: tuple[ExportNote, ...] = ()
    engines: tuple[EngineNote, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    verification: Verification = field(factory=Verification)
    evaluations: tuple[Evaluation, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    unequal: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pictures: tuple[Shown, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    notes: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(factory=dict)
    config: Mapping[str, Any] = field(factory=dict)


def verdict(stages: tuple[Stage, ...]) -> tuple[Word, int]:
    """The status and exit code of a run from its stages: the earliest failure decides."""
    failed = next((stage for stage in stages if stage.exit_code), None)
    if failed is not None:
        return "failed", failed.exit_code
    verified = any(stage.name == "verify" and stage.status == "passed" for stage in stages)
    return ("passed" if verified else "unverified"), 0
