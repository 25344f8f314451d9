"""ResNet in plain torch, with mmpretrain's names for its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 5
"""Three colours, depth, intensity."""

STAGES: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Plain(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the next block."""
        skipped = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + skipped)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, beside a shortcut; the stride is in the middle one."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the next block."""
        skipped = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + skipped)


class Backbone(nn.Module):
    """The stem and four stages, each half the size and twice the width of the one before."""

    def __init__(self, depth: int, width: int, channels: int) -> None:
        super().__init__()
        block: type[Plain | Bottleneck] = Plain if depth < 50 else Bottleneck
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.features = width
        for stage, count in enumerate(STAGES[depth]):
            wide = width * 2**stage
            blocks = []
            for index in range(count):
                blocks.append(block(self.features, wide, 2 if stage and not index else 1))
                self.features = wide * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Features at a 32nd of the image's size."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(stage)(x)
        return x


class Head(nn.Module):
    """One linear layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.fc(x)
        return logits


class Classifier(nn.Module):
    """From images (batch, 5, height, width) to logits (batch, classes), of any height and width.

    Args:
        depth: 18, 34, 50 or 101.
        width: Channels of the first stage; 64 in the published networks.
        channels: Channels of the image.
        classes: Number of classes.
    """

    def __init__(self, depth: int = 18, width: int = 64, channels: int = CHANNELS, classes: int = 2) -> None:
        super().__init__()
        self.backbone = Backbone(depth, width, channels)
        self.head = Head(self.backbone.features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, no softmax."""
        pooled = functional.adaptive_avg_pool2d(self.backbone(x), 1)
        logits: Tensor = self.head(torch.flatten(pooled, 1))
        return logits
