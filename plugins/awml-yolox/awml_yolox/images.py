"""Image files as the training saw them: blue green red bytes, read by OpenCV like mmcv's default.

Where files say more than that, OpenCV's `IMREAD_COLOR` decides: transparency is dropped without blending, one channel
is repeated three times, 16 bits become 8 (PNG keeps the high byte, TIFF rounds), a palette is looked up, and an image
with an orientation in its EXIF data is turned upright. Before OpenCV 5 WebP files are not turned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from awml_deploy_core.errors import LoadError

Array = np.ndarray[Any, np.dtype[Any]]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def read(path: Path, size: tuple[int, int] | None = None) -> Array:
    """Blue green red bytes, (height, width, 3).

    Args:
        path: The file; its name may hold any characters.
        size: Width and height that the annotations belong to, if that is known.

    Raises:
        LoadError: If the file is missing, no image, cut off, or of another size.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "Check runtime_io.img_prefix and runtime_io.data_root, and that the data set is complete."
        raise LoadError(f"{path}: the image cannot be read: {error.strerror}", hint=hint) from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if _whole(data) else None
    if image is None:
        raise LoadError(f"{path}: {_fault(data)}", hint="Fetch the file again, or take it out of the data set.")
    if size and (image.shape[1], image.shape[0]) != size:
        seen = f"{image.shape[1]}x{image.shape[0]}"
        turned = size == image.shape[:2]
        raise LoadError(
            f"{path}: is {seen} pixels, the annotations are for {size[0]}x{size[1]}",
            hint="Its EXIF data say that it stands on its side; annotate it upright, or remove the orientation."
            if turned
            else "Use the images that were annotated: boxes do not fit another size.",
        )
    return np.asarray(image)


def _fault(data: bytes) -> str:
    if not data:
        return "is empty"
    if data.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the image itself; run `git lfs pull`"
    return "is not a complete image"


def _whole(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end.

    OpenCV 4 fills what is missing of a JPEG with grey; of a PNG it writes to stderr, past every log.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data
    if not data.startswith(b"\xff\xd8"):
        return bool(data)
    at = 2
    # A thumbnail among the headers has an end of its own, so only what follows them counts.
    while data[at : at + 1] == b"\xff":
        if data[at + 1 : at + 2] == b"\xda":
            return data.rfind(b"\xff\xd9") > at
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
