"""From one moment to a verdict on its calibration, whatever runs the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen

from awml_calibration.hooks import COMPONENT, Config
from awml_calibration.image import Array, View, compose

if TYPE_CHECKING:
    from awml_deploy_core.records import Run


@frozen(kw_only=True, eq=False)
class Status:
    """Draws the five channels, runs the network, turns logits into shares.

    Args:
        device: Where the network wants its image.
        config: Says how the image is drawn.
    """

    device: str
    config: Config

    def predict(self, inputs: View, run: Run) -> dict[str, Any]:
        """The label that the network holds more likely, and both shares."""
        return self.predict_batch([inputs], run)[0]

    def predict_batch(self, inputs: Sequence[View], run: Run) -> list[dict[str, Any]]:
        """The same for several moments; images of equal size go through the network together."""
        images = [self._draw(view) for view in inputs]
        answers: dict[int, dict[str, Any]] = {}
        for shape in dict.fromkeys(image.shape for image in images):
            chosen = [index for index, image in enumerate(images) if image.shape == shape]
            batch = torch.from_numpy(np.stack([images[index] for index in chosen])).to(self.device)
            shares = run(COMPONENT, input=batch)["output"].float().softmax(1).cpu().numpy()
            answers.update(zip(chosen, map(_verdict, shares), strict=True))
        return [answers[index] for index in range(len(images))]

    def _draw(self, view: View) -> Array:
        config = self.config
        return compose(view, order=config.channel_order, max_depth=config.max_depth, dilation=config.dilation_size)


def _verdict(shares: Array) -> dict[str, Any]:
    return {"label": int(shares.argmax()), "scores": shares}
