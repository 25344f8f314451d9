"""How the process of a build can end, and what is left then: a sentence, and nothing under the engine's name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from awml_deploy_core.build import process
from awml_deploy_core.build.engine import build_engine
from awml_deploy_core.build.flavor import Flavor
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.process import ask
from awml_deploy_core.errors import BuildError, ExitCode, RequirementError
from awml_deploy_core.records import Artifact

STAND_IN = Path(__file__).parent / "stand_ins" / "tensorrt"
TEN = Flavor(name="tensorrt", version="10.3.0", builder_flags=["FP16", "TF32"], network_flags=["STRONGLY_TYPED"])

Told = list[tuple[str, int, int]]
Fated = Callable[..., Told]


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "net", ends[:1], ends[1:])
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return Artifact(component="net", format="onnx", path=path, sha256="0", size=path.stat().st_size)


@pytest.fixture
def fated(source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fated:
    """Build with a TensorRT that ends as it is told to."""

    def build(fate: str) -> Told:
        monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
        monkeypatch.setenv("STAND_IN_FATE", fate)
        monkeypatch.setenv("STAND_IN_RECORD", str(tmp_path / "record"))
        told: Told = []
        build_engine(
            source,
            tmp_path / "out" / "net.engine",
            flavor=TEN,
            plan=plan("fp32", TEN),
            progress=lambda title, done, total: told.append((title, done, total)),
        )
        return told

    return build


@pytest.mark.parametrize(
    ("fate", "fact", "remedy"),
    [
        ("SIGKILL", "was ended by SIGKILL; its last words: ", "memory ran out: lower max_workspace_size"),
        ("SIGABRT", "was ended by SIGABRT; its last words: ", "A crash of TensorRT itself"),
        ("SIGSEGV", "was ended by SIGSEGV; its last words: ", "A crash of TensorRT itself"),
        ("exit", "ended with exit code 7 before it had answered", "log of the build"),
        ("garbage", "answered with what is no answer: b'nonsense'", "plugin_libraries"),
    ],
)
def test_a_death_becomes_a_sentence(fate: str, fact: str, remedy: str, fated: Fated, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        fated(fate)
    assert caught.value.exit_code == ExitCode.BUILD
    assert fact in caught.value.message
    assert remedy in (caught.value.hint or "")
    if fate.startswith("SIG"):
        assert "last words" in caught.value.message
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["net.engine.log"]


def test_a_process_that_dies_before_it_was_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BuildError, match=r"net: the process of TensorRT ended with exit code 1"):
        ask({"task": "build", "flavor": "tensorrt", "component": "net", "filler": "x" * (1 << 20)})


def test_silence_is_told_as_being_alive(fated: Fated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HEARTBEAT", 0.02)
    told = fated("")
    assert ("build net: parse", 0, 1) in told
    assert any("still at work after" in title and total == 0 for title, _, total in told)


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RequirementError, match=r"tensorrt is installed and cannot be imported: OSError: libnvinfer"):
        ask({"task": "probe", "flavor": "tensorrt"})


def test_a_file_of_that_name_in_the_present_folder_is_not_tensorrt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("__version__ = 'mine'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    assert ask({"task": "probe", "flavor": "tensorrt"})["version"] == "10.3.0"


# ---------------------------------------------------------------- the run itself ends

RUN = """
import sys
from pathlib import Path
from awml_deploy_core.build.engine import build_engine
from awml_deploy_core.build.flavor import Flavor
from awml_deploy_core.build.policy import plan
from awml_deploy_core.records import Artifact

ten = Flavor(name="tensorrt", version="10.3.0", builder_flags=["FP16", "TF32"], network_flags=["STRONGLY_TYPED"])
path = Path(sys.argv[1])
source = Artifact(component="net", format="onnx", path=path, sha256="0", size=1)
build_engine(source, path.parent / "out" / "net.engine", flavor=ten, plan=plan("fp32", ten))
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_when_the_run_ends(ending: signal.Signals, source: Artifact, tmp_path: Path) -> None:
    record = tmp_path / "record"
    env = {**os.environ, "PYTHONPATH": str(STAND_IN), "STAND_IN_FATE": "hang", "STAND_IN_RECORD": str(record)}
    # In a session of its own, so that the signal reaches the run alone and not the child through the terminal.
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(source.path)], env=env, stderr=subprocess.PIPE, start_new_session=True
    )
    child = int(_soon(lambda: record.is_file() and record.read_text()))
    run.send_signal(ending)
    _, said = run.communicate(timeout=30)
    assert run.returncode != 0
    assert ending == signal.SIGKILL or b"KeyboardInterrupt" in said
    _soon(lambda: not Path(f"/proc/{child}/stat").is_file() or " Z " in Path(f"/proc/{child}/stat").read_text())
    names = [one.name for one in (tmp_path / "out").iterdir()]
    assert "net.engine" not in names
    if ending == signal.SIGINT:
        assert names == ["net.engine.log"]


def _soon(found: Callable[[], object]) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = found()
        if answer:
            return str(answer)
        time.sleep(0.02)
    raise AssertionError("it never happened")
