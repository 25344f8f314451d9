"""Pixels without an imaging library: numpy arrays to PNG, images to a size that a report can carry."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["bar", "encode_png", "fit"]

Pixels = NDArray[np.uint8]
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # channels: PNG's number for grey, RGB, RGBA


def encode_png(pixels: Pixels) -> bytes:
    """An 8-bit image of shape (H, W) or (H, W, 1 | 3 | 4) as a PNG file; equal pixels give equal bytes."""
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3} or not pixels.size:
        raise ValueError(f"a PNG needs uint8 pixels of shape (H, W) or (H, W, C), got {pixels.dtype} {pixels.shape}")
    rows = pixels.reshape(*pixels.shape[:2], -1)
    height, width, channels = rows.shape
    if channels not in _COLOUR_TYPES:
        raise ValueError(f"a PNG has 1, 3 or 4 channels, got {channels}")
    rows = rows.reshape(height, -1)
    # Filter 2, the difference to the row above: photographs shrink by about a third and numpy does it in one step.
    differences = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))
    scanlines = np.concatenate([np.full((height, 1), 2, np.uint8), differences], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def fit(image: NDArray[np.generic], longest: int = 960) -> Pixels:
    """An image of any element type as RGB bytes, thinned out until its longer side is at most `longest`.

    Bytes stay as they are; other types are stretched from their smallest to their largest finite value.
    """
    if image.ndim not in {2, 3} or not image.size or (image.ndim == 3 and image.shape[2] not in {1, 3}):
        raise ValueError(f"a picture needs an image of shape (H, W) or (H, W, 1 | 3), got {image.shape}")
    stride = -(-max(image.shape[:2]) // longest)
    thin = image.reshape(*image.shape[:2], -1)[::stride, ::stride]
    picture: Pixels = np.broadcast_to(_as_bytes(thin), (*thin.shape[:2], 3)).copy()
    return picture


def bar(width: int, fraction: float, colour: tuple[int, int, int], height: int = 12) -> Pixels:
    """A strip that is filled from the left up to the fraction; nothing is filled where it is not a number."""
    strip = np.full((height, width, 3), 40, np.uint8)
    filled = round(width * min(max(fraction, 0.0), 1.0)) if fraction == fraction else 0  # noqa: PLR0124  NaN
    strip[2:, :filled] = colour
    return strip


def _as_bytes(image: NDArray[np.generic]) -> Pixels:
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    visible: Pixels = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).astype(np.uint8)
    return visible


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
