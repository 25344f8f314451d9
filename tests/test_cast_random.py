"""Random graphs with random wishes: the types always agree, kept nodes are exact, the numbers are near."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from awml_deploy_core.cast.narrow import Keep, narrow
from awml_deploy_core.cast.peaks import peaks

ONE = ("Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Identity", "Softmax", "Floor")
TWO = ("Add", "Sub", "Mul", "Max", "Min", "MatMul", "Concat", "Where", "Greater")
SIDE = 4


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """A graph over 4 by 4 matrices; any tensor may be read again, be scaled far out of range, or leave the graph."""
    nodes: list[onnx.NodeProto] = []
    tensors = ["x", "w", "v"]
    for index in range(draw(st.integers(1, 10))):
        name, kind = f"t{index}", draw(st.sampled_from((*ONE, *TWO, "grow", "shrink", "chain", "Constant")))
        first, second = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
        if kind in ONE:
            nodes.append(helper.make_node(kind, [first], [name]))
        elif kind == "Where":
            nodes.append(helper.make_node("Cast", [first], [f"{name}b"], to=TensorProto.BOOL))
            nodes.append(helper.make_node("Where", [f"{name}b", first, second], [name]))
        elif kind == "Greater":
            nodes.append(helper.make_node("Greater", [first, second], [f"{name}b"]))
            nodes.append(helper.make_node("Cast", [f"{name}b"], [name], to=TensorProto.FLOAT))
        elif kind == "Concat":
            nodes.append(helper.make_node("Concat", [first, second], [f"{name}c"], axis=0))
            nodes.append(helper.make_node("Slice", [f"{name}c", "start", "end"], [name]))
        elif kind == "chain":
            nodes.append(helper.make_node("Cast", [first], [f"{name}d"], to=TensorProto.DOUBLE))
            nodes.append(helper.make_node("Cast", [f"{name}d"], [name], to=TensorProto.FLOAT))
        elif kind in ("grow", "shrink"):
            nodes.append(helper.make_node("Mul" if kind == "grow" else "Div", [first, "large"], [name]))
        elif kind == "Constant":
            value = numpy_helper.from_array(np.full((SIDE, SIDE), draw(st.floats(-3, 3, width=16)), np.float32))
            nodes.append(helper.make_node("Constant", [], [name], value=value))
        else:
            nodes.append(helper.make_node(kind, [first, second], [name]))
        tensors.append(name)
    made = [name for name in tensors if name.startswith("t")]
    results = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    weights: dict[str, Any] = {
        "w": np.random.default_rng(1).normal(size=(SIDE, SIDE)).astype(np.float32),
        "v": np.random.default_rng(2).normal(size=(SIDE, SIDE)).astype(np.float32),
        "large": np.array(1e4, np.float32),
        "start": np.array([2], np.int64),
        "end": np.array([2 + SIDE], np.int64),
    }
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIDE, SIDE]) for name in results]
    body = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [SIDE, SIDE])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = draw(st.integers(13, 20))
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: onnx.ModelProto, x: Any) -> list[Any]:
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model).run(None, {"x": x}))


X = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(model=graphs(), data=st.data())
def test_cast_random_graphs_keep_consistent_types(model: onnx.ModelProto, data: st.DataObject) -> None:
    outputs = [name for node in model.graph.node for name in node.output]
    keep = Keep(
        outputs=tuple(data.draw(st.lists(st.sampled_from(outputs), max_size=4, unique=True))),
        ops=tuple(data.draw(st.lists(st.sampled_from([node.op_type for node in model.graph.node]), max_size=1))),
    )
    found = peaks(model, [{"x": X}]) if data.draw(st.booleans()) else None
    done = narrow(model, keep=keep, peaks=found)
    onnx.checker.check_model(done.model, full_check=True)
    names = [name for node in done.model.graph.node for name in node.output]
    assert len(set(names)) == len(names)
    assert [*done.model.graph.output] == [*model.graph.output]
    for node in done.model.graph.node:
        if node.name in done.islands and node.op_type != "Cast":
            assert all(not name.endswith("_as_float16") for name in (*node.input, *node.output))


@settings(max_examples=60, deadline=None)
@given(model=graphs())
def test_cast_random_graphs_that_are_kept_whole_are_exact(model: onnx.ModelProto) -> None:
    done = narrow(model, keep=Keep(ops=tuple({node.op_type for node in model.graph.node})))
    for got, expected in zip(run(done.model, X), run(model, X), strict=True):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=60, deadline=None)
@given(model=graphs())
def test_cast_random_graphs_never_overflow_where_the_wide_one_does_not(model: onnx.ModelProto) -> None:
    found = peaks(model, [{"x": X}])
    done = narrow(model, peaks=found)
    for got, expected in zip(run(done.model, X), run(model, X), strict=True):
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))


SMOOTH = {"Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Identity", "Softmax", "Add", "Sub", "Max", "Min", "Constant"}


@settings(max_examples=60, deadline=None)
@given(model=graphs())
def test_cast_random_graphs_stay_near(model: onnx.ModelProto) -> None:
    kept = tuple({node.op_type for node in model.graph.node} - SMOOTH)
    if "Mul" in kept or "Div" in kept or "MatMul" in kept or "Floor" in kept or "Cast" in kept:
        return  # these may blow a rounding up to any size
    done = narrow(model, keep=Keep(ops=kept))
    for got, expected in zip(run(done.model, X), run(model, X), strict=True):
        np.testing.assert_allclose(got, expected, atol=4e-3 * max(1.0, float(np.abs(expected).max())))
