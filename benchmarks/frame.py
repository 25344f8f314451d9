"""What the benchmarks share: two sides that take turns, whole processes with their cost, and one table for all.

Nothing heavy is imported here: the peak memory of a child process is never less than what its parent held when it
was started.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Row:
    """One line of a table: two sides of one measurement."""

    name: str
    ours: float
    theirs: float
    unit: Literal["s", "mb"] = "s"

    @property
    def ratio(self) -> float:
        """Below 1 where ours is less."""
        return self.ours / self.theirs


@frozen(kw_only=True)
class Cost:
    """What something took: wall time, processor time and largest memory of it and its children."""

    wall_s: float
    cpu_s: float
    peak_mb: float = 0.0


# ---------------------------------------------------------------- measuring


def process(command: Sequence[str], *, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end; children that it waits for count with it.

    Raises:
        SystemExit: It failed; what it said is shown.
    """
    began = time.perf_counter()
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}:\n{said[-4000:]}")
    return Cost(wall_s=wall, cpu_s=used.ru_utime + used.ru_stime, peak_mb=used.ru_maxrss / 1024)


def call(work: Callable[[], object]) -> Cost:
    """Call a function; its cost is that of all threads of this process."""
    began = time.perf_counter(), time.process_time()
    work()
    return Cost(wall_s=time.perf_counter() - began[0], cpu_s=time.process_time() - began[1])


def turns(ours: Callable[[], Cost], theirs: Callable[[], Cost], count: int) -> list[tuple[Cost, Cost]]:
    """Let both sides take turns, so that a busy machine slows both; who begins changes from turn to turn."""
    pairs = []
    for turn in range(count):
        if turn % 2:
            second = theirs()
            pairs.append((ours(), second))
        else:
            first = ours()
            pairs.append((first, theirs()))
    return pairs


def compared(name: str, pairs: Sequence[tuple[Cost, Cost]], *, memory: bool = False) -> list[Row]:
    """Wall time and processor time: the median of either side, and the least, which other work disturbs least."""
    rows = [
        Row(name=f"{name}{clock}{suffix}", ours=pick(mine), theirs=pick(other))
        for clock, value in (("", "wall_s"), ("-cpu", "cpu_s"))
        for mine, other in [_sides(pairs, value)]
        for suffix, pick in (("", median), ("-least", min))
    ]
    if memory:
        mine, other = _sides(pairs, "peak_mb")
        rows.append(Row(name=f"{name}-peak", ours=median(mine), theirs=median(other), unit="mb"))
    return rows


def _sides(pairs: Sequence[tuple[Cost, Cost]], value: str) -> tuple[list[float], list[float]]:
    mine, other = ([getattr(pair[side], value) for pair in pairs] for side in (0, 1))
    return mine, other


def limit(threads: int) -> None:
    """Keep this process and its children to so many cores, and torch to so many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["OMP_NUM_THREADS"] = str(threads)


# ---------------------------------------------------------------- showing


def show(title: str, rows: Sequence[Row], *, ours: str = "ours", theirs: str = "theirs") -> None:
    """Print a table for people, then a line of JSON per row for programs."""
    wide = max(len(row.name) for row in rows) + 2
    print(f"{title} (load average {', '.join(f'{load:.1f}' for load in os.getloadavg())})")
    print(f"{'':{wide}}{ours:>14}{theirs:>14}{'ratio':>8}")
    for row in rows:
        print(f"{row.name:{wide}}{_shown(row.ours, row.unit):>14}{_shown(row.theirs, row.unit):>14}{row.ratio:>8.3f}")
    for row in rows:
        print(json.dumps(_plain(row)))


def _shown(value: float, unit: str) -> str:
    if unit == "mb":
        return f"{value:,.0f} MB"
    return f"{value:.2f} s" if value >= 10 else f"{value * 1e3:.1f} ms"


def _plain(row: Row) -> dict[str, str | float]:
    sides = {f"ours_{row.unit}": round(row.ours, 5), f"theirs_{row.unit}": round(row.theirs, 5)}
    return {"name": row.name, **sides, "ratio": round(row.ratio, 4)}
