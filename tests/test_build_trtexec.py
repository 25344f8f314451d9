"""The builder trtexec, tried with a program that stands in for it and checks its arguments; no real one was run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from awml_deploy_core.build import process, trtexec
from awml_deploy_core.build.document import Built, Settings
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.errors import BuildError, ConfigError, RequirementError
from awml_deploy_core.records import Artifact

TEXT = (Path(__file__).parent / "stand_ins" / "trtexec.txt").read_text(encoding="utf-8")
SIZES = {"x": Range(min=(1, 3, 8, 8), opt=(2, 3, 8, 8), max=(4, 3, 8, 8))}

Made = Callable[..., tuple[list[str], Built]]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], trtexec.Program]:
    """Put a trtexec of some version on the PATH and find it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "trtexec"
    path.write_text(TEXT.replace("PYTHON", sys.executable), encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("STAND_IN_RECORD", str(tmp_path / "record"))

    def find(version: str) -> trtexec.Program:
        monkeypatch.setenv("STAND_IN_VERSION", version)
        return trtexec.find()

    return find


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", c, 8, 8]) for n, c in (("x", 3), ("y", 8))]
    graph = helper.make_graph([node], "net", ends[:1], ends[1:], initializer=[weight])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Artifact(component="net", format="onnx", path=path, sha256="0", size=path.stat().st_size)


@pytest.fixture
def made(program: Callable[[str], trtexec.Program], source: Artifact, tmp_path: Path) -> Made:
    """Build with a version and a policy; answers the arguments that arrived and the document."""

    def build(version: str, policy: Any = "fp32", typing: Any = "strong", **more: Any) -> tuple[list[str], Built]:
        found = program(version)
        settings = Settings(**more.pop("settings", {}))
        _, built = trtexec.build_engine(
            source,
            tmp_path / "out" / "net.trt",
            program=found,
            plan=plan(policy, found.flavor, typing),
            settings=settings,
            **{"profiles": [SIZES], **more},
        )
        words = (tmp_path / "record").read_text().splitlines()
        assert words[:1] == [f"--onnx={source.path}"]
        assert words[1].startswith("--saveEngine=")
        return words[2:], built

    return build


# ---------------------------------------------------------------- what is given to it

SHAPES = ["--minShapes=x:1x3x8x8", "--optShapes=x:2x3x8x8", "--maxShapes=x:4x3x8x8"]
POOL = "--memPoolSize=workspace:1024"


@pytest.mark.parametrize(
    ("version", "policy", "typing", "words"),
    [
        ("8.6.1", "fp32", "strong", ["--buildOnly", "--noTF32", "--workspace=1024", *SHAPES]),
        ("8.6.1", "auto", "strong", ["--buildOnly", "--workspace=1024", *SHAPES]),
        ("8.6.1", "fp16", "strong", ["--buildOnly", "--fp16", "--noTF32", "--workspace=1024", *SHAPES]),
        ("10.3.0", "fp32", "strong", ["--skipInference", "--stronglyTyped", "--noTF32", POOL, *SHAPES]),
        ("10.3.0", "fp32_tf32", "strong", ["--skipInference", "--stronglyTyped", POOL, *SHAPES]),
        ("10.3.0", "auto", "strong", ["--skipInference", POOL, *SHAPES]),
        ("10.3.0", "fp16", "weak", ["--skipInference", "--fp16", "--noTF32", POOL, *SHAPES]),
        ("10.3.0", "bf16", "weak", ["--skipInference", "--bf16", "--noTF32", POOL, *SHAPES]),
        ("11.0.0", "fp32", "strong", ["--skipInference", "--noTF32", POOL, *SHAPES]),
        ("11.0.0", "auto", "strong", ["--skipInference", POOL, *SHAPES]),
    ],
)
def test_the_command_line(version: str, policy: str, typing: str, words: list[str], made: Made) -> None:
    assert made(version, policy, typing)[0] == words


def test_several_profiles_are_numbered_where_that_can_be_said(made: Made) -> None:
    words, built = made("10.3.0", profiles=[SIZES, SIZES])
    assert words[-8:] == ["--profile=0", *SHAPES, "--profile=1", *SHAPES]
    assert len(built.profiles) == 2
    with pytest.raises(RequirementError, match=r"trtexec 8\.6\.1 has no option for several profiles: --profile"):
        made("8.6.1", profiles=[SIZES, SIZES])


def test_settings_become_options(made: Made, tmp_path: Path) -> None:
    library = tmp_path / "custom.so"
    library.write_bytes(b"library")
    settings = {
        "workspace": 3 << 19,
        "timing_cache": tmp_path / "times",
        "plugin_libraries": (library,),
        "memory_pools": {"TACTIC_DRAM": 1 << 30},
        "hardware": "AMPERE_PLUS",
        "dla_core": 1,
        "options": {
            "builder_optimization_level": 4,
            "max_aux_streams": 2,
            "sparse_weights": True,
            "version_compatible": True,
            "exclude_lean_runtime": True,
            "use_dla": True,
            "allow_gpu_fallback": True,
        },
    }
    words, built = made("10.3.0", settings=settings)
    assert set(words) >= {
        "--memPoolSize=workspace:1.5,tacticMem:1024",
        f"--timingCacheFile={tmp_path / 'times'}",
        f"--staticPlugins={library}",
        "--hardwareCompatibilityLevel=ampere+",
        "--useDLACore=1",
        "--allowGPUFallback",
        "--builderOptimizationLevel=4",
        "--maxAuxStreams=2",
        "--sparsity=enable",
        "--versionCompatible",
        "--excludeLeanRuntime",
    }
    assert [one.path for one in built.libraries] == [library]
    old = {"plugin_libraries": (library,)}
    assert f"--plugins={library}" in made("8.6.1", settings=old)[0]


@pytest.mark.parametrize(
    ("version", "settings", "fact"),
    [
        ("8.6.1", {"memory_pools": {"TACTIC_DRAM": 1}}, "limits no memory but the workspace"),
        ("10.3.0", {"memory_pools": {"SOME": 1}}, "no memory pool SOME"),
        ("10.3.0", {"extra": {"refittable": True}}, "options of Polygraphy"),
        ("10.3.0", {"compute_capabilities": ("SM86",)}, "options of Polygraphy"),
    ],
)
def test_what_it_has_no_word_for_is_refused(version: str, settings: dict[str, Any], fact: str, made: Made) -> None:
    with pytest.raises(RequirementError, match=fact):
        made(version, settings=settings)


# ---------------------------------------------------------------- what comes of it


def test_a_build_is_described_like_any_other(made: Made, tmp_path: Path) -> None:
    _, built = made("10.3.0")
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["net.trt", "net.trt.json", "net.trt.log"]
    said = json.loads((tmp_path / "out" / "net.trt.json").read_text())
    assert (said["builder"], said["flavor"], said["version"], said["seconds"]) == (
        "trtexec",
        "tensorrt",
        "10.3.0",
        12.5,
    )
    assert built.receipt.holds is True
    assert "1 FLOAT" in built.receipt.summary
    assert "read from the graph, to whose types the builder was held" in built.receipt.summary
    log = (tmp_path / "out" / "net.trt.log").read_text()
    assert "--skipInference" in log
    assert "&&&& PASSED" in log


def test_a_weak_build_is_not_provable(made: Made) -> None:
    _, built = made("8.6.1", "fp16")
    assert built.receipt.holds is None
    assert "not provable here" in built.receipt.summary


@pytest.mark.parametrize(
    ("fate", "fact"),
    [
        ("parser", r"parser refuses node foo1 \(Foo\): UNSUPPORTED_NODE: Assertion failed"),
        ("builder", r"OutOfMemory \(no room\)"),
        ("SIGKILL", "was ended by SIGKILL"),
        ("empty", "wrote an empty engine"),
    ],
)
def test_a_failure_is_a_sentence_and_leaves_the_log(
    fate: str, fact: str, made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_FATE", fate)
    with pytest.raises(BuildError, match=fact) as caught:
        made("10.3.0")
    assert caught.value.hint
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["net.trt.log"]


def test_the_graph_is_checked_before(made: Made) -> None:
    with pytest.raises(ConfigError, match="x is dynamic in the file"):
        made("10.3.0", profiles=[])
    with pytest.raises(BuildError, match="has no QuantizeLinear node"):
        made("8.6.1", "explicit_int8")


def test_a_receipt_that_does_not_hold_leaves_no_engine(made: Made, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="only 0 of 1 compute layers are HALF"):
        made("10.3.0", "fp16")  # the graph that it is given is float32
    assert not (tmp_path / "out" / "net.trt").exists()


def test_silence_is_told_as_being_alive(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtexec, "HEARTBEAT", 0.005)
    told: list[str] = []
    made("10.3.0", progress=lambda title, done, total: told.append(title))
    assert any("still at work" in title for title in told)
    assert process.HEARTBEAT > 1


# ---------------------------------------------------------------- finding it


@pytest.mark.parametrize(
    ("version", "weak", "strong"), [("8.6.1", True, False), ("10.3.0", True, True), ("11.0.0", False, True)]
)
def test_the_program_says_what_it_can(
    version: str, weak: bool, strong: bool, program: Callable[[str], trtexec.Program]
) -> None:
    found = program(version)
    assert found.version == version
    assert (found.flavor.weak, found.flavor.strong) == (weak, strong)
    assert "--noTF32" in found.options


def test_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequirementError, match="no program trtexec on the PATH") as caught:
        trtexec.find()
    assert "/usr/src/tensorrt/bin" in (caught.value.hint or "")


def test_a_program_that_does_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "trtexec"
    path.write_text("#!/bin/sh\necho error while loading shared libraries: libnvinfer.so.10\nexit 127\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(RequirementError, match="does not say its version: error while loading shared libraries"):
        trtexec.find()
