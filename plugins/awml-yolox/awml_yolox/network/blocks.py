"""What the networks are made of; attributes bear the names that their weights have in published files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional

from awml_yolox.network.description import EPS, Activation

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"ReLU6": nn.ReLU6, "ReLU": nn.ReLU, "Swish": nn.SiLU}


@frozen(kw_only=True)
class Style:
    """What all convolutions of a part of the network have in common."""

    activation: Activation
    depthwise: bool = False
    eps: float = EPS


class Conv(nn.Module):
    """A convolution that keeps the size (or divides it by its stride), a batch norm and an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        style: Style,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        padding = size // 2 * dilation
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=style.eps, momentum=0.03)
        self.activate = ACTIVATIONS[style.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same or of a smaller size."""
        features: Tensor = self.activate(self.bn(self.conv(x)))
        return features


class Split(nn.Module):
    """A convolution of each channel by itself, then one of each pixel by itself."""

    def __init__(self, inputs: int, outputs: int, size: int, style: Style, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = Conv(inputs, inputs, size, style, stride=stride, groups=inputs)
        self.pointwise_conv = Conv(inputs, outputs, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same or of a smaller size."""
        features: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return features


def conv3(inputs: int, outputs: int, style: Style, stride: int = 1) -> Conv | Split:
    """A 3 x 3 convolution, split in two where the style says so."""
    if style.depthwise:
        return Split(inputs, outputs, 3, style, stride=stride)
    return Conv(inputs, outputs, 3, style, stride=stride)


class Block(nn.Module):
    """Two convolutions, whose input may be added to their output."""

    def __init__(self, channels: int, first: int, style: Style, *, add: bool) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels, first, style)
        self.conv2 = conv3(channels, channels, style)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        y: Tensor = self.conv2(self.conv1(x))
        return y + x if self.add else y


class Layer(nn.Module):
    """Two ways through: one past the blocks, one through them. Subclasses differ in what they join of the latter."""

    first: int
    """Size of the first convolution of a block."""
    last_alone: bool
    """Whether only the last block's output is joined to the way past, not each block's."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, style: Style, *, add: bool = False, expand_ratio: float = 0.5
    ) -> None:
        super().__init__()
        middle = int(outputs * expand_ratio)
        self.main_conv = Conv(inputs, middle, 1, style)
        self.short_conv = Conv(inputs, middle, 1, style)
        self.blocks = nn.Sequential(*(Block(middle, self.first, style, add=add) for _ in range(blocks)))
        self.final_conv = Conv((2 if self.last_alone else blocks + 1) * middle, outputs, 1, style)


class Csp(Layer):
    """Joins the output of the last block and the way past them."""

    first = 1
    last_alone = True

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same size."""
        joined: Tensor = self.final_conv(torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], dim=1))
        return joined


class Elan(Layer):
    """Joins the way past the blocks and the output of each of them; what enters the first one is not joined."""

    first = 3
    last_alone = False

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same size."""
        passed = [self.short_conv(x)]
        x = self.main_conv(x)
        for block in self.blocks:
            x = block(x)
            passed.append(x)
        joined: Tensor = self.final_conv(torch.cat(passed, dim=1))
        return joined


class Spp(nn.Module):
    """The largest values within several distances, beside the values themselves."""

    def __init__(self, inputs: int, outputs: int, kernels: Sequence[int], style: Style) -> None:
        super().__init__()
        middle = inputs // 2
        self.conv1 = Conv(inputs, middle, 1, style)
        self.kernels = tuple(kernels)
        self.conv2 = Conv(middle * (len(self.kernels) + 1), outputs, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same size."""
        x = self.conv1(x)
        pooled = [functional.max_pool2d(x, kernel, 1, kernel // 2) for kernel in self.kernels]
        joined: Tensor = self.conv2(torch.cat([x, *pooled], dim=1))
        return joined


class Aspp(nn.Module):
    """Convolutions that reach several distances far, beside the mean of the whole image."""

    def __init__(self, channels: int, dilations: Sequence[int], style: Style) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(
            Conv(channels, channels, 1 if dilation == 1 else 3, style, dilation=dilation) for dilation in dilations
        )
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), Conv(channels, channels, 1, style))
        self.final_conv = Conv(channels * (len(dilations) + 1), channels, 3, style)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same size."""
        seen = [reach(x) for reach in self.aspp_modules]
        # Adding zeros of the image's size spreads the mean over it; a size in so many words would stay in the graph.
        pixels = x[:, :1]
        mean = self.global_avg_pool(x) + (pixels - pixels)
        joined: Tensor = self.final_conv(torch.cat([*seen, mean], dim=1))
        return joined


class Focus(nn.Module):
    """Folds 2 x 2 pixels into channels, then a convolution."""

    def __init__(self, outputs: int, style: Style) -> None:
        super().__init__()
        self.conv = Conv(12, outputs, 3, style)

    def forward(self, x: Tensor) -> Tensor:
        """Features of half the size."""
        # Down before right, as the weights know it.
        corners = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        folded: Tensor = self.conv(torch.cat(corners, dim=1))
        return folded


class Stem(nn.Module):
    """Two convolutions, the first of which halves the image."""

    def __init__(self, outputs: int, style: Style) -> None:
        super().__init__()
        self.conv = nn.Sequential(Conv(3, outputs, 3, style, stride=2), Conv(outputs, outputs, 3, style))

    def forward(self, x: Tensor) -> Tensor:
        """Features of half the size."""
        features: Tensor = self.conv(x)
        return features
