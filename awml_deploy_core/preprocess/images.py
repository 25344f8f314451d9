"""How test pipelines read, pad, crop and normalise images, number for number as mmcv does it with OpenCV.

An image is a numpy array (H, W) or (H, W, C) in `img`, blue first where OpenCV read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.preprocess.opencv import choice, only_opencv, opencv, two
from awml_deploy_core.preprocess.registry import Results, Transform, need, register_transform

__all__: list[str] = []

Image = NDArray[Any]

_READ = {
    "color": "IMREAD_COLOR",
    "grayscale": "IMREAD_GRAYSCALE",
    "unchanged": "IMREAD_UNCHANGED",
}
_BORDERS = {
    "constant": "BORDER_CONSTANT",
    "edge": "BORDER_REPLICATE",
    "reflect": "BORDER_REFLECT_101",
    "symmetric": "BORDER_REFLECT",
}


# ---------------------------------------------------------------- reading


@register_transform("LoadImageFromFile", "LoadImageFromNDArray")
def load_image(
    *,
    to_float32: bool = False,
    color_type: str = "color",
    imdecode_backend: str | None = "cv2",
    ignore_empty: bool = False,
    file_client_args: Any = None,  # noqa: ARG001  files are local here
    backend_args: Any = None,  # noqa: ARG001
) -> Transform:
    """Read `img_path`, turned as its EXIF data say, or take an `img` that is there already."""
    mode = choice("color_type", color_type, _READ)
    cv2 = only_opencv(imdecode_backend)
    if ignore_empty:
        raise ConfigError("ignore_empty makes samples disappear", hint="Leave it out.")

    def run(results: Results) -> Results:
        given = results.get("img")
        image = np.asarray(given) if given is not None else _read(cv2, need(results, "img_path"), mode)
        image = image.astype(np.float32) if to_float32 else image
        return {**results, "img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}

    return run


def _read(cv2: Any, path: Any, mode: str) -> Image:
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise LoadError(f"{path}: the image cannot be read: {error.strerror}") from error
    image: Image | None = cv2.imdecode(np.frombuffer(raw, np.uint8), getattr(cv2, mode)) if raw else None
    if image is None:
        raise LoadError(f"{path}: OpenCV does not know this as an image")
    return image


# ---------------------------------------------------------------- borders


@register_transform("Pad")
def pad(
    *,
    size: Sequence[int] | None = None,
    size_divisor: int | None = None,
    pad_to_square: bool = False,
    pad_val: Any = 0,
    padding_mode: str = "constant",
) -> Transform:
    """Add to the right and at the bottom: up to a size (width and height), a multiple, or a square."""
    cv2, border = opencv(), choice("padding_mode", padding_mode, _BORDERS)
    if size is not None and (pad_to_square or size_divisor is not None):
        raise ConfigError("size cannot be combined with pad_to_square or size_divisor")
    if size is None and size_divisor is None and not pad_to_square:
        raise ConfigError("one of size, size_divisor and pad_to_square is needed")
    fixed = None if size is None else two("size", size)[::-1]
    value = pad_val.get("img", 0) if isinstance(pad_val, Mapping) else pad_val

    def run(results: Results) -> Results:
        image = need(results, "img")
        edges = (max(image.shape[:2]),) * 2 if pad_to_square else image.shape[:2]
        if size_divisor is not None:
            edges = tuple(math.ceil(edge / size_divisor) * size_divisor for edge in edges)
        done = _bordered(cv2, image, fixed or edges, value, border)
        more = {"pad_shape": done.shape, "pad_fixed_size": size, "pad_size_divisor": size_divisor}
        return {**results, "img": done, "img_shape": done.shape[:2], **more}

    return run


def _bordered(cv2: Any, image: Image, edges: Sequence[int], value: Any, border: str) -> Image:
    down, across = (max(want - have, 0) for want, have in zip(edges, image.shape[:2], strict=True))
    channels = image.shape[2] if image.ndim == 3 else 1
    # OpenCV fills only the first of several channels where it is given one number.
    fill = (value,) * channels if isinstance(value, int | float) else tuple(value)
    if border == "BORDER_CONSTANT" and channels > 4:
        padded = np.pad(image, ((0, down), (0, across), (0, 0)))
        padded[image.shape[0] :], padded[:, image.shape[1] :] = fill, fill
        return padded
    done: Image = cv2.copyMakeBorder(image, 0, down, 0, across, getattr(cv2, border), value=fill)
    return done


@register_transform("CenterCrop")
def center_crop(
    *,
    crop_size: int | Sequence[int],
    auto_pad: bool = False,
    pad_cfg: Mapping[str, Any] | None = None,
    clip_object_border: bool = True,  # noqa: ARG001  truths are not carried
) -> Transform:
    """Cut out the middle, given as width and height; `auto_pad` first enlarges what is smaller."""
    wide, high = two("crop_size", crop_size)
    padding = {"type": "Pad", **(pad_cfg or {})}
    if str(padding.pop("type")).rpartition(".")[2] != "Pad":
        raise ConfigError("pad_cfg must be that of a Pad")

    def run(results: Results) -> Results:
        image = need(results, "img")
        if auto_pad and (image.shape[0] < high or image.shape[1] < wide):
            enough = max(image.shape[1], wide), max(image.shape[0], high)
            results = pad(**{**padding, "size": enough})(results)
            image = results["img"]
        top = max(0, round((image.shape[0] - min(high, image.shape[0])) / 2.0))
        left = max(0, round((image.shape[1] - min(wide, image.shape[1])) / 2.0))
        done = image[top : top + high, left : left + wide]
        return {**results, "img": done, "img_shape": done.shape[:2], "pad_shape": done.shape[:2]}

    return run


# ---------------------------------------------------------------- values


@register_transform("Normalize")
def normalize(*, mean: Sequence[float], std: Sequence[float], to_rgb: bool = True) -> Transform:
    """Subtract a mean and divide by a deviation per channel, after turning the channels round if `to_rgb`."""
    cv2 = opencv()
    middle, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if middle.shape != spread.shape or not spread.all():
        raise ConfigError("mean and std must be of one length and no std 0")

    def run(results: Results) -> Results:
        image = need(results, "img").astype(np.float32)
        if to_rgb:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        image = cv2.subtract(image, middle.reshape(1, -1).astype(np.float64))
        image = cv2.multiply(image, 1 / spread.reshape(1, -1).astype(np.float64))
        return {**results, "img": image, "img_norm_cfg": {"mean": middle, "std": spread, "to_rgb": to_rgb}}

    return run
