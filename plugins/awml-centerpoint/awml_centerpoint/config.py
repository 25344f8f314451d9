"""Settings of this model: the grid, the network, the rule that makes boxes, the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from attrs import field, frozen, validators

from awml_deploy_core.config import Config as CoreConfig
from awml_deploy_core.config import at_least

__all__ = ["CLASS_NAMES", "DETECTOR", "ENCODER", "Config", "Range", "Triple"]

ENCODER = "pts_voxel_encoder"
"""The first graph: decorated points of a pillar to its features."""

DETECTOR = "pts_backbone_neck_head"
"""The second graph: pillar features on their grid to maps of boxes."""

CLASS_NAMES = ("car", "truck", "bus", "bicycle", "pedestrian")
"""The order of the heat map's channels, where a config does not name them."""

HEADS = {"reg": (2, 2), "height": (1, 2), "dim": (3, 2), "rot": (2, 2), "vel": (2, 2)}
"""What is regressed beside the heat map: channels and convolutions."""

LABELS = ("UNKNOWN", "CAR", "TRUCK", "BUS", "TRAILER", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN")
"""Autoware's classes, in the order of the rows and columns of its class remapper."""

Range = tuple[float, float, float, float, float, float]
Triple = tuple[float, float, float]


def _low_below_high(_instance: object, _attribute: object, value: Range) -> None:
    if not all(low < high for low, high in zip(value[:3], value[3:], strict=True)):
        raise ValueError(f"must be x, y, z of the low corner and then of the high one, got {value}")


def _positive(_instance: object, _attribute: object, value: Any) -> None:
    if value is not None and not (value and all(number > 0 for number in value)):
        raise ValueError(f"must be numbers above 0, got {value}")


def _columns(_instance: object, _attribute: object, value: tuple[int, ...]) -> None:
    if value[:3] != (0, 1, 2) or len(set(value)) != len(value) or min(value) < 0:
        raise ValueError(f"must begin with 0, 1, 2 (x, y, z) and name further columns once each, got {value}")


def _ascending(_instance: object, _attribute: object, value: tuple[float, ...]) -> None:
    if not value or list(value) != sorted(set(value)) or value[0] <= 0:
        raise ValueError(f"must be distances above 0 in ascending order, got {value}")


def _ranges(_instance: object, _attribute: object, value: tuple[tuple[float, float], ...]) -> None:
    if any(not 0 <= low < high for low, high in value):
        raise ValueError(f"must be pairs of ascending distances, got {value}")


def _areas(_instance: object, _attribute: object, value: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    for source, targets in value.items():
        for target, (low, high) in targets.items():
            unknown = {source.upper(), target.upper()} - set(LABELS)
            if unknown:
                raise ValueError(f"{', '.join(sorted(unknown))} is no class of Autoware; there are {', '.join(LABELS)}")
            if not 0 <= low < high:
                raise ValueError(f"{source} to {target}: areas must ascend from 0, got {low}, {high}")


def _heads(_instance: object, _attribute: object, value: Mapping[str, tuple[int, int]]) -> None:
    missing = [name for name in ("reg", "height", "dim", "rot") if name not in value]
    if missing or "heatmap" in value:
        wrong = f"lack {', '.join(missing)}" if missing else "name the heat map, whose channels follow from the classes"
        raise ValueError(f"the heads {wrong}")
    for name, (channels, convolutions) in value.items():
        if channels < 1 or convolutions < 1:
            raise ValueError(f"{name} must have at least 1 channel and 1 convolution, got {channels}, {convolutions}")


@frozen(kw_only=True)
class Config(CoreConfig):
    """Settings of this model beside the common ones. What `model_config` says of the network wins over them.

    Args:
        point_cloud_range: Metres that are looked at: x, y, z of the low corner, then of the high one.
        voxel_size: Metres of a pillar in x, y and z; the range must be a whole number of them.
        out_size_factor: Pillars to one cell of the heat map, along x and along y.
        max_num_points: Points that a pillar keeps. Autoware's node is compiled for 32.
        max_voxels: Pillars that a frame keeps.
        point_columns: Columns of the point file that the network sees, after x, y, z: 3 is intensity, 4 the time lag.
        load_dim: Columns of the point file.
        sweeps: Earlier sweeps that are merged with the key frame.
        encoder: `pillar` adds offsets from a pillar's centre in x, y and z, `backward` in x and y alone.
        with_cluster_center: Whether the encoder sees the offset from the mean of the pillar's points.
        with_voxel_center: Whether it sees the offset from the pillar's centre.
        with_distance: Whether it sees each point's distance from the sensor.
        feat_channels: Features after each layer of the encoder.
        backbone: `second` is the one of the released base models, `convnext_pc` that of the short-range ones.
        layer_nums: Layers of each stage of the backbone; None takes the backbone's own.
        layer_strides: Stride of each stage of `second`; None takes the backbone's own.
        out_channels: Channels of each stage; None takes the backbone's own.
        upsample_strides: Growth of each stage's map in the neck, below 1 for shrinking; None takes the backbone's own.
        upsample_channels: Channels of each stage's map after the neck.
        use_conv_for_no_stride: Whether the neck keeps a map's size by a convolution instead of a transposed one; None
            takes the backbone's own.
        share_conv_channel: Channels of the convolution that all heads share.
        head_conv: Channels within a head.
        common_heads: Channels and convolutions of each map beside the heat map, in the order of the trained heads.
        heatmap_convs: Convolutions of the heat map's head.
        final_kernel: Kernel of the heads' convolutions.
        tasks: Classes of each group of heads; empty puts all classes into one.
        rot_y_axis_reference: Whether boxes leave the graph as Autoware's node wants them: width before length, and
            heading from the y axis.
        max_batch: Largest number of frames that go through the second graph together.
        decoding: Whose rule turns maps into boxes: AWML's, or that of Autoware's node.
        score_threshold: Score that a box must exceed.
        top_k: Boxes that AWML's rule takes from the heat map before all else.
        nms: How AWML's rule thins boxes out: `circle` by the distance of centres, `rotate` by overlap seen from above.
        nms_threshold: Squared metres between centres for `circle`, overlap for `rotate`; None takes 1.0 and 0.2.
        pre_max_size: Boxes that go into `rotate`.
        post_max_size: Boxes that are left of a group of heads.
        post_center_range: Metres within which AWML's rule keeps a box's centre.
        score_distance_bins: Upper ends in metres of the distances for which Autoware's rule has scores of their own.
        score_thresholds: Scores by class, one for each of these distances; other classes take `score_threshold`.
        yaw_norm_thresholds: Least length of the heading vector in Autoware's rule, one for each class; None takes 0.3
            and for pedestrians 0.
        circle_nms_dist_threshold: Metres between centres in Autoware's rule (not squared).
        iou_nms_search_distance_2d: Metres within which Autoware's rule looks for overlap.
        iou_nms_threshold: Overlap that Autoware's rule allows.
        remap_by_area: For the hand-over to Autoware: square metres, from and to, at which a class is published as
            another one. Empty publishes what the network says.
        bundle_version: For the hand-over: the layout of the model bundle, which the node checks.
        metric: Figures as AWML gives them (`t4`) or as nuScenes does.
        t4_compat: Reproduce the order of box sides and the unsigned heading that AWML's evaluation uses.
        metric_ranges: Metres from the sensor between which boxes are judged apart; the last range gives the main
            figure, and its end is where nuScenes' figures stop. Empty takes AWML's: 50, 90 and 121.
        min_points: Least LiDAR points in a true box for it to count; None takes 0 for `t4` and 1 for `nuscenes`.
    """

    point_cloud_range: Range = field(default=(-122.4, -122.4, -3.0, 122.4, 122.4, 5.0), validator=_low_below_high)
    voxel_size: Triple = field(default=(0.24, 0.24, 8.0), validator=_positive)
    out_size_factor: int = field(default=2, validator=validators.ge(1))
    max_num_points: int = field(default=32, validator=validators.ge(1))
    max_voxels: int = field(default=96000, validator=validators.ge(1))
    point_columns: tuple[int, ...] = field(default=(0, 1, 2, 4), validator=_columns)
    load_dim: int = field(default=5, validator=validators.ge(3))
    sweeps: int = field(default=1, validator=validators.ge(0))
    encoder: Literal["pillar", "backward"] = "pillar"
    with_cluster_center: bool = True
    with_voxel_center: bool = True
    with_distance: bool = False
    feat_channels: tuple[int, ...] = field(default=(32, 32), validator=_positive)
    backbone: Literal["second", "convnext_pc"] = "second"
    layer_nums: tuple[int, ...] | None = field(default=None, validator=at_least(0))
    layer_strides: tuple[int, ...] | None = field(default=None, validator=_positive)
    out_channels: tuple[int, ...] | None = field(default=None, validator=_positive)
    upsample_strides: tuple[float, ...] | None = field(default=None, validator=_positive)
    upsample_channels: tuple[int, ...] = field(default=(128, 128, 128), validator=_positive)
    use_conv_for_no_stride: bool | None = None
    share_conv_channel: int = field(default=64, validator=validators.ge(1))
    head_conv: int = field(default=64, validator=validators.ge(1))
    common_heads: Mapping[str, tuple[int, int]] = field(factory=HEADS.copy, validator=_heads)
    heatmap_convs: int = field(default=2, validator=validators.ge(1))
    final_kernel: int = field(default=1, validator=validators.ge(1))
    tasks: tuple[tuple[str, ...], ...] = ()
    rot_y_axis_reference: bool = False
    max_batch: int = field(default=2, validator=validators.ge(1))
    decoding: Literal["awml", "autoware"] = "awml"
    score_threshold: float = field(default=0.1, validator=[validators.ge(0), validators.lt(1)])
    top_k: int = field(default=500, validator=validators.ge(1))
    nms: Literal["circle", "rotate"] = "circle"
    nms_threshold: float | None = field(default=None, validator=validators.optional(validators.ge(0)))
    pre_max_size: int = field(default=1000, validator=validators.ge(1))
    post_max_size: int = field(default=100, validator=validators.ge(1))
    post_center_range: Range = field(default=(-200.0, -200.0, -10.0, 200.0, 200.0, 10.0), validator=_low_below_high)
    score_distance_bins: tuple[float, ...] = field(default=(50.0, 90.0, 121.0, 200.0), validator=_ascending)
    score_thresholds: Mapping[str, tuple[float, ...]] = field(factory=dict)
    yaw_norm_thresholds: tuple[float, ...] | None = None
    circle_nms_dist_threshold: float = field(default=0.5, validator=validators.ge(0))
    iou_nms_search_distance_2d: float = field(default=10.0, validator=validators.ge(0))
    iou_nms_threshold: float = field(default=0.1, validator=validators.ge(0))
    remap_by_area: Mapping[str, Mapping[str, tuple[float, float]]] = field(factory=dict, validator=_areas)
    bundle_version: str = field(default="v4.1", validator=validators.matches_re(r"v4\.[1-9]\d*"))
    metric: Literal["t4", "nuscenes"] = "t4"
    t4_compat: bool = False
    metric_ranges: tuple[tuple[float, float], ...] = field(default=(), validator=_ranges)
    min_points: int | None = field(default=None, validator=validators.optional(validators.ge(0)))

    def __attrs_post_init__(self) -> None:
        faults = [*_range_faults(self), *_class_faults(self)]
        if faults:
            raise ValueError("; ".join(faults))


def _range_faults(config: Config) -> Iterator[str]:
    low, high = config.point_cloud_range[:3], config.point_cloud_range[3:]
    for axis, start, end, size in zip("xyz", low, high, config.voxel_size, strict=True):
        cells = (end - start) / size
        if abs(cells - round(cells)) > 1e-4:
            whole = max(1, round(cells))
            yield (
                f"point_cloud_range: {end - start:g} m along {axis} is {cells:.4g} voxels of {size:g} m, not a whole "
                f"number; Autoware's node would cut the last one off; {whole} of them are {whole * size:g} m"
            )
    if max(config.point_columns) >= config.load_dim:
        yield f"point_columns: {max(config.point_columns)} is beyond the file's {config.load_dim} columns (load_dim)"


def _class_faults(config: Config) -> Iterator[str]:
    known = config.class_names or (() if config.model_config else CLASS_NAMES)
    grouped = tuple(name for task in config.tasks for name in task)
    if known and grouped and grouped != known:
        yield f"tasks: they hold {', '.join(grouped)}, which is not class_names in order: {', '.join(known)}"
    for name, scores in config.score_thresholds.items():
        if known and name not in known:
            yield f"score_thresholds: {name!r} is no class; there are {', '.join(known)}"
        if len(scores) != len(config.score_distance_bins):
            yield f"score_thresholds.{name}: {len(scores)} scores for {len(config.score_distance_bins)} distances"
    if known and config.yaw_norm_thresholds is not None and len(config.yaw_norm_thresholds) != len(known):
        yield f"yaw_norm_thresholds: {len(config.yaw_norm_thresholds)} numbers for {len(known)} classes"
