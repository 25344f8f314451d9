"""INT8 from real samples: what is quantised, how ranges are found, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, parser

from awml_deploy_core.cast.narrow import Keep
from awml_deploy_core.cast.quantise import Calibration, quantise, quantised_nodes
from awml_deploy_core.errors import ArtifactError, BuildError, ConfigError, LoadError

RANDOM = np.random.default_rng(0)
BODY = """a = Conv <pads=[1,1,1,1]> (x, w, b)  r = Relu(a)  c = Conv <pads=[1,1,1,1]> (r, w, b)  s = Add(c, r)
t = Relu(s)  m = ReduceMean <axes=[2,3], keepdims=0> (t)  y = Gemm <transB=1> (m, g, h)"""
WEIGHTS = {
    "w": RANDOM.normal(size=(4, 4, 3, 3)).astype(np.float32)
    * np.array([1, 0.1, 3, 0.5], np.float32).reshape(4, 1, 1, 1),
    "b": RANDOM.normal(size=4).astype(np.float32),
    "g": RANDOM.normal(size=(3, 4)).astype(np.float32),
    "h": RANDOM.normal(size=3).astype(np.float32),
}


def write(folder: Path, body: str = BODY, opset: int = 17, **weights: Any) -> Path:
    inner = parser.parse_graph(f"g (float[N,4,H,W] x) => (float[N,3] y) {{ {body} }}")
    given = weights or WEIGHTS
    inner.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in given.items())
    model = onnx.helper.make_model(inner, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def feeds(count: int = 4, side: int = 16) -> list[dict[str, NDArray[Any]]]:
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(1, 4, side, side)).astype(np.float32)} for _ in range(count)]


def run(model: onnx.ModelProto, feed: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = ort.InferenceSession(model.SerializeToString()).run(None, dict(feed))[0]
    return result


def gap(model: onnx.ModelProto, path: Path) -> float:
    """The mean error over the range of the results, on samples that were not calibrated on."""
    random = np.random.default_rng(9)
    unseen = [{"x": random.normal(size=(2, 4, 16, 16)).astype(np.float32)} for _ in range(4)]
    wide = [run(onnx.load(path), feed) for feed in unseen]
    got = [run(model, feed) for feed in unseen]
    return float(np.abs(np.array(wide) - np.array(got)).mean() / np.abs(wide).max())


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_cast_quantise_stays_near(
    tmp_path: Path, method: Literal["minmax", "percentile", "entropy"], per_channel: bool
) -> None:
    path = write(tmp_path)
    how = Calibration(method=method, per_channel=per_channel)
    model, count = quantise(path, iter(feeds()), calibration=how)
    onnx.checker.check_model(model, full_check=True)
    assert count == 4
    assert 0 < gap(model, path) < 0.05
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "w_scale")
    assert list(scale.dims) == ([4] if per_channel else [])


def test_cast_quantise_is_symmetric_and_leaves_biases_in_float(tmp_path: Path) -> None:
    model, _ = quantise(write(tmp_path), feeds())
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    assert not [name for name, tensor in weights.items() if tensor.data_type == TensorProto.INT32]
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = numpy_helper.to_array(weights[node.input[2]])
            assert zero.dtype == np.int8
            assert not zero.any()
        if node.op_type in ("Conv", "Gemm"):
            assert weights[node.input[2]].data_type == TensorProto.FLOAT


def test_cast_quantise_takes_the_ranges_of_the_samples(tmp_path: Path) -> None:
    given = [{"x": np.full((1, 4, 8, 8), value, np.float32)} for value in (-2.54, 1.0, 0.5)]
    model, _ = quantise(write(tmp_path), given)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "x_scale")
    assert numpy_helper.to_array(scale) == pytest.approx(2.54 / 127, rel=0.01)


def test_cast_quantise_leaves_out_the_rarest(tmp_path: Path) -> None:
    x = np.ones((1, 4, 64, 64), np.float32)
    x[0, 0, 0, 0] = 1000
    how = Calibration(method="percentile", percentile=99.9)
    model, _ = quantise(write(tmp_path), [{"x": x}], calibration=how)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "x_scale")
    assert numpy_helper.to_array(scale) < 10 / 127


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_cast_quantise_takes_samples_of_different_sizes(
    tmp_path: Path, method: Literal["minmax", "percentile", "entropy"]
) -> None:
    how = Calibration(method=method)
    model, count = quantise(write(tmp_path), [*feeds(2, 16), *feeds(2, 24)], calibration=how)
    assert count == 4
    assert quantised_nodes(model)


def test_cast_quantise_lets_others_read_what_they_read_before(tmp_path: Path) -> None:
    model, _ = quantise(write(tmp_path), feeds())
    maker = {name: node for node in model.graph.node for name in node.output}
    (add,) = (node for node in model.graph.node if node.op_type == "Add")
    # The branch that was calculated in INT8 stays so; the one around it is not quantised on its way.
    assert [maker[name].op_type for name in add.input] == ["DequantizeLinear", "Relu"]
    read = {name for node in model.graph.node for name in node.input} | {"y"}
    assert all(set(node.output) & read for node in model.graph.node)


def test_cast_quantise_is_fused_by_onnxruntime(tmp_path: Path) -> None:
    model, _ = quantise(write(tmp_path), feeds())
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert kinds["QLinearConv"] == 2
    assert kinds["Conv"] == 0


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(nodes=("Conv_0",)), ["Conv_0"]),
        (Keep(outputs=("c",)), ["Conv_2"]),
        (Keep(ops=("Conv",)), ["Conv_0", "Conv_2"]),
        (Keep(ops=("Gemm", "Relu")), ["Gemm_6"]),
    ],
)
def test_cast_quantise_keeps_what_is_asked_for(tmp_path: Path, keep: Keep, left: list[str]) -> None:
    model, _ = quantise(write(tmp_path), feeds(), keep=keep)
    maker = {name: node.op_type for node in model.graph.node for name in node.output}
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert [node.name for node in weighted if maker.get(node.input[1]) != "DequantizeLinear"] == left


def test_cast_quantise_is_the_same_twice(tmp_path: Path) -> None:
    path = write(tmp_path)
    first, second = (quantise(path, feeds())[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


# ---------------------------------------------------------------- refusals


def test_cast_quantise_refuses_what_cannot_be_calibrated(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(LoadError, match="no sample to calibrate on"):
        quantise(path, [])
    for value in (np.nan, np.inf):
        broken = feeds(2)
        broken[1]["x"][0, 0, 0, 0] = value
        with pytest.raises(LoadError, match="NaN or infinity in x"):
            quantise(path, broken)
    with pytest.raises(BuildError, match="NaN or infinity"):
        quantise(write(tmp_path, "l = Log(x)  y = MatMul(l, g)", g=WEIGHTS["g"].T[:4]), feeds(1, 4))


def test_cast_quantise_refuses_where_nothing_can_be(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="nothing in it can be quantised"):
        quantise(write(tmp_path, "y = ReduceMean <axes=[2,3], keepdims=0> (x)", k=np.float32(1)), feeds())
    with pytest.raises(BuildError, match="it has no ConvTranspose, MatMul"):
        quantise(write(tmp_path), feeds(), keep=Keep(ops=("Conv", "Gemm")))
    with pytest.raises(ConfigError, match="Did you mean 'Conv_0'"):
        quantise(write(tmp_path), feeds(), keep=Keep(nodes=("Conv0",)))


def test_cast_quantise_per_channel_needs_its_opset(tmp_path: Path) -> None:
    path = write(tmp_path, opset=12)
    with pytest.raises(ConfigError, match="per channel from opset 13 on, the file has 12"):
        quantise(path, feeds())
    model, _ = quantise(path, feeds(), calibration=Calibration(per_channel=False))
    onnx.checker.check_model(model, full_check=True)
    assert 0 < gap(model, path) < 0.1


def test_cast_quantise_refuses_a_broken_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="cut short"):
        quantise(path, feeds())


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from awml_deploy_core.cast.quantise import Calibration, quantise
path, method, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
feeds = ({"x": np.full((1, 4, 512, 512), i % 7 + 1, np.float32)} for i in range(count))
assert quantise(path, feeds, calibration=Calibration(method=method))[1] == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_cast_quantise_holds_one_sample_at_a_time(tmp_path: Path, method: str) -> None:
    path = write(tmp_path)

    def most(count: int) -> float:
        command = [sys.executable, "-c", MEMORY, str(path), method, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    # Each sample has 4 MB, and so has each of the five tensors beside a convolution.
    assert most(14) - most(4) < 60


def test_cast_quantise_lets_a_fault_of_the_data_through(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, NDArray[Any]]]:
        yield feeds(1)[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        quantise(write(tmp_path), broken())
