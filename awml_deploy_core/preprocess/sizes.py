"""How test pipelines resize images, number for number as mmcv does it with OpenCV.

An image is a numpy array (H, W) or (H, W, C) in `img`, blue first where OpenCV read it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from awml_deploy_core.errors import LoadError
from awml_deploy_core.preprocess.opencv import SMOOTH, Scale, choice, only_opencv, opencv, two
from awml_deploy_core.preprocess.registry import Results, Transform, need, register_transform

__all__: list[str] = []

Image = NDArray[Any]


@register_transform("Resize")
def resize(
    *,
    scale: Scale | None = None,
    scale_factor: float | Sequence[float] | None = None,
    keep_ratio: bool = False,
    clip_object_border: bool = True,  # noqa: ARG001  truths are not carried
    backend: str | None = "cv2",
    interpolation: str = "bilinear",
    img_scale: Any = None,
) -> Transform:
    """Resize to a size, given as width and height, or by a factor; with `keep_ratio` as large as fits into the size.

    `img_scale` is the older word for `scale`. Without any the size is the one that a surrounding `MultiScaleFlipAug`
    set.
    """
    smooth = choice("interpolation", interpolation, SMOOTH)
    cv2 = only_opencv(backend)
    asked = scale if scale is not None else img_scale
    fixed = None if asked is None else two("scale", asked)
    factors = (scale_factor, scale_factor) if isinstance(scale_factor, int | float) else scale_factor

    def run(results: Results) -> Results:
        high, wide = need(results, "img").shape[:2]
        target = fixed
        if target is None and factors is not None:
            target = _rounded(wide, high, factors[0], factors[1])
        elif target is None:
            target = two("scale", need(results, "scale"))
        size = _fitting(wide, high, target) if keep_ratio else target
        return {**_resized(cv2, results, size, smooth), "scale": target, "keep_ratio": keep_ratio}

    return run


@register_transform("ResizeEdge")
def resize_edge(
    *, scale: int, edge: str = "short", backend: str | None = "cv2", interpolation: str = "bilinear"
) -> Transform:
    """Resize so that one edge has a length, rounding the other one down."""
    smooth = choice("interpolation", interpolation, SMOOTH)
    choice("edge", edge, dict.fromkeys(("short", "long", "width", "height"), ""))
    cv2 = only_opencv(backend)

    def run(results: Results) -> Results:
        high, wide = need(results, "img").shape[:2]
        by_width = edge == "width" or (edge == "short" and wide < high) or (edge == "long" and wide > high)
        size = (scale, int(scale * high / wide)) if by_width else (int(scale * wide / high), scale)
        return {**_resized(cv2, results, size, smooth), "scale": size}

    return run


@register_transform("ResizeShortestEdge")
def resize_shortest_edge(
    *,
    scale: int | Sequence[int],
    max_size: int | None = None,
    resize_type: str = "Resize",
    backend: str | None = "cv2",
    interpolation: str = "bilinear",
    keep_ratio: bool = False,
) -> Transform:
    """Resize so that the shorter edge has a length, unless the longer one would exceed its own."""
    smooth = choice("interpolation", interpolation, SMOOTH)
    choice("resize_type", resize_type.rpartition(".")[2], {"Resize": ""})
    cv2 = only_opencv(backend)
    short = float(scale if isinstance(scale, int) else min(scale))

    def run(results: Results) -> Results:
        high, wide = need(results, "img").shape[:2]
        factor = short / min(high, wide)
        tall, broad = (short, factor * wide) if high < wide else (factor * high, short)
        if max_size and max(tall, broad) > max_size:
            shrink = max_size * 1.0 / max(tall, broad)
            tall, broad = tall * shrink, broad * shrink
        target = int(broad + 0.5), int(tall + 0.5)
        size = _fitting(wide, high, target) if keep_ratio else target
        return {**_resized(cv2, results, size, smooth), "scale": target, "keep_ratio": keep_ratio}

    return run


@register_transform("ResizeToMultiple")
def resize_to_multiple(*, size_divisor: int = 32, interpolation: str | None = None) -> Transform:
    """Enlarge both edges to the next multiple."""
    cv2 = opencv()
    smooth = choice("interpolation", interpolation or "bilinear", SMOOTH)

    def run(results: Results) -> Results:
        image = need(results, "img")
        high, wide = (math.ceil(edge / size_divisor) * size_divisor for edge in image.shape[:2])
        done = cv2.resize(image, (wide, high), interpolation=getattr(cv2, smooth))
        return {**results, "img": done, "img_shape": done.shape[:2], "pad_shape": done.shape[:2]}

    return run


def _rounded(wide: int, high: int, across: float, down: float) -> tuple[int, int]:
    return int(wide * float(across) + 0.5), int(high * float(down) + 0.5)


def _fitting(wide: int, high: int, target: tuple[int, int]) -> tuple[int, int]:
    """The largest size of this shape within a size, whichever way round that lies."""
    factor = min(max(target) / max(high, wide), min(target) / min(high, wide))
    return _rounded(wide, high, factor, factor)


def _resized(cv2: Any, results: Results, size: tuple[int, int], smooth: str) -> Results:
    image = need(results, "img")
    high, wide = image.shape[:2]
    if min(size) < 1:
        raise LoadError(f"an image of {wide} x {high} pixels would have none left")
    done = cv2.resize(image, size, interpolation=getattr(cv2, smooth))
    across, down = size[0] / wide, size[1] / high
    matrix = np.diag([across, down, 1.0]).astype(np.float32)
    before = results.get("homography_matrix")
    return {
        **results,
        "img": done,
        "img_shape": done.shape[:2],
        "scale_factor": (across, down),
        "homography_matrix": matrix if before is None else matrix @ before,
    }
