"""A model's `data_preprocessor`: what happens between the test pipeline and the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from awml_deploy_core.errors import ConfigError, LoadError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.preprocess.registry import Results, Transform

__all__ = ["finisher"]

_TYPES = (
    "BaseDataPreprocessor",
    "ClsDataPreprocessor",
    "Det3DDataPreprocessor",
    "DetDataPreprocessor",
    "ImgDataPreprocessor",
    "SegDataPreProcessor",
)
_ACTIVE = {
    "bgr_to_rgb",
    "mean",
    "pad_size_divisor",
    "pad_val",
    "pad_value",
    "rgb_to_bgr",
    "size",
    "size_divisor",
    "std",
    "test_cfg",
    "to_rgb",
}
_PASSED_BY = {
    "_scope_",
    "batch_augments",
    "batch_first",
    "batchwise_inputs",
    "boxtype2tensor",
    "mask_pad_value",
    "max_voxels",
    "non_blocking",
    "num_classes",
    "pad_mask",
    "pad_seg",
    "seg_pad_val",
    "seg_pad_value",
    "to_onehot",
    "type",
    "voxel",
    "voxel_layer",
    "voxel_type",
}
"""What speaks of training, of truths, of devices, or of voxels, which a pipeline makes of the points."""


def finisher(settings: Any, where: str = "") -> Transform:
    """The function that a `data_preprocessor` is for one sample at test time.

    Channels are turned round, then numbers are float32, then mean and deviation are applied, then the image is padded
    at the right and at the bottom. Points are passed on as they are.

    Args:
        settings: What stands in the config.
        where: What messages begin with.

    Raises:
        ConfigError: A setting is not known, or settings contradict each other.
    """
    name = f"{where}data_preprocessor"
    _check(settings, name)
    kind = _kind(settings)
    turn = any(settings.get(key) for key in ("bgr_to_rgb", "rgb_to_bgr", "to_rgb"))
    strict = kind in {"ImgDataPreprocessor", "DetDataPreprocessor", "Det3DDataPreprocessor"}
    numbers = _normal(settings, name)
    padding = _padding(settings, kind)

    def finish(image: NDArray[Any]) -> NDArray[Any]:
        if image.ndim != 3:
            raise LoadError(f"{name}: an image of three axes is wanted, this one has the shape {image.shape}")
        if turn and strict and len(image) != 3:
            raise LoadError(f"{name} turns three channels round, this image has {len(image)}")
        floats: NDArray[np.float32] = (image[::-1] if turn and len(image) == 3 else image).astype(np.float32)
        if numbers is not None:
            floats = (floats - numbers[0]) / numbers[1]
        return np.ascontiguousarray(_padded(floats, *padding))

    return _applied(None if kind == "BaseDataPreprocessor" else finish, name)


def _kind(settings: Mapping[str, Any]) -> str:
    return str(settings.get("type", "")).rpartition(".")[2]


def _check(settings: Any, name: str) -> None:
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}: a dict is wanted, got {type(settings).__name__}")
    if _kind(settings) not in ("", *_TYPES):
        near = nearest(_kind(settings), _TYPES)
        hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(_TYPES)}."
        raise ConfigError(f"{name}: there is no {_kind(settings)!r}", hint=hint)
    for key in settings:
        if key not in _ACTIVE | _PASSED_BY:
            near = nearest(str(key), _ACTIVE | _PASSED_BY)
            raise ConfigError(f"{name}: {key!r} is not known", hint=f"Did you mean {near!r}?" if near else None)
    if settings.get("bgr_to_rgb") and settings.get("rgb_to_bgr"):
        raise ConfigError(f"{name}: bgr_to_rgb and rgb_to_bgr cannot both be true")
    if (settings.get("mean") is None) != (settings.get("std") is None):
        raise ConfigError(f"{name}: mean and std belong together, and only one is set")


def _normal(settings: Mapping[str, Any], name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    if settings.get("mean") is None:
        return None
    mean, std = (np.asarray(settings[key], np.float32).reshape(-1, 1, 1) for key in ("mean", "std"))
    if mean.shape != std.shape or not np.all(std):
        raise ConfigError(f"{name}: mean and std must be of one length and no std 0")
    return mean, std


def _padding(settings: Mapping[str, Any], kind: str) -> tuple[Sequence[int] | None, int, float]:
    """Size as height and width, divisor and value; segmentation says apart what it pads at test time."""
    value = settings.get("pad_value", settings.get("pad_val", 0))
    if kind == "SegDataPreProcessor":
        test = settings.get("test_cfg") or {}
        return test.get("size"), test.get("size_divisor") or 1, value
    return None, settings.get("pad_size_divisor") or 1, value


def _padded(image: NDArray[Any], size: Sequence[int] | None, divisor: int, value: float) -> NDArray[Any]:
    have = image.shape[-2:]
    want = (
        [max(a, b) for a, b in zip(have, size, strict=True)]
        if size
        else [-(-edge // divisor) * divisor for edge in have]
    )
    return np.pad(image, ((0, 0), (0, want[0] - have[0]), (0, want[1] - have[1])), constant_values=value)


def _applied(finish: Any, name: str) -> Transform:
    def run(results: Results) -> Results:
        inputs = results.get("inputs")
        if inputs is None:
            raise LoadError(
                f"{name}: the test pipeline gives no 'inputs'", hint="It should end in a Pack... transform."
            )
        if finish is None:
            return results
        if isinstance(inputs, Mapping):
            return {**results, "inputs": {key: finish(one) if key == "img" else one for key, one in inputs.items()}}
        done = finish(np.asarray(inputs))
        meta = {**results.get("data_samples", {}), "pad_shape": done.shape[-2:], "batch_input_shape": done.shape[-2:]}
        return {**results, "inputs": done, "data_samples": meta}

    return run
