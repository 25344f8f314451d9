"""Maps into boxes, by AWML's rule or by that of Autoware's node.

A box's place is its centre, z too. AWML itself ends by lowering z to the middle of the bottom; `lowered` does that.

The device chooses the cells; what is left of them goes to the host once, where boxes are thinned out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from awml_centerpoint.nms import circle, near, overlap, rotate

if TYPE_CHECKING:
    from awml_centerpoint.architecture import Geometry
    from awml_centerpoint.config import Config

__all__ = ["Boxes", "decode", "empty", "lowered"]

Array = np.ndarray[Any, np.dtype[Any]]
Maps = Mapping[str, Tensor]
Note = Callable[[str, float], None]

CAPACITY = 10_000
"""Boxes that Autoware's rule goes on with. The node has no limit, but a real frame has some hundreds."""

MIN_UNION = 0.01
"""Square metres that two boxes must cover for the node to see an overlap."""


@frozen(kw_only=True, eq=False)
class Boxes:
    """Boxes on the host, best first.

    Args:
        boxes: x, y, z of the centre, length, width, height, yaw, float32 (boxes, 7).
        scores: float32 (boxes,).
        labels: int64 (boxes,).
        velocities: x and y, float32 (boxes, 2), or None if the network has none.
    """

    boxes: Array
    scores: Array
    labels: Array
    velocities: Array | None

    def take(self, rows: Array) -> Boxes:
        """Those boxes, in that order."""
        moving = None if self.velocities is None else self.velocities[rows]
        return Boxes(boxes=self.boxes[rows], scores=self.scores[rows], labels=self.labels[rows], velocities=moving)

    def prediction(self) -> dict[str, Array]:
        """The tree that detection in three dimensions speaks of."""
        moving = {} if self.velocities is None else {"velocities": self.velocities}
        return {"boxes": self.boxes, "scores": self.scores, "labels": self.labels, **moving}


def decode(tasks: Sequence[Maps], config: Config, geometry: Geometry, names: Sequence[str], note: Note) -> list[Boxes]:
    """The boxes of every frame, best first.

    Args:
        tasks: For each group of heads its maps by name, (frames, channels, rows, columns), as the graph gives them.
        config: Which rule, with which thresholds.
        geometry: Where the grid lies.
        names: Classes over all tasks.
        note: Counts boxes that a limit cut off.
    """
    rule = _awml if config.decoding == "awml" else _autoware
    if config.rot_y_axis_reference:
        tasks = [_from_x_axis(maps) for maps in tasks]
    frames = len(tasks[0]["heatmap"])
    alone = ([{name: maps[name][frame].float() for name in maps} for maps in tasks] for frame in range(frames))
    return [rule(frame, config, geometry, names, note) for frame in alone]


def empty(*, velocity: bool) -> Boxes:
    """No box at all."""
    sizes = ((0, 7), (0,), (0, 2))
    boxes, scores, moving = (np.zeros(size, np.float32) for size in sizes)
    return Boxes(boxes=boxes, scores=scores, labels=np.zeros(0, np.int64), velocities=moving if velocity else None)


def lowered(boxes: Array) -> Array:
    """The same boxes (boxes, 7) with z at the middle of their bottom, as AWML and mmdet3d give them."""
    found: Array = boxes.copy()
    found[:, 2] -= found[:, 5] / 2
    return found


def _from_x_axis(maps: Maps) -> Maps:
    """The trained form of maps in the y-axis form: (w, l, h) and (-cos, -sin) become (l, w, h) and (sin, cos)."""
    return {**maps, "dim": maps["dim"][:, [1, 0, 2]], "rot": -maps["rot"][:, [1, 0]]}


def _read(maps: Maps, cells: Tensor, scores: Tensor, labels: Tensor, geometry: Geometry) -> Boxes:
    """The boxes of some cells of one frame."""
    found = {name: values.flatten(1)[:, cells] for name, values in maps.items() if name != "heatmap"}
    x, y = _place(maps, cells, geometry)
    size, yaw = found["dim"].exp(), torch.atan2(found["rot"][0], found["rot"][1])
    rows = torch.stack([x, y, found["height"][0], *size, yaw, scores, *found.get("vel", ())], 1).cpu().numpy()
    moving = np.ascontiguousarray(rows[:, 8:]) if "vel" in found else None
    boxes, scored = np.ascontiguousarray(rows[:, :7]), np.ascontiguousarray(rows[:, 7])
    return Boxes(boxes=boxes, scores=scored, labels=labels.cpu().numpy(), velocities=moving)


def _place(maps: Maps, cells: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """Centres in metres."""
    width = maps["heatmap"].shape[-1]
    steps = (cells % width, torch.div(cells, width, rounding_mode="floor"))
    x, y = (
        (step + maps["reg"][axis].flatten()[cells]) * geometry.out_size_factor * geometry.voxel_size[axis]
        + geometry.range[axis]
        for axis, step in enumerate(steps)
    )
    return x, y


def _joined(parts: Sequence[Boxes]) -> Boxes:
    """All of them, best first; of equal scores those of the earlier part."""
    moving = [part.velocities for part in parts if part.velocities is not None]
    together = Boxes(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        velocities=np.concatenate(moving) if moving else None,
    )
    return together.take(np.argsort(-together.scores, kind="stable"))


# ---------------------------------------------------------------- AWML's rule


def _awml(tasks: Sequence[Maps], config: Config, geometry: Geometry, _: Sequence[str], note: Note) -> Boxes:
    parts, classes = [], 0
    for maps in tasks:
        boxes = _thinned(_best(maps, classes, config, geometry, note), config, note)
        parts.append(boxes)
        classes += len(maps["heatmap"])
    return _joined(parts)


def _best(maps: Maps, classes: int, config: Config, geometry: Geometry, note: Note) -> Boxes:
    """The `top_k` best of all classes, of equal ones that of the earlier class and cell, above the threshold.

    The best of each class and then the best of these, as AWML takes them, are the best of all; and what the threshold
    drops later may as well be dropped before.
    """
    scores = maps["heatmap"].sigmoid()
    cells = scores[0].numel()
    scores = scores.flatten()
    above = (scores > config.score_threshold).nonzero()[:, 0]
    if len(above) > config.top_k:
        note("boxes_over_top_k", len(above) - config.top_k)
    chosen = above[torch.sort(scores[above], descending=True, stable=True)[1][: config.top_k]]
    labels = torch.div(chosen, cells, rounding_mode="floor") + classes
    return _read(maps, chosen % cells, scores[chosen], labels, geometry)


def _thinned(boxes: Boxes, config: Config, note: Note) -> Boxes:
    low, high = np.array(config.post_center_range, np.float32).reshape(2, 3)
    centres = boxes.boxes[:, :3]
    boxes = boxes.take(((centres >= low) & (centres <= high)).all(1).nonzero()[0])
    if config.nms == "circle":
        stays = circle(boxes.boxes[:, :2], 1.0 if config.nms_threshold is None else config.nms_threshold)
    else:
        boxes = boxes.take(np.arange(min(config.pre_max_size, len(boxes.scores))))
        stays = rotate(_footprints(boxes), 0.2 if config.nms_threshold is None else config.nms_threshold)
    left = stays.nonzero()[0]
    if len(left) > config.post_max_size:
        note("boxes_over_post_max_size", len(left) - config.post_max_size)
    return boxes.take(left[: config.post_max_size])


def _footprints(boxes: Boxes) -> Array:
    return boxes.boxes[:, [0, 1, 3, 4, 6]]


# ---------------------------------------------------------------- Autoware's rule


def _autoware(tasks: Sequence[Maps], config: Config, geometry: Geometry, names: Sequence[str], note: Note) -> Boxes:
    parts, classes = [], 0
    for maps in tasks:
        own = names[classes : classes + len(maps["heatmap"])]
        parts.append(_passing(maps, classes, own, config, geometry))
        classes += len(own)
    boxes = _joined(parts)
    if len(boxes.scores) > CAPACITY:
        note("boxes_over_capacity", len(boxes.scores) - CAPACITY)
        boxes = boxes.take(np.arange(CAPACITY))
    reach = float(np.float32(config.circle_nms_dist_threshold) ** 2)
    boxes = boxes.take(circle(boxes.boxes[:, :2], reach, inclusive=False).nonzero()[0])
    return boxes.take(_apart(boxes, config, names).nonzero()[0])


def _passing(maps: Maps, classes: int, names: Sequence[str], config: Config, geometry: Geometry) -> Boxes:
    """The best class of each cell, where it reaches the score of its distance and its heading is long enough."""
    bins = config.score_distance_bins
    table = maps["heatmap"].new_tensor(
        [config.score_thresholds.get(name, (config.score_threshold,) * len(bins)) for name in names]
    )
    scores, labels = (each.flatten() for each in maps["heatmap"].sigmoid().max(0))
    cells = ((scores >= table.min()) & (scores > 0)).nonzero()[:, 0]
    scores, labels = scores[cells], labels[cells]
    x, y = _place(maps, cells, geometry)
    distance = torch.bucketize((x * x + y * y).sqrt(), scores.new_tensor(bins), right=True)
    heading = maps["rot"].flatten(1)[:, cells]
    long_enough = scores.new_tensor(_headings(names, classes, config))[labels]
    passes = (distance < len(bins)) & (scores >= table[labels, distance.clamp(max=len(bins) - 1)])
    passes &= (heading[0] * heading[0] + heading[1] * heading[1]).sqrt() >= long_enough
    return _read(maps, cells[passes], scores[passes], labels[passes] + classes, geometry)


def _headings(names: Sequence[str], classes: int, config: Config) -> list[float]:
    if config.yaw_norm_thresholds is not None:
        return list(config.yaw_norm_thresholds[classes : classes + len(names)])
    return [0.0 if name.lower() == "pedestrian" else 0.3 for name in names]


def _apart(boxes: Boxes, config: Config, names: Sequence[str]) -> Array:
    """Which boxes no better one overlaps by more than the threshold, be that one dropped or not.

    A pedestrian and something else may share their place.
    """
    squared = config.iou_nms_search_distance_2d**2
    first, second = near(boxes.boxes[:, :2].astype(np.float64), lambda square, _: square <= squared)
    walks = np.array([name.lower() == "pedestrian" for name in names])[boxes.labels]
    asked = (boxes.labels[first] == boxes.labels[second]) | ~(walks[first] | walks[second])
    first, second = first[asked], second[asked]
    prints = _footprints(boxes).astype(np.float64)
    share = overlap(prints[first], prints[second])
    area = prints[:, 2] * prints[:, 3]
    union = (area[first] + area[second]) / (1 + share)
    stays = np.ones(len(boxes.scores), bool)
    stays[second[(share > config.iou_nms_threshold) & (union >= MIN_UNION)]] = False
    return stays
