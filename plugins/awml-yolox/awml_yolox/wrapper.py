"""The face of the network: what stands in the exported graph behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from awml_deploy_core.errors import ConfigError
from awml_yolox.hooks import STRIDES
from awml_yolox.network.blocks import Conv
from awml_yolox.suppression import efficient_nms, suppress

if TYPE_CHECKING:
    from awml_deploy_core.records import Component
    from awml_yolox.hooks import Config


def wrap(model: nn.Module, component: Component, *, exact: bool, config: Config) -> nn.Module:
    """The network behind the tensors of the component.

    Args:
        model: The network; edited unless `exact`.
        component: Says the size of the image.
        exact: Whether the numbers must be those of the training.
        config: Says what stands behind the network.

    Raises:
        ConfigError: ReLU6 is to be replaced where there is none.
    """
    if config.replace_relu6 and not exact:
        replace_relu6(model)
    height, width = (size for size in component.inputs[0].shape[2:] if isinstance(size, int))
    rows = Rows(model, height, width, columns=5 + len(config.names))
    if config.in_graph == "outside":
        return rows
    decoded = Decoded(rows, height, width)
    if config.in_graph == "decode":
        return decoded
    rule = Detections if config.in_graph == "nms" else Plugin
    return rule(decoded, *config.thresholds, most=min(config.boxes_out, sum(rows.cells)))


def replace_relu6(model: nn.Module) -> None:
    """Put ReLU where ReLU6 was."""
    found = [conv for conv in model.modules() if isinstance(conv, Conv) and isinstance(conv.activate, nn.ReLU6)]
    if not found:
        raise ConfigError("replace_relu6 is set, but the network has no ReLU6", hint="Leave it out.")
    for conv in found:
        conv.activate = nn.ReLU()


class Rows(nn.Module):
    """One row per cell (B, N, 5 + C): raw box, objectness, classes; levels in the order of the strides, row by row.

    Sizes are numbers from the start, so that none has to be computed in the graph.
    """

    def __init__(self, model: nn.Module, height: int, width: int, *, columns: int) -> None:
        super().__init__()
        self.model = model
        self.columns = columns
        self.cells = tuple((height // stride) * (width // stride) for stride in STRIDES)

    def forward(self, images: Tensor) -> Tensor:
        """The rows."""
        levels = [
            torch.cat([boxes, objectness.sigmoid(), classes.sigmoid()], dim=1)
            for classes, boxes, objectness in self.model(images)
        ]
        flat = [level.reshape(-1, self.columns, cells) for level, cells in zip(levels, self.cells, strict=True)]
        return torch.cat(flat, dim=2).transpose(1, 2)


class Decoded(nn.Module):
    """The same rows with centre, width and height of the box in pixels of the network's image."""

    cells: Tensor
    strides: Tensor

    def __init__(self, rows: Rows, height: int, width: int) -> None:
        super().__init__()
        self.rows = rows
        grids = [torch.meshgrid(torch.arange(height // s), torch.arange(width // s), indexing="ij") for s in STRIDES]
        cells = torch.cat([torch.stack([across, down], dim=-1).reshape(-1, 2) for down, across in grids])
        strides = torch.cat([torch.full((count, 1), s) for count, s in zip(rows.cells, STRIDES, strict=True)])
        self.register_buffer("cells", cells.float()[None], persistent=False)
        self.register_buffer("strides", strides.float()[None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The rows."""
        rows = self.rows(images)
        centre = (rows[..., :2] + self.cells) * self.strides
        size = rows[..., 2:4].exp() * self.strides
        return torch.cat([centre, size, rows[..., 4:]], dim=2)


class Detections(nn.Module):
    """Boxes after standard ONNX's non-maximum suppression, by AWML's rule: the best class of each row, class by class.

    The outputs are those of TensorRT's plugin: how many boxes, their corners in pixels of the network's image, their
    scores and their classes; best first, zeros behind them.
    """

    classes: Tensor

    def __init__(self, decoded: Decoded, score: float, overlap: float, *, most: int) -> None:
        super().__init__()
        self.decoded, self.score, self.overlap, self.most = decoded, score, overlap, most
        self.register_buffer("classes", torch.arange(decoded.rows.columns - 5)[None, :, None], persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts, corners, scores, classes."""
        rows = self.decoded(images)
        half = rows[..., 2:4] / 2
        corners = torch.cat([rows[..., :2] - half, rows[..., :2] + half], dim=2)
        best, labels = rows[..., 5:].max(dim=2)
        scores = best * rows[..., 4]
        scores = torch.where(scores >= self.score, scores, 0.0)
        by_class = torch.where(labels[:, None] == self.classes, scores[:, None], 0.0)
        kept = suppress(corners, by_class, self.overlap, self.most).amax(dim=1)
        scores, rank = kept.topk(self.most, dim=1)
        found = scores > 0
        chosen = corners.gather(1, rank[..., None].repeat(1, 1, 4)) * found[..., None]
        count = found.int().sum(dim=1, keepdim=True, dtype=torch.int32)
        return count, chosen, scores, labels.gather(1, rank).int() * found.int()


class Plugin(nn.Module):
    """Boxes after TensorRT's plugin, with the same outputs; there every class above the threshold is a box."""

    def __init__(self, decoded: Decoded, score: float, overlap: float, *, most: int) -> None:
        super().__init__()
        self.decoded, self.score, self.overlap, self.most = decoded, score, overlap, most

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts, corners, scores, classes."""
        rows = self.decoded(images)
        scores = rows[..., 4:5] * rows[..., 5:]
        found: tuple[Tensor, Tensor, Tensor, Tensor] = efficient_nms(
            rows[..., :4], scores, self.score, self.overlap, self.most
        )
        return found
