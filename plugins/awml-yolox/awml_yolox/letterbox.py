"""Images onto the network's canvas: as large as fits, in the top-left corner, the rest grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from attrs import frozen

Array = np.ndarray[Any, np.dtype[Any]]
Size = tuple[int, int]


@frozen(kw_only=True)
class Placement:
    """Where an image lies on the canvas, which is always its top-left corner.

    Args:
        image: Height and width of the image itself.
        factors: Pixels of the canvas per pixel of the image, across and down; rounding makes them differ a little.
        scale: The one factor that was aimed at.
    """

    image: Size
    factors: tuple[float, float]
    scale: float


def fit(image: Size, canvas: Size) -> Size:
    """Height and width that an image has on the canvas; sizes are rounded half up, as mmcv rounds them."""
    scale = min(canvas[0] / image[0], canvas[1] / image[1])
    return max(1, int(image[0] * scale + 0.5)), max(1, int(image[1] * scale + 0.5))


def place(image: Size, canvas: Size) -> Placement:
    """What became of an image of that height and width."""
    there = fit(image, canvas)
    scale = min(canvas[0] / image[0], canvas[1] / image[1])
    return Placement(image=image, factors=(there[1] / image[1], there[0] / image[0]), scale=scale)


def letterbox(images: Sequence[Array], canvas: Size, grey: int = 114) -> tuple[Array, list[Placement]]:
    """One batch out of several images.

    Args:
        images: Blue green red bytes, (height, width, 3), of any sizes.
        canvas: Height and width of the network's input.
        grey: What stands beside and below an image.

    Returns:
        float32 (images, 3, height, width), blue green red from 0 to 255; and where each image lies.
    """
    batch = np.empty((len(images), 3, *canvas), np.float32)
    placements = []
    for image, target in zip(images, batch, strict=True):
        size = (image.shape[0], image.shape[1])
        height, width = there = fit(size, canvas)
        target[:, height:], target[:, :height, width:] = grey, grey
        small = image if there == size else cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        # OpenCV separates colours faster than numpy walks across them, and the copy turns bytes into float32.
        for plane, colour in zip(target, cv2.split(small), strict=True):
            plane[:height, :width] = colour
        placements.append(place(size, canvas))
    return batch, placements
