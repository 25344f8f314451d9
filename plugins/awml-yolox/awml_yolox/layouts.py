"""The names of weights: which network they are of, and mmdet's in place of Megvii's and tier4's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from awml_yolox.network.description import SIZES, Architecture, Kind, named

if TYPE_CHECKING:
    from torch import Tensor

# Of Megvii and of tier4's fork of it, whose stem is another; the first that fits is taken.
PARTS = (
    ("backbone.backbone.stem.down1.", "backbone.stem.conv.0."),
    ("backbone.backbone.stem.conv2.", "backbone.stem.conv.1."),
    ("backbone.backbone.stem.", "backbone.stem."),
    ("backbone.lateral_conv0.", "neck.reduce_layers.0."),
    ("backbone.reduce_conv1.", "neck.reduce_layers.1."),
    ("backbone.C3_p4.", "neck.top_down_blocks.0."),
    ("backbone.C3_p3.", "neck.top_down_blocks.1."),
    ("backbone.bu_conv2.", "neck.downsamples.0."),
    ("backbone.bu_conv1.", "neck.downsamples.1."),
    ("backbone.C3_n3.", "neck.bottom_up_blocks.0."),
    ("backbone.C3_n4.", "neck.bottom_up_blocks.1."),
    ("head.stems.", "neck.out_convs."),
    ("head.cls_convs.", "bbox_head.multi_level_cls_convs."),
    ("head.reg_convs.", "bbox_head.multi_level_reg_convs."),
    ("head.cls_preds.", "bbox_head.multi_level_conv_cls."),
    ("head.reg_preds.", "bbox_head.multi_level_conv_reg."),
    ("head.obj_preds.", "bbox_head.multi_level_conv_obj."),
)
INSIDE = {"conv1": "main_conv", "conv2": "short_conv", "conv3": "final_conv", "m": "blocks"}
SPLIT = {"dconv": "depthwise_conv", "pconv": "pointwise_conv"}

OTHERS = (
    ("pts_voxel_encoder.", "a CenterPoint"),
    ("pts_middle_encoder.", "a LiDAR detector"),
    ("backbone.layer1.", "a ResNet under mmpretrain's or mmdet's names"),
    ("layer1.", "a ResNet under torchvision's names"),
    ("rpn_head.", "a two-stage detector"),
    ("model.0.conv.", "a YOLO of Ultralytics"),
)


def renamed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Megvii's and tier4's names as mmdet's; other names stay."""
    if not any(name.startswith("backbone.backbone.") for name in tensors):
        return tensors
    # Whatever has a third convolution is a layer of blocks; spatial pooling and the blocks themselves have two.
    layers = tuple(name.removesuffix("conv3.conv.weight") for name in tensors if name.endswith(".conv3.conv.weight"))
    return {_renamed(name, layers): value for name, value in tensors.items()}


def _renamed(name: str, layers: tuple[str, ...]) -> str:
    for layer in layers:
        if name.startswith(layer):
            part, dot, rest = name.removeprefix(layer).partition(".")
            name = f"{layer}{INSIDE.get(part, part)}{dot}{rest}"
            break
    for theirs, ours in PARTS:
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
            break
    name = re.sub(r"^backbone\.backbone\.dark(\d)\.", lambda found: f"backbone.stage{int(found[1]) - 1}.", name)
    return ".".join(SPLIT.get(part, part) for part in name.split("."))


# ---------------------------------------------------------------- which network


@frozen(kw_only=True)
class Shape:
    """What tells one YOLOX from another.

    Args:
        kind: Of its layers.
        stem: Channels of the stem, which show how wide it is.
        blocks: Blocks of each stage, which show how deep it is.
        depthwise: Whether its convolutions are split.
    """

    kind: Kind
    stem: int
    blocks: tuple[int, ...]
    depthwise: bool

    def arch(self) -> str | None:
        """The published network that it is."""
        return next((arch for arch in SIZES if wanted_shape(named(arch)) == self), None)

    def called(self) -> str:
        """Its name, or its numbers."""
        arch = self.arch()
        if arch is not None:
            return "YOLOX_opt_ELAN" if arch == "opt-elan" else f"YOLOX-{arch}"
        family = "an ELAN YOLOX" if self.kind == "elan" else "a stock YOLOX"
        split = ", depthwise" if self.depthwise else ""
        return f"{family} ({self.stem} channels in the stem, {', '.join(map(str, self.blocks))} blocks{split})"

    def keys(self) -> str:
        """The settings that give it."""
        arch = self.arch()
        if arch is not None:
            return f"arch to {arch!r}"
        return f"arch{' to ' + repr('opt-elan') if self.kind == 'elan' else ''}, widen_factor and deepen_factor"


def wanted_shape(architecture: Architecture) -> Shape:
    """The shape of an architecture."""
    backbone = architecture.backbone
    blocks = tuple(stage.blocks for stage in backbone.stages)
    return Shape(kind=backbone.kind, stem=backbone.stem, blocks=blocks, depthwise=backbone.depthwise)


def shape_of(tensors: Mapping[str, Tensor]) -> Shape | None:
    """The shape of the network that weights under mmdet's names are of, or None if it is no YOLOX."""
    stems: dict[str, Kind] = {"backbone.stem.conv.0.conv.weight": "elan", "backbone.stem.conv.conv.weight": "csp"}
    stem = next((name for name in stems if name in tensors), None)
    if stem is None:
        return None
    split = any(".depthwise_conv." in name for name in tensors if name.startswith("backbone."))
    blocks = tuple(_highest(tensors, rf"backbone\.stage{stage}\.\d\.blocks\.(\d+)\.") + 1 for stage in range(1, 5))
    return Shape(kind=stems[stem], stem=len(tensors[stem]), blocks=blocks, depthwise=split)


def _highest(names: Iterable[str], pattern: str) -> int:
    found = (re.match(pattern, name) for name in names)
    return max((int(match[1]) for match in found if match), default=-1)


def foreign(tensors: Mapping[str, Tensor]) -> str:
    """What weights that are no YOLOX look like."""
    for prefix, what in OTHERS:
        if any(name.startswith(prefix) for name in tensors):
            return what
    first = ", ".join(list(tensors)[:3])
    return f"weights of an unknown network ({first}, ...)"
