"""The whole story on a small real model: every stage, every way of breaking the export, every exit code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import onnx
import pytest
import torch

from awml_deploy_core import deploy
from awml_deploy_core.report import Report

TOY = """
    import functools
    from pathlib import Path

    import numpy as np
    import torch
    from attrs import frozen
    from torch import nn

    from awml_deploy_core import Axis, Component, Config as Core, Frame, Sample, Tensor, hookimpl

    BREAK = ""

    @frozen(kw_only=True)
    class Config(Core):
        '''Settings of the toy.

        Args:
            flavour: A choice that must travel with the file.
        '''
        flavour: str = "plain"

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.fc = nn.Linear(8, 2)

        def forward(self, image):
            x = torch.relu(self.norm(self.conv(image)))
            return self.fc(x.mean((2, 3)))

    @hookimpl
    def load_model(config):
        net = Net().eval()
        net.load_state_dict(torch.load(config.checkpoint_path, weights_only=True))
        return net

    def image(index):
        rng = np.random.default_rng(index)
        label = index % 2
        return rng.normal(label * 2 - 1, 1, (3, 8, 8)).astype(np.float32), label

    def load(index):
        if BREAK == f"sample {index}":
            raise ValueError("the disk is on fire")
        picture, label = image(index)
        return Frame(inputs=picture, ground_truth={"label": label})

    @hookimpl
    def load_samples(purpose, config):
        return [Sample(id=f"s{i}", load=functools.partial(load, i)) for i in range(12)]

    @hookimpl
    def export_workflow(config):
        return (
            Component(
                name="toy",
                inputs=(Tensor(name="image", shape=("batch", 3, 8, 8)),),
                outputs=(Tensor(name="logits", shape=("batch", 2)),),
                axes=(Axis(name="batch", max=4, independent=True),),
            ),
        )

    class Edited(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, image):
            logits = self.net(image)
            if BREAK == "swapped outputs":
                return logits.flip(1)
            if BREAK == "traced batch":
                return logits.reshape(int(image.shape[0]), 2)
            if BREAK == "rare input":
                return torch.where(image.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] > 0, logits + 1, logits)
            return logits

    @hookimpl
    def wrap_for_onnx(model, component, exact, config):
        if exact:
            return model
        if BREAK == "wrong epsilon":
            model.norm.eps = 1.0
        if BREAK == "perturbed weight":
            model.fc.weight = nn.Parameter(model.fc.weight + 0.01)
        if BREAK == "in place":
            model.fc.weight.data.mul_(1.5)
            with torch.no_grad():
                model.fc.weight.add_(0.5)
        return Edited(model)

    class Pipeline:
        def predict(self, inputs, run):
            logits = run("toy", image=inputs[None])["logits"][0]
            scores = np.exp(logits - logits.max())
            scores /= scores.sum()
            return {"label": int(scores.argmax()), "scores": scores}

    @hookimpl
    def build_pipeline(device, config):
        return Pipeline()
"""


@pytest.fixture
def toy(fake_distribution: Callable[..., Path], tmp_path: Path) -> Callable[..., Report]:
    checkpoint = tmp_path / "toy.pth"
    torch.manual_seed(0)
    net = torch.nn.ModuleDict(
        {"conv": torch.nn.Conv2d(3, 8, 3, padding=1), "norm": torch.nn.BatchNorm2d(8), "fc": torch.nn.Linear(8, 2)}
    )
    torch.save(net.state_dict(), checkpoint)

    number = count()

    def run(config: dict[str, Any] | None = None, broken: str = "", **options: Any) -> Report:
        name = f"toy{next(number)}"
        source = dedent(TOY).replace('BREAK = ""', f"BREAK = {broken!r}")
        fake_distribution(f"awml-{name}", entry_points={name: f"{name}.hooks"}, modules={f"{name}.hooks": source})
        (tmp_path / "site" / name / "__init__.py").touch()
        values: dict[str, Any] = {
            "task_type": "classification",
            "class_names": ["down", "up"],
            "checkpoint_path": str(checkpoint),
            "export": {"mode": "onnx", "work_dir": str(tmp_path / "work")},
            "evaluation": {"enabled": True, "num_samples": -1},
            "onnx_config": {"exporter": "torchscript"},  # the quicker one; test_export has both
        }
        for key, value in (config or {}).items():
            values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
        path = tmp_path / "config.py"
        path.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
        return deploy(path, model=name, **options)

    return run


def status(report: Report) -> dict[str, str]:
    return {stage.name: stage.status for stage in report.stages}


def test_a_sound_model_passes_every_stage(toy: Callable[..., Report], tmp_path: Path) -> None:
    report = toy()
    assert (report.status, report.exit_code) == ("passed", 0)
    assert status(report) == dict.fromkeys(["load", "record", "export", "verify", "evaluate"], "passed")
    assert [variant.name for variant in report.variants] == ["trained", "exported", "onnx"]
    assert {check.status for check in report.verification.checks} == {"passed"}
    assert [(c.reference, c.candidate) for c in report.verification.checks] == [
        ("trained", "exported"),
        ("exported", "onnx"),
        ("trained", "onnx"),
    ]
    trained, exported = report.evaluations
    assert trained.records == exported.records == 12
    assert trained.metrics is not None
    assert exported.metrics is not None
    assert trained.metrics.values == exported.metrics.values
    assert report.unequal == ()
    for name in ("report.json", "report.md", "manifest.json", "deployment.log", "onnx/toy.onnx"):
        assert (tmp_path / "work" / name).is_file(), name
    assert sorted(path.name for path in (tmp_path / "work").iterdir() if path.name.startswith(".")) == []


def test_the_file_says_what_it_was_made_from(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy({"flavour": "sweet"})
    said = {each.key: each.value for each in onnx.load(tmp_path / "work/onnx/toy.onnx").metadata_props}
    assert said["config.flavour"] == "sweet"
    assert len(said["awml.checkpoint_sha256"]) == 64
    assert said["awml.component"] == "toy"


@pytest.mark.parametrize(
    ("broken", "between"),
    [
        ("swapped outputs", ("trained", "exported")),
        ("wrong epsilon", ("trained", "exported")),
        ("perturbed weight", ("trained", "exported")),
        ("rare input", ("trained", "exported")),
    ],
)
def test_a_broken_export_turns_verdict_and_exit_code(
    toy: Callable[..., Report], broken: str, between: tuple[str, str]
) -> None:
    report = toy(broken=broken)
    assert (report.status, report.exit_code) == ("failed", 6)
    wrong = [(check.reference, check.candidate) for check in report.verification.checks if check.status == "failed"]
    assert between in wrong
    assert ("exported", "onnx") not in wrong
    assert status(report)["evaluate"] == "passed"  # sound variants are still evaluated


def test_another_checkpoint_behind_an_existing_file_is_seen(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy()
    other = torch.load(tmp_path / "toy.pth", weights_only=True)
    torch.save({name: tensor + 0.05 * (tensor.dim() > 1) for name, tensor in other.items()}, tmp_path / "other.pth")
    report = toy({"export": {"mode": "none"}}, checkpoint=tmp_path / "other.pth")
    assert report.exit_code == 6
    assert [(c.reference, c.candidate, c.status) for c in report.verification.checks] == [("trained", "onnx", "failed")]


def test_a_batch_that_was_traced_in_stops_the_export(toy: Callable[..., Report]) -> None:
    report = toy(broken="traced batch")
    assert report.exit_code == 4
    stage = next(stage for stage in report.stages if stage.exit_code)
    assert "batch" in stage.detail


def test_weights_changed_in_place_are_no_reference_any_more(toy: Callable[..., Report]) -> None:
    report = toy(broken="in place")
    assert report.exit_code == 3
    assert "changed in place by wrap_for_onnx" in report.stages[0].detail


def test_a_run_that_compares_nothing_is_unverified(toy: Callable[..., Report]) -> None:
    report = toy({"verification": {"enabled": False}})
    assert (report.status, report.exit_code) == ("unverified", 0)


def test_nan_weights_are_refused_by_name(toy: Callable[..., Report], tmp_path: Path) -> None:
    state = torch.load(tmp_path / "toy.pth", weights_only=True)
    state["fc.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    report = toy(checkpoint=tmp_path / "nan.pth")
    assert report.exit_code == 4
    assert "fc.weight" in report.stages[0].detail
    assert not (tmp_path / "work/onnx").exists()


def test_a_missing_checkpoint_names_what_is_there(toy: Callable[..., Report], tmp_path: Path) -> None:
    report = toy(checkpoint=tmp_path / "tony.pth")
    assert report.exit_code == 4
    assert "Did you mean toy.pth?" in report.stages[0].detail


def test_a_failing_sample_is_recorded_and_fatal_beyond_the_limit(toy: Callable[..., Report]) -> None:
    allowed = toy({"evaluation": {"max_failed_samples": 1}}, broken="sample 7")
    assert allowed.exit_code == 0
    assert [(f.id, f.step) for f in allowed.evaluations[0].failures] == [("s7", "load")]
    assert "the disk is on fire" in allowed.evaluations[0].failures[0].reason
    fatal = toy({"evaluation": {"max_failed_samples": 0}}, broken="sample 7")
    assert fatal.exit_code == 4


def test_gates_end_with_7(toy: Callable[..., Report]) -> None:
    report = toy({"evaluation": {"gates": {"accuracy": {"min": 1.01}}}})
    assert report.exit_code == 7
    assert {crossing.variant for crossing in report.crossings} == {"trained", "onnx"}
    unknown = toy({"evaluation": {"gates": {"acuracy": {"min": 0.1}}}})
    assert unknown.exit_code == 2
    assert "Did you mean 'accuracy'?" in unknown.stages[-1].detail


def test_stages_can_be_chosen_and_a_later_run_finds_the_files(toy: Callable[..., Report]) -> None:
    first = toy(stages="export,report")
    assert (first.status, first.exit_code) == ("unverified", 0)
    assert status(first)["evaluate"] == "skipped"
    second = toy(stages="verify,evaluate")
    assert second.exit_code == 0
    assert second.status == "passed"
    assert [variant.name for variant in second.variants] == ["trained", "onnx"]


def test_scenarios_of_the_mode_are_followed(toy: Callable[..., Report]) -> None:
    scenarios = [
        {"ref_backend": "pytorch", "test_backend": "onnx", "tolerance": 1e-3},
        {"ref_backend": "onnx", "ref_device": "cpu", "test_backend": "tensorrt", "test_device": "cuda:0"},
    ]
    report = toy({"verification": {"scenarios": {"onnx": scenarios}}})
    found = [(c.reference, c.candidate, c.status) for c in report.verification.checks]
    assert found == [
        ("trained", "exported", "passed"),
        ("trained", "onnx", "passed"),
        ("onnx", "engine", "skipped"),
    ]
    assert report.exit_code == 0
    required = toy({"verification": {"required": True, "scenarios": {"onnx": scenarios}}})
    assert required.exit_code == 6


def test_names_in_the_file_are_the_config_s(toy: Callable[..., Report], tmp_path: Path) -> None:
    report = toy(
        {
            "model_io": {"input_name": "picture", "output_name": "scores", "batch_size": 2},
            "onnx_config": {"save_file": "named.onnx"},
        }
    )
    assert report.exit_code == 0
    graph = onnx.load(tmp_path / "work/onnx/named.onnx").graph
    assert [each.name for each in graph.input] == ["picture"]
    assert [each.name for each in graph.output] == ["scores"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_workers_find_the_same_figures(
    toy: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    alone = toy({"evaluation": {"workers": 1}})
    shared = toy({"evaluation": {"workers": 2}})
    for one, two in zip(alone.evaluations, shared.evaluations, strict=True):
        assert one.metrics == two.metrics
    assert shared.evaluations[0].protocol["workers"] == 2


def test_mode_trt_says_that_engines_are_not_available(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy()
    report = toy({"export": {"mode": "trt", "onnx_path": str(tmp_path / "work/onnx")}})
    assert report.exit_code == 3
    assert "TensorRT is not available" in next(s.detail for s in report.stages if s.name == "build")


def test_a_truncated_file_is_no_artifact(toy: Callable[..., Report], tmp_path: Path) -> None:
    toy()
    path = tmp_path / "work/onnx/toy.onnx"
    path.write_bytes(path.read_bytes()[:500])
    report = toy({"export": {"mode": "none"}})
    assert report.exit_code == 8
    assert "toy.onnx" in next(stage.detail for stage in report.stages if stage.exit_code)


def test_named_samples_are_compared(toy: Callable[..., Report]) -> None:
    assert toy({"verification": {"samples": ["s3", "s8"]}}).verification.samples == ("s3", "s8")
    wrong = toy({"verification": {"samples": ["s99"]}})
    assert wrong.exit_code == 2
    assert "s9" in wrong.stages[1].detail
