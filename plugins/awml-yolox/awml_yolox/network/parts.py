"""Backbone, neck and head."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from awml_yolox.network.blocks import Aspp, Conv, Csp, Elan, Focus, Layer, Spp, Stem, Style, conv3

if TYPE_CHECKING:
    from awml_yolox.network.description import Backbone, Head, Kind, Neck, Stage

LAYERS: dict[Kind, type[Layer]] = {"elan": Elan, "csp": Csp}

PRIOR = 0.01
"""What classes and objectness say of a cell before any training."""


class Darknet(nn.Module):
    """Image to features of several sizes."""

    def __init__(self, wanted: Backbone) -> None:
        super().__init__()
        style = Style(activation=wanted.activation, depthwise=wanted.depthwise, eps=wanted.eps)
        plain = Style(activation=wanted.activation, eps=wanted.eps)
        self.stem: nn.Module = Stem(wanted.stem, plain) if wanted.kind == "elan" else Focus(wanted.stem, plain)
        inputs = wanted.stem
        for index, stage in enumerate(wanted.stages, 1):
            self.add_module(f"stage{index}", _stage(inputs, stage, wanted, style, plain))
            inputs = stage.channels
        self.out_indices = wanted.out_indices

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features, the largest first."""
        found = []
        for index, (_, stage) in enumerate(self.named_children()):
            x = stage(x)
            if index in self.out_indices:
                found.append(x)
        return tuple(found)


def _stage(inputs: int, stage: Stage, wanted: Backbone, style: Style, plain: Style) -> nn.Sequential:
    outputs = stage.channels
    parts: list[nn.Module] = [conv3(inputs, outputs, style, stride=2)]
    if stage.pooling == "spp":
        parts.append(Spp(outputs, outputs, wanted.kernels, plain))
    elif stage.pooling == "aspp":
        parts.append(Aspp(outputs, wanted.dilations, plain))
    layer = LAYERS[wanted.kind]
    parts.append(layer(outputs, outputs, stage.blocks, style, add=stage.add_identity, expand_ratio=stage.expand_ratio))
    return nn.Sequential(*parts)


class Pafpn(nn.Module):
    """Features of several sizes: from the small ones up, and from the large ones down again."""

    def __init__(self, wanted: Neck) -> None:
        super().__init__()
        style = Style(activation=wanted.activation, depthwise=wanted.depthwise, eps=wanted.eps)
        plain = Style(activation=wanted.activation, eps=wanted.eps)
        layer, blocks, steps = LAYERS[wanted.kind], wanted.blocks, list(pairwise(wanted.inputs))
        down = list(reversed(steps))
        self.reduce_layers = nn.ModuleList(Conv(high, low, 1, plain) for low, high in down)
        self.top_down_blocks = nn.ModuleList(layer(2 * low, low, blocks, style) for low, _ in down)
        self.downsamples = nn.ModuleList(conv3(low, low, style, stride=2) for low, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(layer(2 * low, high, blocks, style) for low, high in steps)
        self.out_convs = nn.ModuleList(Conv(width, wanted.outputs, 1, plain) for width in wanted.inputs)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Features of the same sizes with one number of channels."""
        x, reduced = features[-1], []
        for reduce, block, beside in zip(self.reduce_layers, self.top_down_blocks, features[-2::-1], strict=True):
            reduced.append(reduce(x))
            larger = functional.interpolate(reduced[-1], scale_factor=2.0, mode="nearest")
            x = block(torch.cat([larger, beside], dim=1))
        found = [x]
        for shrink, block, beside in zip(self.downsamples, self.bottom_up_blocks, reversed(reduced), strict=True):
            found.append(block(torch.cat([shrink(found[-1]), beside], dim=1)))
        return tuple(conv(x) for conv, x in zip(self.out_convs, found, strict=True))


class Towers(nn.Module):
    """Features to classes, boxes and objectness, level by level."""

    def __init__(self, wanted: Head) -> None:
        super().__init__()
        levels = range(wanted.levels)
        self.multi_level_cls_convs = nn.ModuleList(_tower(wanted) for _ in levels)
        self.multi_level_reg_convs = nn.ModuleList(_tower(wanted) for _ in levels)
        self.multi_level_conv_cls = nn.ModuleList(nn.Conv2d(wanted.features, wanted.classes, 1) for _ in levels)
        self.multi_level_conv_reg = nn.ModuleList(nn.Conv2d(wanted.features, 4, 1) for _ in levels)
        self.multi_level_conv_obj = nn.ModuleList(nn.Conv2d(wanted.features, 1, 1) for _ in levels)
        for conv in (*self.multi_level_conv_cls, *self.multi_level_conv_obj):
            nn.init.constant_(conv.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """Class logits, raw boxes and objectness logits of each level."""
        found = []
        for level, x in enumerate(features):
            classes = self.multi_level_cls_convs[level](x)
            boxes = self.multi_level_reg_convs[level](x)
            found.append(
                (
                    self.multi_level_conv_cls[level](classes),
                    self.multi_level_conv_reg[level](boxes),
                    self.multi_level_conv_obj[level](boxes),
                )
            )
        return tuple(found)


def _tower(wanted: Head) -> nn.Sequential:
    style = Style(activation=wanted.activation, depthwise=wanted.depthwise, eps=wanted.eps)
    widths = (wanted.inputs, *[wanted.features] * (wanted.convs - 1))
    return nn.Sequential(*(conv3(width, wanted.features, style) for width in widths))
