"""What only a GPU can show: the same numbers there, nothing crossing to the host in between, and honest times.

`nox -s gpu` runs these. Without an NVIDIA GPU that torch can use they are skipped; those of ONNX Runtime also want
`onnxruntime-gpu`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from awml_deploy_core import Axis, Component, Tensor, deploy, tree
from awml_deploy_core.backends import open_run
from awml_deploy_core.export import export_onnx
from awml_deploy_core.records import Run, Variant
from awml_deploy_core.report import Report

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
on_onnx = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="ONNX Runtime has no CUDA provider"
)

FINE = 2e-5
"""Share of the largest value by which float32 on a GPU may differ; TF32 is fifty times coarser."""


def component(name: str, given: str, answered: str) -> Component:
    shape: tuple[int | str, ...] = ("batch", 8, "height", "width")
    axes = (Axis(name="batch", max=8, independent=True), Axis(name="height", min=4), Axis(name="width", min=4))
    return Component(
        name=name, inputs=(Tensor(name=given, shape=shape),), outputs=(Tensor(name=answered, shape=shape),), axes=axes
    )


PARTS = (component("front", "image", "features"), component("back", "features", "answer"))


@pytest.fixture(scope="module")
def modules() -> Mapping[str, nn.Module]:
    torch.manual_seed(0)

    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)).eval()

    return {part.name: block() for part in PARTS}


@pytest.fixture(scope="module")
def files(modules: Mapping[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Variant:
    folder = tmp_path_factory.mktemp("onnx")
    made = [
        export_onnx(
            modules[part.name],
            part,
            {part.inputs[0].name: torch.randn(2, 8, 16, 24)},
            folder / f"{part.name}.onnx",
            exporter="torchscript",
        ).artifact
        for part in PARTS
    ]
    return Variant(name="onnx", backend="onnx", device="cuda:0", artifacts=tuple(made))


def close_to(wanted: torch.Tensor, got: torch.Tensor) -> bool:
    return bool((wanted - got.cpu()).abs().max() <= FINE * wanted.abs().max())


def chain(run: Run, image: torch.Tensor) -> torch.Tensor:
    features = run("front", image=image)["features"]
    answer: torch.Tensor = run("back", features=features.mul_(2))["answer"]
    return answer


@pytest.fixture(params=["pytorch", pytest.param("onnx", marks=on_onnx)])
def variant(request: pytest.FixtureRequest, files: Variant) -> Variant:
    return files if request.param == "onnx" else Variant(name="trained", backend="pytorch", device="cuda:0")


# ---------------------------------------------------------------- runs


def test_the_gpu_gives_the_numbers_of_the_cpu(variant: Variant, modules: Mapping[str, nn.Module]) -> None:
    image = torch.randn(3, 8, 40, 56)
    with open_run(Variant(name="trained", backend="pytorch"), PARTS, modules=modules) as run:
        wanted = chain(run, image)
    with open_run(variant, PARTS, modules=modules) as run:
        got = chain(run, image.cuda())
        assert run.device == "cuda:0"
        assert "cuda" in run.providers["front"].lower()
    assert got.device == torch.device("cuda:0")
    assert close_to(wanted, got)


def test_the_callers_network_stays_on_the_cpu(modules: Mapping[str, nn.Module]) -> None:
    with open_run(Variant(name="trained", backend="pytorch", device="cuda:0"), PARTS, modules=modules) as run:
        chain(run, torch.randn(1, 8, 8, 8, device="cuda"))
    assert {weight.device.type for module in modules.values() for weight in module.parameters()} == {"cpu"}


def test_numpy_is_answered_in_numpy(variant: Variant, modules: Mapping[str, nn.Module]) -> None:
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    with open_run(variant, PARTS, modules=modules) as run:
        answer = run("front", image=image)["features"]
    with open_run(Variant(name="trained", backend="pytorch"), PARTS, modules=modules) as run:
        wanted = run("front", image=image)["features"]
    assert isinstance(answer, np.ndarray)
    assert close_to(torch.from_numpy(wanted), torch.from_numpy(answer))


def test_a_batch_above_the_largest_is_split_on_the_device(variant: Variant, modules: Mapping[str, nn.Module]) -> None:
    image = torch.randn(19, 8, 8, 8, device="cuda")
    with open_run(variant, PARTS, modules=modules) as run:
        answer = run("front", image=image)["features"]
        alone = run("front", image=image[17:18])["features"]
    assert answer.shape == image.shape
    assert close_to(alone.cpu(), answer[17:18])


def test_no_rows_at_all_are_answered(variant: Variant, modules: Mapping[str, nn.Module]) -> None:
    with open_run(variant, PARTS, modules=modules) as run:
        assert run("front", image=torch.zeros(0, 8, 8, 8, device="cuda"))["features"].shape == (0, 8, 8, 8)


def copies(events: Any) -> list[str]:
    return [event.name for event in events if event.name.startswith(("Memcpy DtoH", "Memcpy HtoD"))]


def test_nothing_crosses_to_the_host_between_components(variant: Variant, modules: Mapping[str, nn.Module]) -> None:
    from torch.profiler import ProfilerActivity, profile

    with open_run(variant, PARTS, modules=modules) as run:
        image = torch.randn(2, 8, 64, 64, device="cuda")
        chain(run, image)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as watched:
            chain(run, image)
            torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as other:
            chain(run, image).cpu()
            torch.cuda.synchronize()
    assert len(copies(other.events())) == 1, "the profiler sees copies"
    assert copies(watched.events()) == []


@on_onnx
def test_onnx_runtime_waits_for_what_torch_still_computes(files: Variant, modules: Mapping[str, nn.Module]) -> None:
    heavy = torch.randn(4096, 4096, device="cuda") / 64
    with open_run(files, PARTS) as run:
        run("front", image=torch.zeros(1, 8, 64, 64, device="cuda"))
        for _ in range(5):
            product = heavy
            for _ in range(8):
                product = product @ heavy
            image = product[:64, :512].reshape(1, 8, 64, 64)
            got = run("front", image=image)["features"]
            with torch.no_grad():
                wanted = modules["front"](image.cpu())
            assert close_to(wanted, got)


@on_onnx
def test_what_was_answered_outlives_the_session(files: Variant) -> None:
    with open_run(files, PARTS) as run:
        answer = run("front", image=torch.ones(1, 8, 8, 8, device="cuda"))["features"]
        kept = answer.clone()
        run("front", image=torch.zeros(1, 8, 8, 8, device="cuda"))
    torch.cuda.empty_cache()
    torch.full((1 << 20,), 7.0, device="cuda")
    assert torch.equal(answer, kept)


# ---------------------------------------------------------------- whole runs


@pytest.fixture
def toy(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    def run(config: dict[str, Any] | None = None, **options: Any) -> Report:
        path, name = toy_files({"evaluation": {"enabled": True, "num_samples": -1}, **(config or {})})
        return deploy(path, model=name, **options)

    return run


def test_a_run_on_the_gpu_proves_the_files(toy: Callable[..., Report]) -> None:
    report = toy(device="cuda:0")
    assert report.exit_code == 0, report.stages
    trained = next(one for one in report.evaluations if one.variant == "trained")
    assert trained.protocol["device"] == "cuda:0"
    assert trained.protocol["synchronised"] is True
    assert trained.skipped is None
    devices = {check.devices for check in report.verification.checks if check.status == "passed"}
    assert any("cuda:0" in pair for pair in devices)


@on_onnx
def test_a_scenario_holds_the_cpu_against_the_gpu(toy: Callable[..., Report]) -> None:
    sides = {"ref_backend": "onnx", "ref_device": "cpu", "test_backend": "onnx", "test_device": "cuda"}
    report = toy({"verification": {"scenarios": {"onnx": [sides]}}})
    check = report.verification.checks[-1]
    assert (check.devices, check.status) == (("cpu", "cuda:0"), "passed")


def test_the_metrics_are_those_of_the_cpu(toy: Callable[..., Report]) -> None:
    figures = [
        {one.variant: one.metrics and one.metrics.values for one in toy(device=device).evaluations}["trained"]
        for device in ("cpu", "cuda:0")
    ]
    assert figures[0] == figures[1]


def test_a_gpu_that_is_not_there_is_named(toy: Callable[..., Report]) -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    settings = {"enabled": True, "backends": {"pytorch": {"enabled": True, "device": missing}}}
    report = toy({"evaluation": settings})
    assert report.exit_code == 3
    assert missing in next(stage.detail for stage in report.stages if stage.name == "evaluate")


def test_a_checksum_does_not_depend_on_the_device() -> None:
    value = torch.randn(3, 5, 7)
    assert tree.checksum(value.cuda()) == tree.checksum(value)
