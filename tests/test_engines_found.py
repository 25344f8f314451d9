"""On the machine with the GPU: engines that an earlier run built are found, checked, and run as the config says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from awml_deploy_core import deploy
from awml_deploy_core.backends import Device, runner, tensorrt
from awml_deploy_core.records import Component, Variant
from awml_deploy_core.report import Report

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

ON_TARGET = "verify,evaluate,report"


@pytest.fixture
def again(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    """A work dir with an engine in half precision, and what a later run finds in it."""

    def values(**more: Any) -> dict[str, Any]:
        common = {"precision_policy": "fp16", **more.pop("common", {})}
        return {"export": {"mode": "both"}, "backend_config": {"common_config": common}, **more}

    path, name = toy_files(values())
    assert deploy(path, model=name).exit_code == 0

    def run(stages: str = ON_TARGET, **more: Any) -> Report:
        path, name = toy_files(values(**more))
        return deploy(path, model=name, stages=stages)

    return run


def said(report: Report) -> str:
    return " ".join(stage.detail for stage in report.stages if stage.name == "build")


def test_engines_of_an_earlier_run_are_found_with_what_they_were_built_from(
    again: Callable[..., Report], tmp_path: Path
) -> None:
    report = again()
    names = [(check.reference, check.candidate) for check in report.verification.checks]
    assert names == [
        ("trained", "onnx"),
        ("onnx", "onnx:fp16"),
        ("trained", "onnx:fp16"),
        ("onnx:fp16", "engine"),
        ("trained", "engine"),
    ]
    engine = next(one for one in report.artifacts if one.format == "engine")
    assert engine.path == tmp_path / "work/tensorrt/toy.engine"
    assert engine.precision == "fp16"


def test_an_engine_with_flipped_bytes_is_refused(again: Callable[..., Report], tmp_path: Path) -> None:
    engine = tmp_path / "work/tensorrt/toy.engine"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 255
    engine.write_bytes(content)
    report = again()
    assert report.exit_code == 8
    assert "is not the engine that toy.engine.json describes" in said(report)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [({"made_from": "00"}, "built from another ONNX file"), ({"component": "other"}, "was built for component other")],
)
def test_an_engine_of_something_else_is_refused(
    again: Callable[..., Report], tmp_path: Path, changes: dict[str, str], fact: str
) -> None:
    beside = tmp_path / "work/tensorrt/toy.engine.json"
    beside.write_text(json.dumps({**json.loads(beside.read_text()), **changes}))
    report = again()
    assert report.exit_code == 8
    assert fact in said(report)


def test_an_engine_that_the_config_names_must_be_there(again: Callable[..., Report], tmp_path: Path) -> None:
    report = again(evaluation={"backends": {"tensorrt": {"engine_dir": str(tmp_path / "nowhere")}}})
    assert report.exit_code == 8
    assert "no such engine" in said(report)


def test_an_engine_may_lie_elsewhere(again: Callable[..., Report], tmp_path: Path) -> None:
    (tmp_path / "work/tensorrt").rename(tmp_path / "elsewhere")
    report = again(evaluation={"backends": {"tensorrt": {"engine_dir": str(tmp_path / "elsewhere/toy.engine")}}})
    assert "found" in said(report)
    assert next(one for one in report.artifacts if one.format == "engine").path.parent == tmp_path / "elsewhere"


def test_a_new_export_takes_no_engine_of_an_earlier_one(again: Callable[..., Report]) -> None:
    report = again("export,verify,report")
    assert not said(report)
    assert all(one.format != "engine" for one in report.artifacts)


@pytest.mark.parametrize("graphs", [False, True])
def test_cuda_graphs_reach_the_engine(
    monkeypatch: pytest.MonkeyPatch, again: Callable[..., Report], graphs: bool
) -> None:
    class Opened(Exception):
        pass

    def opened(variant: Variant, component: Component, device: Device, *, graphs: bool) -> None:
        raise Opened(graphs)

    monkeypatch.setattr(tensorrt, "require_driver", lambda _: None)
    monkeypatch.setattr(runner, "require_device", lambda *_: None)
    monkeypatch.setattr(tensorrt, "open_session", opened)
    with pytest.raises(Opened) as caught:
        again(common={"precision_policy": "fp16", "cuda_graphs": graphs})
    assert caught.value.args == (graphs,)


@pytest.mark.parametrize("policy", ["explicit_int8", "strongly_typed"])
def test_a_given_graph_with_quantisation_is_taken_as_it_is_and_held_to_int8(
    toy_files: Callable[..., tuple[Path, str]], tmp_path: Path, policy: str
) -> None:
    backend: dict[str, Any] = {"common_config": {"precision_policy": "explicit_int8"}}
    path, name = toy_files({"export": {"mode": "both"}, "backend_config": backend})
    assert deploy(path, model=name).exit_code == 0
    given = tmp_path / "given.onnx"
    (tmp_path / "work/onnx/toy.explicit_int8.onnx").rename(given)
    backend["common_config"]["precision_policy"] = policy
    more = {"tolerances": {"float32/float32": 1e-9}}
    export = {"mode": "trt", "onnx_path": str(given), "work_dir": str(tmp_path / "second")}
    path, name = toy_files({"export": export, "backend_config": backend, "verification": more})
    report = deploy(path, model=name)
    assert report.exit_code == 0, report.stages
    facts = json.loads((tmp_path / "second/tensorrt/toy.engine.json").read_text())["receipt"]["facts"]
    assert facts["quantized"] == sum(node.op_type == "QuantizeLinear" for node in onnx.load(given).graph.node)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_given_file_without_a_graph_is_refused(
    toy_files: Callable[..., tuple[Path, str]], tmp_path: Path, share: float
) -> None:
    path, name = toy_files({})
    assert deploy(path, model=name, stages="export,report").exit_code == 0
    whole = (tmp_path / "work/onnx/toy.onnx").read_bytes()
    (tmp_path / "broken.onnx").write_bytes(whole[: int(len(whole) * share)])
    export = {"mode": "trt", "onnx_path": str(tmp_path / "broken.onnx"), "work_dir": str(tmp_path / "second")}
    path, name = toy_files({"export": export, "backend_config": {"common_config": {"precision_policy": "fp16"}}})
    assert deploy(path, model=name).exit_code == 8
    assert not list((tmp_path / "second").rglob("*.onnx"))
