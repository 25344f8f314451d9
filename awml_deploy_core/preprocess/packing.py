"""The ends of test pipelines: what the network gets, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.preprocess.registry import Results, Transform, need, register_transform

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__: list[str] = []

_IMAGE = ("sample_idx", "img_id", "img_path", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip")
_META = (*_IMAGE, "flip_direction")
_SEGMENTED = (*_META, "seg_map_path", "reduce_zero_label")
_META_3D = (
    *_META,
    "axis_align_matrix",
    "box_mode_3d",
    "box_type_3d",
    "cam2global",
    "cam2img",
    "depth2img",
    "ego2global",
    "img_norm_cfg",
    "lidar2cam",
    "lidar2img",
    "lidar_path",
    "num_pts_feats",
    "pcd_horizontal_flip",
    "pcd_scale_factor",
    "pcd_vertical_flip",
    "timestamp",
)


def _channels_first(image: Any) -> NDArray[Any]:
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise LoadError(f"an image of two or three axes is wanted, this one has the shape {array.shape}")
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _kept(results: Results, keys: Sequence[str]) -> Results:
    return {key: results[key] for key in keys if key in results}


@register_transform("PackDetInputs", "PackSegInputs")
def pack_image(*, meta_keys: Sequence[str] = _SEGMENTED) -> Transform:
    """The image with channels first as `inputs`."""
    return pack(meta_keys=meta_keys)


@register_transform("PackInputs")
def pack(*, input_key: str = "img", algorithm_keys: Sequence[str] = (), meta_keys: Sequence[str] = _META) -> Transform:
    """Any array as `inputs`, images with channels first."""
    return lambda results: {
        "inputs": _channels_first(need(results, input_key)),
        "data_samples": _kept(results, (*meta_keys, *algorithm_keys)),
    }


@register_transform("Collect")
def collect(*, keys: Sequence[str], meta_keys: Sequence[str] = _META) -> Transform:
    """What older pipelines say for `PackDetInputs`."""
    if "img" not in keys:
        raise ConfigError(f"keys {list(keys)} do not name 'img'")
    return pack(meta_keys=meta_keys)


@register_transform("Pack3DDetInputs", "Collect3D")
def pack_by_key(*, keys: Sequence[str], meta_keys: Sequence[str] = _META_3D, **_: Any) -> Transform:
    """Those of `points` and `img` that are asked for as `inputs`, by name; other keys are about truths."""
    wanted = [key for key in keys if key in {"points", "img"}]
    if not wanted:
        raise ConfigError(f"keys {list(keys)} name neither 'points' nor 'img'")

    def run(results: Results) -> Results:
        inputs = {key: _channels_first(need(results, key)) if key == "img" else need(results, key) for key in wanted}
        return {"inputs": inputs, "data_samples": _kept(results, meta_keys)}

    return run
