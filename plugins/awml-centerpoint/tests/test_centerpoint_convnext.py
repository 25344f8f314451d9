"""The short-range backbone against the published names and sizes, and against its formula in float64."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from awml_centerpoint.network import Architecture, build

Floats = NDArray[np.float64]

SHORT = Architecture(
    columns=4,
    backbone="convnext_pc",
    layer_nums=(3, 3, 2, 1, 1),
    layer_strides=(1, 2, 2, 2, 2),
    out_channels=(32, 192, 192, 192, 192),
    levels=(2, 3, 4),
    upsample_strides=(1, 2, 4),
)
SMALL = attrs.evolve(
    SHORT,
    feat_channels=(4, 4),
    layer_nums=(1, 2, 1),
    layer_strides=(1, 2, 2),
    out_channels=(4, 6, 5),
    levels=(1, 2),
    upsample_strides=(1, 2),
    upsample_channels=(4, 4),
)


def test_the_short_range_model_has_the_196_published_entries() -> None:
    with torch.device("meta"):
        model = build(SHORT)
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    backbone = {name: shape for name, shape in found.items() if name.startswith("pts_backbone.")}
    expected: dict[str, tuple[int, ...]] = {}
    for stage, (width, depth) in enumerate(((32, 3), (192, 3), (192, 2), (192, 1), (192, 1))):
        if stage:
            inputs = 32 if stage == 1 else 192
            name = f"pts_backbone.downsample_layers.{stage}"
            expected |= {f"{name}.0.weight": (inputs,), f"{name}.0.bias": (inputs,)}
            expected |= {f"{name}.1.weight": (width, inputs, 2, 2), f"{name}.1.bias": (width,)}
        for index in range(depth):
            name = f"pts_backbone.stages.{stage}.{index}"
            expected |= {
                f"{name}.gamma": (width,),
                f"{name}.depthwise_conv.weight": (width, 1, 7, 7),
                f"{name}.depthwise_conv.bias": (width,),
                f"{name}.norm.weight": (width,),
                f"{name}.norm.bias": (width,),
                f"{name}.pointwise_conv1.weight": (4 * width, width),
                f"{name}.pointwise_conv1.bias": (4 * width,),
                f"{name}.pointwise_conv2.weight": (width, 4 * width),
                f"{name}.pointwise_conv2.bias": (width,),
            }
    for level in (2, 3, 4):
        expected |= {f"pts_backbone.norm{level}.weight": (192,), f"pts_backbone.norm{level}.bias": (192,)}
    assert backbone == expected
    assert found["pts_neck.deblocks.0.0.weight"] == (128, 192, 1, 1)
    assert found["pts_neck.deblocks.1.0.weight"] == (192, 128, 2, 2)
    assert found["pts_neck.deblocks.2.0.weight"] == (192, 128, 4, 4)
    assert len(found) == 196
    assert sum(p.numel() for p in model.parameters()) == 3_408_335


def test_norms_before_a_stride_are_coarser_than_those_behind() -> None:
    with torch.device("meta"):
        model = build(SMALL)
    eps = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    assert {value for name, value in eps.items() if "downsample_layers" in name} == {1e-5}
    assert {value for name, value in eps.items() if "downsample_layers" not in name} == {1e-6}
    assert sorted(eps)[-2:] == ["pts_backbone.stages.1.1.norm", "pts_backbone.stages.2.0.norm"]


def layer_norm(x: Floats, gain: Floats, shift: Floats, eps: float) -> Floats:
    """Over the channels, which come first."""
    mean, var = x.mean(0), x.var(0)
    found: Floats = (x - mean) / np.sqrt(var + eps) * gain[:, None, None] + shift[:, None, None]
    return found


def depthwise(x: Floats, weight: Floats, bias: Floats) -> Floats:
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3)))
    found = np.zeros_like(x)
    for c, i, j in np.ndindex(*x.shape):
        found[c, i, j] = (padded[c, i : i + 7, j : j + 7] * weight[c, 0]).sum() + bias[c]
    return found


def halved(x: Floats, weight: Floats, bias: Floats) -> Floats:
    found = np.zeros((len(weight), x.shape[1] // 2, x.shape[2] // 2))
    for c, i, j in np.ndindex(*found.shape):
        found[c, i, j] = (x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] * weight[c]).sum() + bias[c]
    return found


def cell(x: Floats, w: dict[str, Floats], name: str) -> Floats:
    wide = w[f"{name}.pointwise_conv1.weight"] @ x + w[f"{name}.pointwise_conv1.bias"]
    bent = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in wide])
    narrow = w[f"{name}.pointwise_conv2.weight"] @ bent + w[f"{name}.pointwise_conv2.bias"]
    scaled: Floats = narrow * w[f"{name}.gamma"]
    return scaled


def block(x: Floats, w: dict[str, Floats], name: str) -> Floats:
    inner = depthwise(x, w[f"{name}.depthwise_conv.weight"], w[f"{name}.depthwise_conv.bias"])
    inner = layer_norm(inner, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"], 1e-6)
    found: Floats = x.copy()
    for i, j in np.ndindex(*x.shape[1:]):
        found[:, i, j] += cell(inner[:, i, j], w, name)
    return found


def written_out(x: Floats, w: dict[str, Floats]) -> list[Floats]:
    maps = []
    for stage, depth in enumerate(SMALL.layer_nums):
        if stage:
            name = f"downsample_layers.{stage}"
            x = layer_norm(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], 1e-5)
            x = halved(x, w[f"{name}.1.weight"], w[f"{name}.1.bias"])
        for index in range(depth):
            x = block(x, w, f"stages.{stage}.{index}")
        if stage in SMALL.levels:
            maps.append(layer_norm(x, w[f"norm{stage}.weight"], w[f"norm{stage}.bias"], 1e-6))
    return maps


def test_backbone_is_what_the_weights_say() -> None:
    torch.manual_seed(0)
    backbone = build(SMALL).pts_backbone.double().eval()  # in float64 the two forms of GELU are told apart
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(0, 0.4)
        x = torch.randn(1, 4, 8, 12, dtype=torch.float64) * 0.01  # small enough for the epsilons to matter
        found: list[Tensor] = backbone(x)
    w = {name: value.numpy() for name, value in backbone.state_dict().items()}
    expected = written_out(x[0].numpy(), w)
    assert [tuple(value.shape) for value in found] == [(1, 6, 4, 6), (1, 5, 2, 3)]
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value[0].numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_detection_runs_on_its_maps() -> None:
    maps = build(SMALL).eval().detect(torch.zeros(2, 4, 8, 8))[0]
    assert maps["heatmap"].shape == (2, 5, 4, 4)


def test_blocks_start_as_the_published_recipe_says() -> None:
    torch.manual_seed(0)
    backbone = build(SHORT).pts_backbone
    first = backbone.get_submodule("stages.1.0")
    assert torch.equal(first.get_parameter("gamma"), torch.ones(192))
    weight = first.get_submodule("pointwise_conv1").get_parameter("weight")
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not first.get_submodule("depthwise_conv").get_parameter("bias").any()
