"""LiDAR points as pixels, seen from above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["shaded"]

# From the ground up; hues are left to the classes.
_SHADES = np.array([(44, 54, 72), (62, 82, 108), (98, 126, 152), (150, 174, 194), (214, 226, 234)], np.float64)
_TALL = 4.0
"""Metres above the ground that the shades span."""
_DENSE = 8
"""Points in a pixel from which it has its full brightness."""


def shaded(
    points: NDArray[Any], size: int, reach: float, ground: tuple[int, int, int], shade: Literal["height", "intensity"]
) -> NDArray[np.uint8]:
    """Square pixels with the points in them, x up and y to the left.

    Args:
        points: Of shape (N, 3 or more): x, y, z, intensity; what is no number is left out.
        size: Pixels of a side.
        reach: Metres from the middle to an edge.
        ground: Colour where there are no points.
        shade: What the brightness says; the highest point of a pixel is the one that is seen.
    """
    pixels = np.full((size * size, 3), ground, np.float64)
    values = points[:, 3 if shade == "intensity" and points.shape[1] > 3 else 2].astype(np.float64)
    places = np.floor((reach - points[:, :2]) * (size / (2 * reach)))
    seen = np.isfinite(values) & ((places >= 0) & (places < size)).all(axis=1)
    if seen.any():
        cells = (places[seen, 0] * size + places[seen, 1]).astype(np.int64)
        level = _levels(values[seen], shade)
        order = np.argsort(level, kind="stable")
        top = np.zeros(size * size)
        top[cells[order]] = level[order]  # the last one written stays
        counts = np.bincount(cells, minlength=size * size)
        there = np.flatnonzero(counts)
        bright = 0.55 + 0.45 * np.minimum(np.log1p(counts[there]) / np.log1p(_DENSE), 1)
        pixels[there] += (_colours(top[there]) - ground) * bright[:, None]
    shaped: NDArray[np.uint8] = pixels.reshape(size, size, 3).astype(np.uint8)
    return shaped


def _levels(values: Floats, shade: str) -> Floats:
    """From 0 to 1; the ground is what nearly all points are above."""
    low, high = np.percentile(values, [5, 98])
    span = _TALL if shade == "height" else max(high - low, 1e-6)
    levels: Floats = np.clip((values - low) / span, 0, 1)
    return levels


def _colours(levels: Floats) -> Floats:
    steps = np.linspace(0, 1, len(_SHADES))
    return np.stack([np.interp(levels, steps, _SHADES[:, channel]) for channel in range(3)], axis=1)
