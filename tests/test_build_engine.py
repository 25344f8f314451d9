"""Engines that TensorRT-RTX really builds here, without a GPU: what lies where afterwards, and what never does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from awml_deploy_core.build.document import is_engine
from awml_deploy_core.build.engine import Settings, build_engine, phases
from awml_deploy_core.build.flavor import Flavor, choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.cast.file import cast_file
from awml_deploy_core.errors import BuildError, ExitCode, RequirementError
from awml_deploy_core.files import sha256_file
from awml_deploy_core.records import Artifact

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

SIZES = {"x": Range(min=(1, 3, 8, 8), opt=(2, 3, 8, 8), max=(4, 3, 8, 8))}


def network() -> onnx.ModelProto:
    """Two convolutions, the batch dynamic."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w1", (16, 3, 3, 3)), ("w2", (8, 16, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="middle"),
        helper.make_node("Conv", ["b", "w2"], ["y"], name="second", pads=[1, 1, 1, 1]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", c, 8, 8]) for n, c in (("x", 3), ("y", 8))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def filed(path: Path) -> Artifact:
    return Artifact(component="net", format="onnx", path=path, sha256=sha256_file(path), size=path.stat().st_size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def source(folder: Path) -> Artifact:
    onnx.save(network(), folder / "net.onnx")
    return filed(folder / "net.onnx")


@pytest.fixture(scope="module")
def flavor() -> Flavor:
    return choose("tensorrt_rtx")


@pytest.fixture(scope="module")
def cast(source: Artifact, folder: Path) -> Callable[[Any], Artifact]:
    def make(kind: Any) -> Artifact:
        rng = np.random.default_rng(1)
        feeds = [{"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
        return cast_file(source, folder / f"net.{kind}.onnx", kind, policy=kind, feeds=lambda: feeds, data="d").artifact

    return make


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- every policy


def test_the_flavor_says_what_it_can(flavor: Flavor) -> None:
    assert (flavor.name, flavor.weak, flavor.strong) == ("tensorrt_rtx", False, True)
    assert flavor.version[0].isdigit()
    assert "TF32" in flavor.builder_flags


@pytest.mark.parametrize(
    ("policy", "kind", "summary"),
    [
        ("auto", None, "compute layers: 2 FLOAT, TF32 on"),
        ("fp32", None, "compute layers: 2 FLOAT, TF32 off"),
        ("fp32_tf32", None, "compute layers: 2 FLOAT, TF32 on"),
        ("strongly_typed", "fp16", "compute layers: 2 HALF, TF32 off"),
        ("fp16", "fp16", "compute layers: 2 HALF, TF32 off"),
        ("explicit_int8", "int8", "quantising layers"),
    ],
)
def test_every_policy_builds_and_its_receipt_holds(
    *,
    policy: Any,
    kind: str | None,
    summary: str,
    source: Artifact,
    cast: Callable[[Any], Artifact],
    flavor: Flavor,
    tmp_path: Path,
) -> None:
    given = cast(kind) if kind else source
    path = tmp_path / "net.engine"
    artifact, built = build_engine(given, path, flavor=flavor, plan=plan(policy, flavor), profiles=[SIZES])
    assert built.receipt.holds is True
    assert summary in built.receipt.summary
    assert left(tmp_path) == ["net.engine", "net.engine.json", "net.engine.log"]
    said = json.loads((tmp_path / "net.engine.json").read_text())
    assert (said["schema"], said["schema_version"]) == ("awml-deploy/engine", 1)
    assert said["sha256"] == sha256_file(path) == artifact.sha256
    assert said["size"] == path.stat().st_size == artifact.size
    assert (said["made_from"], said["flavor"], said["version"]) == (given.sha256, "tensorrt_rtx", flavor.version)
    assert said["profiles"] == [{"x": {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}}]
    assert (artifact.precision, artifact.made_from, artifact.receipt) == (policy, given.sha256, built.receipt.summary)
    assert said["receipt"]["holds"] is True
    assert sum(one["size"] for one in said["receipt"]["facts"]["weights"]) > 0


def test_a_half_engine_weighs_less(source: Artifact, cast: Callable[[Any], Artifact]) -> None:
    assert cast("fp16").size < 0.7 * source.size


@pytest.mark.parametrize("name", ["net.trt", "net.engine"])
def test_both_endings_are_engines(name: str) -> None:
    assert is_engine(Path(name))
    assert not is_engine(Path("net.onnx"))


# ---------------------------------------------------------------- refused before and after


@pytest.mark.parametrize(
    ("policy", "kind", "reason"),
    [
        ("fp32", "fp16", r"narrower than float32 \(\d+ HALF\), so its engine cannot be fp32"),
        ("fp32_tf32", "int8", r"narrower than float32 \(\d+ INT8\), so its engine cannot be fp32_tf32"),
        ("explicit_int8", None, "has no QuantizeLinear node"),
    ],
)
def test_a_graph_that_cannot_have_the_precision_is_refused_before_the_build(
    *,
    policy: Any,
    kind: str | None,
    reason: str,
    source: Artifact,
    cast: Callable[[Any], Artifact],
    flavor: Flavor,
    tmp_path: Path,
) -> None:
    given = cast(kind) if kind else source
    with pytest.raises(BuildError, match=reason) as caught:
        build_engine(given, tmp_path / "net.engine", flavor=flavor, plan=plan(policy, flavor), profiles=[SIZES])
    assert caught.value.hint
    assert "Building engine" not in (tmp_path / "net.engine.log").read_text()


def test_a_receipt_that_does_not_hold_leaves_no_engine_not_even_an_older_one(
    source: Artifact, flavor: Flavor, tmp_path: Path
) -> None:
    path = tmp_path / "net.engine"
    build_engine(source, path, flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES])
    with pytest.raises(BuildError, match=r"the engine is not fp16: only 0 of 2 compute layers are HALF") as caught:
        build_engine(source, path, flavor=flavor, plan=plan("fp16", flavor), profiles=[SIZES])
    assert caught.value.exit_code == ExitCode.BUILD
    assert left(tmp_path) == ["net.engine.log", "net.engine.refused.json"]
    refused = json.loads((tmp_path / "net.engine.refused.json").read_text())
    assert refused["receipt"]["holds"] is False
    build_engine(source, path, flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES])
    assert left(tmp_path) == ["net.engine", "net.engine.json", "net.engine.log"]


# ---------------------------------------------------------------- files


def test_weights_in_a_file_beside_work_in_every_respect(flavor: Flavor, tmp_path: Path) -> None:
    path = tmp_path / "onnx" / "net.onnx"
    path.parent.mkdir()
    onnx.save(network(), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    assert (path.parent / "net.onnx.data").is_file()
    _, built = build_engine(
        filed(path), tmp_path / "net.engine", flavor=flavor, plan=plan("fp32", flavor), profiles=[SIZES]
    )
    assert built.receipt.holds is True
    assert [one.size for one in built.receipt.facts.weights] == [4 * (16 * 27 + 8 * 16 * 9)]


def test_two_builds_at_once_do_not_meet(source: Artifact, flavor: Flavor, tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def build() -> None:
        try:
            path = tmp_path / "net.engine"
            build_engine(source, path, flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES])
        except BaseException as error:  # noqa: BLE001  whatever it is, the test must see it
            faults.append(error)

    both = [threading.Thread(target=build) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert faults == []
    assert left(tmp_path) == ["net.engine", "net.engine.json", "net.engine.log"]
    assert json.loads((tmp_path / "net.engine.json").read_text())["sha256"] == sha256_file(tmp_path / "net.engine")


def test_a_folder_that_nothing_can_be_written_into_is_named(source: Artifact, flavor: Flavor) -> None:
    with pytest.raises(RequirementError, match="/proc/nowhere"):
        build_engine(source, Path("/proc/nowhere/net.engine"), flavor=flavor, plan=plan("auto", flavor))


def test_a_file_where_the_log_should_lie_is_named(source: Artifact, flavor: Flavor, tmp_path: Path) -> None:
    (tmp_path / "net.engine.log").mkdir()
    with pytest.raises(RequirementError, match=r"net\.engine\.log"):
        build_engine(source, tmp_path / "net.engine", flavor=flavor, plan=plan("auto", flavor))


def test_a_full_disk_leaves_the_engine_of_before(source: Artifact, flavor: Flavor, tmp_path: Path) -> None:
    import resource

    path = tmp_path / "net.engine"
    build_engine(source, path, flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES])
    before = sha256_file(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this, so the engine cannot be written to its end; Python ignores the signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(RequirementError, match=r"net\.engine") as caught:
            build_engine(source, path, flavor=flavor, plan=plan("fp32", flavor), profiles=[SIZES])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert path.stat().st_size > 20_000
    assert sha256_file(path) == before
    assert left(tmp_path) == ["net.engine", "net.engine.json", "net.engine.log"]


def test_a_disk_of_its_own_that_is_full_is_a_sentence(source: Artifact, flavor: Flavor, tmp_path: Path) -> None:
    import subprocess

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(RequirementError, match="No space left on device") as caught:
            build_engine(source, place / "net.engine", flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES])
        assert "ree" in (caught.value.hint or "")
        assert left(place) in ([], ["net.engine.log"])
    finally:
        subprocess.run(["umount", str(place)], check=True)


# ---------------------------------------------------------------- what it says on the way


def test_progress_has_the_phases_of_the_builder_and_the_time_of_the_last_build(
    source: Artifact, flavor: Flavor, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int]] = []

    def build() -> list[tuple[str, int, int]]:
        told.clear()
        build_engine(
            source,
            tmp_path / "net.engine",
            flavor=flavor,
            plan=plan("auto", flavor),
            profiles=[SIZES],
            progress=lambda title, done, total: told.append((title, done, total)),
        )
        return list(told)

    first = build()
    assert first[0] == ("build net: parse", 0, 1)
    assert all(title.startswith("build net: ") and 0 <= done <= total for title, done, total in first)
    assert any(done == total > 1 for _, done, total in first)
    assert all(title.startswith("build net (last time ") for title, _, _ in build())


def test_phases_within_phases_are_not_told(source: Artifact, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    told = phases(source, tmp_path / "net.engine", lambda *said: seen.append(said))
    assert told is not None
    told({"event": "phase", "name": "Building", "parent": None, "done": 1, "total": 4})
    told({"event": "phase", "name": "Tactic", "parent": "Building", "done": 7, "total": 9})
    told({"event": "phase", "name": "Endless", "parent": None, "done": 0, "total": 0})
    told({"event": "alive", "seconds": 31.6})
    assert seen == [("build net: Building", 1, 4), ("build net: still at work after 32 s", 0, 0)]


def test_settings_reach_the_builder_and_the_document(source: Artifact, flavor: Flavor, tmp_path: Path) -> None:
    settings = Settings(
        workspace=1 << 24,
        compute_capabilities=("SM86", "SM89"),
        options={"builder_optimization_level": 2, "max_aux_streams": 1},
        memory_pools={"TACTIC_SHARED_MEMORY": 1 << 16},
        extra={"profiling_verbosity": "NONE"},
        timing_cache=tmp_path / "cache" / "times",
    )
    path = tmp_path / "net.engine"
    _, built = build_engine(source, path, flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES], settings=settings)
    assert built.receipt.facts.capabilities == ("SM86", "SM89")
    said = json.loads(path.with_name("net.engine.json").read_text())
    assert said["settings"]["compute_capabilities"] == ["SM86", "SM89"]
    assert said["timing_cache"] == "TensorRT-RTX measures no layers while it builds"
    assert not (tmp_path / "cache" / "times").exists()
    log = path.with_name("net.engine.log").read_text()
    assert "WORKSPACE: 16.00 MiB" in log
    assert "ProfilingVerbosity.NONE" in log


def test_several_profiles_are_built(source: Artifact, flavor: Flavor, tmp_path: Path) -> None:
    more = {"x": Range(min=(5, 3, 8, 8), opt=(8, 3, 8, 8), max=(8, 3, 8, 8))}
    path = tmp_path / "net.engine"
    _, built = build_engine(source, path, flavor=flavor, plan=plan("auto", flavor), profiles=[SIZES, more])
    assert len(built.profiles) == 2
    assert "2 profile(s)" in path.with_name("net.engine.log").read_text()
