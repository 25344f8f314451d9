"""Non-maximum suppression as a node of the graph, which computes the same in torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from awml_deploy_core.errors import LoadError


def overlaps(one: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one box (4,) with others (N, 4), given by two corners."""
    corner, opposite = torch.maximum(one[:2], others[:, :2]), torch.minimum(one[2:], others[:, 2:])
    shared = (opposite - corner).clamp(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (one[2:] - one[:2]).prod()
    return shared / (areas - shared)


def survivors(boxes: Tensor, scores: Tensor, threshold: float, most: int) -> list[int]:
    """Indices of the boxes (N, 4) that no better one overlaps by more than the threshold, the best first.

    Boxes with a score of 0 take no part; among equal scores the first is the best.
    """
    (there,) = scores.nonzero(as_tuple=True)
    order = there[scores[there].argsort(descending=True, stable=True)]
    left = boxes[order]
    alive = torch.ones(len(order), dtype=torch.bool)
    kept: list[int] = []
    while len(kept) < most and bool(alive.any()):
        best = int(alive.int().argmax())
        kept.append(int(order[best]))
        # Not "at most": the overlap of two boxes without an area is no number, and suppresses nothing.
        alive &= ~(overlaps(left[best], left) > threshold)
        alive[best] = False
    return kept


def kept_scores(boxes: Tensor, scores: Tensor, threshold: float, most: int) -> Tensor:
    """Scores (B, C, N) with zeros for what is suppressed, class by class, among boxes (B, N, 4)."""
    boxes, given = boxes.cpu(), scores.cpu()  # one box after another is no work for a GPU
    kept = torch.zeros_like(given)
    for image, classes in enumerate(given):
        for label, row in enumerate(classes):
            chosen = survivors(boxes[image], row, threshold, most)
            kept[image, label, chosen] = row[chosen]
    return kept.to(scores.device)


def _tracing() -> bool:
    """Whether only the shapes of an answer matter; what it is computed by stands in `symbolic`.

    Raises:
        LoadError: To dynamo, which would look inside instead.
    """
    if torch.compiler.is_compiling():
        raise LoadError(
            "dynamo cannot trace non-maximum suppression",
            hint="Set onnx_config.exporter to 'torchscript' or 'auto', or postprocessing to 'decode'.",
        )
    return torch.onnx.is_in_onnx_export()


class Suppress(torch.autograd.Function):
    """Standard ONNX's NonMaxSuppression, from boxes and scores to the scores that survive."""

    @staticmethod
    def forward(_ctx: Any, boxes: Tensor, scores: Tensor, threshold: float, most: int) -> Tensor:
        """Zeros for what is suppressed."""
        return scores.clone() if _tracing() else kept_scores(boxes, scores, threshold, most)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, threshold: float, most: int) -> Any:
        """The survivors' places, and their scores at those places of a tensor of zeros."""

        def constant(value: float, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor([value], dtype=dtype))

        limits = constant(most, torch.int64), constant(threshold, torch.float32), constant(0.0, torch.float32)
        places = g.op("NonMaxSuppression", boxes, scores, *limits)
        nothing = g.op("Mul", scores, constant(0.0, torch.float32))
        kept = g.op("ScatterND", nothing, places, g.op("GatherND", scores, places))
        return kept.setType(scores.type())


def _nothing(boxes: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scores = torch.zeros_like(boxes[:, :most, 0])
    labels = scores.int()
    return labels[:, :1], scores[..., None].repeat(1, 1, 4), scores, labels


class EfficientNms(torch.autograd.Function):
    """TensorRT's plugin EfficientNMS_TRT: classes by themselves, every class of a box that is good enough."""

    @staticmethod
    def forward(
        _ctx: Any, boxes: Tensor, scores: Tensor, score_threshold: float, threshold: float, most: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts, corners, scores and classes of what survives; zeros behind it."""
        if _tracing():
            return _nothing(boxes, most)
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        corners = torch.cat([centre - half, centre + half], dim=2)
        scores = torch.where(scores >= score_threshold, scores, 0.0).transpose(1, 2)
        best, places = kept_scores(corners, scores, threshold, most).flatten(1).topk(most)
        found = best > 0
        rows, labels = places % boxes.shape[1], places // boxes.shape[1]
        chosen = corners.gather(1, rows[..., None].repeat(1, 1, 4)) * found[..., None]
        return found.sum(1, keepdim=True, dtype=torch.int32), chosen, best, (labels * found).int()

    @staticmethod
    def symbolic(  # noqa: PLR0917  torch hands over the arguments of forward in its order
        g: Any, boxes: Any, scores: Any, score_threshold: float, threshold: float, most: int
    ) -> Any:
        """One node, with the attributes that AWML's exporter writes."""
        return g.op(
            "TRT::EfficientNMS_TRT",
            boxes,
            scores,
            outputs=4,
            background_class_i=-1,
            box_coding_i=1,
            iou_threshold_f=threshold,
            max_output_boxes_i=most,
            plugin_version_s="1",
            score_activation_i=0,
            score_threshold_f=score_threshold,
        )


# torch publishes no types for `apply`.
suppress: Any = Suppress.apply
efficient_nms: Any = EfficientNms.apply
