"""From images to boxes, whatever runs the network and wherever its graph ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from attrs import field, frozen

from awml_deploy_core.preprocess import Transform, build_preprocessing_pipeline
from awml_yolox.decode import Array, Found, autoware, awml, cells_of, whole
from awml_yolox.hooks import COMPONENT, Config
from awml_yolox.letterbox import Placement, Size, letterbox
from awml_yolox.prepare import prepare

if TYPE_CHECKING:
    from awml_deploy_core.records import Component, Run

RULES = {"awml": awml, "autoware": autoware}
"""How boxes are made of rows."""


@frozen(kw_only=True, eq=False)
class Detector:
    """Letterbox, run, decode, suppress.

    Args:
        device: Where the network wants its images.
        config: Says by which rule boxes are made, and what the graph does itself.
    """

    device: str
    config: Config
    _transform: Transform | None = field(init=False)

    @_transform.default
    def _of_model_config(self) -> Transform | None:
        follows = self.config.preprocessing == "model_config"
        return build_preprocessing_pipeline(self.config.model_config) if follows else None

    def predict(self, inputs: Mapping[str, Array], run: Run) -> dict[str, Array]:
        """Boxes in pixels of the image, their scores and labels, the best first."""
        return self.predict_batch([inputs], run)[0]

    def predict_batch(self, inputs: Sequence[Mapping[str, Array]], run: Run) -> list[dict[str, Array]]:
        """The same for several images, which go through the network together."""
        if not inputs:
            return []
        canvas = _canvas(run.components[COMPONENT])
        batch, placements = self._batch([frame["image"] for frame in inputs], canvas)
        answer = run(COMPONENT, images=torch.from_numpy(batch).to(self.device))
        suppressed = self.config.in_graph in ("nms", "efficient_nms")
        found = self._read(answer, placements, run) if suppressed else self._decode(answer, placements, canvas)
        return [self._prediction(each, run) for each in found]

    def _batch(self, images: Sequence[Array], canvas: Size) -> tuple[Array, list[Placement]]:
        if self._transform is not None:
            return prepare(images, canvas, self._transform)
        return letterbox(images, canvas, self.config.pad_value)

    def _decode(self, answer: Mapping[str, torch.Tensor], placements: Sequence[Placement], canvas: Size) -> list[Found]:
        rule = RULES[self.config.decoding]
        threshold, overlap = self.config.thresholds
        rows = answer["output"].detach().float()
        images = rows if rows.device.type != "cpu" else rows.numpy()
        cells = None if self.config.in_graph == "decode" else cells_of(canvas)
        return [
            rule(images[index], cells, placement, threshold=threshold, overlap=overlap)
            for index, placement in enumerate(placements)
        ]

    def _read(self, answer: Mapping[str, torch.Tensor], placements: Sequence[Placement], run: Run) -> list[Found]:
        """Boxes that the graph has found; it says how many, and what stands behind them is filling."""
        names = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")
        counts, boxes, scores, labels = (answer[name].detach().cpu().numpy() for name in names)
        full = int((counts[:, 0] >= scores.shape[1]).sum())
        if full:
            run.note("images_with_as_many_boxes_as_the_graph_gives", full)
        return [
            self._placed(boxes[index, :count], scores[index, :count], labels[index, :count], placement)
            for index, (count, placement) in enumerate(zip(counts[:, 0], placements, strict=True))
        ]

    def _placed(self, boxes: Array, scores: Array, labels: Array, placement: Placement) -> Found:
        if self.config.decoding == "autoware":
            boxes = whole(boxes, placement)
        else:
            boxes = boxes / np.array(placement.factors * 2, np.float32)
        good = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
        boxes, scores, labels = boxes[good], scores[good], labels[good]
        order = (-scores).argsort(kind="stable")
        boxes, scores, labels = boxes[order], scores[order].astype(np.float32), labels[order].astype(np.int64)
        return Found(boxes=boxes, scores=scores, labels=labels, broken=int((~good).sum()))

    def _prediction(self, found: Found, run: Run) -> dict[str, Array]:
        most = self.config.max_detections
        if found.broken:
            run.note("boxes_not_finite", found.broken)
        if most is not None and len(found.scores) > most:
            run.note("boxes_capped", len(found.scores) - most)
        return {"boxes": found.boxes[:most], "scores": found.scores[:most], "labels": found.labels[:most]}


def _canvas(component: Component) -> Size:
    """Height and width that the network wants; a config may have changed what the plugin says."""
    height, width = (size for size in component.inputs[0].shape[2:] if isinstance(size, int))
    return height, width
