"""The network against mmpretrain's names, published sizes, and a forward pass written out from the state dict."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from awml_calibration.network import Classifier


def bn(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    parts = [weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    mean, variance, scale, shift = (part[None, :, None, None] for part in parts)
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift


def block(x: Tensor, weights: dict[str, Tensor], name: str, stride: int) -> Tensor:
    skipped = x
    if f"{name}.downsample.0.weight" in weights:
        skipped = functional.conv2d(x, weights[f"{name}.downsample.0.weight"], stride=stride)
        skipped = bn(skipped, weights, f"{name}.downsample.1")
    if f"{name}.conv3.weight" in weights:
        x = bn(functional.conv2d(x, weights[f"{name}.conv1.weight"]), weights, f"{name}.bn1").clamp(min=0)
        x = functional.conv2d(x, weights[f"{name}.conv2.weight"], stride=stride, padding=1)
        x = bn(x, weights, f"{name}.bn2").clamp(min=0)
        x = bn(functional.conv2d(x, weights[f"{name}.conv3.weight"]), weights, f"{name}.bn3")
    else:
        x = functional.conv2d(x, weights[f"{name}.conv1.weight"], stride=stride, padding=1)
        x = bn(x, weights, f"{name}.bn1").clamp(min=0)
        x = bn(functional.conv2d(x, weights[f"{name}.conv2.weight"], padding=1), weights, f"{name}.bn2")
    return (x + skipped).clamp(min=0)


def written_out(x: Tensor, weights: dict[str, Tensor], counts: tuple[int, ...]) -> Tensor:
    x = functional.conv2d(x, weights["backbone.conv1.weight"], stride=2, padding=3)
    x = bn(x, weights, "backbone.bn1").clamp(min=0)
    x = functional.max_pool2d(functional.pad(x, (1, 1, 1, 1), value=float("-inf")), 3, 2)
    for stage, count in enumerate(counts, 1):
        for index in range(count):
            x = block(x, weights, f"backbone.layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1)
    return x.mean((2, 3)) @ weights["head.fc.weight"].T + weights["head.fc.bias"]


def shaken(depth: int, width: int) -> Classifier:
    """A network whose every number matters: fresh batch norms would hide a swapped mean and variance."""
    torch.manual_seed(depth)
    model = Classifier(depth, width).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize(("depth", "counts"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3)), (50, (3, 4, 6, 3))])
def test_forward_is_what_the_weights_say(depth: int, counts: tuple[int, ...]) -> None:
    model = shaken(depth, 4)
    x = torch.rand(2, 5, 75, 101)
    with torch.no_grad():
        expected = written_out(x, model.state_dict(), counts)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_resnet18_has_the_122_published_entries() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Classifier().state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"backbone.conv1.weight": (64, 5, 7, 7), "head.fc.weight": (2, 512), "head.fc.bias": (2,)}
    norms = {"backbone.bn1": 64}
    inputs = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for index in (0, 1):
            name = f"backbone.layer{stage}.{index}"
            expected[f"{name}.conv1.weight"] = (width, inputs, 3, 3)
            expected[f"{name}.conv2.weight"] = (width, width, 3, 3)
            norms |= {f"{name}.bn1": width, f"{name}.bn2": width}
            if inputs != width:
                expected[f"{name}.downsample.0.weight"] = (width, inputs, 1, 1)
                norms[f"{name}.downsample.1"] = width
            inputs = width
    expected |= {
        f"{name}.{part}": () if "tracked" in part else (size,) for name, size in norms.items() for part in norm
    }
    assert shapes == expected
    assert len(shapes) == 122


@pytest.mark.parametrize(
    ("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)]
)
def test_with_colour_images_and_1000_classes_it_has_the_published_number_of_parameters(
    depth: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = Classifier(depth, 64, channels=3, classes=1000)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_batch_norms_have_the_published_constants() -> None:
    norms = [module for module in Classifier(18, 4).modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_images_of_a_batch_do_not_influence_one_another() -> None:
    model = shaken(18, 4)
    x = torch.rand(3, 5, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)
