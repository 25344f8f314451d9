"""Whether an evaluation keeps anything of the samples behind it: resident memory along 2,000 samples of a small net.

The net is small and its inputs are not (3x256x256), so that a forgotten input shows at once: all of them together are
1.6 GB. Inputs are read from files in the loading thread, digested and timed as in any evaluation, on PyTorch and on
ONNX Runtime. The growth from the first quarter to the last is printed beside what holding on to every input would cost.

    python benchmarks/bench_memory.py [SAMPLES]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from awml_deploy_core.backends import open_run
from awml_deploy_core.evaluate import evaluate
from awml_deploy_core.export import export_onnx
from awml_deploy_core.records import Axis, Component, Frame, Metrics, Record, Run, Sample, Tensor, Variant
from awml_deploy_core.tasks import task
from benchmarks.frame import Row, show

SHAPE = (3, 256, 256)
FILES = 20
NET = Component(
    name="net",
    inputs=[Tensor(name="input", shape=("batch", *SHAPE))],
    outputs=[Tensor(name="output", shape=("batch", 2))],
    axes=[Axis(name="batch", independent=True)],
)


def network() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(*layers).eval()


class Pipeline:
    """Runs the net and keeps a view of its answer."""

    def predict(self, inputs: Any, run: Run) -> Any:
        """A label with its scores."""
        scores = run("net", input=inputs[None])["output"][0]
        return {"label": int(scores.argmax()), "scores": scores}


def score(records: Sequence[Record]) -> Metrics:
    return task("classification").metrics(records, ("no", "yes"))


def load(path: Path, label: int) -> Frame:
    return Frame(inputs=np.load(path), ground_truth={"label": label})


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def along(name: str, run: Run, samples: Sequence[Sample]) -> Row:
    """Evaluate and look at the memory after every quarter."""
    quarters = [len(samples) * quarter // 4 for quarter in range(1, 5)]
    seen: dict[int, float] = {}

    def look(done: int, _: int) -> None:
        if done in quarters:
            seen[done] = resident_mb()

    evaluate(name, run, samples, Pipeline, score=score, on_progress=look)
    print(f"{name}: " + ", ".join(f"{size:.1f} MB at {done}" for done, size in seen.items()))
    held = (quarters[-1] - quarters[0]) * np.prod(SHAPE) * 4 / 2**20
    return Row(name=f"memory-growth-{name}", ours=seen[quarters[-1]] - seen[quarters[0]], theirs=held, unit="mb")


def main(count: int = 2000) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = network()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.npy" for index in range(FILES)]
        for path in paths:
            np.save(path, np.random.default_rng(0).random(SHAPE, np.float32))
        samples = [Sample(id=f"s{i}", load=partial(load, paths[i % FILES], i % 2)) for i in range(count)]
        example = {"input": torch.rand(1, *SHAPE)}
        made = export_onnx(net, NET, example, Path(folder) / "net.onnx", exporter="torchscript").artifact
        onnx = Variant(name="onnx", backend="onnx", artifacts=[made])
        with open_run(Variant(name="trained", backend="pytorch"), [NET], modules={"net": net}) as run:
            rows = [along("pytorch", run, samples)]
        with open_run(onnx, [NET], threads=1) as run:
            rows.append(along("onnx", run, samples))
    show(f"Growth of memory over the last three quarters of {count} samples", rows, theirs="all inputs")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
