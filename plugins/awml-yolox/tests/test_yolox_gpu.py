"""A GPU says what the CPU says: images and chosen boxes bit for bit, the network to rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from awml_deploy_core.records import Component
from awml_yolox.architecture import architecture
from awml_yolox.decode import Found, autoware, awml, cells_of, likely
from awml_yolox.hooks import COMPONENT, Config, export_workflow
from awml_yolox.letterbox import place
from awml_yolox.network import build
from awml_yolox.pipeline import Detector
from awml_yolox.wrapper import wrap

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = (256, 384)
SMALL: dict[str, Any] = {
    "arch": "opt-elan",
    "deepen_factor": 1,
    "widen_factor": 0.125,
    "out_channels": 16,
    "feat_channels": 16,
    "num_elan_blocks": 1,
    "input_size": SIZE,
}


@pytest.fixture(autouse=True)
def _needs_cuda() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = exact


def images(*sizes: tuple[int, int]) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [{"image": rng.integers(0, 256, (*size, 3), np.uint8)} for size in sizes]


def rows(seed: int, count: int = 18900, classes: int = 8) -> Tensor:
    """What a network might answer: few cells that are sure, ties among them, some that are no numbers."""
    rng = np.random.default_rng(seed)
    found = rng.normal(0, 1, (count, 5 + classes))
    found[:, 4:] = 1 / (1 + np.exp(-rng.normal(-4, 3, (count, 1 + classes))))
    found[::50, 4] = np.round(found[::50, 4] * 8) / 8
    found[7::997, 0], found[11::997, 3], found[13::997, 4], found[17::997, 6] = np.nan, np.inf, np.nan, np.nan
    return torch.from_numpy(found.astype(np.float32))


def same(one: Found, other: Found) -> None:
    assert len(one.scores) > 20
    assert one.broken == other.broken > 0
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


# ---------------------------------------------------------------- boxes from rows


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize(("rule", "threshold"), [(awml, 0.01), (autoware, 0.35)])
def test_boxes_are_the_same_bits(rule: Any, threshold: float, *, decoded: bool) -> None:
    given, placement = rows(0), place((1280, 1920), (960, 960))
    cells = None if decoded else cells_of((960, 960))
    if decoded:
        given[:, :2] = given[:, :2] * 300 + 480
        given[:, 2:4] = given[:, 2:4].exp() * 40
    host = rule(given.numpy(), cells, placement, threshold=threshold, overlap=0.65)
    same(host, rule(given.cuda(), cells, placement, threshold=threshold, overlap=0.65))


def test_only_what_is_likely_leaves_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    really = Tensor.cpu

    def cpu(tensor: Tensor) -> Tensor:
        moved.append(tensor.numel())
        return really(tensor)

    monkeypatch.setattr(Tensor, "cpu", cpu)
    given = rows(1).cuda()
    index, columns = likely(given, 0.5)
    assert 0 < len(index) < len(given) / 10
    assert columns.shape == (13, len(index))
    # Which rows, and these as columns.
    assert moved == [len(index), 13 * len(index)]


# ---------------------------------------------------------------- the whole pipeline


class Torch:
    """A run on the wrapped network."""

    def __init__(self, settings: Config, device: str) -> None:
        self.device = device
        (component,) = export_workflow(settings)
        self.components: dict[str, Component] = {COMPONENT: component}
        self.module = wrap(network(settings), component, exact=True, config=settings).to(device)
        self.inputs: list[Tensor] = []
        self.notes: Counter[str] = Counter()

    def note(self, name: str, value: float = 1) -> None:
        self.notes[name] += int(value)

    def __call__(self, name: str, /, **inputs: Tensor) -> dict[str, Tensor]:
        assert {value.device.type for value in inputs.values()} == {self.device.partition(":")[0]}
        self.inputs += [value.cpu() for value in inputs.values()]
        answers = self.module(*inputs.values())
        answers = answers if isinstance(answers, tuple) else (answers,)
        return {output.name: value for output, value in zip(self.components[name].outputs, answers, strict=True)}


def network(settings: Config) -> nn.Module:
    """A network from a seed that is sure of something here and there."""
    torch.manual_seed(0)
    model = build(architecture(settings))
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    # One pass settles the statistics, without which nothing of the image would arrive at the end.
    with torch.no_grad():
        model(torch.rand(2, 3, *SIZE) * 255)
    for name, parameter in model.named_parameters():
        if "level_conv_" in name:
            nn.init.normal_(parameter, std=0.2 if "_reg." in name else 0.6)
    return model.eval()


@torch.no_grad()
def both(settings: Config) -> tuple[Torch, Torch, list[Any], list[Any]]:
    """The pipeline on either device."""
    frames = images((300, 500), (256, 384), (720, 1280))
    host, device = Torch(settings, "cpu"), Torch(settings, "cuda:0")
    found = [Detector(device=run.device, config=settings).predict_batch(frames, run) for run in (host, device)]
    return host, device, found[0], found[1]


@pytest.mark.parametrize("changes", [{}, {"decoding": "autoware"}, {"postprocessing": "decode"}])
def test_the_network_gets_the_same_bits_and_its_boxes_have_their_twins(changes: dict[str, Any]) -> None:
    host, device, ours, theirs = both(Config(**SMALL, score_threshold=0.5, **changes))
    for one, other in zip(host.inputs, device.inputs, strict=True):
        assert torch.equal(one, other)
    assert host.notes == device.notes
    twins(ours, theirs)


def test_boxes_that_the_graph_has_suppressed_have_their_twins() -> None:
    _, _, ours, theirs = both(Config(**SMALL, score_threshold=0.7, postprocessing="nms", max_detections=20))
    twins(ours, theirs)


def twins(ours: list[Any], theirs: list[Any]) -> None:
    """Boxes of nearly equal scores may change places, and those at a threshold may go."""
    for one, other in zip(ours, theirs, strict=True):
        assert len(one["scores"]) > 5
        apart = np.abs(one["boxes"][:, None] - other["boxes"][None]).max(2)
        apart = np.where(one["labels"][:, None] == other["labels"][None], apart, np.inf)
        near = apart <= 1.0 + 1e-3  # Autoware's rule cuts to whole pixels
        assert near.any(1).mean() > 0.95
        assert near.any(0).mean() > 0.95
        assert set(map(type, one.values())) == {np.ndarray}
