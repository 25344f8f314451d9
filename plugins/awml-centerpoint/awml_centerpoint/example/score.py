"""A quick look at how good a network is while it is trained: average precision by distance of centres.

The figures of a deployment come from elsewhere; these only say whether training goes anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from attrs import frozen

from awml_centerpoint.example.shapes import Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

    from awml_centerpoint.architecture import Geometry
    from awml_centerpoint.example.frames import Drawn

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
"""Metres between a found and a true centre."""
APART = 1.0
"""Squared metres between two centres that are both kept."""


@frozen(kw_only=True, eq=False)
class Found:
    """What a network finds in a frame, best first.

    Args:
        centres: (N, 2).
        scores: (N,).
        labels: (N,).
    """

    centres: Floats
    scores: Floats
    labels: Ints


def detect(maps: dict[str, Tensor], geometry: Geometry, most: int = 300) -> list[Found]:
    """What the maps say, frame by frame."""
    heat = maps["heatmap"].float().sigmoid()
    count, _, rows, columns = heat.shape
    scores, index = heat.flatten(1).topk(most)
    labels, cells = index // (rows * columns), index % (rows * columns)
    reg = maps["reg"].float().flatten(2).gather(2, cells[:, None].expand(-1, 2, -1))
    step = geometry.voxel_size[0] * geometry.out_size_factor
    x = (cells % columns + reg[:, 0]) * step + geometry.range[0]
    y = (cells // columns + reg[:, 1]) * step + geometry.range[1]
    centres = torch.stack([x, y], 2)
    parts = [each.cpu().numpy() for each in (centres, scores, labels)]
    return [_thinned(*(part[frame] for part in parts)) for frame in range(count)]


def _thinned(centres: Floats, scores: Floats, labels: Ints) -> Found:
    """The best of those that lie close together."""
    kept: list[int] = []
    alive = scores > 0.1
    gap = ((centres[:, None] - centres[None]) ** 2).sum(2)
    for index in range(len(scores)):
        if alive[index]:
            kept.append(index)
            alive &= gap[index] > APART
    return Found(centres=centres[kept], scores=scores[kept], labels=labels[kept])


def table(found: Sequence[Found], frames: Sequence[Drawn], classes: int, reach: float, least: int) -> Floats:
    """Average precision, class by threshold.

    Args:
        found: Answers.
        frames: Their truths.
        classes: How many classes there are.
        reach: Metres within which truths and answers count.
        least: Points that a truth must have.
    """
    made = [[_hits(found, frames, label, far, (reach, least)) for far in THRESHOLDS] for label in range(classes)]
    return np.array([[_precision(*each) for each in row] for row in made])


def _hits(
    found: Sequence[Found], frames: Sequence[Drawn], label: int, threshold: float, asked: tuple[float, int]
) -> tuple[list[bool], list[float], int]:
    """Whether each answer meets a truth of its own, each answer's score, and how many truths there are."""
    reach, least = asked
    hits: list[bool] = []
    scores: list[float] = []
    total = 0
    for answer, frame in zip(found, frames, strict=True):
        wanted = (frame.labels == label) & (frame.counts >= least) & (np.hypot(*frame.boxes[:, :2].T) < reach)
        truth, free = frame.boxes[wanted, :2], np.ones(wanted.sum(), bool)
        total += len(truth)
        chosen = (answer.labels == label) & (np.hypot(*answer.centres.T) < reach)
        for centre, score in zip(answer.centres[chosen], answer.scores[chosen], strict=True):
            gap = np.where(free, np.hypot(*(truth - centre).T), np.inf)
            best = int(gap.argmin()) if len(gap) else -1
            hit = best >= 0 and bool(gap[best] < threshold)
            if hit:
                free[best] = False
            hits.append(hit)
            scores.append(float(score))
    return hits, scores, total


def _precision(hits: list[bool], scores: list[float], total: int) -> float:
    """The mean over recalls from 0.11 on of the precision above 0.1, both as AWML's evaluation takes them."""
    if not hits or not total:
        return 0.0
    true = np.cumsum(np.array(hits)[np.argsort(-np.array(scores), kind="stable")])
    share, recall = true / np.arange(1, len(true) + 1), true / total
    share = np.maximum.accumulate(share[::-1])[::-1]
    line = np.interp(np.linspace(0, 1, 101), recall, share, right=0)
    return float(np.maximum(line[11:] - 0.1, 0).mean() / 0.9)
