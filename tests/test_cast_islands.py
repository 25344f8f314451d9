"""What stays in float32 stays so from end to end, has a name and a reason, and is followed by narrow nodes again."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from awml_deploy_core.cast.narrow import Keep, narrow
from awml_deploy_core.cast.peaks import peaks

X = np.linspace(-1, 1, 8, dtype=np.float32)


def graph(body: str, opset: int = 17, size: str = "8", **weights: Any) -> onnx.ModelProto:
    """A graph from ONNX's text form: `x` goes in, `y` comes out, weights are given by name."""
    inner = parser.parse_graph(f"g (float[{size}] x) => (float y) {{ {body} }}")
    inner.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    del inner.output[:]
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    found = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    model.graph.output.append(found["y"])
    return model


def scalar(value: float) -> Any:
    return np.array(value, np.float32)


def true(model: onnx.ModelProto, x: Any = X) -> Any:
    """What really narrow types give: ONNX Runtime on a CPU computes float16 nodes in float32."""
    (result, *_) = ReferenceEvaluator(model).run(None, {"x": x})
    return result


def casts(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


LARGE = "a = Mul(x, k)  b = Add(a, one)  c = Div(b, k)  d = Add(c, one)  y = Mul(d, d)"


def test_cast_islands_hold_large_values_from_end_to_end() -> None:
    model = graph(LARGE, k=scalar(1e5), one=scalar(1))
    found = peaks(model, [{"x": X}])
    done = narrow(model, peaks=found)
    assert done.islands == {
        "Mul_0": "a reaches 1e+05",
        "Add_1": "a reaches 1e+05",
        "Div_2": "b reaches 1e+05",
    }
    np.testing.assert_allclose(true(done.model), true(model), rtol=4e-3, atol=1e-3)
    # Wide for three nodes without a Cast between them, and narrow again behind them.
    assert casts(done.model) == ["Mul", "Add", "Div", "Cast", "Add", "Mul", "Cast"]


def test_cast_islands_are_why_the_range_check_is_needed() -> None:
    model = graph(LARGE, k=scalar(3e4), one=scalar(3e4))
    with np.errstate(over="ignore"):
        assert not np.isfinite(true(narrow(model).model)).all()
    done = narrow(model, peaks=peaks(model, [{"x": X}]))
    np.testing.assert_allclose(true(done.model), true(model), rtol=4e-3, atol=1e-3)


def test_cast_islands_begin_at_an_input() -> None:
    model = graph("a = Div(x, k)  y = Relu(a)", k=scalar(1e5))
    x = np.array([1e5, 2e5, 3, 4, 5, 6, 7, 8], np.float32)
    done = narrow(model, peaks=peaks(model, [{"x": x}]))
    assert list(done.islands) == ["Div_0"]
    np.testing.assert_allclose(true(done.model, x), true(model, x), rtol=2e-3, atol=1e-4)


def test_cast_islands_end_at_an_output() -> None:
    model = graph("a = Relu(x)  y = Mul(a, k)", k=scalar(1e5))
    done = narrow(model, peaks=peaks(model, [{"x": X}]))
    assert list(done.islands) == ["Mul_1"]
    np.testing.assert_allclose(true(done.model), true(model), rtol=2e-3)


def test_cast_islands_of_values_that_are_all_too_small() -> None:
    model = graph("a = Mul(x, k)  y = Mul(a, l)", k=np.full(8, 1e-9, np.float32), l=np.full(8, 1e9, np.float32))
    done = narrow(model, peaks=peaks(model, [{"x": X}]))
    assert done.islands["Mul_0"] == "a reaches 1e-09 only"
    np.testing.assert_allclose(true(done.model), true(model), rtol=2e-3)


def test_cast_islands_where_squares_overflow_inside_a_node() -> None:
    model = graph("a = Mul(x, k)  n = ReduceL2 <keepdims=1> (a)  y = Div(a, n)", k=scalar(1e3))
    done = narrow(model, peaks=peaks(model, [{"x": X}]))
    assert done.islands == {"ReduceL2_1": "the squares inside reach 3.43e+06"}


def test_cast_islands_of_large_weights() -> None:
    done = narrow(graph("a = Mul(x, k)  y = Relu(a)", k=scalar(-1e9)))
    assert done.islands == {"Mul_0": "its weight k reaches 1e+09"}
    # Infinity is the same in every type, and a bound that nothing reaches bounds nothing.
    done = narrow(graph("a = Max(x, k)  y = Clip(a, k, l)", k=scalar(-np.inf), l=scalar(3.4e38)))
    assert not done.islands
    np.testing.assert_allclose(true(done.model), X, rtol=2e-3)


def test_cast_islands_of_large_fillings() -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1e6])
    model = graph("s = Shape(x)  f = ConstantOfShape(s)  y = Min(f, x)")
    model.graph.node[1].attribute.append(helper.make_attribute("value", value))
    assert narrow(model).islands == {"ConstantOfShape_1": "it fills with 1e+06"}


def test_cast_islands_around_an_epsilon() -> None:
    body = "n = ReduceL2 <keepdims=1> (x)  c = Clip(n, tiny)  e = Expand(c, s)  d = Div(x, e)  y = Relu(d)"
    model = graph(body, tiny=scalar(1e-12), s=np.array([8], np.int64))
    done = narrow(model)
    assert list(done.islands) == ["Clip_1", "Expand_2", "Div_3"]
    zeros = np.zeros(8, np.float32)
    np.testing.assert_array_equal(true(done.model, zeros), zeros)  # and not 0 / 0


def test_cast_islands_keep_sizes_exact() -> None:
    body = (
        "s = Shape(x)  f = Cast <to=1> (s)  m = Mul(f, k)  r = Floor(m)  i = Cast <to=7> (r)  "
        "e = Expand(one, i)  y = Relu(e)"
    )
    model = graph(body, size="2049", k=scalar(1), one=scalar(1))
    done = narrow(model)
    assert set(done.islands) == {"Cast_1", "Mul_2", "Floor_3", "Cast_4"}
    assert true(done.model, np.zeros(2049, np.float32)).shape == (2049,)  # float16 has 2048 and 2050


def test_cast_islands_do_not_come_between_a_quantisation_and_its_convolution() -> None:
    body = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  c = MatMul(d, w)  y = Relu(c)"
    done = narrow(graph(body, s=scalar(0.05), z=np.array(0, np.int8), w=np.eye(8, dtype=np.float32)))
    assert done.islands["MatMul_2"] == "its inputs or its result are quantised"
    assert casts(done.model) == ["QuantizeLinear", "DequantizeLinear", "MatMul", "Cast", "Relu", "Cast"]


@pytest.mark.parametrize(
    ("keep", "islands"),
    [
        (Keep(nodes=("Exp_1",)), {"Exp_1": "kept by name"}),
        (Keep(ops=("Exp",)), {"Exp_1": "kept as Exp"}),
        (Keep(outputs=("b",)), {"Exp_1": "kept by its output"}),
        (Keep(nodes=("Exp_1",), outputs=("y",)), {"Exp_1": "kept by name", "Neg_2": "kept by its output"}),
    ],
)
def test_cast_islands_that_the_user_asks_for(keep: Keep, islands: dict[str, str]) -> None:
    done = narrow(graph("a = Relu(x)  b = Exp(a)  y = Neg(b)"), keep=keep)
    assert done.islands == islands
    assert done.notes == tuple(f"{name} stays in float32: {reason}" for name, reason in islands.items())


def test_cast_islands_that_the_user_keeps_are_exact() -> None:
    model = graph("a = Exp(x)  b = Mul(a, k)  y = Add(b, x)", k=scalar(1 / 3))
    done = narrow(model, keep=Keep(ops=("Exp", "Mul", "Add")))
    np.testing.assert_array_equal(true(done.model), true(model))
    assert casts(done.model) == ["Exp", "Mul", "Add"]


def test_cast_islands_beyond_the_fifth_are_counted() -> None:
    model = graph("a = Exp(x)  b = Exp(a)  c = Exp(b)  d = Exp(c)  e = Exp(d)  f = Exp(e)  y = Exp(f)")
    done = narrow(model, keep=Keep(ops=("Exp",)))
    assert len(done.notes) == 6
    assert done.notes[-1] == "2 more nodes stay in float32"
