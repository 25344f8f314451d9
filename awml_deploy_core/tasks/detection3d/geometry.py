"""Angles, corners and distances of boxes that stand upright."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["footprints", "nearest_corners", "plane_distances", "turn", "unsigned_heading"]

# Signs of half the length and half the width: front left, then counter-clockwise.
_CORNERS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2


def turn(one: Floats, other: Floats, period: float = 2 * np.pi) -> Floats:
    """The angle between two headings, from 0 to half of the period."""
    difference = np.abs(one - other) % period
    return np.minimum(difference, period - difference)


def unsigned_heading(yaw: Floats) -> Floats:
    """A heading that cannot tell left from right, since it comes from the length of a quaternion's vector part."""
    angle = 2 * np.arctan2(np.abs(np.sin(yaw / 2)), np.cos(yaw / 2))
    return _wrapped(-_wrapped(angle) - np.pi / 2)


def footprints(boxes: Floats, *, exchanged: bool = False) -> Floats:
    """The corners on the ground, shape (N, 4, 2): front left, rear left, rear right, front right.

    Args:
        boxes: x, y, z, l, w, h, yaw.
        exchanged: Take the length for the width and the width for the length.
    """
    sides = boxes[:, [4, 3]] if exchanged else boxes[:, [3, 4]]
    ahead, left = np.moveaxis(sides[:, None] * _CORNERS, 2, 0)
    cos, sin = np.cos(boxes[:, 6, None]), np.sin(boxes[:, 6, None])
    turned = np.stack([ahead * cos - left * sin, ahead * sin + left * cos], axis=2)
    corners: Floats = turned + boxes[:, None, :2]
    return corners


def nearest_corners(corners: Floats) -> Indices:
    """Which two corners of each footprint are nearest to the origin, shape (N, 2)."""
    return np.argsort(np.hypot(corners[..., 0], corners[..., 1]), axis=1, kind="stable")[:, :2]


def plane_distances(corners: Floats, others: Floats, near: Indices, opposed: NDArray[np.bool_]) -> Floats:
    """How far the sides that face the sensor lie apart: root mean square over two corners.

    Args:
        corners: Footprints of predictions.
        others: Footprints of their truths.
        near: Which corners of the truths count.
        opposed: Whether a prediction points the other way, so that its corners have changed places.
    """
    rows = np.arange(len(corners))[:, None]
    gaps = corners[rows, (near + 2 * opposed[:, None]) % 4] - others[rows, near]
    # Rounded, since a distance of exactly the threshold must not depend on the last bit.
    distances: Floats = np.round(np.sqrt(0.5 * np.square(gaps).sum(axis=(1, 2))), 10)
    return distances


def _wrapped(angle: Floats) -> Floats:
    wrapped: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped
