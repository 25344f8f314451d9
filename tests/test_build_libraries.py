"""Shared libraries with custom layers: loaded before the graph is read, named by what they bring, refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from awml_deploy_core.build.document import Built
from awml_deploy_core.build.engine import Settings, build_engine
from awml_deploy_core.build.flavor import Flavor, choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.errors import BuildError, RequirementError
from awml_deploy_core.files import sha256_file
from awml_deploy_core.records import Artifact

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

STAND_IN = Path(__file__).parent / "stand_ins" / "tensorrt"

SOURCE = """
#include <stdio.h>
const char *stand_in_layer = "Custom";
__attribute__((constructor)) static void loaded(void) {
    FILE *file = fopen("PLACE", "w");
    fputs("loaded", file);
    fclose(file);
}
"""

TEN = Flavor(name="tensorrt", version="10.3.0", builder_flags=["FP16", "TF32"], network_flags=["STRONGLY_TYPED"])


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library that leaves a file when it is loaded; it brings no layers, as those need TensorRT's headers."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    code, path = tmp_path / "custom.c", tmp_path / "libcustom.so"
    code.write_text(SOURCE.replace("PLACE", str(tmp_path / "loaded")))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(path), str(code)], check=True)
    return path


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Built]:
    def build(*libraries: Path, node: str = "Relu", flavor: Flavor | None = None) -> Built:
        domain, _, kind = node.rpartition("::")
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
        made = helper.make_node(kind, ["x"], ["y"], name="one", domain=domain)
        graph = helper.make_graph([made], "net", ends[:1], ends[1:])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        path = tmp_path / "net.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
        source = Artifact(component="net", format="onnx", path=path, sha256="0", size=path.stat().st_size)
        flavor = flavor or choose("tensorrt_rtx")
        return build_engine(
            source,
            tmp_path / "out" / "net.engine",
            flavor=flavor,
            plan=plan("auto", flavor),
            settings=Settings(plugin_libraries=libraries),
        )[1]

    return build


def test_a_library_is_loaded_and_stands_in_the_document(
    library: Path, build: Callable[..., Built], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built = build(Path("libcustom.so"))  # relative, as a config may say it
    assert (tmp_path / "loaded").read_text() == "loaded"
    assert [(one.sha256, one.creators) for one in built.libraries] == [(sha256_file(library), ())]
    said = json.loads((tmp_path / "out" / "net.engine.json").read_text())["libraries"]
    assert said == [{"path": "libcustom.so", "sha256": sha256_file(library), "creators": []}]


def test_it_is_loaded_before_the_graph_is_refused(library: Path, build: Callable[..., Built], tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no operator Det"):
        build(library, node="Det")
    assert (tmp_path / "loaded").is_file()


def test_the_layers_that_it_brings_are_known_and_listed(
    library: Path, build: Callable[..., Built], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("STAND_IN_RECORD", str(tmp_path / "record"))
    with pytest.raises(BuildError, match="has no operator mine::Custom"):
        build(node="mine::Custom", flavor=TEN)
    assert build(library, node="mine::Custom", flavor=TEN).libraries[0].creators == ("mine::Custom 1",)


def test_a_library_that_is_not_there(build: Callable[..., Built], tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match=r"there is no .*missing\.so") as caught:
        build(tmp_path / "missing.so")
    assert "plugin_libraries" in (caught.value.hint or "")


def test_a_library_of_another_machine(build: Callable[..., Built], tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(b"MZ, not for Linux".ljust(4096))
    with pytest.raises(RequirementError, match=r"plugin library .*foreign\.so cannot be loaded: .*invalid ELF header"):
        build(foreign)
