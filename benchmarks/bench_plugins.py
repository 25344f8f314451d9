"""How long a user waits for `--help` and `plugins`, as whole processes.

The yardstick is `polygraphy --help`, a tool that the same users start every day; for the scan of installed metadata it
is the same command without the additional distributions. Runs are interleaved, so that a busy machine slows both.

    python benchmarks/bench_plugins.py [RUNS]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

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


def seconds(side: Side) -> float:
    command, variables = side
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(name: str, ours: Side, theirs: Side, runs: int) -> dict[str, str | float]:
    """Medians of interleaved runs; the first pair only warms the file cache."""
    times = [(seconds(ours), seconds(theirs)) for _ in range(runs + 1)][1:]
    mine, other = (median(column) for column in zip(*times, strict=True))
    return {"name": name, "ours_s": round(mine, 4), "theirs_s": round(other, 4), "ratio": round(mine / other, 3)}


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), 200)
        paths = filter(None, (os.environ.get("PYTHONPATH"), folder))
        full = {"PYTHONPATH": os.pathsep.join(paths)}
        polygraphy: Side = ([THEIRS, "--help"], {})
        listing = [OURS, "plugins", "--no-load"]
        rows = [
            measure("awml-deploy --help / polygraphy --help", ([OURS, "--help"], {}), polygraphy, runs),
            measure("awml-deploy plugins / polygraphy --help", ([OURS, "plugins"], {}), polygraphy, runs),
            measure("plugins --no-load, 200 more distributions / without", (listing, full), (listing, {}), runs),
        ]
    print(f"{'':<54}{'ours':>9}{'theirs':>9}{'ratio':>7}")
    for row in rows:
        print(f"{row['name']:<54}{row['ours_s']:>8.3f}s{row['theirs_s']:>8.3f}s{row['ratio']:>7.2f}")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
