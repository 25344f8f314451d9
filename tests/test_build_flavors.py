"""TensorRT 8.6, 10 and 11, which cannot be had here: what is set on them, seen by modules that stand in for them.

The path through Polygraphy is the real one; nobody has run these on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from awml_deploy_core.build import cache
from awml_deploy_core.build.document import Built
from awml_deploy_core.build.engine import Settings, build_engine
from awml_deploy_core.build.flavor import Flavor, probe
from awml_deploy_core.build.machine import Gpu
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.cast.file import cast_file
from awml_deploy_core.config import Precision
from awml_deploy_core.errors import BuildError, RequirementError
from awml_deploy_core.records import Artifact

STAND_IN = Path(__file__).parent / "stand_ins" / "tensorrt"
SIZES = {"x": Range(min=(1, 3, 8, 8), opt=(2, 3, 8, 8), max=(4, 3, 8, 8))}

Set = Callable[..., tuple[dict[str, Any], Built]]


@pytest.fixture(params=["8.6.1", "10.3.0", "11.0.0"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def flavor(version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Flavor:
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("STAND_IN_VERSION", version)
    monkeypatch.setenv("STAND_IN_RECORD", str(tmp_path / "record"))
    probe.cache_clear()
    found = probe("tensorrt")
    probe.cache_clear()
    assert found.version == version
    return found


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Artifact]:
    """One graph as it was exported, and in the precisions that are written into graphs."""
    folder = tmp_path_factory.mktemp("onnx")
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["y"], name="relu"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", c, 8, 8]) for n, c in (("x", 3), ("y", 8))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initializer=[weight])
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    plain = Artifact(component="net", format="onnx", path=path, sha256="0", size=path.stat().st_size)
    feeds = [{"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)}]
    kinds: tuple[Any, ...] = ("fp16", "int8")
    made = {
        kind: cast_file(plain, folder / f"{kind}.onnx", kind, policy=kind, feeds=lambda: feeds, data="d").artifact
        for kind in kinds
    }
    return {None: plain, **made}


@pytest.fixture
def set_on(flavor: Flavor, graphs: dict[str | None, Artifact], tmp_path: Path) -> Set:
    """Build and answer what was set, and the document."""

    def build(policy: Any, typing: Any = "strong", **settings: Any) -> tuple[dict[str, Any], Built]:
        asked = plan(policy, flavor, typing)
        _, built = build_engine(
            graphs[asked.cast],
            tmp_path / "out" / "net.engine",
            flavor=flavor,
            plan=asked,
            profiles=[SIZES],
            settings=Settings(**settings),
        )
        return json.loads((tmp_path / "record").read_text()), built

    return build


WEAK = ["EXPLICIT_BATCH"]
STRONG = ["STRONGLY_TYPED"]
NONE: list[str] = []

# policy and typing: 8.6, 10, 11; each as (how the network was made, flags, whether the receipt holds)
TABLE: dict[tuple[str, str], tuple[Any, Any, Any]] = {
    ("auto", "strong"): ((WEAK, ["TF32"], None), (NONE, ["TF32"], None), (NONE, ["TF32"], True)),
    ("fp32", "strong"): ((WEAK, [], None), (STRONG, [], True), (NONE, [], True)),
    ("fp32_tf32", "strong"): ((WEAK, ["TF32"], None), (STRONG, ["TF32"], True), (NONE, ["TF32"], True)),
    ("fp16", "strong"): ((WEAK, ["FP16"], None), (STRONG, [], True), (NONE, [], True)),
    ("fp16", "weak"): ((WEAK, ["FP16"], None), (NONE, ["FP16"], None), None),
    ("bf16", "weak"): (None, (NONE, ["BF16"], None), None),
    ("explicit_int8", "strong"): ((WEAK, ["INT8"], None), (STRONG, [], True), (NONE, [], True)),
    ("explicit_int8", "weak"): ((WEAK, ["INT8"], None), (NONE, ["INT8"], None), None),
    ("strongly_typed", "strong"): (None, (STRONG, [], True), (NONE, [], True)),
}


@pytest.mark.parametrize(("policy", "typing"), TABLE)
def test_what_is_set_for_a_policy(policy: str, typing: str, version: str, set_on: Set) -> None:
    wanted = TABLE[policy, typing][["8.6.1", "10.3.0", "11.0.0"].index(version)]
    if wanted is None:
        with pytest.raises(RequirementError):
            set_on(policy, typing)
        return
    note, built = set_on(policy, typing)
    assert (note["creation"], note["flags"], built.receipt.holds) == wanted
    assert note["profiles"] == [{"x": [[1, 3, 8, 8], [2, 3, 8, 8], [4, 3, 8, 8]]}]
    assert note["pools"]["WORKSPACE"] == 1 << 30


def test_every_policy_is_tried() -> None:
    assert {policy for policy, _ in TABLE} == set(get_args(Precision))


@pytest.mark.parametrize("version", ["10.3.0"], indirect=True)
def test_settings_are_set(set_on: Set) -> None:
    note, _ = set_on(
        "fp32",
        workspace=1 << 20,
        memory_pools={"TACTIC_DRAM": 7},
        hardware="AMPERE_PLUS",
        dla_core=1,
        options={
            "builder_optimization_level": 4,
            "max_aux_streams": 2,
            "sparse_weights": True,
            "version_compatible": True,
            "exclude_lean_runtime": True,
            "use_dla": True,
            "allow_gpu_fallback": True,
        },
        extra={"profiling_verbosity": "LAYER_NAMES_ONLY", "refittable": True},
    )
    assert note["pools"] == {"WORKSPACE": 1 << 20, "TACTIC_DRAM": 7}
    assert (note["builder_optimization_level"], note["max_aux_streams"], note["DLA_core"]) == (4, 2, 1)
    assert note["default_device_type"] == "DeviceType.DLA"
    assert note["hardware_compatibility_level"] == "HardwareCompatibilityLevel.AMPERE_PLUS"
    assert note["profiling_verbosity"] == "ProfilingVerbosity.LAYER_NAMES_ONLY"
    assert {"SPARSE_WEIGHTS", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "GPU_FALLBACK", "REFIT"} <= set(
        note["flags"]
    )


def test_capabilities_cannot_be_chosen_where_the_builder_measures(set_on: Set) -> None:
    with pytest.raises(RequirementError, match="has no ComputeCapability 'SM86'"):
        set_on("auto", compute_capabilities=("SM86",))


@pytest.mark.parametrize("version", ["10.3.0"], indirect=True)
def test_a_flag_that_is_dropped_without_a_word_leaves_no_engine(
    set_on: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_DROPS", "FP16")
    with pytest.raises(BuildError, match="the flag FP16 was asked for and is not set"):
        set_on("fp16", "weak")
    assert not (tmp_path / "out" / "net.engine").exists()


@pytest.mark.parametrize("version", ["10.3.0"], indirect=True)
def test_a_network_that_is_weak_after_all_leaves_no_engine(
    set_on: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_DROPS", "STRONGLY_TYPED")
    with pytest.raises(BuildError, match="the network is weakly typed and was to be the other"):
        set_on("fp16")
    assert not (tmp_path / "out" / "net.engine").exists()


# ---------------------------------------------------------------- layer times


@pytest.mark.parametrize("version", ["8.6.1"], indirect=True)
def test_layer_times_are_kept_and_used_again(set_on: Set, tmp_path: Path) -> None:
    times = tmp_path / "times" / "cache"
    first, built = set_on("fp32", timing_cache=times)
    assert (first["cache"], built.timing_cache, times.read_bytes()) == ("", "kept", b"+measured")
    second, built = set_on("fp32", timing_cache=times)
    assert (second["cache"], built.timing_cache) == ("+measured", "reused and kept")
    assert set_on("fp32")[1].timing_cache == "not asked for"


@pytest.mark.parametrize("version", ["8.6.1"], indirect=True)
def test_layer_times_that_cannot_be_kept_end_no_build(set_on: Set, tmp_path: Path) -> None:
    times = tmp_path / "times"
    times.mkdir()
    _, built = set_on("fp32", timing_cache=times)
    assert built.timing_cache.startswith("cannot be kept: ")


def test_the_file_of_layer_times_names_tensorrt_version_and_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    ten = Flavor(name="tensorrt", version="10.3.0")
    monkeypatch.setattr(cache, "gpus", tuple)
    assert cache.name(ten) == "tensorrt-10.3.0.timing"
    monkeypatch.setattr(cache, "gpus", lambda: (Gpu(name="NVIDIA RTX A2000", capability="8.6"),))
    assert cache.name(ten) == "tensorrt-10.3.0-NVIDIA_RTX_A2000-8.6.timing"
