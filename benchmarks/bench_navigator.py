"""A whole run against Triton Model Navigator 0.14, each side a process of its own.

Theirs: `torch.optimize` to TORCH and ONNX on the CPU in one process (`NAVIGATOR_USE_MULTIPROCESSING=False`), its
correctness check on three samples, one window of timed inferences per format. Ours: `awml-deploy` on the same ResNet-18
(5 channels, 480x640, the same weights, exporter and opset, two threads) with verification on three samples and as many
timed inferences per backend, which are whole samples: an image is read and drawn, and predictions are scored.

Navigator is installed into an environment below `.bench/`, without its dependencies: those pin numpy below 2 and want
TensorRT and CUDA builds. What it imports is added, and torch, onnx and onnxruntime come from the environment that runs
this script, so that both sides have the same ones.

    python benchmarks/bench_navigator.py [--repeats 3] [--samples 20] [--opset 17] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from benchmarks.bench_run import DEPLOY, HERE, script
from benchmarks.frame import Cost, compared, limit, process, show, turns

HOME = HERE.parent / ".bench" / "navigator"
PYTHON = HOME / "bin" / "python"
PACKAGES = (
    "triton-model-navigator==0.14.0",
    "dacite~=1.8",
    "fire~=0.7",
    "grpcio~=1.60",
    "jsonlines~=4.0",
    "loguru~=0.7.2",
    "onnx-graphsurgeon~=0.5",
    "py-cpuinfo~=9.0",
    "pyee~=13.0",
    "pynvml~=11.5",
    "python-rapidjson~=1.10",
    "python-slugify~=8.0",
    "six~=1.16",
    "tabulate~=0.9",
    "termcolor~=2.4",
    "text-unidecode~=1.3",
    "tritonclient~=2.47",
    "wrapt>=1.16",
)


def install() -> str | None:
    """Make the environment, once; the answer is why that cannot be done here."""
    done = HOME / "packages.txt"
    wanted = "\n".join((*PACKAGES, sys.executable))
    if done.is_file() and done.read_text() == wanted:
        return None
    shutil.rmtree(HOME, ignore_errors=True)
    venv.create(HOME, with_pip=True)
    (HOME.parent / ".gitignore").write_text("*\n")
    inner = next(HOME.glob("lib/python*/site-packages"))
    (inner / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    answer = subprocess.run(
        [PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        return answer.stderr[-2000:]
    done.write_text(wanted)
    return None


def ours(folder: Path) -> Cost:
    shutil.rmtree(folder / "work_dir", ignore_errors=True)
    cost = process(DEPLOY, cwd=folder)
    report = json.loads((folder / "work_dir/report.json").read_text())
    print("ours:", ", ".join(f"{each['name']} {each['seconds']:.1f} s" for each in report["stages"]))
    return cost


def theirs(folder: Path, samples: int, opset: int) -> Cost:
    shutil.rmtree(folder / "navigator", ignore_errors=True)
    command = [str(PYTHON), "-W", "ignore", str(HERE / "navigate.py"), str(folder), str(samples), str(opset)]
    return process(command, variables={"NAVIGATOR_USE_MULTIPROCESSING": "False"})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--threads", type=int, default=2)
    said = parser.parse_args()
    limit(said.threads)
    reason = install()
    if reason:
        print(f"Not measured: Triton Model Navigator cannot be installed here.\n{reason}")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script("street.py", folder, "--samples", said.samples, "--opset", said.opset)
        pairs = turns(lambda: ours(folder), lambda: theirs(folder, said.samples, said.opset), said.repeats)
    title = f"{said.samples} timed inferences per backend, {said.threads} threads, {said.repeats} turns"
    show(title, compared("navigator", pairs, memory=True), ours="awml-deploy", theirs="Navigator")


if __name__ == "__main__":
    main()
