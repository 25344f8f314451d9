"""Which network: every number that shapes it, and the numbers of the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

Arch = Literal["opt-elan", "nano", "tiny", "s", "m", "l", "x"]
Activation = Literal["ReLU6", "ReLU", "Swish"]
Kind = Literal["elan", "csp"]
Pooling = Literal["spp", "aspp"]

EPS = 1e-3
"""What every YOLOX adds to a variance, a hundred times torch's own number."""


@frozen(kw_only=True)
class Stage:
    """One stage of the backbone: a convolution that halves the image, and a layer of blocks.

    Args:
        channels: Channels that it gives.
        blocks: Blocks in its layer.
        expand_ratio: Share of the channels inside the layer.
        add_identity: Whether each block adds its input.
        pooling: What looks at several scales at once between the two.
    """

    channels: int
    blocks: int
    expand_ratio: float = 0.5
    add_identity: bool = True
    pooling: Pooling | None = None


@frozen(kw_only=True)
class Backbone:
    """Image to features.

    Args:
        kind: `elan` joins the outputs of all blocks and starts with two convolutions, `csp` joins that of the last
            one and starts by folding 2 x 2 pixels into channels.
        stem: Channels before the first stage.
        stages: The stages.
        out_indices: Stages whose features the neck is given, counted from 1; 0 is the stem.
        activation: The function after each convolution.
        depthwise: Whether 3 x 3 convolutions are split in two.
        dilations: Of `aspp`.
        kernels: Of `spp`.
        eps: Of the batch norms.
    """

    kind: Kind
    stem: int
    stages: tuple[Stage, ...]
    out_indices: tuple[int, ...] = (2, 3, 4)
    activation: Activation
    depthwise: bool = False
    dilations: tuple[int, ...] = (1, 6, 12, 18)
    kernels: tuple[int, ...] = (5, 9, 13)
    eps: float = EPS

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of the features for the neck."""
        channels = (self.stem, *(stage.channels for stage in self.stages))
        return tuple(channels[index] for index in self.out_indices)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of the features for the neck."""
        return tuple(2 ** (index + 1) for index in self.out_indices)


@frozen(kw_only=True)
class Neck:
    """Features of several sizes, each told what the others know.

    Args:
        kind: Of its layers, as in the backbone.
        inputs: Channels of the features.
        outputs: Channels that it gives on each level.
        blocks: Blocks in each of its layers.
        activation: The function after each convolution.
        depthwise: Whether 3 x 3 convolutions are split in two.
        eps: Of the batch norms.
    """

    kind: Kind
    inputs: tuple[int, ...]
    outputs: int
    blocks: int
    activation: Activation
    depthwise: bool = False
    eps: float = EPS


@frozen(kw_only=True)
class Head:
    """Features to classes, boxes and objectness, with weights of its own for each level.

    Args:
        classes: Number of classes.
        inputs: Channels of the features.
        features: Channels inside.
        convs: Convolutions of each of the two towers.
        levels: Number of levels.
        activation: The function after each convolution.
        depthwise: Whether 3 x 3 convolutions are split in two.
        eps: Of the batch norms.
    """

    classes: int
    inputs: int
    features: int
    convs: int = 2
    levels: int = 3
    activation: Activation
    depthwise: bool = False
    eps: float = EPS


@frozen(kw_only=True)
class Architecture:
    """A detector: backbone, neck and head, whose numbers must fit together.

    Args:
        backbone: Image to features.
        neck: Features to features.
        head: Features to boxes.
    """

    backbone: Backbone
    neck: Neck
    head: Head

    def __attrs_post_init__(self) -> None:
        if self.neck.inputs != self.backbone.outputs:
            raise ValueError(f"the neck takes {self.neck.inputs} channels, the backbone gives {self.backbone.outputs}")
        if self.head.inputs != self.neck.outputs:
            raise ValueError(f"the head takes {self.head.inputs} channels, the neck gives {self.neck.outputs}")
        if self.head.levels != len(self.neck.inputs):
            raise ValueError(f"the head has {self.head.levels} levels, the neck {len(self.neck.inputs)}")


ELAN_BLOCKS = (1, 3, 3, 1)
"""Blocks of the four stages, before a factor of 2 deepens them."""

ELAN_ADDS = (True, True, True, False)
"""Whether the blocks of the four stages add their input."""

SIZES: dict[Arch, tuple[float, float]] = {
    "opt-elan": (2.0, 1.0),
    "nano": (0.33, 0.25),
    "tiny": (0.33, 0.375),
    "s": (0.33, 0.5),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}
"""By how much each arch deepens and widens its table."""


def deepened(blocks: int, factor: float) -> int:
    """Blocks of a deeper or shallower network, at least one."""
    return max(round(blocks * factor), 1)


def named(
    arch: Arch,
    *,
    classes: int = 8,
    deepen_factor: float | None = None,
    widen_factor: float | None = None,
    activation: Activation | None = None,
    out_channels: int | None = None,
    feat_channels: int | None = None,
    stacked_convs: int | None = None,
    num_elan_blocks: int | None = None,
    stage_blocks: tuple[int, int, int, int] | None = None,
    add_identity: tuple[bool, bool, bool, bool] | None = None,
    expand_ratio: float | None = None,
    aspp: bool | None = None,
    depthwise: bool | None = None,
) -> Architecture:
    """A published network, or one that differs from it where a number is given.

    Args:
        arch: Its name.
        classes: Number of classes.
        deepen_factor: Multiplies the blocks of the backbone, and of a stock neck.
        widen_factor: Multiplies the channels of the backbone, and those of neck and head unless they are given.
        activation: The function after each convolution.
        out_channels: Channels that the neck gives.
        feat_channels: Channels inside the head.
        stacked_convs: Convolutions of each tower of the head.
        num_elan_blocks: Blocks in each layer of an ELAN neck.
        stage_blocks: Blocks of the four stages before deepening; ELAN only.
        add_identity: Whether blocks add their input, stage by stage; ELAN only.
        expand_ratio: Share of channels inside a layer of the backbone; ELAN only.
        aspp: Whether the first three stages look at several scales at once, and only the last adds; ELAN only.
        depthwise: Whether 3 x 3 convolutions are split in two.
    """
    own_depth, own_width = SIZES[arch]
    deepen = own_depth if deepen_factor is None else deepen_factor
    widen = own_width if widen_factor is None else widen_factor
    split = arch == "nano" if depthwise is None else depthwise
    kind: Kind = "elan" if arch == "opt-elan" else "csp"
    act: Activation = activation or ("ReLU6" if kind == "elan" else "Swish")
    if kind == "elan":
        expand = 0.5 if expand_ratio is None else expand_ratio
        stages = elan_stages(
            deepen, widen, blocks=stage_blocks, adds=add_identity, expand_ratio=expand, aspp=bool(aspp)
        )
        stem, width, blocks = 32, 128, num_elan_blocks or 2
    else:
        stages, stem, width, blocks = csp_stages(deepen, widen), 64, 256, deepened(3, deepen)
    outputs = out_channels or int(width * widen)
    backbone = Backbone(kind=kind, stem=int(stem * widen), stages=stages, activation=act, depthwise=split)
    neck = Neck(kind=kind, inputs=backbone.outputs, outputs=outputs, blocks=blocks, activation=act, depthwise=split)
    head = Head(
        classes=classes,
        inputs=outputs,
        features=feat_channels or outputs,
        convs=stacked_convs or 2,
        activation=act,
        depthwise=split,
    )
    return Architecture(backbone=backbone, neck=neck, head=head)


def elan_stages(
    deepen: float,
    widen: float,
    *,
    blocks: Sequence[int] | None = None,
    adds: Sequence[bool] | None = None,
    expand_ratio: float = 0.5,
    aspp: bool = False,
) -> tuple[Stage, ...]:
    """The four stages of an ELAN backbone; with `aspp` it is the last that adds, not the first three."""
    counts = ELAN_BLOCKS if blocks is None else blocks
    adding = tuple(add is not aspp for add in ELAN_ADDS) if adds is None else adds
    return tuple(
        Stage(
            channels=int(channels * widen),
            blocks=deepened(count, deepen),
            expand_ratio=expand_ratio,
            add_identity=add,
            pooling="aspp" if aspp and index < 3 else None,
        )
        for index, (channels, count, add) in enumerate(zip((64, 128, 256, 512), counts, adding, strict=True))
    )


def csp_stages(deepen: float, widen: float) -> tuple[Stage, ...]:
    """The four stages of a stock backbone: the last pools and does not add."""
    return tuple(
        Stage(
            channels=int(channels * widen),
            blocks=deepened(count, deepen),
            add_identity=channels < 1024,
            pooling="spp" if channels == 1024 else None,
        )
        for channels, count in ((128, 3), (256, 9), (512, 9), (1024, 3))
    )
