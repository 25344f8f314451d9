"""What the comparisons prove: which variants are verified, where a fault enters, how far every output is off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from attrs import frozen

from awml_deploy_core.report import numbers as said
from awml_deploy_core.report.grid import Grid

if TYPE_CHECKING:
    from awml_deploy_core.judge import Check, Verification
    from awml_deploy_core.records import Comparison, Verdict
    from awml_deploy_core.report import Report

__all__ = [
    "Origin",
    "blame",
    "faults",
    "ladder",
    "origin",
    "pair",
    "place",
    "places",
    "verified",
    "worst",
    "would_pass",
]


def verified(verification: Verification) -> frozenset[str]:
    """Variants to which checks that passed lead from `trained`, and about which no check says otherwise."""
    lacking = {check.candidate for check in verification.checks if not _holds(check, verification)}
    steps = {(check.reference, check.candidate) for check in verification.checks if check.status == "passed"}
    proved: frozenset[str] = frozenset({"trained"})
    while more := {there for here, there in steps if here in proved} - proved - lacking:
        proved |= more
    return proved


def _holds(check: Check, verification: Verification) -> bool:
    optional = not (check.required or verification.required)
    return check.status == "passed" or (check.status == "skipped" and optional)


def place(comparison: Comparison, *, alone: bool = False) -> str:
    """Component and output; says so if errors of the components before are in it.

    Args:
        comparison: What was compared.
        alone: Leave the component out, because there is no other.
    """
    if comparison.scope == "prediction":
        return comparison.output or "prediction"
    component = None if alone and comparison.output else comparison.component
    name = ".".join(filter(None, (component, comparison.output))) or "calls"
    return f"{name} (chained)" if comparison.scope == "chained" else name


def _alone(checks: Iterable[Check]) -> bool:
    """Whether all comparisons are about the same component."""
    named = {verdict.comparison.component for check in checks for verdict in check.verdicts}
    return len(named - {None}) <= 1


def _severity(verdict: Verdict) -> float:
    """How bad it is: the error in units of what is allowed; a finding is worse than any error."""
    if verdict.would_pass is None:
        return math.inf
    if not verdict.tolerance:
        return 0.0 if not verdict.would_pass else 1e300
    return min(verdict.would_pass / verdict.tolerance, 1e300)


def _weight(verdict: Verdict) -> tuple[bool, bool, float]:
    """What a reader should see first: what failed, and of that what no error from before explains."""
    return not verdict.passed, verdict.comparison.scope == "component", _severity(verdict)


def worst(check: Check) -> Verdict | None:
    """The verdict furthest beyond its limit, of a component alone if one is wrong; else the nearest to its limit."""
    failed = [one for one in check.verdicts if not one.passed]
    return max(failed or check.verdicts, key=_weight if failed else _severity, default=None)


def would_pass(check: Check, verdict: Verdict) -> float | None:
    """The tolerance with which this output would have passed everywhere, None if none would do."""
    return _would_pass(one for one in check.verdicts if _output(one) == _output(verdict))


def _output(verdict: Verdict) -> tuple[str | None, str]:
    """What a tolerance is written for, in every scope and on every sample."""
    return verdict.comparison.component, verdict.comparison.output


def _would_pass(verdicts: Iterable[Verdict]) -> float | None:
    """The tolerance that all would have met, None if one has a finding that no tolerance mends."""
    needs = [one.would_pass for one in verdicts]
    known = [need for need in needs if need is not None]
    return max(known) if len(known) == len(needs) else None


def pair(check: Check) -> str:
    """Reference and candidate, with their devices where one of them is not the CPU."""
    names = (check.reference, check.candidate)
    if set(check.devices) != {"cpu"}:
        names = (f"{names[0]} ({check.devices[0]})", f"{names[1]} ({check.devices[1]})")
    return " → ".join(names)


def ladder(report: Report) -> Grid:
    """One row per check, with its worst error and the tolerance that would pass."""
    checks = report.verification.checks
    counts = {_samples(check) for check in checks if check.verdicts}
    columns = ("reference → candidate", "status", "worst\nerror", "allowed", "would\npass", "where")
    alone = _alone(checks)
    rows: tuple[tuple[str, ...], ...] = tuple((pair(one), one.status, *_errors(one, alone=alone)) for one in checks)
    figures, names = frozenset({2, 3, 4, 6}), frozenset({0, 5})
    if len(counts) <= 1:
        on = f" on {said.counted(counts.pop(), 'sample')}" if counts else ""
        return Grid(title=f"Verification{on}", columns=columns, rows=rows, figures=figures, names=names)
    rows = tuple((*row, str(_samples(check))) for row, check in zip(rows, checks, strict=True))
    return Grid(title="Verification", columns=(*columns, "samples"), rows=rows, figures=figures, names=names)


def _samples(check: Check) -> int:
    return len({verdict.comparison.sample for verdict in check.verdicts} - {""})


def _errors(check: Check, *, alone: bool) -> tuple[str, str, str, str]:
    found = worst(check)
    if found is None:
        return (said.ABSENT, said.ABSENT, said.ABSENT, said.ABSENT)
    return *_measured(found), said.needed(would_pass(check, found)), place(found.comparison, alone=alone)


def blame(report: Report) -> Check | None:
    """The failed check between the lowest rung that is wrong and the one that it was made from, which is right."""
    failed = [check for check in report.verification.checks if check.status == "failed"]
    wrong = {check.candidate for check in failed if check.reference == "trained"}
    parents = {variant.name: variant.parent for variant in report.variants}
    steps = (check for check in failed if parents.get(check.candidate) == check.reference)
    return next((check for check in steps if check.reference not in wrong), None)


@frozen(kw_only=True)
class Origin:
    """Which parts of a model a failed check points at.

    Args:
        components: Those that are wrong on equal inputs.
        before: The component that is the first to go wrong in the chain though it is right on equal inputs, or
            `prediction`; None if the components account for everything.
        after: The component called before that one; None if there is none.
        inherited: Its error, within its limit; what it feeds may have made it larger.
    """

    components: tuple[str, ...] = ()
    before: str | None = None
    after: str | None = None
    inherited: float = 0.0


def origin(check: Check) -> Origin:
    """The parts that are at fault: components alone, and the gap at which the chain goes wrong without one of them."""
    alone = (one.comparison for one in check.verdicts if one.comparison.scope == "component" and not one.passed)
    guilty = tuple(dict.fromkeys(one.component for one in alone if one.component is not None))
    for sample in dict.fromkeys(one.comparison.sample for one in check.verdicts):
        gap = _gap([one for one in check.verdicts if one.comparison.sample == sample], guilty)
        if gap is not None:
            return gap
    return Origin(components=guilty)


def _gap(verdicts: Sequence[Verdict], guilty: tuple[str, ...]) -> Origin | None:
    """Where the chain of one sample goes wrong, unless that is at a component that is wrong alone, or behind one."""
    after, inherited = None, 0.0
    chain = (one for one in verdicts if one.comparison.scope != "component")
    for here, calls in groupby(chain, key=lambda one: one.comparison.component or one.comparison.output or "calls"):
        links = tuple(calls)
        if here in guilty:
            return None
        if not all(one.passed for one in links):
            return Origin(components=guilty, before=here, after=after, inherited=inherited)
        after, inherited = here, max(one.comparison.stats.max_abs if one.comparison.stats else 0.0 for one in links)
    return None


def faults(check: Check) -> Grid:
    """The worst verdict of each place that failed: components by themselves first, of these the worst."""
    failed = sorted((one for one in check.verdicts if not one.passed), key=_weight, reverse=True)
    first: dict[str, Verdict] = {}
    for one in failed:
        first.setdefault(place(one.comparison, alone=_alone([check])), one)
    rows = tuple((where, one.comparison.sample, *_measured(one), _fact(one)) for where, one in first.items())
    columns = ("where", "sample", "error", "allowed", "what")
    return Grid(title=pair(check), columns=columns, rows=rows, figures=frozenset({2, 3}), names=frozenset({0, 1}))


def _measured(verdict: Verdict) -> tuple[str, str]:
    """Error and limit; a finding stands in the place of the error and has no limit."""
    finding, stats = verdict.comparison.finding, verdict.comparison.stats
    if finding != "ok":
        return finding, said.ABSENT
    return said.error(stats.max_abs if stats else None), said.error(verdict.tolerance)


def places(check: Check) -> Grid:
    """One row per place that was compared: over all samples the largest error and the least likeness."""
    rows = []
    found: dict[str, list[Verdict]] = {}
    for one in check.verdicts:
        found.setdefault(place(one.comparison, alone=_alone([check])), []).append(one)
    for where, verdicts in found.items():
        last = max(verdicts, key=_severity)
        stats = [one.comparison.stats for one in verdicts if one.comparison.stats]
        status = "passed" if all(one.passed for one in verdicts) else "failed"
        rows.append(
            (
                where,
                status,
                _largest([one.max_abs for one in stats]),
                _largest([one.mean_abs for one in stats]),
                _largest([dict(one.quantiles).get(0.99) for one in stats]),
                _least([one.cosine for one in stats], ".6f"),
                _least([one.snr_db for one in stats], ".1f"),
                said.error(last.tolerance),
                said.needed(_would_pass(verdicts)),
                str(len({one.comparison.sample for one in verdicts} - {""})),
            )
        )
    columns = ("where", "status", "max", "mean", "p99", "cosine", "SNR (dB)", "allowed", "would\npass", "samples")
    return Grid(title=pair(check), columns=columns, rows=tuple(rows), figures=frozenset(range(2, 10)))


def _largest(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return said.error(max(known, key=lambda value: (math.isnan(value), value), default=None))


def _least(values: Sequence[float | None], form: str) -> str:
    least = min((value for value in values if value is not None), default=None)
    return said.ABSENT if least is None else format(least, form)


def _fact(verdict: Verdict) -> str:
    """What the comparison says, and where in the tensor the error is."""
    comparison, stats = verdict.comparison, verdict.comparison.stats
    if comparison.finding != "ok" or comparison.scope == "prediction" or stats is None:
        return comparison.detail
    index = f"at {list(stats.worst_index)} of {list(comparison.shape)}" if stats.worst_index else ""
    return "; ".join(filter(None, (index, comparison.detail)))
