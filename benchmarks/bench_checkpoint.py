"""Reading a 100 MB checkpoint against `torch.load(weights_only=True)`: median of interleaved repeats in one run.

Two rows: reading alone, and reading plus copying every weight into memory of its own, as a network does. The second is
the honest one for a reader that maps the file and leaves the pages for later.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from awml_deploy_core.checkpoint import read_checkpoint

REPEATS = 15
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


def seconds(read: Callable[[Path], Tensors], path: Path, memory: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    tensors = read(path)
    for target, tensor in zip(memory, tensors.values(), strict=False):
        target.copy_(tensor)
    return time.perf_counter() - start


def measure(name: str, path: Path, memory: list[torch.Tensor]) -> dict[str, Any]:
    for read in (ours, theirs):  # the file is in the page cache for both
        seconds(read, path, memory)
    times = [(seconds(ours, path, memory), seconds(theirs, path, memory)) for _ in range(REPEATS)]
    our_s, their_s = (statistics.median(column) for column in zip(*times, strict=True))
    return {"name": name, "ours_s": our_s, "theirs_s": their_s, "ratio": our_s / their_s}


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        write(path)
        memory = [torch.zeros(512, 512) for _ in range(LAYERS)]
        rows = [measure("checkpoint_read", path, []), measure("checkpoint_read_and_copy", path, memory)]
    print(f"{'':26}{'ours':>10}{'torch.load':>12}{'ratio':>8}")
    for row in rows:
        print(f"{row['name']:26}{row['ours_s'] * 1e3:>8.1f}ms{row['theirs_s'] * 1e3:>10.1f}ms{row['ratio']:>8.2f}")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
