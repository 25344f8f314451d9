"""Weights in a narrow type, and what is lost there."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["LARGEST", "LEAST", "converted", "largest", "lift_constants", "vanishes", "vanishing"]

LARGEST = {"float16": 65504.0, "bfloat16": float(np.array(0x7F7F0000, np.uint32).view(np.float32))}
"""The largest finite value that a type holds."""

LEAST = {"float16": 2.0**-14, "bfloat16": 2.0**-126}
"""The least value that a type holds with all its digits."""

_HALF_OF_LEAST = 2.0**-25
"""What is not larger than half of float16's least value is rounded to 0."""


def converted(tensor: onnx.TensorProto, wanted: int) -> onnx.TensorProto:
    """A float32 tensor in a narrow type, rounded to the nearest; finite values stay finite."""
    values = numpy_helper.to_array(tensor).astype(np.float32)
    limit = LARGEST["float16" if wanted == TensorProto.FLOAT16 else "bfloat16"]
    kept = np.where(np.isfinite(values), np.clip(values, -limit, limit), values).astype(np.float32)
    if wanted == TensorProto.FLOAT16:
        return numpy_helper.from_array(kept.astype(np.float16), tensor.name)
    raw = kept.view(np.uint32)
    # To the nearest, and to the even one of two; the upper half of a float32 is a bfloat16.
    rounded = ((raw + 0x7FFF + ((raw >> 16) & 1)) >> 16).astype(np.uint16)
    quiet = np.where(np.isnan(kept), np.uint16(0x7FC0), rounded).astype("<u2")
    return helper.make_tensor(tensor.name, TensorProto.BFLOAT16, tensor.dims, quiet.tobytes(), raw=True)


def largest(tensor: onnx.TensorProto) -> float:
    """The largest finite magnitude; infinity and NaN are the same in every type."""
    values = numpy_helper.to_array(tensor)
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def vanishes(tensor: onnx.TensorProto) -> bool:
    """Whether it is a single number that becomes 0 in float16: an epsilon, mostly."""
    return prod(tensor.dims) == 1 and vanishing(tensor) == 1


def vanishing(tensor: onnx.TensorProto) -> int:
    """How many of its values become 0 in float16."""
    values = numpy_helper.to_array(tensor)
    return int(((values != 0) & (np.abs(values) <= _HALF_OF_LEAST)).sum())


def lift_constants(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Make weights of Constant nodes, so that each user has them in the type that it needs.

    Args:
        graph: The graph, its nodes named.
        kept: Names and kinds of nodes, and names of their results, that are left as they are.
    """
    results = {value.name for value in graph.output}
    left = []
    for node in graph.node:
        tensor = None
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and not results & {*node.output}:
            tensor = _constant(node)
        if tensor is None or {node.name, node.op_type, *node.output} & {*kept}:
            left.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(left)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The float32 tensor of a Constant node."""
    tensor = onnx.TensorProto()
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(attribute.t)
            return tensor
        if attribute.name in ("value_float", "value_floats"):
            values = attribute.f if attribute.name == "value_float" else attribute.floats
            return numpy_helper.from_array(np.array(values, np.float32))
    return None
