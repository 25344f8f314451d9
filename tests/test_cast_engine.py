"""What is cast here is taken by TensorRT-RTX, strongly typed, and the receipt holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from awml_deploy_core.build.engine import build_engine
from awml_deploy_core.build.flavor import choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.cast.file import cast_file
from awml_deploy_core.cast.narrow import Keep
from awml_deploy_core.config import Precision
from awml_deploy_core.files import sha256_file
from awml_deploy_core.records import Artifact

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
pytest.importorskip("polygraphy", reason="Polygraphy is not installed")

RANDOM = np.random.default_rng(0)
BODY = """a = Conv <pads=[1,1,1,1]> (x, w, b)  n = BatchNormalization(a, k, k, k, v)  r = Relu(n)
c = Conv <pads=[1,1,1,1]> (r, w)  s = Add(c, r)  u = Resize <mode="nearest"> (s, , up)
d = ConvTranspose <strides=[2,2], kernel_shape=[2,2]> (u, t)  i = Mul(d, large)  j = Div(i, large)
l = LayerNormalization <axis=-1> (j, e)  q = Softmax <axis=1> (l)  p = Pad(q, pads)  g = GlobalAveragePool(p)
f = Flatten(g)  y = Gemm <transB=1> (f, z, o)"""


def real(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


WEIGHTS = {
    "w": real(4, 4, 3, 3),
    "b": real(4),
    "k": real(4),
    "v": np.ones(4, np.float32),
    "up": np.array([1, 1, 2, 2], np.float32),
    "t": real(4, 4, 2, 2),
    "large": np.array(6e4, np.float32),
    "e": np.ones(32, np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "z": real(3, 4),
    "o": real(3),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    inner = parser.parse_graph(f"g (float[1,4,8,8] x) => (float[1,3] y) {{ {BODY} }}")
    inner.initializer.extend(numpy_helper.from_array(value, name) for name, value in WEIGHTS.items())
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path_factory.mktemp("source") / "model.onnx"
    onnx.save(model, path)
    return Artifact(component="c", format="onnx", path=path, sha256=sha256_file(path), size=path.stat().st_size)


@pytest.mark.parametrize(
    ("policy", "layers"), [("fp16", "4 HALF"), ("bf16", "3 BF16, 1 FLOAT"), ("explicit_int8", "quantising")]
)
def test_cast_engine_is_what_was_asked_for(source: Artifact, tmp_path: Path, policy: Precision, layers: str) -> None:
    flavor = choose("tensorrt_rtx")
    asked = plan(policy, flavor)
    assert asked.cast is not None
    feed = {"x": real(1, 4, 8, 8)}
    # TensorRT-RTX 1.7 has no transposed convolution in BF16.
    keep = Keep(ops=("ConvTranspose",)) if policy == "bf16" else None
    done = cast_file(
        source, tmp_path / "c.onnx", asked.cast, policy=policy, feeds=lambda: iter([feed]), data="d", keep=keep
    )
    built, facts = build_engine(done.artifact, tmp_path / "c.engine", flavor=flavor, plan=asked, islands=done.islands)
    assert facts.receipt.holds
    assert layers in (built.receipt or "")
    if policy == "fp16":
        assert done.islands["Mul_7"].startswith("its weight large reaches") or "reaches" in done.islands["Mul_7"]
        assert set(done.islands) == {"Mul_7", "Div_8"}
