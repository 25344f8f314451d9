"""What evaluation costs beyond the inference that it cannot avoid.

The same network on the same 200 samples, once with nothing but the session's runs on inputs that lie in memory, once
as an evaluation: samples read from files, inputs digested, stages timed, predictions kept and scored. Both take turns
of ten samples, so that a noisy machine disturbs both alike. Rows in `-cpu` hold processor time of all threads instead
of wall time: what is left to compare on a machine that others use too, and the ratio of wall times where the session
keeps every core busy. Rows in `-least` hold the least of all turns instead of the median.

    python benchmarks/bench_evaluate.py [SAMPLES]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from awml_deploy_core.evaluate import evaluate
from awml_deploy_core.records import Component, Frame, Record, Run, Sample
from awml_deploy_core.tasks import task
from benchmarks.frame import Row, call, compared, show, turns

SHAPE = (5, 480, 640)
NAMES = ("miscalibrated", "calibrated")
THREADS = 2
TURN = 10  # samples; what an evaluation costs once is paid in every turn


class Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(narrow, wide, 3, stride, 1), nn.ReLU())
        self.second = nn.Conv2d(wide, wide, 3, 1, 1)
        self.shortcut = nn.Conv2d(narrow, wide, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the convolution, once the shortcut."""
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def network(width: int = 64) -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(5, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    widths = [width, width, width * 2, width * 4, width * 8]
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths)]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 8, 2)).eval()


class OnnxRun:
    """The barest run: an ONNX Runtime session."""

    device = "cpu"
    components: Mapping[str, Component] = {}

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or waiting would count as work
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, _: str, /, **inputs: Any) -> dict[str, Any]:
        """Run the session."""
        return {"output": self.session.run(None, inputs)[0]}

    def note(self, name: str, value: float = 1) -> None:
        """Nothing is counted here."""
        raise AssertionError(name, value)


class Pipeline:
    """Softmax and the largest."""

    def predict(self, inputs: Any, run: Run) -> Any:
        """A label with its scores."""
        logits = run("net", input=inputs[None])["output"][0]
        scores = np.exp(logits - logits.max())
        return {"label": int(logits.argmax()), "scores": scores / scores.sum()}


def load(path: Path, label: int) -> Frame:
    return Frame(inputs=np.load(path), ground_truth={"label": label})


def files_in(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.npy" for index in range(TURN)]
    for path in paths:
        np.save(path, rng.random(SHAPE, np.float32))
    return paths


def measure(name: str, run: Run, paths: Sequence[Path], count: int, **options: Any) -> list[Row]:
    samples = [Sample(id=f"s{i}", load=partial(load, path, i % 2)) for i, path in enumerate(paths)]
    inputs = [np.load(path)[None] for path in paths]
    metrics = task("classification").metrics

    def score(records: Sequence[Record]) -> Any:
        return metrics(records, NAMES)

    def ours() -> None:
        evaluate("bench", run, samples, Pipeline, score=score, **options)

    def theirs() -> None:
        for each in inputs:
            run("net", input=each)

    theirs()
    return compared(name, turns(lambda: call(ours), lambda: call(theirs), count // TURN))


def main(count: int = 200) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = files_in(Path(folder))
        onnx = Path(folder) / "net.onnx"
        example = (torch.zeros(1, *SHAPE),)
        names = {"input_names": ["input"], "output_names": ["output"]}
        torch.onnx.export(network(), example, onnx, **names, verbose=False)  # type: ignore[arg-type]
        run = OnnxRun(onnx)
        results = [
            *measure("evaluate", run, paths, count),
            *measure("evaluate-no-digest", run, paths, count, digest_inputs=None),
            *measure("evaluate-no-overlap", run, paths, count, prefetch=0),
        ]
    title = f"{TURN} samples of {SHAPE} in ONNX Runtime, {THREADS} threads, {count // TURN} turns"
    show(title, results, ours="evaluation", theirs="runs alone")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
