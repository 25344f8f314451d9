"""What a person sees: progress while it runs, and the summary at the end. The only module that needs rich.

On a terminal with UTF-8 there are colours and lines; anywhere else, in a CI log say, the same words in plain ASCII.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import attrs
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from awml_deploy_core.report import proof, summary
from awml_deploy_core.report.advice import attribution, following, sentence
from awml_deploy_core.report.numbers import ABSENT, count, duration, figure

if TYPE_CHECKING:
    from rich.console import RenderableType

    from awml_deploy_core.report import Report
    from awml_deploy_core.report.grid import Grid

__all__ = ["console", "progress", "show"]

SHOWN = 5
"""Of long lists so many lines are shown; the report has them all."""

INTERVAL = 0.2
"""Seconds between two states of the bar."""

_COLOURS = {"passed": "green", "verified": "green", "failed": "red", "skipped": "dim", "unverified": "yellow"}
_SIGNS = {"passed": "✓ ", "verified": "✓ ", "failed": "✗ ", "skipped": f"{ABSENT} ", "unverified": "! "}
_BANNERS = {"passed": "bold white on green", "failed": "bold white on red"}
_ASCII = str.maketrans({"→": "->", ABSENT: "-", "✓": "", "✗": "", "…": "...", "·": "-"})
_CONTROLS = {code: " " if code == 9 else None for code in (*range(10), *range(11, 32), 127)}
_ERRORS = "absolute errors in each output's unit; the one nearest to its limit is shown"
_RULED = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
_LINED = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")


class _Patient(Console):
    """A console whose reader may leave: the run goes on without words."""

    def on_broken_pipe(self) -> None:
        """Say nothing any more."""
        self.quiet = True


def console(*, quiet: bool = False) -> Console:
    """Where words for people go; stdout is for programs."""
    return _Patient(stderr=True, quiet=quiet)


def show(report: Report, console: Console) -> None:
    """Print the summary of a run, the verdict last, where the eye is.

    Args:
        report: What the run found out.
        console: Where to; on stderr, since stdout is for programs.
    """
    if console.is_terminal:
        _print(report, _Page(console))
        return
    # Without colours a cell's padding is nothing but spaces at the end of a line of a log.
    with console.capture() as captured:
        _print(report, _Page(console))
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _print(report: Report, page: _Page) -> None:
    page.title(f"{report.model} ({report.plugin}), {duration(report.seconds)}")
    page.table(summary.stages(report), header=False)
    page.section(summary.artifacts(report))
    page.section(summary.engines(report))
    page.section(proof.ladder(report), note=_ERRORS)
    _faults(report, page)
    page.section(summary.evaluations(report), note=summary.protocol(report))
    if report.evaluations:
        page.section(_several(summary.figures(report)))
    for one in report.deliveries:
        page.section(summary.findings(one))
    _remarks(report, page)
    _ending(report, page)


def _faults(report: Report, page: _Page) -> None:
    """What failed; only at the rung where the fault enters, if that is known, since those above inherit it."""
    entry = proof.blame(report)
    for check in report.verification.checks:
        if check is entry or (entry is None and check.status == "failed"):
            page.faults(proof.faults(check))
        unproved = [f"{proof.pair(check)}: {name}" for name in check.unproved]
        page.lines("Compared only while empty, so not proved", unproved)
    if entry is not None:
        page.note(attribution(entry), style="bold")


def _several(figures: Grid) -> Grid:
    """The figures, if there are more than the primary one."""
    return figures if len(figures.rows) > 1 else attrs.evolve(figures, rows=())


def _remarks(report: Report, page: _Page) -> None:
    page.lines(
        "Limits not kept",
        [f"{one.variant}: {one.metric} is {figure(one.value)}, {one.limit}" for one in report.crossings],
    )
    for one in report.evaluations:
        lost = [f"{failure.id} ({failure.step}): {failure.reason}" for failure in one.failures]
        page.lines(f"Samples that failed in {one.variant}", lost)
    first = report.evaluations[0].variant if report.evaluations else ""
    page.lines(
        f"Given other inputs than {first}, so the figures do not compare",
        [f"{variant}: {count(len(samples))} samples, {samples[0]} first" for variant, samples in report.unequal],
    )
    page.lines("Skipped", [f"{what}: {why}" for what, why in summary.skips(report)])
    told = [f"{one.component}: {note}" for one in report.exports for note in one.notes]
    told += [f"{one.component}: {island}" for one in report.engines for island in one.islands]
    page.lines("Notes", [*report.notes, *told])


def _ending(report: Report, page: _Page) -> None:
    page.blank()
    page.banner(report.status, sentence(report))
    path = report.work_dir / "report.md"
    if path.is_file():
        page.say("Report", str(path), "cyan")
    if report.pictures:
        page.say("Pictures", str(report.pictures[0].path.parent), "cyan")
    if any(one.files for one in report.deliveries):
        page.say(
            "Handover", ", ".join(str(report.work_dir / "handover" / one.target) for one in report.deliveries), "cyan"
        )
    step = following(report)
    if step is not None:
        page.say("Next", step[1], "bold", f"to {step[0]}")
    elif path.is_file():
        page.say("Next", f"cat {shlex.quote(str(path))}", "bold")


# ---------------------------------------------------------------- the page


class _Page:
    """A console and whether it takes more than ASCII."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rich = console.is_terminal and console.encoding.startswith("utf")

    def write(self, text: str) -> str:
        """The text as this console can show it."""
        text = text.translate(_CONTROLS)
        if self.rich:
            return text
        return text.translate(_ASCII).encode(self.console.encoding, "backslashreplace").decode(self.console.encoding)

    def put(self, what: RenderableType, *, whole: bool = False) -> None:
        # A command or a path must survive being copied, so it is not broken.
        self.console.print(what, highlight=False, markup=False, emoji=False, soft_wrap=whole)

    def blank(self) -> None:
        self.console.print()

    def title(self, text: str) -> None:
        self.blank()
        self.put(Text(self.write(text), style="bold"))

    def cell(self, text: str) -> Text:
        """A cell; a status has its colour and sign, what is not known steps back."""
        if text in _COLOURS:
            return Text(self.write(_SIGNS[text]) + text if self.rich else text, style=_COLOURS[text])
        return Text(self.write(text), style="dim" if text == ABSENT else "")

    def section(self, table: Grid, *, note: str = "") -> None:
        """A table under its title, if it has rows."""
        if table.rows:
            self.title(table.title)
            self.table(table)
            if note:
                self.note(note)

    def note(self, text: str, style: str = "dim") -> None:
        self.put(Padding(Text(self.write(text), style=style), (0, 0, 0, 2)))

    def table(self, table: Grid, *, header: bool = True) -> None:
        made = Table(
            box=(_LINED if self.rich else _RULED) if header else None,
            show_header=header,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1 if header else 2, 0, 0),
            header_style="dim" if self.rich else "",
            border_style="dim",
        )
        for index, name in enumerate(table.columns):
            right = index in table.figures
            made.add_column(
                Text(self.write(name)),
                justify="right" if right else "left",
                vertical="top",
                overflow="fold",
                no_wrap=right,
            )
        for row in table.rows:
            made.add_row(*(self.cell(str(cell)) for cell in row))
        self.put(Padding(made, (0, 0, 0, 2), expand=False))

    def faults(self, table: Grid) -> None:
        """The worst places of a check that failed."""
        self.title(f"Failed: {table.title}")
        self.table(attrs.evolve(table, rows=table.rows[:SHOWN]))
        self.more(len(table.rows) - SHOWN)

    def lines(self, title: str, lines: Iterable[str]) -> None:
        """A list under its title, if it has lines."""
        found = list(lines)
        if not found:
            return
        self.title(title)
        made = Table.grid(padding=(0, 1, 0, 0))
        for line in found[:SHOWN]:
            made.add_row(Text("-"), Text(self.write(" ".join(line.split())), overflow="fold"))
        self.put(Padding(made, (0, 0, 0, 2), expand=False))
        self.more(len(found) - SHOWN)

    def more(self, count: int) -> None:
        if count > 0:
            self.put(Padding(Text(f"and {count} more, see the report", style="dim"), (0, 0, 0, 4)))

    def banner(self, status: str, text: str) -> None:
        word = f" {status.upper()} "
        if not self.rich:
            word = {"unverified": "!!! UNVERIFIED !!! "}.get(status, f"{status.upper()}: ")
        style = _BANNERS.get(status, "bold black on yellow")
        gap = "  " if self.rich else ""
        self.put(Text.assemble((word, style), gap, (self.write(text), "" if status == "passed" else "bold")))

    def say(self, name: str, text: str, style: str, comment: str = "") -> None:
        end = f"  # {comment}" if comment else ""
        self.put(Text.assemble((f"{name:9}", "dim"), (self.write(text), style), (end, "dim")), whole=True)


# ---------------------------------------------------------------- progress


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far the work is: a bar on a terminal, else a line at every quarter.

    Yields:
        A function to be told what is being done, how much of it is done, and of how much.
    """
    if not console.is_terminal:
        yield _quarters(console)
        return
    bar = _Bar(console)
    try:
        yield bar.told
    finally:
        bar.close()


def _quarters(console: Console) -> Callable[[str, int, int], None]:
    seen: dict[str, int] = {}

    def told(title: str, done: int, total: int) -> None:
        if total <= 0:
            console.print(Text(title), highlight=False, markup=False, soft_wrap=True)
            return
        quarter = 4 * done // total
        if quarter > seen.get(title, 0):
            seen[title] = quarter
            line = Text(f"{title}: {count(done)} of {count(total)} ({100 * done // total} %)")
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return told


class _Bar:
    """One bar at a time; none is left behind, and none is there while nothing is counted."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title: str | None = None
        self._live: Progress | None = None
        self._task = TaskID(0)
        self._drawn = 0.0

    def told(self, title: str, done: int, total: int) -> None:
        if title != self._title:
            self.close()
            self._title = title
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
                refresh_per_second=1 / INTERVAL,
                redirect_stdout=sys.stdout.isatty(),  # what goes to a program is left alone
            )
            self._task = self._live.add_task(title, total=total)
            self._live.start()
        # A small network takes less time than the drawing of its progress.
        if self._live is not None and (done >= total or monotonic() - self._drawn > INTERVAL):
            self._live.update(self._task, completed=done, total=total)
            self._drawn = monotonic()
        if done >= total:
            self.close()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = self._title = None
