"""The figures of 3D detection against their definition, box after box in plain Python.

1,000 frames of a model that finds four truths of five and sees as many things again that are not there. Both sides take
turns and must give the same figures to 1e-12. The plain side is what the tests hold ours against.

    python benchmarks/bench_metrics3d.py [FRAMES [TURNS]]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from awml_deploy_core.tasks.detection3d import metrics, picture
from benchmarks.frame import Cost, Row, call, compared, show, turns
from tests.test_tasks_detection3d_plain import plain_nuscenes, plain_t4, scene

if TYPE_CHECKING:
    from awml_deploy_core.records import Record

NAMES = ("car", "truck", "bus", "bicycle", "pedestrian")


def checked(ours: Mapping[str, float | None], theirs: Mapping[str, float]) -> float:
    """The largest difference of any figure."""
    apart = 0.0
    for name, value in theirs.items():
        mine = ours[name]
        assert (mine is None) == math.isnan(value), name
        apart = max(apart, abs(mine - value) if mine is not None else 0.0)
    return apart


def measure(
    name: str, ours: Callable[[], Mapping[str, float | None]], theirs: Callable[[], Mapping[str, float]], count: int
) -> list[Row]:
    kept: dict[str, Mapping[str, float | None]] = {}

    def side(key: str, work: Callable[[], Mapping[str, float | None]]) -> Cost:
        return call(lambda: kept.update({key: work()}))

    rows = compared(name, turns(partial(side, "ours", ours), partial(side, "theirs", theirs), count))
    worst = checked(kept["ours"], {key: math.nan if value is None else value for key, value in kept["theirs"].items()})
    print(f"{name}: {len(kept['theirs'])} figures, largest difference {worst:.1e}")
    assert worst <= 1e-12
    return rows


def drawn(records: Sequence[Record]) -> None:
    """How long a picture takes, which has nothing to be held against."""
    points = np.random.default_rng(0).normal(0, 40, (200_000, 4)).astype(np.float32)
    each = records[0]
    cost = call(
        lambda: picture(points, each.ground_truth, {"trained": each.prediction, "onnx": each.prediction}, NAMES)
    )
    print(f"picture of 200,000 points, two panels: {cost.wall_s * 1e3:.0f} ms, {cost.cpu_s * 1e3:.0f} ms of processor")


def main(frames: int = 1000, count: int = 3) -> None:
    records = scene(0, frames=frames, predictions=60, truths=60, classes=len(NAMES))
    options = {
        "t4": (lambda: metrics(records, NAMES).values, lambda: plain_t4(records, NAMES)),
        "t4-compat": (
            lambda: metrics(records, NAMES, t4_compat=True).values,
            lambda: plain_t4(records, NAMES, compat=True),
        ),
        "nuscenes": (lambda: metrics(records, NAMES, style="nuscenes").values, lambda: plain_nuscenes(records, NAMES)),
    }
    results = [row for name, (ours, theirs) in options.items() for row in measure(name, ours, theirs, count)]
    boxes = (
        sum(len(each.prediction["labels"]) for each in records),
        sum(len(each.ground_truth["labels"]) for each in records),
    )
    drawn(records)
    show(f"{frames} frames, {boxes[0]} predictions, {boxes[1]} truths, {count} turns", results, theirs="plain")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
