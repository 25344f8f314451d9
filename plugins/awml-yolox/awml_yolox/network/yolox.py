"""The whole detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from awml_yolox.network.parts import Darknet, Pafpn, Towers

if TYPE_CHECKING:
    from awml_yolox.network.description import Architecture


class Yolox(nn.Module):
    """From images (batch, 3, height, width), blue-green-red from 0 to 255, to raw answers on three levels.

    Args:
        architecture: Which network.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.backbone = Darknet(architecture.backbone)
        self.neck = Pafpn(architecture.neck)
        self.bbox_head = Towers(architecture.head)

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """Class logits (batch, classes, h, w), raw boxes (.., 4, ..) and objectness logits (.., 1, ..) by level."""
        answers: tuple[tuple[Tensor, Tensor, Tensor], ...] = self.bbox_head(self.neck(self.backbone(images)))
        return answers


def build(architecture: Architecture) -> Yolox:
    """The network with fresh weights, in training mode."""
    return Yolox(architecture)
