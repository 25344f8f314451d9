"""The network against the published names and sizes, and against formulas written out from its weights."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from awml_centerpoint.network import Architecture, CenterPoint, build

Weights = dict[str, Tensor]
Floats = NDArray[np.float64]
PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

SMALL = Architecture(
    columns=4,
    feat_channels=(6, 8),
    layer_nums=(1, 2),
    layer_strides=(1, 2),
    out_channels=(6, 10),
    levels=(0, 1),
    upsample_strides=(0.5, 1),
    upsample_channels=(5, 7),
    share_conv_channel=9,
    head_conv=4,
    tasks=(3,),
)


def shaken(architecture: Architecture = SMALL, seed: int = 0) -> CenterPoint:
    """A network whose every number matters: fresh norms would hide a swapped mean and variance."""
    torch.manual_seed(seed)
    model = build(architecture).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.0005, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.5)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model


# ---------------------------------------------------------------- names and sizes


def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": () if part == PARTS[-1] else (size,) for part in PARTS}


def published(channels: int) -> dict[str, tuple[int, ...]]:
    """The layer table of the released base models."""
    found: dict[str, tuple[int, ...]] = {}
    for index, (inputs, units) in enumerate(((channels, 16), (32, 32))):
        name = f"pts_voxel_encoder.pfn_layers.{index}"
        found |= norm(f"{name}.norm", units) | {f"{name}.linear.weight": (units, inputs)}
    inputs = 32
    for stage, (width, count) in enumerate(((64, 4), (128, 6), (256, 6))):
        for index in range(count):
            name = f"pts_backbone.blocks.{stage}"
            found[f"{name}.{3 * index}.weight"] = (width, inputs, 3, 3)
            found |= norm(f"{name}.{3 * index + 1}", width)
            inputs = width
    for index, shape in enumerate(((128, 64, 2, 2), (128, 128, 1, 1), (256, 128, 2, 2))):
        found |= {f"pts_neck.deblocks.{index}.0.weight": shape} | norm(f"pts_neck.deblocks.{index}.1", 128)
    found |= {"pts_bbox_head.shared_conv.conv.weight": (64, 384, 3, 3)} | norm("pts_bbox_head.shared_conv.bn", 64)
    for name, size in (("reg", 2), ("height", 1), ("dim", 3), ("rot", 2), ("vel", 2), ("heatmap", 5)):
        head = f"pts_bbox_head.task_heads.0.{name}"
        found |= {f"{head}.0.conv.weight": (64, 64, 1, 1)} | norm(f"{head}.0.bn", 64)
        found |= {f"{head}.1.weight": (size, 64, 1, 1), f"{head}.1.bias": (size,)}
    return found


@pytest.mark.parametrize(
    ("fields", "channels"),
    [({"columns": 5}, 11), ({"columns": 4}, 10), ({"columns": 4, "encoder": "backward"}, 9)],
)
def test_the_base_models_have_the_180_published_entries(fields: dict[str, Any], channels: int) -> None:
    with torch.device("meta"):
        model = build(Architecture(**fields))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == published(channels)
    assert list(shapes) == list(published(channels))
    assert len(shapes) == 180
    assert sum(p.numel() for p in model.parameters()) == 4_619_103 - 16 * (11 - channels)


def test_each_part_has_the_published_norm_constants() -> None:
    with torch.device("meta"):
        model = build(Architecture())
    found = {
        (name.split(".")[0], module.eps, module.momentum)
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert found == {
        ("pts_voxel_encoder", 1e-3, 0.01),
        ("pts_backbone", 1e-3, 0.01),
        ("pts_neck", 1e-3, 0.01),
        ("pts_bbox_head", 1e-5, 0.1),
    }


@pytest.mark.parametrize(
    ("fields", "channels"),
    [
        ({"columns": 5, "encoder": "backward"}, 10),
        ({"columns": 4, "with_distance": True}, 11),
        ({"columns": 4, "with_cluster_center": False}, 7),
        ({"columns": 4, "with_voxel_center": False}, 7),
        ({"columns": 4, "with_voxel_center": False, "encoder": "backward"}, 7),
    ],
)
def test_channels_of_a_decorated_point(fields: dict[str, Any], channels: int) -> None:
    made = attrs.evolve(SMALL, **fields)
    assert made.channels == channels
    assert build(made).encode(torch.zeros(2, 3, channels)).shape == (2, 1, 8)


# ---------------------------------------------------------------- the encoder


def encoded(points: Floats, weights: Weights, layers: int, eps: float) -> Floats:
    """Layer by layer, point by point, in float64."""
    for index in range(layers):
        last = index == layers - 1
        name = f"pts_voxel_encoder.pfn_layers.{index}"
        w = weights[f"{name}.linear.weight"].double().numpy()
        gain, shift, mean, var = (weights[f"{name}.norm.{part}"].double().numpy() for part in PARTS[:4])
        units = len(gain)
        pillars, rows = points.shape[:2]
        out = np.zeros((pillars, rows, units))
        for p in range(pillars):
            for r in range(rows):
                out[p, r] = np.maximum((w @ points[p, r] - mean) / np.sqrt(var + eps) * gain + shift, 0)
        peak = np.zeros((pillars, 1, units))
        for p in range(pillars):
            for u in range(units):
                peak[p, 0, u] = max(out[p, r, u] for r in range(rows))
        points = peak if last else np.concatenate([out, np.repeat(peak, rows, 1)], 2)
    return points


def pillars(channels: int, counts: tuple[int, ...], rows: int) -> Tensor:
    """Points with unused rows at zero, as voxelisation leaves them."""
    points = torch.randn(len(counts), rows, channels)
    for pillar, count in enumerate(counts):
        points[pillar, count:] = 0
    return points


@pytest.mark.parametrize("features", [(8,), (6, 8), (6, 4, 8)])
def test_encoder_is_what_the_weights_say(features: tuple[int, ...]) -> None:
    model = shaken(attrs.evolve(SMALL, feat_channels=features))
    points = pillars(10, (5, 1, 3), 5)
    with torch.no_grad():
        found = model.encode(points)
    expected = encoded(points.double().numpy(), model.state_dict(), len(features), 1e-3)
    assert found.shape == (3, 1, 8)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_unused_rows_take_part_in_the_maximum() -> None:
    model = shaken()
    with torch.no_grad():
        for layer in model.pts_voxel_encoder.pfn_layers:
            layer.get_submodule("norm").get_parameter("weight").fill_(-1)  # real points now lie below the unused rows
        points = pillars(10, (2,), 6).abs() + 1
        points[:, 2:] = 0
        full, cut = model.encode(points), model.encode(points[:, :2])
    assert not torch.allclose(full, cut)
    expected = encoded(points.double().numpy(), model.state_dict(), 2, 1e-3)
    np.testing.assert_allclose(full.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_no_pillar_gives_no_features() -> None:
    assert shaken().encode(torch.zeros(0, 32, 10)).shape == (0, 1, 8)


# ---------------------------------------------------------------- backbone, neck, heads


def bn(x: Tensor, weights: Weights, name: str, eps: float) -> Tensor:
    gain, shift, mean, var = (weights[f"{name}.{part}"].double()[None, :, None, None] for part in PARTS[:4])
    return ((x - mean) / torch.sqrt(var + eps) * gain + shift).clamp(min=0)


def detected(x: Tensor, weights: Weights, made: Architecture) -> list[dict[str, Tensor]]:
    """The published forward pass from a state dict, in float64."""
    w = {name: value.double() for name, value in weights.items()}
    x, maps = x.double(), []
    for stage, count in enumerate(made.layer_nums):
        for index in range(count + 1):
            name, stride = f"pts_backbone.blocks.{stage}", made.layer_strides[stage] if index == 0 else 1
            x = functional.conv2d(x, w[f"{name}.{3 * index}.weight"], stride=stride, padding=1)
            x = bn(x, w, f"{name}.{3 * index + 1}", 1e-3)
        maps.append(x)
    necks = []
    for index, (found, up) in enumerate(zip(maps, made.upsample_strides, strict=True)):
        name = f"pts_neck.deblocks.{index}"
        weight = w[f"{name}.0.weight"]
        if up > 1 or (up == 1 and not made.use_conv_for_no_stride):
            resized = functional.conv_transpose2d(found, weight, stride=int(up))
        else:
            resized = functional.conv2d(found, weight, stride=int(1 / up))
        necks.append(bn(resized, w, f"{name}.1", 1e-3))
    x = functional.conv2d(torch.cat(necks, 1), w["pts_bbox_head.shared_conv.conv.weight"], padding=1)
    x = bn(x, w, "pts_bbox_head.shared_conv.bn", 1e-5)
    return [
        {
            name: headed(x, w, f"pts_bbox_head.task_heads.{task}.{name}", convs, made.final_kernel)
            for name, _, convs in (*made.heads, ("heatmap", 0, made.heatmap_convs))
        }
        for task in range(len(made.tasks))
    ]


def headed(x: Tensor, w: Weights, name: str, convs: int, kernel: int) -> Tensor:
    for index in range(convs - 1):
        x = functional.conv2d(x, w[f"{name}.{index}.conv.weight"], padding=kernel // 2)
        x = bn(x, w, f"{name}.{index}.bn", 1e-5)
    last = f"{name}.{convs - 1}"
    return functional.conv2d(x, w[f"{last}.weight"], w[f"{last}.bias"], padding=kernel // 2)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"upsample_strides": (1, 2)},
        {"upsample_strides": (1, 2), "use_conv_for_no_stride": False},
        {"upsample_strides": (0.25, 0.5)},
        {"tasks": (1, 2)},
        {"final_kernel": 3, "heatmap_convs": 3},
        {"heads": (("reg", 2, 1), ("height", 1, 3), ("dim", 3, 2), ("rot", 2, 2), ("iou", 1, 2))},
        {"layer_nums": (0, 1), "layer_strides": (2, 2)},
    ],
    ids=str,
)
def test_detector_is_what_the_weights_say(fields: dict[str, Any]) -> None:
    made = attrs.evolve(SMALL, **fields)
    model = shaken(made)
    x = torch.randn(2, 8, 16, 24)
    with torch.no_grad():
        found, expected = model.detect(x), detected(x, model.state_dict(), made)
    assert [set(maps) for maps in found] == [set(maps) for maps in expected]
    for maps, wanted in zip(found, expected, strict=True):
        for name, value in maps.items():
            scale = float(wanted[name].abs().max())
            torch.testing.assert_close(value.double(), wanted[name], rtol=1e-4, atol=1e-4 * scale)


def test_the_neck_brings_every_stage_to_the_published_size() -> None:
    made = attrs.evolve(
        SMALL,
        layer_nums=(0, 0, 0),
        layer_strides=(1, 2, 2),
        out_channels=(4, 4, 4),
        levels=(0, 1, 2),
        upsample_strides=(0.5, 1, 2),
        upsample_channels=(4, 4, 4),
    )
    assert made.strides == (2.0, 2.0, 2.0)
    assert made.coarsest == 4
    assert build(made).detect(torch.zeros(1, 8, 12, 20))[0]["heatmap"].shape == (1, 3, 6, 10)


def test_the_heat_map_comes_first_and_each_task_has_its_own_classes() -> None:
    found = shaken(attrs.evolve(SMALL, tasks=(1, 2))).detect(torch.zeros(1, 8, 8, 8))
    assert [list(maps) for maps in found] == [["heatmap", "reg", "height", "dim", "rot", "vel"]] * 2
    assert [maps["heatmap"].shape[1] for maps in found] == [1, 2]


def test_frames_of_a_batch_do_not_influence_one_another() -> None:
    model, x = shaken(), torch.randn(3, 8, 8, 8)
    with torch.no_grad():
        all_of_them, alone = model.detect(x)[0], model.detect(x[1:2])[0]
    for name, value in all_of_them.items():
        torch.testing.assert_close(value[1:2], alone[name], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- training starts well


@pytest.mark.parametrize("bias", [-4.595, -2.19])
def test_training_starts_from_the_chosen_share_of_centres(bias: float) -> None:
    torch.manual_seed(0)
    made = attrs.evolve(SMALL, heatmap_bias=bias, tasks=(2, 1))
    model = build(made)
    assert [name for name, part in model.named_modules() if not part.training] == []
    for task in (0, 1):
        last = model.get_submodule(f"pts_bbox_head.task_heads.{task}.heatmap.1")
        assert torch.equal(last.get_parameter("bias"), torch.full((made.tasks[task],), bias))
    other = model.get_submodule("pts_bbox_head.task_heads.0.reg.1")
    assert not other.get_parameter("bias").any()


def test_convolutions_start_as_wide_as_their_outputs() -> None:
    torch.manual_seed(0)
    weight = build(Architecture()).get_submodule("pts_backbone.blocks.2.3").get_parameter("weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


def test_one_step_of_training_reaches_every_weight() -> None:
    torch.manual_seed(0)
    model = build(SMALL)
    canvas = model.encode(torch.randn(64, 4, 10)).reshape(1, 8, 8, 8)
    sum((value**2).sum() for value in model.detect(canvas)[0].values()).backward()  # type: ignore[union-attr]
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
