"""A whole run against the parts that it cannot do without, each side a process of its own.

Ours: `awml-deploy --model calibration config.py`, cold, on a full-size ResNet-18 (5 channels, 480x640, seeded weights,
two threads): ONNX with verification on three samples, then evaluation on PyTorch and ONNX Runtime. Theirs: one bare
script with the imports, one `torch.onnx.export` with the same exporter and opset, onnxslim, the hashes of checkpoint
and artifact, one session, and as many torch forwards and session runs on inputs of the same shapes. How many is
counted in a run that is not timed: those of the recording, of the exporter's check, one per sample and variant for
verification, and those of the evaluation. Rows in `-cpu` hold processor time of all threads, rows in `-least` the
least of all turns instead of the median.

    python benchmarks/bench_run.py [--repeats 3] [--samples 20] [--exporter torchscript] [--opset 17] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frame import Cost, Row, compared, limit, process, show, turns

HERE = Path(__file__).parent
DEPLOY = (str(Path(sys.executable).parent / "awml-deploy"), "--model", "calibration", "config.py")

Parts = dict[str, tuple[float, float]]


def script(name: str, *arguments: object) -> Cost:
    return process([sys.executable, "-W", "ignore", str(HERE / name), *map(str, arguments)])


def taken(folder: Path, exporter: str, opset: int) -> dict[str, Any]:
    """The census of a run, told to the reader and kept for the bare script."""
    path = folder / "census.json"
    script("census.py", folder, path)
    census = {**json.loads(path.read_text()), "exporter": exporter, "opset": opset}
    path.write_text(json.dumps(census))
    for kind, word in (("forwards", "torch forwards"), ("runs", "session runs")):
        stages = Counter(each["stage"] for each in census[kind])
        print(f"{word} needed: {', '.join(f'{name} {count}' for name, count in stages.items())}")
    print(f"calls made: {', '.join(f'{name} {count}' for name, count in census['made'].items())}")
    return census


def run(folder: Path, stages: list[dict[str, float]]) -> Cost:
    """Our side, without anything left from the turn before."""
    shutil.rmtree(folder / "work_dir", ignore_errors=True)
    cost = process(DEPLOY, cwd=folder)
    report = json.loads((folder / "work_dir/report.json").read_text())
    stages.append({each["name"]: each["seconds"] for each in report["stages"]} | {"all": report["seconds"]})
    return cost


def bare(folder: Path, measured: list[Parts]) -> Cost:
    """Their side."""
    cost = script("bare.py", folder, folder / "census.json", folder / "parts.json")
    measured.append({name: tuple(both) for name, both in json.loads((folder / "parts.json").read_text()).items()})
    return cost


def tell(title: str, turns_of: list[dict[str, float]]) -> None:
    """Medians of a side's own clock."""
    shown = {name: median(each[name] for each in turns_of) for name in turns_of[0]}
    print(f"{title}: {', '.join(f'{name} {seconds:.2f} s' for name, seconds in shown.items())}")


def measure(folder: Path, repeats: int) -> list[Row]:
    stages: list[dict[str, float]] = []
    measured: list[Parts] = []
    pairs = turns(lambda: run(folder, stages), lambda: bare(folder, measured), repeats)
    tell("stages of the run", stages)
    tell("parts, wall", [{name: wall for name, (wall, _) in each.items()} for each in measured])
    tell("parts, processor", [{name: cpu for name, (_, cpu) in each.items()} for each in measured])
    return compared("run", pairs, memory=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--exporter", default="torchscript")
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--threads", type=int, default=2)
    said = parser.parse_args()
    limit(said.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = ("--samples", said.samples, "--exporter", said.exporter, "--opset", said.opset)
        script("street.py", folder, *made)
        taken(folder, said.exporter, said.opset)
        rows = measure(folder, said.repeats)
    title = f"A whole run with {said.samples} samples, {said.exporter}, {said.threads} threads, {said.repeats} turns"
    show(title, rows, ours="run", theirs="parts")


if __name__ == "__main__":
    main()
