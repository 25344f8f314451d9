"""Bad input to a build: one sentence with culprit, remedy and the code of its class, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from awml_deploy_core.build.engine import Settings, build_engine
from awml_deploy_core.build.flavor import choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.errors import ArtifactError, BuildError, ConfigError, DeployError, RequirementError
from awml_deploy_core.records import Artifact

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

Refused = Callable[..., DeployError]


def model(
    nodes: Sequence[onnx.NodeProto],
    *,
    shape: Sequence[Any] = (1, 4),
    opset: int = 17,
    domains: Sequence[str] = (),
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A graph from `x` to `y`."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", ends, outs, initializer=weights)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


RELU = helper.make_node("Relu", ["x"], ["y"], name="relu1")


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Build what cannot be built; nothing but the log may lie there afterwards."""

    def build(
        given: onnx.ModelProto | bytes, *, policy: Any = "auto", profiles: Any = (), **settings: Any
    ) -> DeployError:
        path = tmp_path / "net.onnx"
        path.write_bytes(given if isinstance(given, bytes) else given.SerializeToString())
        source = Artifact(component="net", format="onnx", path=path, sha256="0", size=path.stat().st_size)
        flavor = choose("tensorrt_rtx")
        with pytest.raises(DeployError) as caught:
            build_engine(
                source,
                tmp_path / "out" / "net.engine",
                flavor=flavor,
                plan=plan(policy, flavor),
                profiles=profiles,
                settings=Settings(**settings),
            )
        assert [one.name for one in (tmp_path / "out").iterdir()] == ["net.engine.log"]
        assert "Traceback" not in caught.value.message
        assert "\n" not in caught.value.message
        assert caught.value.hint
        return caught.value

    return build


# ---------------------------------------------------------------- the graph


def test_a_custom_operator_is_named_with_its_domain_and_node(refused: Refused) -> None:
    error = refused(model([helper.make_node("Foo", ["x"], ["y"], domain="mine", name="foo1")], domains=["mine"]))
    assert isinstance(error, BuildError)
    assert "has no operator mine::Foo (1 node, first 'foo1')" in error.message
    assert "plugin_libraries" in (error.hint or "")


def test_a_custom_operator_is_not_taken_for_onnxs_of_the_same_name(refused: Refused) -> None:
    error = refused(model([helper.make_node("Relu", ["x"], ["y"], domain="mine", name="r")], domains=["mine"]))
    assert "has no operator mine::Relu" in error.message


def test_every_unknown_operator_is_named_at_once_also_in_a_branch(refused: Refused) -> None:
    inner = [helper.make_node("Bernoulli", ["x"], ["t"], name="deep")]
    branch = helper.make_graph(inner, "branch", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, [1, 4])])
    flag = numpy_helper.from_array(np.array(True), "flag")
    nodes = [
        helper.make_node("If", ["flag"], ["a"], name="if1", then_branch=branch, else_branch=branch),
        helper.make_node("Bernoulli", ["a"], ["b"], name="shallow"),
        helper.make_node("Foo", ["b"], ["y"], domain="mine", name="foo1"),
    ]
    error = refused(model(nodes, domains=["mine"], weights=[flag]))
    assert "Bernoulli (3 nodes, first 'deep')" in error.message
    assert "mine::Foo (1 node, first 'foo1')" in error.message


def test_the_parsers_own_reason_is_given_with_node_and_operator(refused: Refused) -> None:
    weight = numpy_helper.from_array(np.zeros((7, 3), np.float32), "w")
    error = refused(model([RELU, helper.make_node("MatMul", ["x", "w"], ["z"], name="mm")], weights=[weight]))
    assert isinstance(error, BuildError)
    assert "refuses node mm (MatMul): INVALID_NODE" in error.message
    assert "last dimension of input0 = 4 and second to last dimension of input1 = 7 but must match" in error.message
    assert "cudaError" not in error.message, "that there is no driver is no fault of the graph"


def test_an_operator_that_is_known_and_not_supported(refused: Refused) -> None:
    error = refused(model([helper.make_node("NonZero", ["x"], ["y"], name="nz")]))
    assert "refuses node nz (NonZero): UNSUPPORTED_NODE" in error.message
    assert "opset_version" in (error.hint or "")


@pytest.mark.parametrize("opset", [5, 99])
def test_an_opset_that_nobody_knows_the_meaning_of(opset: int, refused: Refused) -> None:
    error = refused(model([RELU], opset=opset))
    assert isinstance(error, BuildError)
    assert f"net.onnx has opset {opset}; engines are built from 7 to" in error.message


@pytest.mark.parametrize("cut", [0, 0.5, 0.95])
def test_a_file_that_is_cut_short(cut: float, refused: Refused) -> None:
    weight = numpy_helper.from_array(np.ones((4, 40), np.float32), "w")
    whole = model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[weight]).SerializeToString()
    error = refused(whole[: int(cut * len(whole))])
    assert isinstance(error, ArtifactError)
    assert "net.onnx is no ONNX file, or cut short" in error.message


def test_weights_beside_the_file_that_are_missing_or_cut_short(refused: Refused, tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((4, 400), np.float32), "w")
    whole = model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[weight])
    onnx.save(whole, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    given = (tmp_path / "net.onnx").read_bytes()
    data = tmp_path / "net.data"
    data.write_bytes(data.read_bytes()[:100])
    assert "net.onnx keeps its weights in net.data, which is cut short" in refused(given).message
    data.unlink()
    error = refused(given)
    assert isinstance(error, ArtifactError)
    assert "net.onnx keeps its weights in net.data, which is not there" in error.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    flavor = choose("tensorrt_rtx")
    source = Artifact(component="net", format="onnx", path=tmp_path / "no.onnx", sha256="0", size=1)
    with pytest.raises(ArtifactError, match=r"no\.onnx cannot be read: No such file"):
        build_engine(source, tmp_path / "net.engine", flavor=flavor, plan=plan("auto", flavor))


# ---------------------------------------------------------------- sizes


def ranges(**shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> dict[str, Range]:
    return {name: Range(min=low, opt=best, max=high) for name, (low, best, high) in shapes.items()}


DYNAMIC = model([RELU], shape=("batch", 4))


@pytest.mark.parametrize(
    ("profile", "fact"),
    [
        (ranges(x=((4, 4), (2, 4), (8, 4))), "x must have min <= opt <= max in every place"),
        (ranges(x=((1, 4), (2, 4), (8, 4)), z=((1,), (1,), (1,))), "the file has no input 'z'"),
        (ranges(x=((1, 2), (2, 4), (8, 9))), "x[1] is 4 in the file, min says 2"),
        (ranges(x=((1, 4), (2, 4), (8, 9))), "x[1] is 4 in the file, max says 9"),
        (ranges(x=((1,), (2,), (3,))), "x.min has 1 sizes, the file 2"),
        ({}, "x is dynamic in the file, and nothing says which sizes it may have"),
    ],
)
def test_sizes_that_do_not_fit_the_file(profile: dict[str, Range], fact: str, refused: Refused) -> None:
    error = refused(DYNAMIC, profiles=[profile])
    assert isinstance(error, ConfigError)
    assert f"profile 0: {fact}" in error.message


def test_a_dynamic_graph_without_any_profile_is_not_built_with_a_default_one(refused: Refused) -> None:
    assert "x is dynamic in the file" in refused(DYNAMIC).message


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("extra", "fact", "hint"),
    [
        ({"tactic_source": []}, "extra.tactic_source is unknown to Polygraphy's CreateConfig", "'tactic_sources'"),
        ({"zzz": 1}, "extra.zzz is unknown", "It knows "),
        ({"fp16": True}, "extra.fp16 has a key of its own", "common_config.precision_policy"),
        ({"load_timing_cache": "f"}, "extra.load_timing_cache has a key of its own", "common_config.timing_cache"),
        ({"profiles": []}, "extra.profiles is unknown", "It knows "),
    ],
)
def test_an_option_that_polygraphy_does_not_know(extra: dict[str, Any], fact: str, hint: str, refused: Refused) -> None:
    error = refused(model([RELU]), extra=extra)
    assert isinstance(error, ConfigError)
    assert fact in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({"hardware": "HOPPER"}, "has no HardwareCompatibilityLevel 'HOPPER'"),
        ({"memory_pools": {"SOME": 1}}, "has no MemoryPoolType 'SOME'"),
        ({"compute_capabilities": ("SM90",)}, "has no ComputeCapability 'SM90'"),
        ({"dla_core": 0}, "dla_core = 0: TensorRT-RTX"),
        ({"extra": {"profiling_verbosity": "LOUD"}}, "has no ProfilingVerbosity 'LOUD'"),
    ],
)
def test_what_this_tensorrt_does_not_have(settings: dict[str, Any], fact: str, refused: Refused) -> None:
    error = refused(model([RELU]), **settings)
    assert isinstance(error, RequirementError)
    assert fact in error.message


def test_the_builders_own_reason_is_given(refused: Refused) -> None:
    # Without a GPU it needs the lean runtime left out, which `stages/build.py` sees to.
    error = refused(model([RELU]), options={"version_compatible": True})
    assert isinstance(error, BuildError)
    assert "TensorRT cannot build it: " in error.message
    assert "Invalid Engine" not in error.message
    assert 'File "' not in error.message


# ---------------------------------------------------------------- no TensorRT


def test_a_tensorrt_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awml_deploy_core.build.flavor.find_spec", lambda name: None)
    with pytest.raises(RequirementError, match="no TensorRT is installed") as caught:
        choose("auto")
    assert "awml-deploy-core[tensorrt-rtx]" in (caught.value.hint or "")
    with pytest.raises(RequirementError, match=r"`flavor = 'tensorrt'`, but the package tensorrt is not installed"):
        choose("tensorrt")
