"""A graph with an operator of another runtime: it is exported, and nothing about it counts as proved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from awml_deploy_core import deploy
from awml_deploy_core.report import Report

FOREIGN = """
import torch

class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value * 2

    @staticmethod
    def symbolic(g, value):
        found = g.op("TRT::Twice_TRT", value)
        found.setType(value.type())
        return found

class Doubled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return Twice.apply(self.net(image))

@hookimpl
def wrap_for_onnx(model, component, exact, config):
    return Doubled(model)
"""


@pytest.fixture
def foreign(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    def run(**verification: bool) -> Report:
        path, name = toy_files({"evaluation": {"enabled": True}, "verification": verification}, more=FOREIGN)
        return deploy(path, model=name)

    return run


def test_it_is_exported_and_said_to_be_unproved(foreign: Callable[..., Report], tmp_path: Path) -> None:
    report = foreign()
    nodes = onnx.load(tmp_path / "work/onnx/toy.onnx").graph.node
    assert [node.op_type for node in nodes if node.domain == "TRT"] == ["Twice_TRT"]
    statuses = {(one.reference, one.candidate): (one.status, one.skipped) for one in report.verification.checks}
    assert statuses["trained", "exported"][0] == "passed"
    status, skip = statuses["trained", "onnx"]
    assert status == "skipped"
    assert skip is not None
    assert skip.reason == "not supported"
    assert "TRT::Twice_TRT" in skip.detail
    assert (report.status, report.exit_code) == ("unverified", 0)
    assert any("not checked in ONNX Runtime" in note for one in report.exports for note in one.notes)


def test_it_is_not_evaluated_and_what_is_sound_is(foreign: Callable[..., Report]) -> None:
    trained, on_onnx = foreign().evaluations
    assert trained.metrics is not None
    assert on_onnx.skipped is not None
    assert on_onnx.skipped.reason == "not supported"


def test_where_verification_is_required_the_run_fails(foreign: Callable[..., Report]) -> None:
    assert foreign(required=True).exit_code == 6
