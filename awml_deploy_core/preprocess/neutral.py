"""What stands in a test pipeline and does nothing there, or nothing but hold other transforms.

Something that could do more by chance is refused with what it would need to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.preprocess.registry import Results, Transform, build_all, build_one, register_transform

__all__: list[str] = []


def _same(results: Results) -> Results:
    return results


@register_transform(
    "DefaultFormatBundle",
    "DefaultFormatBundle3D",
    "FilterAnnotations",
    "ImageToTensor",
    "LoadAnnotations",
    "LoadAnnotations3D",
    "ObjectNameFilter",
    "ObjectRangeFilter",
    "ToTensor",
)
def passed_by(**_: Any) -> Transform:
    """Truths do not go through here, the data set hands them over; and what packs turns images round."""
    return _same


@register_transform("RandomFlip")
def random_flip(*, prob: Any = None, flip_ratio: Any = None, direction: Any = "horizontal") -> Transform:  # noqa: ARG001
    """Nothing, as the probability is 0 or not given."""
    for name, chance in (("prob", prob), ("flip_ratio", flip_ratio)):
        if any(chance) if isinstance(chance, Sequence) else chance:
            raise ConfigError(f"{name} {chance} leaves a flip to chance", hint=f"Set {name} to 0 in the test pipeline.")

    return lambda results: {**results, "flip": False, "flip_direction": None}


@register_transform("RandomFlip3D")
def random_flip_3d(
    *,
    sync_2d: bool = True,  # noqa: ARG001
    flip_ratio_bev_horizontal: float = 0.0,
    flip_ratio_bev_vertical: float = 0.0,
    flip_box3d: bool = True,  # noqa: ARG001
    **_: Any,
) -> Transform:
    """Nothing, as the probabilities are 0."""
    if flip_ratio_bev_horizontal or flip_ratio_bev_vertical:
        raise ConfigError(
            "a flip is left to chance",
            hint="Set flip_ratio_bev_horizontal and flip_ratio_bev_vertical to 0 in the test pipeline.",
        )
    return lambda results: {**results, "flip": False, "pcd_horizontal_flip": False, "pcd_vertical_flip": False}


@register_transform("GlobalRotScaleTrans")
def rotate_scale_move(
    *,
    rot_range: Any = (-0.78539816, 0.78539816),
    scale_ratio_range: Any = (0.95, 1.05),
    translation_std: Any = (0, 0, 0),
    shift_height: bool = False,  # noqa: ARG001
) -> Transform:
    """Nothing, as every range is a point: no rotation, a scale of 1, no move."""
    wanted = {
        "rot_range": (rot_range, 0),
        "scale_ratio_range": (scale_ratio_range, 1),
        "translation_std": (translation_std, 0),
    }
    for name, (given, neutral) in wanted.items():
        values = given if isinstance(given, Sequence) else [given]
        if any(one != neutral for one in values):
            raise ConfigError(
                f"{name} {given} changes the points by chance",
                hint="In a test pipeline: rot_range=[0, 0], scale_ratio_range=[1.0, 1.0], translation_std=[0, 0, 0].",
            )
    return lambda results: {"pcd_scale_factor": 1.0, **results}


@register_transform("Compose")
def compose(*, transforms: Any) -> Transform:
    """Several transforms as one."""
    return build_all(transforms, "transforms")


@register_transform("MultiScaleFlipAug3D")
def multi_scale_3d(
    *,
    transforms: Any,
    img_scale: Any = None,
    pts_scale_ratio: Any = 1.0,
    flip: bool = False,
    flip_direction: Any = "horizontal",  # noqa: ARG001
    pcd_horizontal_flip: bool = False,  # noqa: ARG001  only where flip is true
    pcd_vertical_flip: bool = False,  # noqa: ARG001
) -> Transform:
    """The transforms once, with one size of images; points are neither scaled nor flipped."""
    size = _only("img_scale", img_scale)
    if _only("pts_scale_ratio", pts_scale_ratio) != 1:
        raise ConfigError(f"pts_scale_ratio {pts_scale_ratio} would scale the points", hint="Set it to 1.")
    _no_flip(flip)
    inner = build_all(_decided(transforms), "transforms")
    about = {"flip": False, "pcd_scale_factor": 1.0, "pcd_horizontal_flip": False, "pcd_vertical_flip": False}
    return lambda results: inner({**results, **about, **({} if size is None else {"scale": size})})


@register_transform("MultiScaleFlipAug")
def multi_scale(
    *,
    transforms: Any,
    img_scale: Any = None,
    scales: Any = None,
    scale_factor: Any = None,
    flip: bool = False,
    allow_flip: bool = False,
    flip_direction: Any = "horizontal",  # noqa: ARG001
    resize_cfg: Mapping[str, Any] | None = None,
    flip_cfg: Any = None,  # noqa: ARG001
) -> Transform:
    """The transforms once, with one size: `img_scale` for a Resize among them, `scales` to resize before them."""
    _no_flip(flip or allow_flip)
    inner = build_all(_decided(transforms), "transforms")
    if img_scale is not None:
        size = _only("img_scale", img_scale)
        return lambda results: inner({**results, "flip": False, "scale": size})
    key, one = (
        ("scales", scales) if scales is not None else ("scale_factor", 1.0 if scale_factor is None else scale_factor)
    )
    first = {"type": "Resize", "keep_ratio": True, **(resize_cfg or {})}
    first["scale" if key == "scales" else "scale_factor"] = _only(key, one)
    before = build_one(first, "resize_cfg")
    return lambda results: inner({**before(results), "flip": False, "flip_direction": None})


@register_transform("TestTimeAug")
def test_time_augmentation(*, transforms: Any) -> Transform:
    """The transforms once, where each step has one choice."""
    steps = []
    for place, choices in enumerate(transforms):
        if isinstance(choices, Mapping) or len(choices) != 1:
            raise ConfigError(
                f"transforms[{place}]: a list of one choice is wanted, averaging over several is not done"
            )
        steps.append(choices[0])
    return build_all(steps, "transforms")


def _decided(transforms: Any) -> Any:
    """Flips within an augmentation do as it says, whatever their own probability."""
    if not isinstance(transforms, list | tuple):
        return transforms
    return [
        {key: value for key, value in step.items() if key != "prob" and not str(key).startswith("flip_ratio")}
        if isinstance(step, Mapping) and str(step.get("type")).rpartition(".")[2].startswith("RandomFlip")
        else step
        for step in transforms
    ]


def _only(name: str, given: Any) -> Any:
    """The one value of a setting that may be a list of several."""
    if isinstance(given, list) and (not given or isinstance(given[0], list | tuple | float)):
        if len(given) != 1:
            raise ConfigError(f"{name} must be one, got {len(given)}: averaging over several is not done")
        return given[0]
    return given


def _no_flip(flip: bool) -> None:
    if flip:
        raise ConfigError("flip would average over flipped inputs, which is not done", hint="Set it to False.")
