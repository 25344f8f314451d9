"""Features of pillars onto the canvas that the second graph looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from awml_centerpoint.kit import kit_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["scatter"]


def scatter(features: Sequence[Tensor], coordinates: Sequence[Tensor], grid: tuple[int, int, int]) -> Tensor:
    """Canvases of (frames, channels, rows along y, columns along x), zero where no pillar is.

    Args:
        features: Of each frame's pillars, (pillars, 1, channels) as the encoder answers or without the 1.
        coordinates: z, y, x of each frame's pillars, (pillars, 3).
        grid: Cells along x, y and z.
    """
    kit = kit_of(features[0])
    (width, height, _), channels = grid, features[0].shape[-1]
    canvas = kit.zeros(features[0], (len(features), channels, height * width))
    for sheet, rows, place in zip(canvas, features, coordinates, strict=True):
        flat = place[:, 1].long() * width + place[:, 2]
        sheet[:, kit.own(flat)] = kit.own(rows.reshape(-1, channels).float()).T
    return kit.tensor(canvas).view(len(features), channels, height, width)
