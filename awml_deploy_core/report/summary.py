"""What was made and what it is worth, as tables that the terminal and the Markdown share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from awml_deploy_core.build.flavor import TITLES
from awml_deploy_core.report import numbers as said
from awml_deploy_core.report.grid import Grid
from awml_deploy_core.report.proof import pair, verified

if TYPE_CHECKING:
    from awml_deploy_core.records import Evaluation, Metrics, Skip
    from awml_deploy_core.report import Delivery, Report

__all__ = [
    "artifacts",
    "engines",
    "evaluations",
    "figures",
    "findings",
    "protocol",
    "reason",
    "skips",
    "stages",
    "times",
]


# ---------------------------------------------------------------- what was made


def stages(report: Report) -> Grid:
    """How each stage ended."""
    rows = [
        (one.name, one.status, said.duration(one.seconds), _detail(one.detail, one.skipped)) for one in report.stages
    ]
    return Grid(title="Stages", columns=("stage", "status", "time", ""), rows=tuple(rows), figures=frozenset({2}))


def _detail(detail: str, skipped: Skip | None) -> str:
    """What a stage says, and why it was skipped if it does not say so itself."""
    if skipped is None or skipped.reason in detail:
        return detail
    return "; ".join(filter(None, (reason(skipped), detail)))


def reason(skip: Skip) -> str:
    """Why something did not happen."""
    return f"{skip.reason}: {skip.detail}" if skip.detail else skip.reason


def artifacts(report: Report) -> Grid:
    """The files, and whether they are verified."""
    rows, proved = [], verified(report.verification)
    for one in report.artifacts:
        users = {variant.name for variant in report.variants if one in variant.artifacts}
        note = next((note for note in report.exports if note.component == one.component), None)
        made = (str(note.opset), note.exporter) if note and one.format == "onnx" else (said.ABSENT, one.tool)
        wrong = any(check.status == "failed" and check.candidate in users for check in report.verification.checks)
        word = "failed" if wrong else "verified" if users and proved >= users else "unverified"
        path = one.path.relative_to(report.work_dir) if one.path.is_relative_to(report.work_dir) else one.path
        rows.append((str(path), said.size(one.size), one.precision, *made, word))
    columns = ("file", "size", "precision", "opset", "made by", "status")
    return Grid(title=f"Artifacts in {report.work_dir}", columns=columns, rows=tuple(rows), figures=frozenset({1, 3}))


def engines(report: Report) -> Grid:
    """What proves the precision of each engine."""
    words = {True: "holds", False: "broken", None: "not provable here"}
    rows = [
        (one.component, one.policy, f"{TITLES[one.flavor]} {one.version}", words[one.holds], one.receipt)
        for one in report.engines
    ]
    return Grid(title="Receipts", columns=("engine", "policy", "built by", "receipt", "read from it"), rows=tuple(rows))


# ---------------------------------------------------------------- what it is worth


def evaluations(report: Report) -> Grid:
    """One row per variant: the primary figure, the times of a whole sample, what ran it."""
    primary = next((one.metrics.primary for one in report.evaluations if one.metrics), "metric")
    base = _base(report)
    rows = [_evaluation(report, one, primary, base) for one in report.evaluations]
    times = ("p50\n(ms)", "p95\n(ms)", "p99\n(ms)", "FPS")
    columns = ("variant", primary, "vs\ntrained", *times, "samples\n(failed)", "runs on")
    return Grid(title="Evaluation", columns=columns, rows=tuple(rows), figures=frozenset(range(1, 8)))


def _base(report: Report) -> Metrics | None:
    return next((one.metrics for one in report.evaluations if one.variant == "trained"), None)


def _evaluation(report: Report, one: Evaluation, primary: str, base: Metrics | None) -> tuple[str, ...]:
    value = one.metrics.values.get(primary) if one.metrics else None
    total = one.timings.get("total")
    times = (said.ms(total.p50), said.ms(total.p95), said.ms(total.p99)) if total else (said.ABSENT,) * 3
    moved = said.ABSENT if one.variant == "trained" else said.delta(value, base.values.get(primary) if base else None)
    counts = said.ABSENT if one.skipped else f"{said.count(one.records)} ({said.count(len(one.failures))})"
    place = "skipped" if one.skipped else _place(report, one)
    return (one.variant, said.figure(value), moved, *times, said.rate(total.mean if total else None), counts, place)


def _place(report: Report, one: Evaluation) -> str:
    """Backend and device; the device on which it was really evaluated, which may not be the variant's first."""
    variant = next((variant for variant in report.variants if variant.name == one.variant), None)
    device = one.protocol.get("device", variant.device if variant else said.ABSENT)
    return f"{variant.backend if variant else one.variant} {device}"


def figures(report: Report, *, detailed: bool = False) -> Grid:
    """A row per metric, a column per variant; without those of single classes, which have a `/`, unless detailed."""
    scored = [(one.variant, one.metrics.values) for one in report.evaluations if one.metrics]
    names = dict.fromkeys(name for _, values in scored for name in values if detailed or "/" not in name)
    primary = {one.metrics.primary for one in report.evaluations if one.metrics}
    # Without a truth nothing is defined; a page of dashes says no more than the primary figure alone.
    worth = [name for name in names if name in primary or any(values.get(name) is not None for _, values in scored)]
    rows = [(name, *(said.figure(values.get(name)) for _, values in scored)) for name in worth]
    columns = ("metric", *(variant for variant, _ in scored))
    return Grid(title="Metrics", columns=columns, rows=tuple(rows), figures=frozenset(range(1, len(columns))))


def times(one: Evaluation) -> Grid:
    """Where the milliseconds of a sample go."""
    columns = ("stage", *(f"{name}\n(ms)" for name in ("mean", "std", "min", "p50", "p90", "p95", "p99", "max")))
    rows = [
        (name, *map(said.ms, (t.mean, t.std, t.min, t.p50, t.p90, t.p95, t.p99, t.max)))
        for name, t in one.timings.items()
    ]
    return Grid(title=one.variant, columns=columns, rows=tuple(rows), figures=frozenset(range(1, 9)))


def protocol(report: Report) -> str:
    """Which way is better, and how the times came about; where variants differ in that, all ways are named."""
    metrics = next((one.metrics for one in report.evaluations if one.metrics), None)
    way = f"{metrics.primary}: {'higher' if metrics.higher_is_better else 'lower'} is better; " if metrics else ""

    def values(key: str) -> list[str]:
        return list(dict.fromkeys(str(one.protocol[key]) for one in report.evaluations if key in one.protocol))

    words = {
        "batch_size": "batch {}",
        "warmup": "warm-up passes: {}",
        "torch_threads": "threads: {}",
        "workers": "workers: {}",
    }
    parts = [form.format(" or ".join(values(key))) for key, form in words.items() if values(key)]
    return f"{way}times: {', '.join(('whole sample', *parts))}"


def skips(report: Report) -> Iterator[tuple[str, str]]:
    """What was not compared or evaluated, and why."""
    for check in report.verification.checks:
        if check.skipped:
            yield pair(check), reason(check.skipped)
    for one in report.evaluations:
        if one.skipped:
            yield one.variant, reason(one.skipped)


# ---------------------------------------------------------------- what the receiving side will say


def findings(one: Delivery) -> Grid:
    """What a target would trip over, the worst first, each with the target's own rule."""
    order = ("error", "warning", "note")
    found = sorted(one.findings, key=lambda finding: order.index(finding.level))
    rows = tuple((finding.level, finding.subject, finding.fact, finding.rule) for finding in found)
    return Grid(title=f"Hand-over to {one.target}", columns=("level", "subject", "fact", "its rule"), rows=rows)
