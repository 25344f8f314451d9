"""The networks against the published names and sizes, and a forward pass written out from the names alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from awml_yolox.network import Yolox, build, named
from awml_yolox.network.description import SIZES, Arch, Architecture

Weights = dict[str, Tensor]
NORM = ("weight", "bias", "running_mean", "running_var")


def shaken(architecture: Architecture) -> Yolox:
    """A network whose every number matters: fresh batch norms would hide a swapped mean and variance."""
    torch.manual_seed(5)
    model = build(architecture).double().eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model


class WrittenOut:
    """A forward pass over a table of weights; the shape of the network is read from their names."""

    def __init__(self, weights: Weights, act: Callable[[Tensor], Tensor], adds: tuple[bool, ...]) -> None:
        self.weights, self.act, self.adds = weights, act, adds

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.weights)

    def count(self, name: str) -> int:
        return next(index for index in range(99) if not self.has(f"{name}.{index}"))

    def conv(self, x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
        if self.has(f"{name}.depthwise_conv"):
            return self.conv(self.conv(x, f"{name}.depthwise_conv", stride), f"{name}.pointwise_conv")
        kernel = self.weights[f"{name}.conv.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = functional.conv2d(x, kernel, None, stride, kernel.shape[2] // 2 * dilation, dilation, groups)
        scale, shift, mean, variance = (self.weights[f"{name}.bn.{part}"][None, :, None, None] for part in NORM)
        return self.act((x - mean) / torch.sqrt(variance + 1e-3) * scale + shift)

    def layer(self, x: Tensor, name: str, *, add: bool) -> Tensor:
        """A CSP layer joins the last block with the way past, ELAN the way past with every block."""
        short, main = self.conv(x, f"{name}.short_conv"), self.conv(x, f"{name}.main_conv")
        steps = []
        for index in range(self.count(f"{name}.blocks")):
            found = self.conv(self.conv(main, f"{name}.blocks.{index}.conv1"), f"{name}.blocks.{index}.conv2")
            main = found + main if add else found
            steps.append(main)
        elan = self.weights[f"{name}.blocks.0.conv1.conv.weight"].shape[2] == 3
        return self.conv(torch.cat([short, *steps] if elan else [main, short], 1), f"{name}.final_conv")

    def stage(self, x: Tensor, number: int) -> Tensor:
        name = f"backbone.stage{number}"
        x = self.conv(x, f"{name}.0", stride=2)
        middle = f"{name}.1"
        if self.has(f"{middle}.aspp_modules"):
            reach = [self.conv(x, f"{middle}.aspp_modules.{i}", dilation=d) for i, d in enumerate((1, 6, 12, 18))]
            mean = self.conv(x.mean((2, 3), keepdim=True), f"{middle}.global_avg_pool.1").expand_as(reach[0])
            x = self.conv(torch.cat([*reach, mean], 1), f"{middle}.final_conv")
        elif self.has(f"{middle}.conv2"):
            x = self.conv(x, f"{middle}.conv1")
            pooled = [nn.MaxPool2d(size, 1, size // 2)(x) for size in (5, 9, 13)]
            x = self.conv(torch.cat([x, *pooled], 1), f"{middle}.conv2")
        return self.layer(x, f"{name}.{2 if self.has(f'{name}.2') else 1}", add=self.adds[number - 1])

    def __call__(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        if self.has("backbone.stem.conv.1"):
            x = self.conv(self.conv(x, "backbone.stem.conv.0", stride=2), "backbone.stem.conv.1")
        else:
            upper_left, upper_right = x[..., ::2, ::2], x[..., ::2, 1::2]
            lower_left, lower_right = x[..., 1::2, ::2], x[..., 1::2, 1::2]
            x = self.conv(torch.cat([upper_left, lower_left, upper_right, lower_right], 1), "backbone.stem.conv")
        features = [x := self.stage(x, number) for number in (1, 2, 3, 4)]
        _, c3, c4, c5 = features
        r0 = self.conv(c5, "neck.reduce_layers.0")
        t0 = self.layer(torch.cat([twice(r0), c4], 1), "neck.top_down_blocks.0", add=False)
        r1 = self.conv(t0, "neck.reduce_layers.1")
        p3 = self.layer(torch.cat([twice(r1), c3], 1), "neck.top_down_blocks.1", add=False)
        down = self.conv(p3, "neck.downsamples.0", stride=2)
        p4 = self.layer(torch.cat([down, r1], 1), "neck.bottom_up_blocks.0", add=False)
        down = self.conv(p4, "neck.downsamples.1", stride=2)
        p5 = self.layer(torch.cat([down, r0], 1), "neck.bottom_up_blocks.1", add=False)
        return [self.head(self.conv(p, f"neck.out_convs.{i}"), i) for i, p in enumerate((p3, p4, p5))]

    def head(self, x: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        towers = {}
        for tower in ("cls", "reg"):
            towers[tower] = x
            for index in range(self.count(f"bbox_head.multi_level_{tower}_convs.{level}")):
                name = f"bbox_head.multi_level_{tower}_convs.{level}.{index}"
                towers[tower] = self.conv(towers[tower], name)
        sources = {"cls": "cls", "reg": "reg", "obj": "reg"}
        cls, reg, obj = (self.last(towers[tower], what, level) for what, tower in sources.items())
        return cls, reg, obj

    def last(self, x: Tensor, what: str, level: int) -> Tensor:
        kernel, bias = (
            self.weights[f"bbox_head.multi_level_conv_{what}.{level}.{part}"] for part in ("weight", "bias")
        )
        return torch.einsum("bihw,oi->bohw", x, kernel[:, :, 0, 0]) + bias[None, :, None, None]


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def relu6(x: Tensor) -> Tensor:
    return x.clamp(0, 6)


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


@pytest.mark.parametrize(
    ("architecture", "act", "adds"),
    [
        (named("opt-elan", widen_factor=0.25), relu6, (True, True, True, False)),
        (named("opt-elan", widen_factor=0.125, aspp=True, activation="Swish"), swish, (False, False, False, True)),
        (
            named(
                "opt-elan",
                classes=3,
                deepen_factor=1,
                widen_factor=0.125,
                activation="ReLU",
                out_channels=20,
                feat_channels=12,
                stacked_convs=3,
                num_elan_blocks=1,
                stage_blocks=(2, 1, 1, 3),
                add_identity=(False, True, False, True),
                expand_ratio=0.25,
                depthwise=True,
            ),
            torch.relu,
            (False, True, False, True),
        ),
        (named("nano"), swish, (True, True, True, False)),
        (named("s", widen_factor=0.25, classes=2), swish, (True, True, True, False)),
    ],
    ids=["opt-elan", "aspp", "every field", "nano", "stock"],
)
def test_forward_is_what_the_weights_say(
    architecture: Architecture, act: Callable[[Tensor], Tensor], adds: tuple[bool, ...]
) -> None:
    model = shaken(architecture)
    # Tall enough for the widest pooling and the farthest dilation to reach beyond their neighbours.
    x = torch.rand(1, 3, 224, 32, dtype=torch.float64) * 255
    with torch.no_grad():
        for found, expected in zip(model(x), WrittenOut(model.state_dict(), act, adds)(x), strict=True):
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))


def cbr(name: str, inputs: int, outputs: int, size: int) -> dict[str, tuple[int, ...]]:
    norm: dict[str, tuple[int, ...]] = {f"{name}.bn.{part}": (outputs,) for part in NORM}
    return {f"{name}.conv.weight": (outputs, inputs, size, size), **norm, f"{name}.bn.num_batches_tracked": ()}


def elan(name: str, inputs: int, outputs: int, blocks: int) -> dict[str, tuple[int, ...]]:
    middle = outputs // 2
    found = cbr(f"{name}.main_conv", inputs, middle, 1) | cbr(f"{name}.short_conv", inputs, middle, 1)
    for index in range(blocks):
        for conv in ("conv1", "conv2"):
            found |= cbr(f"{name}.blocks.{index}.{conv}", middle, middle, 3)
    return found | cbr(f"{name}.final_conv", (blocks + 1) * middle, outputs, 1)


def published() -> dict[str, tuple[int, ...]]:
    """AWML's YOLOX_opt_ELAN for 8 classes, row by row as its table has it."""
    found = cbr("backbone.stem.conv.0", 3, 32, 3) | cbr("backbone.stem.conv.1", 32, 32, 3)
    for stage, (inputs, outputs, blocks) in enumerate([(32, 64, 2), (64, 128, 6), (128, 256, 6), (256, 512, 2)], 1):
        found |= cbr(f"backbone.stage{stage}.0", inputs, outputs, 3)
        found |= elan(f"backbone.stage{stage}.1", outputs, outputs, blocks)
    found |= cbr("neck.reduce_layers.0", 512, 256, 1) | cbr("neck.reduce_layers.1", 256, 128, 1)
    found |= elan("neck.top_down_blocks.0", 512, 256, 2) | elan("neck.top_down_blocks.1", 256, 128, 2)
    found |= cbr("neck.downsamples.0", 128, 128, 3) | cbr("neck.downsamples.1", 256, 256, 3)
    found |= elan("neck.bottom_up_blocks.0", 256, 256, 2) | elan("neck.bottom_up_blocks.1", 512, 512, 2)
    for level, width in enumerate((128, 256, 512)):
        found |= cbr(f"neck.out_convs.{level}", width, 128, 1)
        for tower in ("cls", "reg"):
            for index in (0, 1):
                found |= cbr(f"bbox_head.multi_level_{tower}_convs.{level}.{index}", 128, 128, 3)
        for what, outputs in (("cls", 8), ("reg", 4), ("obj", 1)):
            found[f"bbox_head.multi_level_conv_{what}.{level}.weight"] = (outputs, 128, 1, 1)
            found[f"bbox_head.multi_level_conv_{what}.{level}.bias"] = (outputs,)
    return found


def test_opt_elan_has_the_600_published_entries() -> None:
    with torch.device("meta"):
        model = build(named("opt-elan"))
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == published()
    assert len(published()) == 600
    assert sum(p.numel() for p in model.parameters()) == 14_829_063


def test_last_convolutions_of_opt_elan_take_the_published_channels() -> None:
    with torch.device("meta"):
        shapes = {
            name: value.shape[1] for name, value in build(named("opt-elan")).state_dict().items() if value.ndim == 4
        }
    stages = [shapes[f"backbone.stage{stage}.1.final_conv.conv.weight"] for stage in (1, 2, 3, 4)]
    places = ("top_down_blocks.0", "top_down_blocks.1", "bottom_up_blocks.0", "bottom_up_blocks.1")
    assert stages == [96, 448, 896, 768]
    assert [shapes[f"neck.{place}.final_conv.conv.weight"] for place in places] == [384, 192, 384, 768]


@pytest.mark.parametrize(
    ("arch", "millions"), [("nano", 0.91), ("tiny", 5.06), ("s", 8.97), ("m", 25.33), ("l", 54.21), ("x", 99.07)]
)
def test_stock_sizes_have_the_published_numbers_of_parameters(arch: Arch, millions: float) -> None:
    with torch.device("meta"):
        model = build(named(arch, classes=80))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_batch_norms_have_the_published_constants() -> None:
    for arch in ("opt-elan", "nano"):
        norms = [module for module in build(named(arch)).modules() if isinstance(module, nn.BatchNorm2d)]
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}


def test_fresh_heads_say_one_in_a_hundred() -> None:
    head = build(named("opt-elan", widen_factor=0.125)).bbox_head
    for conv in (*head.multi_level_conv_cls, *head.multi_level_conv_obj):
        assert torch.equal(conv.bias, torch.full_like(conv.bias, -math.log(99)))


def test_levels_have_strides_8_16_and_32() -> None:
    model = build(named("opt-elan", classes=5, deepen_factor=1, widen_factor=0.125)).eval()
    with torch.no_grad():
        shapes = [[tuple(part.shape) for part in level] for level in model(torch.zeros(2, 3, 96, 160))]
    sizes = [(96 // stride, 160 // stride) for stride in (8, 16, 32)]
    assert shapes == [[(2, channels, *size) for channels in (5, 4, 1)] for size in sizes]


@settings(max_examples=6, deadline=None)
@given(
    arch=st.sampled_from(list(SIZES)),
    deepen=st.floats(0.05, 0.4),
    widen=st.floats(0.0625, 1),
    channels=st.integers(1, 64),
    depthwise=st.booleans(),
)
def test_any_numbers_make_a_network_that_runs(
    arch: Arch, deepen: float, widen: float, channels: int, *, depthwise: bool
) -> None:
    wanted = named(arch, deepen_factor=deepen, widen_factor=widen, out_channels=channels, depthwise=depthwise)
    with torch.device("meta"):
        levels = build(wanted)(torch.zeros(2, 3, 96, 64))
    assert [level[0].shape for level in levels] == [(2, 8, 96 // stride, 64 // stride) for stride in (8, 16, 32)]


def test_parts_that_do_not_fit_are_refused() -> None:
    wide, narrow = named("opt-elan"), named("opt-elan", widen_factor=0.5)
    with pytest.raises(ValueError, match=r"the neck takes \(64, 128, 256\) channels, the backbone gives"):
        Architecture(backbone=wide.backbone, neck=narrow.neck, head=narrow.head)
    with pytest.raises(ValueError, match="the head takes 64 channels, the neck gives 128"):
        Architecture(backbone=wide.backbone, neck=wide.neck, head=narrow.head)


def test_every_arch_has_a_size() -> None:
    for arch in SIZES:
        assert named(arch).backbone.strides == (8, 16, 32)
