"""How the example's weights were made: `python -m awml_yolox.example.train OUT.safetensors`.

The streets are not those of the example's data. Each is drawn once and then seen many times, every time scaled,
shifted, mirrored and in other colours. The defaults finish within half an hour on two CPU cores; with a GPU, give
`--device cuda:0 --workers 8 --batch 64` and more scenes and steps.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from awml_yolox.example.loss import Truths, gather, loss
from awml_yolox.example.score import Array, keep, precision
from awml_yolox.example.street import CLASSES
from awml_yolox.example.views import Scenes, Views, kept, letterboxed, scenes
from awml_yolox.network import Architecture, Yolox, build, named

FIRST_SCENE, FIRST_HELD_OUT = 10_000, 5_000
"""Seeds below are the example's."""

log = logging.getLogger(__name__)


def architecture(deepen: float = 1, widen: float = 0.1875, out: int = 28, blocks: int = 2) -> Architecture:
    """A YOLOX-opt-ELAN that is narrow and shallow enough to be shipped."""
    return named("opt-elan", deepen_factor=deepen, widen_factor=widen, out_channels=out, num_elan_blocks=blocks)


def train(given: argparse.Namespace, model: Yolox, data: Scenes, held_out: Scenes) -> None:
    """Teach the network; what is written is the moving average of its weights."""
    device = torch.device(given.device)
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(model).eval().requires_grad_(requires_grad=False)
    optimiser = torch.optim.AdamW(_groups(model, given.decay), lr=given.lr)
    begin = time.monotonic()
    for step, (images, truths) in enumerate(_batches(given, data), 1):
        done = _progress(step, begin, given)
        for group in optimiser.param_groups:
            group["lr"] = given.lr * _pace(step, done, given.warmup)
        levels = model(images.to(device, torch.float32, memory_format=torch.channels_last))
        value = loss(levels, _truths(truths.to(device)), l1=done > 0.9)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 20)
        optimiser.step()
        follow(average, model, step)
        if step % given.every == 0 or done >= 1:
            _tell(average, held_out, f"step {step}: loss {value.item():.3f}, {time.monotonic() - begin:.0f} s", device)
            _save(average, given)
        if done >= 1:
            break


def _groups(model: Yolox, decay: float) -> list[dict[str, object]]:
    """Weights of convolutions shrink, biases and norms do not."""
    flat = [each for each in model.parameters() if each.ndim == 1]
    return [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": decay},
        {"params": flat, "weight_decay": 0.0},
    ]


def _batches(given: argparse.Namespace, data: Scenes) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    views = Views(data, given.steps * given.batch, given.seed)
    return DataLoader(
        views, given.batch, num_workers=given.workers, multiprocessing_context="fork" if given.workers else None,
        pin_memory=given.device != "cpu", worker_init_fn=_alone, prefetch_factor=4 if given.workers else None,
    )  # fmt: skip


def _alone(_worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _progress(step: int, begin: float, given: argparse.Namespace) -> float:
    """From 0 to 1, by steps or by time, whichever is sooner over."""
    spent = (time.monotonic() - begin) / (60 * given.minutes) if given.minutes else 0.0
    return max(float(step / given.steps), spent)


def _pace(step: int, done: float, warmup: int) -> float:
    """Up in a line, down in half a cosine."""
    return min(step / warmup, 1) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(done, 1))) / 2)


def _truths(rows: torch.Tensor) -> Truths:
    return Truths(boxes=rows[..., :4], labels=rows[..., 4].long().clamp(min=0), real=rows[..., 4] >= 0)


@torch.no_grad()
def follow(average: Yolox, model: Yolox, step: int) -> None:
    """Move the average a little towards the network, by more at the beginning; its statistics, too."""
    share = 2e-3 + (1 - 2e-3) * math.exp(-(1 + step) / 300)
    for mine, its in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(its, share)
        else:
            mine.copy_(its)


def _tell(model: Yolox, held_out: Scenes, text: str, device: torch.device) -> None:
    each = evaluate(model, held_out, device)
    named_each = ", ".join(f"{name} {value:.2f}" for name, value in zip(CLASSES, each, strict=True))
    log.info("%s, mAP@0.5 %.3f (%s)", text, np.nanmean(each), named_each)


@torch.no_grad()
def evaluate(model: Yolox, data: Scenes, device: torch.device) -> Array:
    """Average precision of each class at overlap 0.5, in the pixels of the network's image."""
    found = [each for images in _chunks(list(data.images)) for each in _found(model, letterboxed(images).to(device))]
    share = np.array([min(256 / 300, 384 / 480)] * 4 + [1], np.float32)
    return precision(found, [rows[rows[:, 4] >= 0] * share for rows in data.truths], len(CLASSES))


def _chunks(images: list[Array]) -> Iterator[list[Array]]:
    for start in range(0, len(images), 32):
        yield images[start : start + 32]


def _found(model: Yolox, images: torch.Tensor) -> Iterator[tuple[Array, Array, Array]]:
    answers = gather(model(images))
    scores = answers.classes.sigmoid() * answers.objects.sigmoid()[..., None]
    for boxes, score in zip(answers.boxes.cpu().numpy(), scores.cpu().numpy(), strict=True):
        yield keep(boxes, score)


def _save(model: Yolox, given: argparse.Namespace) -> None:
    # One entry only: readers that write it again put several in any order.
    made = f"opt-elan, deepen {given.deepen:g}, widen {given.widen:g}, out {given.out}, blocks {given.blocks}"
    given.output.write_bytes(packed(model.state_dict(), {"training": made}))


def packed(state: dict[str, torch.Tensor], made: dict[str, str]) -> bytes:
    """The weights in the safetensors layout, which needs no package: a header in JSON, then bytes."""
    header: dict[str, object] = {"__metadata__": made}
    parts, end = [], 0
    for name, tensor in state.items():
        data = tensor.cpu().numpy()
        kind = {"float32": "F32", "int64": "I64"}[data.dtype.name]
        parts.append(np.ascontiguousarray(data).tobytes())
        header[name] = {"dtype": kind, "shape": list(data.shape), "data_offsets": [end, end + len(parts[-1])]}
        end += len(parts[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scenes", type=int, default=1500)
    parser.add_argument("--held-out", type=int, default=48)
    parser.add_argument("--cache", type=Path, help="file that keeps the drawn scenes for the next training")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--minutes", type=float, help="end sooner, with the learning rate where the steps would end")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--every", type=int, default=400, help="steps between two measurements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare images")
    parser.add_argument("--deepen", type=float, default=1)
    parser.add_argument("--widen", type=float, default=0.1875)
    parser.add_argument("--out", type=int, default=28, help="channels of the head")
    parser.add_argument("--blocks", type=int, default=2, help="blocks in each layer of the neck")
    return parser.parse_args()


def main() -> None:
    """Draw the streets, train, write the weights."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    workers = max(given.workers, given.threads)
    data = kept(given.cache, range(FIRST_SCENE, FIRST_SCENE + given.scenes), workers)
    held_out = scenes(range(FIRST_HELD_OUT, FIRST_HELD_OUT + given.held_out), workers)
    log.info("%d scenes, %d truths", len(data.images), (data.truths[..., 4] >= 0).sum())
    if given.steps:
        model = build(architecture(given.deepen, given.widen, given.out, given.blocks))
        train(given, model, data, held_out)


if __name__ == "__main__":
    main()
