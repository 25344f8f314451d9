"""How long a user waits for `--help` and `plugins`, as whole processes.

The yardstick of `help-polygraphy` and `plugins-polygraphy` is `polygraphy --help`, a tool that the same users start
every day. That of `plugins-200-more`, which is `plugins --no-load` among 200 more distributions, is the same command
without them. Runs are interleaved, so that a busy machine slows both.

    python benchmarks/bench_plugins.py [RUNS]
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.frame import Row, compared, process, show, turns

Side = tuple[Sequence[str], Mapping[str, str]]

BIN = Path(sys.executable).parent
OURS = str(BIN / "awml-deploy")
THEIRS = str(BIN / "polygraphy")


def install(site: Path, count: int) -> None:
    """Write distributions as they are found in a full environment: half have scripts, every twentieth a model."""
    for number in range(count):
        info = site / f"synthetic_{number}-1.{number}.dist-info"
        info.mkdir()
        requires = "".join(f"Requires-Dist: dependency-{each}>=1\n" for each in range(10))
        head = f"Metadata-Version: 2.1\nName: synthetic-{number}\nVersion: 1.{number}\n{requires}"
        (info / "METADATA").write_text(f"{head}Requires-Dist: awml-deploy-core>=0.1\n\n{'A long description. ' * 500}")
        if number % 2:
            (info / "entry_points.txt").write_text(f"[console_scripts]\ntool-{number} = synthetic_{number}:main\n")
        if number % 20 == 0:
            (info / "entry_points.txt").write_text(f"[awml_deploy]\nmodel{number} = synthetic_{number}.hooks\n")


def measure(name: str, ours: Side, theirs: Side, runs: int) -> list[Row]:
    """Interleaved runs; the first pair only warms the file cache."""
    pairs = turns(
        lambda: process(ours[0], variables=ours[1]), lambda: process(theirs[0], variables=theirs[1]), runs + 1
    )
    return compared(name, pairs[1:])


def main(runs: int = 15) -> None:
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), 200)
        paths = filter(None, (os.environ.get("PYTHONPATH"), folder))
        full = {"PYTHONPATH": os.pathsep.join(paths)}
        polygraphy: Side = ([THEIRS, "--help"], {})
        listing = [OURS, "plugins", "--no-load"]
        rows = [
            *measure("help-polygraphy", ([OURS, "--help"], {}), polygraphy, runs),
            *measure("plugins-polygraphy", ([OURS, "plugins"], {}), polygraphy, runs),
            *measure("plugins-200-more", (listing, full), (listing, {}), runs),
        ]
    show(f"Short commands as whole processes, {runs} turns", rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
