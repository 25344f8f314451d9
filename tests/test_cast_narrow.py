"""float32 to float16 or bfloat16: every operator keeps consistent types, and the numbers stay near."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from awml_deploy_core.cast.narrow import Keep, narrow
from awml_deploy_core.errors import BuildError, ConfigError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 4, 8, 8)).astype(np.float32)


def graph(body: str, opset: int = 17, size: str = "2,4,8,8", **weights: Any) -> onnx.ModelProto:
    """A graph from ONNX's text form: `x` goes in, `y` comes out, weights are given by name."""
    inner = parser.parse_graph(f"g (float[{size}] x) => (float y) {{ {body} }}")
    inner.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    del inner.output[:]
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    found = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    known = found["y"].type.tensor_type
    shape = helper.make_tensor_value_info("y", known.elem_type, [int(part) for part in size.split(",")])
    model.graph.output.append(found["y"] if known.HasField("shape") else shape)
    return model


def normal(*shape: int) -> NDArray[np.float32]:
    return (np.random.default_rng(sum(shape)).normal(size=shape) * 0.3).astype(np.float32)


def whole(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def real(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def run(model: onnx.ModelProto, x: NDArray[np.float32] = X) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    result: NDArray[np.float32] = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
    return result


def halves(model: onnx.ModelProto) -> dict[str, int]:
    """Element types after rewriting, as ONNX infers them."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.input, *inferred.output)}


SHAPE = whole(2, 4, 8, 8)
LOOP = """r = Sigmoid(x)
y = Loop(three, yes, r) <body = b (int64 i, bool c, float[2,4,8,8] v) => (bool more, float[2,4,8,8] next)
    { more = Identity(c) next = Add(v, r) }>"""
IF = """m = ReduceMax <keepdims=0> (x)  c = Greater(m, one)  r = Relu(x)
y = If(c) <then_branch = t () => (float[2,4,8,8] o) { o = Add(r, one) },
    else_branch = e () => (float[2,4,8,8] p) { p = Neg(r) }>"""

CASES: dict[str, tuple[int, str, dict[str, Any]]] = {
    "conv, norm, relu": (
        11,
        "c = Conv <pads=[1,1,1,1]> (x, w)  b = BatchNormalization(c, k, k, k, v)  y = Relu(b)",
        {"w": normal(4, 4, 3, 3), "k": normal(4), "v": np.abs(normal(4)) + 0.5},
    ),
    "norm in three type variables": (
        15,
        "y = BatchNormalization(x, k, k, k, v)",
        {"k": normal(4), "v": np.abs(normal(4)) + 0.5},
    ),
    "layer norm with its stash": (
        17,
        "n, m, i = LayerNormalization <axis=-1> (x, k, k)  a = Add(n, m)  y = Mul(a, i)",
        {"k": normal(8)},
    ),
    "resize by scales": (11, 'y = Resize <mode="linear"> (x, roi, s)', {"roi": real(), "s": real(1, 1, 2, 2)}),
    "resize without region": (13, 'y = Resize <mode="nearest"> (x, , s)', {"s": real(1, 1, 2, 2)}),
    "gemm": (
        13,
        "r = Reshape(x, s)  y = Gemm <transB=1> (r, w, b)",
        {"s": whole(2, -1), "w": normal(16, 256), "b": normal(16)},
    ),
    "matmul, softmax": (13, "t = Transpose <perm=[0,1,3,2]> (x)  m = MatMul(x, t)  y = Softmax <axis=-1> (m)", {}),
    "einsum": (13, 'y = Einsum <equation="bchw,bcwk->bchk"> (x, x)', {}),
    "transposed convolution": (
        13,
        "y = ConvTranspose <strides=[2,2], kernel_shape=[2,2]> (x, w)",
        {"w": normal(4, 4, 2, 2)},
    ),
    "concat of narrow and wide": (
        13,
        "a = Relu(x)  n = IsInf(x)  c = Cast <to=1> (n)  y = Concat <axis=1> (a, c, w)",
        {"w": normal(2, 3, 8, 8)},
    ),
    "where over a filled shape": (
        13,
        "z = ConstantOfShape(s)  c = Greater(x, z)  y = Where(c, x, z)",
        {"s": SHAPE},
    ),
    "filled shape as the result": (13, "z = Relu(x)  s = Shape(z)  y = ConstantOfShape(s)", {}),
    "clip by weights": (13, "y = Clip(x, zero, most)", {"zero": scalar(0), "most": scalar(3.4028235e38)}),
    "pad": (13, "y = Pad(x, p, one)", {"p": whole(0, 0, 1, 1, 0, 0, 1, 1), "one": scalar(1)}),
    "if with a captured tensor": (13, IF, {"one": scalar(1)}),
    "loop with a captured tensor": (13, LOOP, {"three": np.array(3, np.int64), "yes": np.array(True)}),
    "sequence": (
        13,
        "p = Relu(x) s = SequenceConstruct(p, p) a = SequenceAt(s, o) n = IsInf(a) f = Cast <to=1> (n)  y = Add(f, x)",
        {"o": np.array(0, np.int64)},
    ),
    "constant nodes": (
        13,
        (
            "a = Constant <value_float=2.5> ()  b = Constant <value_floats=[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]> () "
            "c = Mul(x, a)  y = Add(c, b)"
        ),
        {},
    ),
    "constant as the result": (13, "y = Constant <value_float=2.5> ()  z = Mul(x, y)", {}),
    "chain of casts": (
        13,
        (
            "a = Cast <to=6> (x)  b = Cast <to=1> (a)  c = Cast <to=11> (b)  d = Cast <to=1> (c)  "
            "e = Cast <to=10> (d)  f = Cast <to=1> (e)  y = Add(f, x)"
        ),
        {},
    ),
    "top k": (13, "v, i = TopK <axis=-1> (x, k)  f = Cast <to=1> (i)  y = Add(v, f)", {"k": whole(3)}),
    "non-maximum suppression": (
        13,
        (
            "b = Reshape(x, s)  p = Slice(b, st, en, ax)  t = Transpose <perm=[0,2,1]> (p)  "
            "o = NonMaxSuppression(b, t, k, thr)  f = Cast <to=1> (o)  r = ReduceSum(f)  y = Add(x, r)"
        ),
        {"s": whole(2, -1, 4), "st": whole(0), "en": whole(1), "ax": whole(2), "k": whole(3), "thr": real(0.5)},
    ),
    "reductions": (
        13,
        (
            "m = ReduceMean <axes=[2,3]> (x)  n = ReduceMax <axes=[1]> (x)  q = ReduceL2 <axes=[1]> (x)  "
            "a = Add(m, n)  b = Sub(a, q)  y = Add(b, x)"
        ),
        {},
    ),
    "reduction with axes as a tensor": (18, "m = ReduceMean(x, ax)  y = Sub(x, m)", {"ax": whole(2, 3)}),
    "gather": (13, "y = Gather <axis=1> (x, k)", {"k": whole(3)}),
    "scatter": (
        13,
        "z = ConstantOfShape(s)  n = NonZero(x)  u = Transpose(n)  v = GatherND(x, u)  y = ScatterND(z, u, v)",
        {"s": SHAPE},
    ),
    "lstm": (
        14,
        "r = Reshape(x, s)  a, h, c = LSTM <hidden_size=4> (r, w, u, b)  y = Squeeze(a, one)",
        {"s": whole(8, 2, 32), "w": normal(1, 16, 32), "u": normal(1, 16, 4), "b": normal(1, 32), "one": whole(1)},
    ),
    "gru": (
        14,
        "r = Reshape(x, s)  a, h = GRU <hidden_size=4> (r, w, u)  y = Squeeze(a, one)",
        {"s": whole(8, 2, 32), "w": normal(1, 12, 32), "u": normal(1, 12, 4), "one": whole(1)},
    ),
    "grid sample": (16, "y = GridSample(x, g)", {"g": np.tanh(normal(2, 5, 5, 2))}),
    "one hot": (
        13,
        "i = ArgMax <axis=1, keepdims=0> (x)  y = OneHot(i, four, v)",
        {"four": np.array(4, np.int64), "v": real(0, 1)},
    ),
    "no such type at this opset": (13, "c = CumSum(x, one)  y = Mul(c, c)", {"one": np.array(1, np.int64)}),
    "power with a whole exponent": (13, "a = Pow(x, two)  y = Sqrt(a)", {"two": np.array(2, np.int64)}),
    "random numbers": (
        13,
        "r = RandomNormalLike <seed=1.0> (x)  n = Mul(r, zero)  y = Add(x, n)",
        {"zero": scalar(0)},
    ),
    "identity matrix": (13, "r = Reshape(x, s)  e = EyeLike(r)  y = Mul(e, r)", {"s": whole(16, 32)}),
    "type of another tensor": (15, "s = Shape(x)  c = CastLike(s, x)  y = Relu(c)", {}),
    "dropout": (13, "y = Dropout(x, h)", {"h": scalar(0.5)}),
    "newest": (20, "y = Gelu(x)", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_cast_narrow_keeps_types_consistent_and_numbers_near(case: str) -> None:
    opset, body, weights = CASES[case]
    model = graph(body, opset, **weights)
    onnx.checker.check_model(model, full_check=True)
    untouched = model.SerializeToString(deterministic=True)

    made = narrow(model).model

    onnx.checker.check_model(made, full_check=True)
    wide = run(model)
    np.testing.assert_allclose(run(made), wide, atol=2e-2 * max(1.0, float(np.abs(wide).max())))
    assert [v.type.tensor_type.elem_type for v in made.graph.output] == [
        v.type.tensor_type.elem_type for v in model.graph.output
    ]
    assert model.SerializeToString(deterministic=True) == untouched
    assert narrow(model).model.SerializeToString(deterministic=True) == made.SerializeToString(deterministic=True)
    again = narrow(made).model
    assert [node.name for node in again.graph.node] == [node.name for node in made.graph.node]


@pytest.mark.parametrize("opset", range(11, 21))
def test_cast_narrow_at_every_opset(opset: int) -> None:
    model = graph(
        "c = Conv <pads=[1,1,1,1]> (x, w)  b = BatchNormalization(c, k, k, k, v)  r = Relu(b)  y = MaxPool"
        " <kernel_shape=[2,2]> (r)",
        opset,
        w=normal(4, 4, 3, 3),
        k=normal(4),
        v=np.abs(normal(4)) + 0.5,
    )
    done = narrow(model)
    onnx.checker.check_model(done.model, full_check=True)
    assert not done.islands
    types = halves(done.model)
    assert [types[name] for node in done.model.graph.node[1:-1] for name in node.output] == [TensorProto.FLOAT16] * 4
    assert types["y"] == types["x"] == TensorProto.FLOAT


def test_cast_narrow_is_what_torch_computes_in_half() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1), torch.nn.Sigmoid()
    ).eval()
    first, second = network[0], network[2]
    assert isinstance(first, torch.nn.Conv2d)
    assert isinstance(second, torch.nn.Conv2d)
    weights: dict[str, Any] = {
        name: None if tensor is None else tensor.detach().numpy()
        for name, tensor in (("a", first.weight), ("b", first.bias), ("c", second.weight), ("d", second.bias))
    }
    model = graph("p = Conv <pads=[1,1,1,1]> (x, a, b)  q = Relu(p)  r = Conv(q, c, d)  y = Sigmoid(r)", **weights)
    with torch.no_grad():
        expected = network.half()(torch.from_numpy(X).half()).float().numpy()
    got: Any = [*ReferenceEvaluator(narrow(model).model).run(None, {"x": X})]
    np.testing.assert_allclose(got[0], expected, atol=2e-3)


def test_cast_narrow_is_what_numpy_computes_in_half() -> None:
    model = graph("a = Mul(x, x)  b = Add(a, k)  y = Sqrt(b)", k=scalar(0.1))
    half = X.astype(np.float16)
    expected = np.sqrt(half * half + np.float16(0.1)).astype(np.float32)
    (got,) = ReferenceEvaluator(narrow(model).model).run(None, {"x": X})
    np.testing.assert_array_equal(got, expected)


# ---------------------------------------------------------------- names and odd graphs


def test_cast_narrow_finds_names_that_are_free() -> None:
    model = graph(
        "x_as_float16 = Relu(x)  w_as_float16 = Mul(x_as_float16, w)  y_as_float16 = Add(w_as_float16, x)  "
        "y = Neg(y_as_float16)",
        w=scalar(2),
    )
    made = narrow(model).model
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(run(made), run(model), rtol=2e-3, atol=1e-3)


def test_cast_narrow_leaves_a_weight_wide_for_whoever_stays_wide() -> None:
    model = graph("a = Mul(x, w)  b = Exp(a)  y = Mul(b, w)", w=normal(8))
    made = narrow(model, keep=Keep(ops=("Exp",), nodes=())).model
    assert {tensor.name: tensor.data_type for tensor in made.graph.initializer} == {"w_as_float16": TensorProto.FLOAT16}
    made = narrow(graph("a = Mul(x, w)  b = Exp(w)  y = Mul(a, b)", w=normal(8)), keep=Keep(ops=("Exp",))).model
    assert {tensor.name: tensor.data_type for tensor in made.graph.initializer} == {
        "w": TensorProto.FLOAT,
        "w_as_float16": TensorProto.FLOAT16,
    }


def test_cast_narrow_with_weights_and_inputs_as_results() -> None:
    model = graph("y = Mul(x, w)", w=normal(8))
    for name, shape in (("w", [8]), ("x", [2, 4, 8, 8])):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    made = narrow(model).model
    onnx.checker.check_model(made, full_check=True)
    results = ort.InferenceSession(made.SerializeToString()).run(None, {"x": X})
    np.testing.assert_array_equal(results[1], normal(8))
    np.testing.assert_array_equal(results[2], X)


def test_cast_narrow_fixes_weights_that_were_listed_as_inputs() -> None:
    model = graph("y = Mul(x, w)", w=normal(8))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8]))
    done = narrow(model)
    assert [value.name for value in done.model.graph.input] == ["x"]
    assert done.notes == ("1 weights that were listed as inputs are fixed now",)
    np.testing.assert_allclose(run(done.model), run(model), rtol=2e-3, atol=1e-3)


def test_cast_narrow_goes_into_the_functions_of_a_file() -> None:
    body = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    inner = parser.parse_graph("g (float[2,4,8,8] x) => (float[2,4,8,8] y) { t = mine.Twice(x)  y = Relu(t) }")
    model = helper.make_model(
        inner,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)],
        functions=[body],
        ir_version=8,
    )
    done = narrow(model)
    onnx.checker.check_model(done.model, full_check=True)
    assert not done.islands
    assert [node.op_type for node in done.model.graph.node] == ["Cast", "Add", "Relu", "Cast"]


def test_cast_narrow_leaves_foreign_operators_and_what_hangs_on_them() -> None:
    inner = parser.parse_graph(
        "g (float[2,4,8,8] x) => (float[2,4,8,8] y) { a = Relu(x)  b = Foo(a)  c = Mul(b, a)  y = Exp(c) }"
    )
    inner.node[1].domain = "mine"
    model = helper.make_model(
        inner, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)], ir_version=8
    )
    done = narrow(model)
    assert done.islands["Foo_1"] == "mine::Foo is not one of ONNX's own operators"
    assert done.islands["Mul_2"] == "the type of b is not known"
    (foreign,) = (node for node in done.model.graph.node if node.domain == "mine")
    maker = {name: node for node in done.model.graph.node for name in node.output}
    assert maker[foreign.input[0]].op_type == "Cast"


def test_cast_narrow_keeps_doubles_and_whole_numbers_as_they_are() -> None:
    model = graph("d = Cast <to=11> (x)  e = Exp(d)  y = Cast <to=1> (e)")
    types = halves(narrow(model).model)
    assert types["d"] == types["e"] == TensorProto.DOUBLE


def test_cast_narrow_to_bfloat16() -> None:
    model = graph(
        "c = Conv <pads=[1,1,1,1]> (x, w)  n = LayerNormalization(c, k)  y = Relu(n)",
        22,
        w=normal(4, 4, 3, 3),
        k=normal(8),
    )
    made = narrow(model, "bfloat16").model
    onnx.checker.check_model(made, full_check=True)
    weight = next(tensor for tensor in made.graph.initializer if tensor.name == "w_as_bfloat16")
    expected = torch.from_numpy(normal(4, 4, 3, 3)).bfloat16()
    assert torch.frombuffer(bytearray(weight.raw_data), dtype=torch.bfloat16).tolist() == expected.flatten().tolist()


def test_cast_narrow_to_bfloat16_rounds_to_the_even_one_of_two() -> None:
    tie = 2.0**-8
    values = real(1 + tie, 1 + 3 * tie, -1 - tie, 3e38, np.inf, np.nan, 1e-45, 1 + tie + 2**-20)
    made = narrow(graph("y = Mul(x, w)", 22, w=values), "bfloat16").model
    weight = next(tensor for tensor in made.graph.initializer if tensor.name == "w_as_bfloat16")
    got = torch.frombuffer(bytearray(weight.raw_data), dtype=torch.bfloat16).float()
    np.testing.assert_array_equal(got, torch.from_numpy(values).bfloat16().float())


def test_cast_narrow_leaves_wide_what_only_looks_at_wide_values() -> None:
    model = graph("a = Exp(x)  c = Greater(a, x)  y = Cast <to=1> (c)")
    made = narrow(model, keep=Keep(ops=("Exp",))).model
    assert [node.op_type for node in made.graph.node] == ["Exp", "Greater", "Cast", "Cast"]


def test_cast_narrow_to_bfloat16_needs_its_opset() -> None:
    with pytest.raises(ConfigError, match="the file has 17"):
        narrow(graph("y = Relu(x)"), "bfloat16")


def test_cast_narrow_says_when_a_graph_contradicts_itself() -> None:
    model = graph("a = Relu(x)  y = Neg(a)")
    del model.opset_import[:]
    with pytest.raises(BuildError, match="cannot be inferred"):
        narrow(model)


def test_cast_narrow_tells_what_is_lost() -> None:
    model = graph("y = Mul(x, w)", w=real(1e-9, 1, 1, 1, 1, 1, 1, -1e-12))
    assert narrow(model).notes == ("2 of 8 weights are too small for float16 and become 0",)


def test_cast_narrow_names_what_is_not_there() -> None:
    model = graph("y = Relu(x)")
    for keep, said in (
        (Keep(nodes=("Rleu_0",)), "Did you mean 'Relu_0'"),
        (Keep(ops=("Conv",)), "There are Relu"),
        (Keep(outputs=("z",)), "keep.outputs"),
    ):
        with pytest.raises(ConfigError) as caught:
            narrow(model, keep=keep)
        assert said in str(caught.value)
