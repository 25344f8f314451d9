"""A sample as people want to see it: the image with the points on it, coloured by depth."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from awml_calibration.image import Array, View, paint, project, rectify

NEAREST, FARTHEST = 3.0, 80.0
"""Metres at the two ends of the colours."""

LONGEST = 960
"""Pixels of a report's picture."""


def overlay(view: View, max_depth: float) -> Array:
    """Red green blue bytes; red is near, blue is far, on a logarithmic scale.

    A small image is enlarged first, so that the points can be told apart.
    """
    image, camera = rectify(view.image, view.camera, view.distortion)
    scale = max(LONGEST // max(image.shape), 1)
    size = (scale * image.shape[1], scale * image.shape[0])
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))
    pixels, depth, _ = project(view.points, view.lidar_to_camera, np.diag([scale, scale, 1]) @ camera, size, max_depth)
    values = np.vstack([_colours(depth).T, np.ones((1, len(depth)), np.uint8)])
    marked = paint(pixels, depth, values, size, dilation=max(max(size) // LONGEST, 1)).transpose(1, 2, 0)
    seen = np.where(marked[..., 3:] > 0, (0.2 * image + 0.8 * marked[..., :3]).astype(np.uint8), image)
    return np.ascontiguousarray(seen[..., ::-1])


def _colours(depth: Array) -> Array:
    far = np.log(np.clip(depth, NEAREST, FARTHEST) / NEAREST) / np.log(FARTHEST / NEAREST)
    scale: Any = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)
    return np.asarray(scale[(255 * (1 - far)).astype(np.uint8), 0])
