"""Reading a 100 MB checkpoint against `torch.load(weights_only=True)`: median of interleaved repeats in one run.

Two rows: reading alone, and reading plus copying every weight into memory of its own, as a network does. The second is
the honest one for a reader that maps the file and leaves the pages for later.

    python benchmarks/bench_checkpoint.py [REPEATS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from awml_deploy_core.checkpoint import read_checkpoint
from benchmarks.frame import Row, call, compared, show, turns

LAYERS = 100
Tensors = Mapping[str, torch.Tensor]


def write(path: Path) -> None:
    weights = {f"backbone.layers.{layer}.weight": torch.randn(512, 512) for layer in range(LAYERS)}
    torch.save({"meta": {"epoch": 1}, "state_dict": weights}, path)


def ours(path: Path) -> Tensors:
    return read_checkpoint(path).tensors


def theirs(path: Path) -> Tensors:
    tensors: Tensors = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return tensors


def read_and_copy(read: Callable[[Path], Tensors], path: Path, memory: list[torch.Tensor]) -> None:
    """Read, and copy as many tensors as there is memory for."""
    for target, tensor in zip(memory, read(path).values(), strict=False):
        target.copy_(tensor)


def measure(name: str, path: Path, memory: list[torch.Tensor], repeats: int) -> list[Row]:
    for read in (ours, theirs):  # the file is in the page cache for both
        read_and_copy(read, path, memory)
    pairs = turns(
        lambda: call(lambda: read_and_copy(ours, path, memory)),
        lambda: call(lambda: read_and_copy(theirs, path, memory)),
        repeats,
    )
    return compared(name, pairs)


def main(repeats: int = 15) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        write(path)
        memory = [torch.zeros(512, 512) for _ in range(LAYERS)]
        rows = measure("checkpoint-read", path, [], repeats)
        rows += measure("checkpoint-read-and-copy", path, memory, repeats)
    show(f"A checkpoint of 100 MB, {repeats} turns", rows, theirs="torch.load")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
