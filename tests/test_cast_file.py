"""A file in another precision: made once for each question, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from awml_deploy_core.cast import file
from awml_deploy_core.cast.file import Casted, cast_file
from awml_deploy_core.cast.narrow import Keep
from awml_deploy_core.cast.quantise import Calibration
from awml_deploy_core.errors import ArtifactError, LoadError
from awml_deploy_core.files import sha256_file
from awml_deploy_core.records import Artifact

W = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(2, 64)).astype(np.float32)


def source(folder: Path, body: str = "m = MatMul(x, w)  y = Relu(m)", **more: Any) -> Artifact:
    inner = parser.parse_graph(f"g (float[N,64] x) => (float[N,64] y) {{ {body} }}")
    inner.initializer.extend(numpy_helper.from_array(value, name) for name, value in {"w": W, **more}.items())
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="ours")
    path = folder / "model.onnx"
    onnx.save(model, path)
    return artifact(path)


def artifact(path: Path) -> Artifact:
    return Artifact(component="c", format="onnx", path=path, sha256=sha256_file(path), size=path.stat().st_size)


def feeds() -> Iterator[dict[str, NDArray[Any]]]:
    yield {"x": X}


def cast(given: Artifact, target: Path, **changes: Any) -> Casted:
    asked: dict[str, Any] = {"kind": "fp16", "policy": "fp16", "feeds": feeds, "data": "d", **changes}
    return cast_file(given, target, asked.pop("kind"), **asked)


def test_cast_file_writes_what_it_says(tmp_path: Path) -> None:
    given, target = source(tmp_path), tmp_path / "half.onnx"
    done = cast(given, target)
    assert done.artifact == Artifact(
        component="c",
        format="onnx",
        path=target,
        sha256=sha256_file(target),
        size=target.stat().st_size,
        precision="fp16",
        made_from=given.sha256,
        tool="cast to fp16",
    )
    model = onnx.load(target)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    assert model.producer_name == "ours"
    assert done.artifact.size < 0.6 * given.size


def test_cast_file_is_made_once(tmp_path: Path) -> None:
    given, target = (
        source(tmp_path, "m = MatMul(x, w)  k = Mul(m, f)  y = Relu(k)", f=np.array(1e6, np.float32)),
        tmp_path / "half.onnx",
    )
    first = cast(given, target)
    written = target.stat().st_mtime_ns

    def never() -> Iterator[dict[str, NDArray[Any]]]:
        raise AssertionError("nothing is to be looked at again")

    second = cast(given, target, feeds=never)
    assert not first.reused
    assert second == attrs.evolve(first, reused=True)
    assert first.islands
    assert first.notes
    assert target.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"kind": "int8"}),
        ({}, {"data": "e"}),
        ({}, {"keep": Keep(ops=("Relu",))}),
        ({"kind": "int8"}, {"kind": "int8", "calibration": Calibration(method="percentile")}),
        ({"kind": "int8"}, {"kind": "int8", "calibration": Calibration(per_channel=False)}),
        ({"kind": "int8"}, {"kind": "int8", "calibration": Calibration(percentile=99.0)}),
    ],
)
def test_cast_file_is_made_anew_for_another_question(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    given, target = source(tmp_path), tmp_path / "cast.onnx"
    cast(given, target, **before)
    assert not cast(given, target, **after).reused
    assert cast(given, target, **after).reused


def test_cast_file_is_made_anew_from_another_source_or_by_other_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "half.onnx"
    cast(source(tmp_path), target)
    other = source(tmp_path, "y = MatMul(x, w)")
    assert not cast(other, target).reused
    monkeypatch.setattr(file, "VERSION", file.VERSION + 1)
    assert not cast(other, target).reused


def test_cast_file_sees_weights_that_lie_beside_the_graph(tmp_path: Path) -> None:
    given, target = source(tmp_path), tmp_path / "half.onnx"
    onnx.save(onnx.load(given.path), given.path, save_as_external_data=True, location="weights", size_threshold=0)
    given = artifact(given.path)
    cast(given, target)
    assert cast(given, target).reused
    (tmp_path / "weights").write_bytes((2 * W).tobytes())
    assert not cast(given, target).reused
    weight = numpy_helper.to_array(onnx.load(target).graph.initializer[0])
    np.testing.assert_array_equal(weight, (2 * W).astype(np.float16))
    (tmp_path / "weights").unlink()
    with pytest.raises(ArtifactError, match="weights"):
        cast(given, target)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_cast_file_mends_one_that_was_cut_short(tmp_path: Path, share: float) -> None:
    given, target = source(tmp_path), tmp_path / "half.onnx"
    good = cast(given, target).artifact
    content = target.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    done = cast(given, target)
    assert not done.reused
    assert done.artifact == good


def test_cast_file_mends_one_with_flipped_bytes(tmp_path: Path) -> None:
    given, target = source(tmp_path), tmp_path / "half.onnx"
    good = cast(given, target).artifact
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 0xFF
    target.write_bytes(bytes(content))
    assert not cast(given, target).reused
    assert sha256_file(target) == good.sha256


def test_cast_file_leaves_nothing_half_done(tmp_path: Path) -> None:
    given, target = source(tmp_path), tmp_path / "out" / "cast.onnx"
    target.parent.mkdir()
    with pytest.raises(LoadError):
        cast(given, target, kind="int8", feeds=lambda: iter(()))
    with pytest.raises(LoadError):
        cast(given, target, feeds=lambda: iter([{"x": X * np.float32(np.nan)}]))
    given.path.write_bytes(given.path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="cut short"):
        cast(artifact(given.path), target)
    assert not list(target.parent.iterdir())


def test_cast_file_takes_a_quantised_graph_as_it_is(tmp_path: Path) -> None:
    given = source(tmp_path)
    first = cast(given, tmp_path / "first.onnx", kind="int8").artifact
    done = cast(first, tmp_path / "second.onnx", kind="int8", feeds=lambda: iter(()))
    assert done.notes == ("taken as it is: it has 2 QuantizeLinear nodes",)
    assert onnx.load(tmp_path / "second.onnx").graph == onnx.load(tmp_path / "first.onnx").graph


def test_cast_file_says_what_was_not_looked_at(tmp_path: Path) -> None:
    done = cast(source(tmp_path), tmp_path / "half.onnx", feeds=lambda: iter(()))
    assert done.notes == ("the ranges of its tensors were not looked at: there is no recorded call",)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.node[1].op_type, model.graph.node[1].domain = "Foo", "mine"
    model.opset_import.append(helper.make_opsetid("mine", 1))
    onnx.save(model, tmp_path / "model.onnx")
    done = cast(artifact(tmp_path / "model.onnx"), tmp_path / "half.onnx")
    assert "the ranges of its tensors were not looked at: ONNX Runtime cannot run" in done.notes[-1]
