"""How the example's weights were made: `python -m awml_centerpoint.example.train OUT.safetensors`.

The towns are not those of the example's data. Each is seen at one moment, mirrored, turned, scaled and shifted anew
every time it is used.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from attrs import evolve
from torch import nn

from awml_centerpoint.architecture import Architecture, Geometry
from awml_centerpoint.example.bodies import CLASSES
from awml_centerpoint.example.frames import Drawn, keep, load
from awml_centerpoint.example.losses import focal, regression
from awml_centerpoint.example.pillars import answer
from awml_centerpoint.example.score import detect, table
from awml_centerpoint.example.views import Batch, Views, batches, inside
from awml_centerpoint.network import CenterPoint, build

FIRST = 100_000
"""Seeds below are the example's; those below FIRST + HELD are for looking at, not for training."""
HELD = 48

GEOMETRY = Geometry(
    range=(-51.2, -51.2, -3.0, 51.2, 51.2, 5.0),
    voxel_size=(0.32, 0.32, 8.0),
    grid=(320, 320, 1),
    out_size_factor=2,
    max_num_points=32,
    max_voxels=12000,
    columns=(0, 1, 2, 4),
    load_dim=5,
    sweeps=1,
)
ARCHITECTURE = Architecture(
    columns=4,
    feat_channels=(32,),
    layer_nums=(2, 3, 3),
    layer_strides=(2, 2, 2),
    out_channels=(32, 64, 96),
    upsample_strides=(1, 2, 4),
    upsample_channels=(48, 48, 48),
    share_conv_channel=48,
    tasks=(len(CLASSES),),
    heatmap_bias=-2.19,
)

log = logging.getLogger(__name__)


def train(given: argparse.Namespace, paths: list[Path]) -> CenterPoint:
    """A network from scratch: AdamW, one cycle, with a look at the held-out frames now and then."""
    torch.manual_seed(given.seed)
    cells = round((GEOMETRY.range[3] - GEOMETRY.range[0]) / given.voxel)
    geometry = evolve(GEOMETRY, voxel_size=(given.voxel, given.voxel, 8.0), grid=(cells, cells, 1))
    model = build(evolve(ARCHITECTURE, feat_channels=(32,) * given.layers))
    model.to(given.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    log.info("%d parameters", sum(each.numel() for each in model.parameters()))
    held = [load(path) for path in paths[:HELD]]
    views = Views(
        paths=tuple(paths[HELD:]),
        length=given.steps * given.batch,
        seed=given.seed,
        least=given.least,
        geometry=geometry,
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=given.lr, weight_decay=0.01)
    begin = time.monotonic()
    for step, batch in _paced(batches(views, given.batch, given.workers), optimiser, given):
        heat, box = _learn(model, optimiser, batch, geometry, given)
        if step % given.report == 0 or step <= 3:
            log.info("step %d: heat %.3f, box %.3f, %.0f s", step, heat, box, time.monotonic() - begin)
        if step % given.look == 0:
            _look(model, held, geometry, given)
            save(model, given.output)
    _look(model, held, geometry, given)
    save(model, given.output)
    return model


def _paced(
    found: Iterable[Batch], optimiser: torch.optim.Optimizer, given: argparse.Namespace
) -> Iterator[tuple[int, Batch]]:
    """Batches by number, until the steps or the minutes are over; the learning rate follows the larger share."""
    begin = time.monotonic()
    for step, batch in enumerate(found, 1):
        done = max(step / given.steps, (time.monotonic() - begin) / 60 / given.minutes)
        if done > 1:
            return
        for group in optimiser.param_groups:
            group["lr"] = given.lr * rate(done)
        yield step, batch


def rate(done: float) -> float:
    """The share of the highest learning rate after that share of the training: a cosine up, a longer one down."""
    if done < 0.25:
        return 0.1 + 0.9 * (1 - math.cos(math.pi * done / 0.25)) / 2
    return 1e-3 + (1 - 1e-3) * (1 + math.cos(math.pi * min((done - 0.25) / 0.75, 1))) / 2


def _learn(
    model: CenterPoint, optimiser: torch.optim.Optimizer, batch: Batch, geometry: Geometry, given: argparse.Namespace
) -> tuple[float, float]:
    """One step; both losses before it."""
    device = given.device
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=given.amp):
        maps = answer(model, batch.points.to(device, non_blocking=True), batch.lengths, geometry)
    heat = focal(maps["heatmap"], batch.heatmap.to(device))
    box = regression(maps, batch.frames.to(device), batch.cells.to(device), batch.values.to(device))
    optimiser.zero_grad(set_to_none=True)
    (heat + box).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 15)
    optimiser.step()
    return heat.item(), box.item()


def _look(model: CenterPoint, frames: list[Drawn], geometry: Geometry, given: argparse.Namespace) -> None:
    """Log average precisions on frames that are not trained on."""
    found = []
    model.eval()
    with torch.no_grad():
        for frame in frames:
            points = torch.from_numpy(inside(frame.points, geometry)).to(given.device)
            with torch.autocast(torch.device(given.device).type, torch.bfloat16, enabled=given.amp):
                maps = answer(model, points, [len(points)], geometry)
            found += detect(maps, geometry)
    model.train()
    seen, clear = (table(found, frames, len(CLASSES), geometry.range[3], least) for least in (1, 5))
    by_class, by_threshold = seen.mean(1).round(2).tolist(), seen.mean(0).round(2).tolist()
    log.info("mAP %.3f (of truths with 5 points %.3f)", seen.mean(), clear.mean())
    log.info("by class %s, at 0.5, 1, 2 and 4 m %s", by_class, by_threshold)


def save(model: nn.Module, path: Path) -> None:
    """The weights as safetensors, written here so that training needs nothing but torch."""
    head, data = {}, b""
    for name, value in sorted(model.state_dict().items()):
        raw = value.detach().cpu().contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        head[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main() -> None:
    """Draw the towns, train, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=1500, help="to train on; %(default)s")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--least", type=int, default=1, help="points of an object that is asked for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches")
    parser.add_argument("--look", type=int, default=500, help="steps between two looks at the held-out frames")
    parser.add_argument("--report", type=int, default=50, help="steps between two lines about the losses")
    parser.add_argument("--voxel", type=float, default=0.32, help="metres")
    parser.add_argument("--layers", type=int, default=1, help="of the encoder")
    parser.add_argument("--minutes", type=float, default=60, help="after which training is over in any case")
    parser.add_argument("--no-amp", dest="amp", action="store_false", help="train in single precision throughout")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "awml_centerpoint_frames")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(given.threads)
    paths = keep(given.cache, range(FIRST, FIRST + HELD + given.frames), given.workers or 1)
    if given.steps:
        train(given, paths)


if __name__ == "__main__":
    main()
