"""What network a config means, and the grid that it looks at: AWML's model config where there is one, else our keys."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from awml_centerpoint.config import CLASS_NAMES, Range, Triple
from awml_deploy_core.errors import ConfigError

if TYPE_CHECKING:
    from awml_centerpoint.config import Config

__all__ = ["Architecture", "Geometry", "Norm", "architecture", "class_names", "geometry", "settled"]


@frozen(kw_only=True)
class Norm:
    """Constants of a batch norm.

    Args:
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics.
    """

    eps: float
    momentum: float


WIDE = Norm(eps=1e-3, momentum=0.01)
"""Of the published encoders, backbones and necks."""

FINE = Norm(eps=1e-5, momentum=0.1)
"""Of the published heads: torch's own, because their configs name none."""


@frozen(kw_only=True)
class Architecture:
    """Which CenterPoint.

    Args:
        columns: Columns of a point that the encoder sees before it is decorated.
        encoder: `pillar` or `backward`.
        with_cluster_center: Whether the offset from the mean of the pillar's points is added.
        with_voxel_center: Whether the offset from the pillar's centre is added.
        with_distance: Whether the distance from the sensor is added.
        feat_channels: Features after each layer of the encoder.
        backbone: `second` or `convnext_pc`.
        layer_nums: Layers of each stage.
        layer_strides: Stride of each stage.
        out_channels: Channels of each stage.
        levels: Stages whose maps the neck takes.
        upsample_strides: Growth of each of these maps in the neck.
        upsample_channels: Channels of each after the neck.
        use_conv_for_no_stride: Whether a map that keeps its size passes a convolution, not a transposed one.
        share_conv_channel: Channels of the convolution that all heads share.
        head_conv: Channels within a head.
        heads: Name, channels and convolutions of each map beside the heat map.
        heatmap_convs: Convolutions of the heat map's head.
        final_kernel: Kernel of the heads' convolutions.
        tasks: Number of classes of each group of heads.
        heatmap_bias: Where training starts the heat map's bias.
        encoder_norm: Constants of the encoder's norms.
        backbone_norm: Constants of the backbone's norms.
        neck_norm: Constants of the neck's norms.
        head_norm: Constants of the heads' norms.
    """

    columns: int = 4
    encoder: Literal["pillar", "backward"] = "pillar"
    with_cluster_center: bool = True
    with_voxel_center: bool = True
    with_distance: bool = False
    feat_channels: tuple[int, ...] = (32, 32)
    backbone: Literal["second", "convnext_pc"] = "second"
    layer_nums: tuple[int, ...] = (3, 5, 5)
    layer_strides: tuple[int, ...] = (1, 2, 2)
    out_channels: tuple[int, ...] = (64, 128, 256)
    levels: tuple[int, ...] = (0, 1, 2)
    upsample_strides: tuple[float, ...] = (0.5, 1, 2)
    upsample_channels: tuple[int, ...] = (128, 128, 128)
    use_conv_for_no_stride: bool = True
    share_conv_channel: int = 64
    head_conv: int = 64
    heads: tuple[tuple[str, int, int], ...] = (
        ("reg", 2, 2),
        ("height", 1, 2),
        ("dim", 3, 2),
        ("rot", 2, 2),
        ("vel", 2, 2),
    )
    heatmap_convs: int = 2
    final_kernel: int = 1
    tasks: tuple[int, ...] = (5,)
    heatmap_bias: float = -4.595
    encoder_norm: Norm = WIDE
    backbone_norm: Norm = WIDE
    neck_norm: Norm = WIDE
    head_norm: Norm = FINE

    @property
    def channels(self) -> int:
        """Channels of a decorated point: 9, 10 or 11 in the published encoders."""
        centre = (2 if self.encoder == "backward" else 3) if self.with_voxel_center else 0
        return self.columns + 3 * self.with_cluster_center + centre + self.with_distance

    @property
    def features(self) -> int:
        """Features of a pillar."""
        return self.feat_channels[-1]

    @property
    def strides(self) -> tuple[float, ...]:
        """Pillars to a cell of each map after the neck, along one side."""
        reached = tuple(accumulate(self.layer_strides, mul))
        return tuple(reached[level] / up for level, up in zip(self.levels, self.upsample_strides, strict=True))

    @property
    def coarsest(self) -> int:
        """Pillars to a cell of the coarsest map, of which a canvas must be a whole number along each side."""
        deepest: int = list(accumulate(self.layer_strides, mul))[-1]
        return deepest


@frozen(kw_only=True)
class Geometry:
    """The grid of pillars.

    Args:
        range: Metres: x, y, z of the low corner, then of the high one.
        voxel_size: Metres of a pillar in x, y and z.
        grid: Pillars along x, y and z.
        out_size_factor: Pillars to one cell of the heat map.
        max_num_points: Points that a pillar keeps.
        max_voxels: Pillars that a frame keeps.
        columns: Columns of the point file that the network sees.
        load_dim: Columns of the point file.
        sweeps: Earlier sweeps that are merged with the key frame.
    """

    range: Range
    voxel_size: Triple
    grid: tuple[int, int, int]
    out_size_factor: int
    max_num_points: int
    max_voxels: int
    columns: tuple[int, ...]
    load_dim: int
    sweeps: int


def settled(config: Config) -> Config:
    """The same config with everything filled in that its `model_config` says.

    Raises:
        ConfigError: If that file describes no network that this plugin knows.
    """
    if config.model_config is None:
        return config
    from awml_centerpoint.modelconfig import read

    return read(config.model_config).settle(config)


def class_names(config: Config) -> tuple[str, ...]:
    """Names of the classes in the order of the heat map's channels, over all tasks."""
    config = settled(config)
    return config.class_names or tuple(name for task in config.tasks for name in task) or CLASS_NAMES


def geometry(config: Config) -> Geometry:
    """The grid that a config means.

    Raises:
        ConfigError: If its model config is at fault.
    """
    config = settled(config)
    low, high = config.point_cloud_range[:3], config.point_cloud_range[3:]
    cells = [round((b - a) / size) for a, b, size in zip(low, high, config.voxel_size, strict=True)]
    return Geometry(
        range=config.point_cloud_range,
        voxel_size=config.voxel_size,
        grid=(cells[0], cells[1], cells[2]),
        out_size_factor=config.out_size_factor,
        max_num_points=config.max_num_points,
        max_voxels=config.max_voxels,
        columns=config.point_columns,
        load_dim=config.load_dim,
        sweeps=config.sweeps,
    )


def architecture(config: Config) -> Architecture:
    """The network that a config means.

    Raises:
        ConfigError: If its parts do not fit together, naming the numbers.
    """
    made = _from_keys(settled(config))
    if config.model_config is not None:
        from awml_centerpoint.modelconfig import read

        made = read(config.model_config).refine(made)
    where = f"{config.model_config}: " if config.model_config else ""
    faults = [*_stages(made), *_maps(made, geometry(config))]
    if faults:
        raise ConfigError(f"{where}{'; '.join(faults)}", hint="Correct the architecture to that of the weights.")
    return made


def _from_keys(config: Config) -> Architecture:
    second = config.backbone == "second"
    nums = config.layer_nums or ((3, 5, 5) if second else (3, 3, 2, 1, 1))
    strides = config.layer_strides or ((1, 2, 2) if second else (1,) + (2,) * (len(nums) - 1))
    wide = config.out_channels or ((64, 128, 256) if second else (config.feat_channels[-1], *(192,) * (len(nums) - 1)))
    conv = config.use_conv_for_no_stride
    groups = config.tasks or (class_names(config),)
    taken = len(nums) if second else len(config.upsample_channels)
    return Architecture(
        columns=len(config.point_columns),
        encoder=config.encoder,
        with_cluster_center=config.with_cluster_center,
        with_voxel_center=config.with_voxel_center,
        with_distance=config.with_distance,
        feat_channels=config.feat_channels,
        backbone=config.backbone,
        layer_nums=nums,
        layer_strides=strides,
        out_channels=wide,
        levels=tuple(range(len(nums)))[-taken:],
        upsample_strides=config.upsample_strides or ((0.5, 1.0, 2.0) if second else (1.0, 2.0, 4.0)),
        upsample_channels=config.upsample_channels,
        use_conv_for_no_stride=True if conv is None else conv,
        share_conv_channel=config.share_conv_channel,
        head_conv=config.head_conv,
        heads=tuple((name, channels, convs) for name, (channels, convs) in config.common_heads.items()),
        heatmap_convs=config.heatmap_convs,
        final_kernel=config.final_kernel,
        tasks=tuple(map(len, groups)),
    )


def _stages(made: Architecture) -> Iterator[str]:
    counts = {"layer_nums": made.layer_nums, "layer_strides": made.layer_strides, "out_channels": made.out_channels}
    if len({len(value) for value in counts.values()}) > 1:
        shown = ", ".join(f"{name} has {len(value)}" for name, value in counts.items())
        yield f"the backbone's stages differ in number: {shown}"
    if not len(made.levels) == len(made.upsample_strides) == len(made.upsample_channels):
        yield (
            f"the neck takes {len(made.levels)} maps, upsample_strides has {len(made.upsample_strides)} and "
            f"upsample_channels {len(made.upsample_channels)}"
        )
    if made.backbone == "convnext_pc":
        if made.out_channels[0] != made.features:
            yield f"out_channels begins with {made.out_channels[0]}, but a pillar has {made.features} features"
        if made.layer_strides[0] != 1 or any(stride != 2 for stride in made.layer_strides[1:]):
            yield f"layer_strides is {made.layer_strides}, but convnext_pc has 1 and then 2 at each stage"


def _maps(made: Architecture, grid: Geometry) -> Iterator[str]:
    if len(made.layer_strides) != len(made.out_channels) or len(made.upsample_strides) != len(made.levels):
        return  # said already
    if set(made.strides) != {grid.out_size_factor}:
        shown = ", ".join(f"{stride:g}" for stride in made.strides)
        yield f"the neck's maps have {shown} pillars to a cell, out_size_factor says {grid.out_size_factor}"
    if grid.grid[0] % made.coarsest or grid.grid[1] % made.coarsest:
        yield f"the grid of {grid.grid[0]} x {grid.grid[1]} pillars is no multiple of the backbone's {made.coarsest}"
    if grid.grid[2] != 1:
        yield f"a pillar must fill the range's height, voxel_size gives {grid.grid[2]} cells along z"
