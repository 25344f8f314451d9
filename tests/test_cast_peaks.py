"""The largest finite magnitude of every float tensor over all samples."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from awml_deploy_core.cast.peaks import peaks
from awml_deploy_core.errors import ForeignError, LoadError


def graph(body: str, opset: int = 17, size: str = "N", **weights: Any) -> onnx.ModelProto:
    inner = parser.parse_graph(f"g (float[{size}] x) => (float[M] y) {{ {body} }}")
    inner.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def real(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@pytest.mark.parametrize("opset", range(11, 21))
def test_cast_peaks_at_every_opset(opset: int) -> None:
    model = graph("a = Mul(x, k)  s = Shape(a)  f = Cast <to=1> (s)  b = Neg(a)  y = Add(b, f)", opset, k=real(3))
    found = peaks(model, [{"x": real(1, -7)}, {"x": real(2, 4)}])
    assert found == {"x": 7, "a": 21, "f": 2, "b": 21, "y": 23}


def test_cast_peaks_are_those_of_the_reference() -> None:
    model = graph("a = Exp(x)  b = Mul(a, x)  c = Sin(b)  y = Sub(c, a)")
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    every = onnx.ModelProto()
    every.CopyFrom(model)
    every.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "abc")
    names = [value.name for value in every.graph.output]
    results = ReferenceEvaluator(every).run(None, {"x": x})
    found = peaks(model, [{"x": x}])
    for name, value in zip(names, results, strict=True):
        assert found[name] == pytest.approx(float(np.abs(value).max()), rel=1e-5)


def test_cast_peaks_of_single_numbers_and_of_nothing() -> None:
    model = graph("m = ReduceMax <keepdims=0> (x)  n = NonZero(x)  g = GatherND(x, t)  t = Transpose(n)  y = Mul(g, m)")
    nodes = {node.op_type: node for node in model.graph.node}
    order = ("ReduceMax", "NonZero", "Transpose", "GatherND", "Mul")
    del model.graph.node[:]
    model.graph.node.extend(nodes[op] for op in order)
    found = peaks(model, [{"x": np.zeros(3, np.float32)}])
    assert found == {"x": 0, "m": 0, "g": 0, "y": 0}  # g and y are empty
    assert peaks(model, [{"x": real(0, -2)}]) == {"x": 2, "m": 0, "g": 2, "y": 0}
    assert peaks(graph("y = Relu(x)"), [{"x": np.zeros(0, np.float32)}]) == {"x": 0, "y": 0}
    assert peaks(graph("y = Relu(x)"), []) == {"x": 0, "y": 0}


def test_cast_peaks_pass_over_infinity_and_nan() -> None:
    model = graph("m = Mul(x, k)  n = Sub(m, m)  z = Add(n, x)  y = Neg(m)", k=real(1, np.inf, 2, -np.inf))
    found = peaks(model, [{"x": real(5, 1, 2, 3)}, {"x": real(1, 1, 9, 3)}])
    assert found == {"x": 9, "m": 18, "n": 0, "z": 9, "y": 18}


def test_cast_peaks_ignore_what_is_no_float() -> None:
    found = peaks(graph("i = Cast <to=7> (x)  d = Cast <to=11> (x)  y = Cast <to=1> (i)"), [{"x": real(3.7)}])
    assert set(found) == {"x", "y"}


def test_cast_peaks_refuse_nan_in_a_sample() -> None:
    with pytest.raises(LoadError, match="NaN in x"):
        peaks(graph("y = Relu(x)"), [{"x": real(1, np.nan)}])


def test_cast_peaks_of_a_graph_that_onnxruntime_does_not_know() -> None:
    model = graph("a = Foo(x)  y = Relu(a)")
    model.graph.node[0].domain = "mine"
    model.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(ForeignError, match="mine"):
        peaks(model, [{"x": real(1)}])


MEMORY = """
import resource, sys
import numpy as np
from onnx import helper
from awml_deploy_core.cast.peaks import peaks
from onnx import TensorProto
count = int(sys.argv[1])
nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"]) for i in range(count)]
value = helper.make_tensor_value_info
ends = ([value(name, TensorProto.FLOAT, ["N"])] for name in ("t0", f"t{count}"))
body = helper.make_graph(nodes, "g", *ends)
model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
assert len(peaks(model, [{"t0": np.ones(4_000_000, np.float32)}] * 2)) == count + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_cast_peaks_do_not_hold_all_tensors_at_once() -> None:
    def most(count: int) -> float:
        done = subprocess.run([sys.executable, "-c", MEMORY, str(count)], capture_output=True, text=True, check=True)
        return float(done.stdout)

    # Each tensor has 16 MB: sixteen more of them would be 256 MB.
    assert most(20) - most(4) < 64
