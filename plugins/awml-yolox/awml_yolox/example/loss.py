"""YOLOX's loss: SimOTA says which cell answers for which truth, then overlap, objectness and class are taught."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional

STRIDES = (8, 16, 32)
RADIUS = 2.5
"""Cells within so many of their own sizes from a truth's middle are near it."""
MOST = 10
"""Of a truth's best overlaps, so many say how many cells it gets."""
OUTSIDE = 1e5
"""What a cell costs that is not both inside a truth and near it."""


@frozen(kw_only=True, eq=False)
class Answers:
    """The network's answers, the levels one after another, row by row.

    Args:
        classes: Logits (batch, cells, classes).
        raw: Boxes as they leave the network (batch, cells, 4).
        objects: Logits (batch, cells).
        cells: Left edge, upper edge and size of each cell in pixels (cells, 3).
    """

    classes: Tensor
    raw: Tensor
    objects: Tensor
    cells: Tensor

    @property
    def boxes(self) -> Tensor:
        """Corners x1, y1, x2, y2 in pixels (batch, cells, 4)."""
        stride = self.cells[:, 2:]
        middle = self.raw[..., :2] * stride + self.cells[:, :2]
        half = self.raw[..., 2:].exp() * stride / 2
        return torch.cat([middle - half, middle + half], -1)


@frozen(kw_only=True, eq=False)
class Truths:
    """What there is to be found.

    Args:
        boxes: Corners in pixels (batch, most, 4).
        labels: Classes (batch, most).
        real: Which of them are no filling (batch, most).
    """

    boxes: Tensor
    labels: Tensor
    real: Tensor


def gather(levels: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Answers:
    """Put the levels of the network's answer one after another."""
    parts = [[each.flatten(2).transpose(1, 2).float() for each in level] for level in levels]
    classes, raw, objects = (torch.cat([part[index] for part in parts], 1) for index in range(3))
    cells = [_cells(level[0], stride) for level, stride in zip(levels, STRIDES, strict=True)]
    return Answers(classes=classes, raw=raw, objects=objects[..., 0], cells=torch.cat(cells))


def _cells(level: Tensor, stride: int) -> Tensor:
    height, width = level.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    corners = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3) * stride
    return corners.to(level.device, torch.float32)


def overlap(one: Tensor, two: Tensor) -> Tensor:
    """Intersection over union of boxes, with broadcasting over all axes but the last."""
    low, high = torch.maximum(one[..., :2], two[..., :2]), torch.minimum(one[..., 2:], two[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    sizes = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (one, two)]
    return shared / (sizes[0] + sizes[1] - shared).clamp(min=1e-6)


@torch.no_grad()
def assign(answers: Answers, truths: Truths) -> tuple[Tensor, Tensor]:
    """Which truth each cell answers for, -1 for none, and how well its box fits it (both (batch, cells)).

    A cell that several truths want goes to the one that it costs least.
    """
    inside, near = _where(answers.cells, truths)
    wanted = (inside | near).any(1)
    fits = overlap(answers.boxes[:, None], truths.boxes[:, :, None]) * truths.real[..., None] * wanted[:, None]
    cost = _unlike(answers, truths) - 3 * torch.log(fits + 1e-7) + OUTSIDE * ~(inside & near)
    cost = cost.masked_fill(~(truths.real[..., None] & wanted[:, None]), torch.inf)
    most = min(MOST, cost.shape[-1])
    count = fits.topk(most, -1).values.sum(-1).int().clamp(min=1)
    cheapest = cost.topk(most, -1, largest=False)
    chosen = (torch.arange(most, device=cost.device) < count[..., None]) & cheapest.values.isfinite()
    taken = torch.zeros_like(cost, dtype=torch.bool).scatter_(2, cheapest.indices, chosen)
    several = taken.sum(1, keepdim=True) > 1
    best = functional.one_hot(cost.argmin(1), cost.shape[1]).transpose(1, 2).bool()
    taken = torch.where(several, best, taken)
    owner = torch.where(taken.any(1), taken.int().argmax(1), -1)
    return owner, (fits * taken).sum(1)


def _where(cells: Tensor, truths: Truths) -> tuple[Tensor, Tensor]:
    """Whether the middle of each cell lies inside each truth, and whether near its middle (batch, most, cells)."""
    middle = cells[:, :2] + cells[:, 2:] / 2
    boxes = truths.boxes[:, :, None]
    edges = torch.cat([middle - boxes[..., :2], boxes[..., 2:] - middle], -1)
    away = (middle - (boxes[..., :2] + boxes[..., 2:]) / 2).abs().amax(-1)
    real = truths.real[..., None]
    return (edges.amin(-1) > 0) & real, (away < RADIUS * cells[:, 2]) & real


def _unlike(answers: Answers, truths: Truths) -> Tensor:
    """Binary cross entropy between each cell's scores and each truth's class (batch, most, cells)."""
    scores = (answers.classes.sigmoid() * answers.objects.sigmoid()[..., None]).sqrt()
    yes = -scores.log().clamp(min=-100)
    no = -(1 - scores).log().clamp(min=-100)
    index = truths.labels[:, None].expand(-1, scores.shape[1], -1)
    return (no.sum(-1, keepdim=True) + (yes - no).gather(2, index)).transpose(1, 2)


def loss(levels: Sequence[tuple[Tensor, Tensor, Tensor]], truths: Truths, *, l1: bool = False) -> Tensor:
    """The sum of all parts, by the number of cells that answer for something.

    Args:
        levels: The network's answer.
        truths: What there is to be found.
        l1: Compare raw boxes, too, as published trainings do in their last epochs.
    """
    answers = gather(levels)
    owner, fits = assign(answers, truths)
    picture, cell = torch.nonzero(owner >= 0, as_tuple=True)
    mine = owner[picture, cell]
    target, boxes = truths.boxes[picture, mine], answers.boxes[picture, cell]
    names = functional.one_hot(truths.labels[picture, mine], answers.classes.shape[-1]) * fits[picture, cell, None]
    objects = functional.binary_cross_entropy_with_logits(answers.objects, (owner >= 0).float(), reduction="sum")
    classes = functional.binary_cross_entropy_with_logits(answers.classes[picture, cell], names, reduction="sum")
    total = objects + classes + 5 * (1 - overlap(boxes, target) ** 2).sum()
    if l1:
        total = total + (answers.raw[picture, cell] - _raw(target, answers.cells[cell])).abs().sum()
    return total / max(len(cell), 1)


def _raw(boxes: Tensor, cells: Tensor) -> Tensor:
    """What the network must say to mean these boxes."""
    stride = cells[:, 2:]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(middle - cells[:, :2]) / stride, torch.log(size / stride + 1e-8)], -1)
