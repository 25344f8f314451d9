"""The network as two modules whose arguments and results are the tensors of the two graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from awml_centerpoint.architecture import architecture
from awml_centerpoint.config import ENCODER
from awml_centerpoint.graphs import maps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from awml_centerpoint.config import Config

TURNED = {"dim": ((1, 0, 2), 1), "rot": ((1, 0), -1)}
"""Order and sign of channels in the y-axis form: (w, l, h), and (-cos, -sin)."""


class Detector(nn.Module):
    """Backbone, neck and heads, with maps in the order of the file.

    Args:
        model: The network, whose parts are used, not copied.
        order: For every task the names of its maps.
        turned: Whether boxes are given from the y axis.
    """

    def __init__(self, model: nn.Module, order: Sequence[Sequence[str]], *, turned: bool) -> None:
        super().__init__()
        self.pts_backbone = model.get_submodule("pts_backbone")
        self.pts_neck = model.get_submodule("pts_neck")
        self.pts_bbox_head = model.get_submodule("pts_bbox_head")
        self.order = tuple(tuple(names) for names in order)
        self.turned = turned
        device = next(model.parameters()).device
        for name, (places, _) in TURNED.items():
            self.register_buffer(f"{name}_order", torch.tensor(places, device=device), persistent=False)

    def forward(self, spatial_features: Tensor) -> tuple[Tensor, ...]:
        """The maps of every task, one after another."""
        tasks = self.pts_bbox_head(self.pts_neck(self.pts_backbone(spatial_features)))
        return tuple(self._laid(found, name) for found, names in zip(tasks, self.order, strict=True) for name in names)

    def _laid(self, found: Mapping[str, Tensor], name: str) -> Tensor:
        if not self.turned or name not in TURNED:
            return found[name]
        turned = found[name].index_select(1, self.get_buffer(f"{name}_order"))
        return -turned if TURNED[name][1] < 0 else turned


def wrap(model: nn.Module, component: str, config: Config) -> nn.Module:
    """The module behind one of the two graphs."""
    if component == ENCODER:
        return model.get_submodule(ENCODER)
    order = [list(named) for named in maps(architecture(config))]
    return Detector(model, order, turned=config.rot_y_axis_reference).eval()
