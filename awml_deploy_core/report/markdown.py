"""A report as Markdown for a pull request: verdict and tables first, everything else folded away."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from awml_deploy_core.report import document, proof, summary
from awml_deploy_core.report import numbers as said
from awml_deploy_core.report.advice import again, attribution, sentence
from awml_deploy_core.report.grid import Grid

if TYPE_CHECKING:
    from awml_deploy_core.records import Cell, Table
    from awml_deploy_core.report import Report

__all__ = ["render"]

LISTED = 50
"""A comment on GitHub ends at 65,536 characters, so no list is longer; `report.json` has all of it."""

_SIGNS = {"passed": "✅", "verified": "✅", "failed": "❌", "skipped": "⏭️", "unverified": "⚠️"}


def render(report: Report) -> str:
    """The whole report; the same for the same report, byte by byte."""
    parts = (
        *_verdict(report),
        *_section(summary.artifacts(report)),
        *_section(summary.engines(report)),
        *_verification(report),
        *_evaluation(report),
        *_pictures(report),
        *_deliveries(report),
        *_remarks(report),
        *_origin(report),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(report: Report) -> Iterator[str]:
    yield f"## {_SIGNS[report.status]} {_text(report.model)}: {report.status}"
    line = f"{sentence(report)[0].upper()}{sentence(report)[1:]}."
    yield f"> [!WARNING]\n> **UNVERIFIED.** {line}" if report.status == "unverified" else line
    yield f"{_text(report.plugin)}, {_text(report.started)}, {said.duration(report.seconds)}"
    yield _table(summary.stages(report))


# ---------------------------------------------------------------- what was found out


def _verification(report: Report) -> Iterator[str]:
    checks = report.verification.checks
    if not checks:
        return
    ladder = proof.ladder(report)
    yield f"### {ladder.title}"
    samples = report.verification.samples
    more = f" Samples: {_names(samples)}." if samples else ""
    yield f"Errors are absolute, in the output's own unit.{more}"
    yield _table(ladder)
    for check in checks:
        if check.status == "failed":
            yield f"**Failed: {_code(proof.pair(check))}**"
            yield _table(proof.faults(check))
    entry = proof.blame(report)
    yield f"{_text(attribution(entry))[0].upper()}{_text(attribution(entry))[1:]}." if entry else ""
    for check in checks:
        if check.unproved:
            names = ", ".join(map(_code, check.unproved))
            yield f"{_code(proof.pair(check))}: compared only while empty, so not proved: {names}."
    tables = [(check, proof.places(check)) for check in checks if check.verdicts]
    yield _folded("Errors by output", [f"**{_code(table.title)}**\n\n{_table(table)}" for _, table in tables])


def _evaluation(report: Report) -> Iterator[str]:
    if not report.evaluations:
        return
    yield "### Evaluation"
    yield f"{_text(summary.protocol(report))}."
    yield _table(summary.evaluations(report))
    several = summary.figures(report)
    yield _table(several) if len(several.rows) > 1 else ""
    for one in report.evaluations:
        tables = [
            f"**{_text(table.title)}**\n\n{_table(_grid(table))}"
            for table in (one.metrics.tables if one.metrics else ())
        ]
        yield _folded(f"Tables of {one.variant}", tables)
    times = [summary.times(one) for one in report.evaluations if one.timings]
    yield _folded("Latency by stage, per sample", [f"**{_code(table.title)}**\n\n{_table(table)}" for table in times])
    protocols = [_pairs(one.variant, one.protocol.items()) for one in report.evaluations if one.protocol]
    counted = [
        _pairs(f"{one.variant}: counted", [(name, said.count(value)) for name, value in one.notes.items()])
        for one in report.evaluations
        if one.notes
    ]
    yield _folded("How it was measured", [*protocols, *counted])


def _pictures(report: Report) -> Iterator[str]:
    if report.pictures:
        yield "### Pictures"
    for one in report.pictures:
        path = one.path.relative_to(report.work_dir) if one.path.is_relative_to(report.work_dir) else one.path
        yield f"![{_text(one.sample)}](<{path.as_posix()}>)"
        yield f"{_code(one.sample)}: {_text(one.caption)}" if one.caption else _code(one.sample)


def _deliveries(report: Report) -> Iterator[str]:
    for one in report.deliveries:
        yield f"### Hand-over to {_text(one.target)}"
        files = ", ".join(_code(str(path)) for path in one.files)
        yield f"Files: {files}." if files else "No files."
        yield _table(summary.findings(one)) if one.findings else "Nothing was found that it would trip over."


def _remarks(report: Report) -> Iterator[str]:
    crossed = [
        f"{_code(one.variant)}: {_code(one.metric)} is {said.figure(one.value)}, {_text(one.limit)}"
        for one in report.crossings
    ]
    yield _list("Limits not kept", crossed)
    for one in report.evaluations:
        lost = [f"{_code(failure.id)} ({failure.step}): {_text(failure.reason)}" for failure in one.failures]
        yield _list(f"Samples that failed in {one.variant}", lost)
    first = report.evaluations[0].variant if report.evaluations else ""
    unequal = [f"{_code(variant)}: {_names(samples)}" for variant, samples in report.unequal]
    yield _list(f"Given other inputs than {first}, so the figures do not compare", unequal)
    yield _list("Skipped", [f"{_code(what)}: {_text(why)}" for what, why in summary.skips(report)])
    told = [f"{_code(one.component)}: {_text(note)}" for one in report.exports for note in one.notes]
    told += [f"{_code(one.component)}: {_text(island)}" for one in report.engines for island in one.islands]
    yield _list("Notes", [*map(_text, report.notes), *told])


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(_code, names[:10])) + (f" and {said.count(len(names) - 10)} more" if len(names) > 10 else "")


def _origin(report: Report) -> Iterator[str]:
    if report.artifacts or report.environment or report.config:
        yield "### Origin"
    hashes = [
        (str(one.path), one.sha256, one.made_from or said.ABSENT, one.tool or said.ABSENT) for one in report.artifacts
    ]
    table = Grid(title="", columns=("file", "SHA-256", "made from", "by"), rows=tuple(hashes))
    command = [_fence("sh", again(report) or shlex.join(report.command))] if report.command else []
    yield _folded("Command and hashes", [*command, _table(table) if hashes else ""])
    yield _folded("Environment", [_pairs("", report.environment.items())])
    config = document.report(report)["config"]
    yield _folded("Config", [_fence("json", json.dumps(config, indent=2, ensure_ascii=False))] if config else [])


# ---------------------------------------------------------------- Markdown's own words


def _section(table: Grid) -> Iterator[str]:
    if table.rows:
        yield f"### {_text(table.title)}"
        yield _table(table)


def _list(title: str, lines: Iterable[str]) -> str:
    found = [f"- {line}" for line in lines]
    if len(found) > LISTED:
        found[LISTED:] = [f"- and {said.count(len(found) - LISTED)} more, see `report.json`"]
    return "\n".join([f"### {_text(title)}", "", *found]) if found else ""


def _folded(title: str, parts: Iterable[str]) -> str:
    """Parts that a reader opens; GitHub wants empty lines around Markdown inside HTML."""
    found = [part for part in parts if part]
    return "\n\n".join([f"<details><summary>{html.escape(title)}</summary>", *found, "</details>"]) if found else ""


def _pairs(title: str, pairs: Iterable[tuple[str, object]]) -> str:
    rows = tuple((name, str(value)) for name, value in pairs)
    table = _table(Grid(title=title, columns=("", "value"), rows=rows)) if rows else ""
    return f"**{_code(title)}**\n\n{table}" if title and table else table


def _grid(table: Table) -> Grid:
    """A plugin's table; a column of numbers stands flush right."""
    columns = range(len(table.columns))
    figures = {i for i in columns if all(isinstance(row[i], int | float | None) for row in table.rows)}
    rows = tuple(tuple(map(_said, row)) for row in table.rows)
    return Grid(title=table.title, columns=table.columns, rows=rows, figures=frozenset(figures))


def _said(cell: Cell) -> str:
    if cell is None or isinstance(cell, float):
        return said.figure(cell)
    return said.count(cell) if isinstance(cell, int) else cell


def _table(grid: Grid) -> str:
    lines = [[_text(name.replace("\n", " ")) for name in grid.columns]]
    lines += [["--:" if index in grid.figures else "---" for index in range(len(grid.columns))]]
    lines += [[_cell(cell, name=index in grid.names) for index, cell in enumerate(row)] for row in grid.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: str, *, name: bool) -> str:
    if cell in _SIGNS:
        return f"{_SIGNS[cell]} {cell}"
    # A table ends a cell at a bar, whatever stands around it.
    return _code(cell).replace("|", r"\|") if name else _text(cell)


def _text(text: str) -> str:
    """Words that must not be read as markup, on one line."""
    escaped = re.sub(r"([\\`*|<&~\[\]])", r"\\\1", " ".join(text.split()))
    # Underscores inside a word are harmless, and names are full of them.
    escaped = re.sub(r"(?<![^\W_])_+|_+(?![^\W_])", lambda found: r"\_" * len(found[0]), escaped)
    # A line of dashes alone would be a rule across the page, behind the dash of a list too.
    return re.sub(r"^(\d*)([-+.)](?= |$)|-(?=[- ]*$)|#+(?= |$)|>)", r"\1\\\2", escaped)


def _code(text: str) -> str:
    """A name; the fence is longer than any run of backticks inside."""
    flat = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall(r"`+", flat)), default=0))
    gap = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{gap}{flat}{gap}{fence}" if flat else ""


def _fence(language: str, text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
