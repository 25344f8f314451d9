"""Element types: what every tensor of a graph has, and which inputs and outputs of a node may have another one.

ONNX's schemas are asked. Inputs and outputs that share a type variable can only change together, so the answer is
given for whole variables; what is consistent before is then consistent afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import count
from math import prod
from typing import Literal

import onnx
from attrs import frozen
from onnx import TensorProto, inliner

from awml_deploy_core.errors import BuildError

__all__ = [
    "OTHER",
    "TYPES",
    "Slots",
    "Type",
    "element_types",
    "inlined",
    "inner_names",
    "light",
    "name_all",
    "opset_of",
    "slots",
    "unused",
]

Type = Literal["float16", "bfloat16"]

TYPES: Mapping[str, int] = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}

OTHER = -1
"""Stands for the type of what is no plain tensor: a sequence, an optional value, a sparse tensor."""

_HEAVY = 1024
"""Elements from which on a weight says nothing about shapes."""


@frozen(kw_only=True)
class Slots:
    """Positions of a node's inputs and outputs that change to the narrow type together."""

    inputs: Collection[int] = ()
    outputs: Collection[int] = ()


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of its own, with the bodies of the functions that the file defines in the places of their calls."""
    if model.functions:
        return inliner.inline_local_functions(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def unused(stem: str, taken: Collection[str]) -> str:
    """A name that nothing has yet: the stem, or the stem with a number."""
    if stem not in taken:
        return stem
    return next(name for number in count(2) if (name := f"{stem}_{number}") not in taken)


def name_all(graph: onnx.GraphProto) -> None:
    """Give every node a name: islands are told by it, and TensorRT names its layers after it."""
    taken = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        if not node.name:
            node.name = unused(f"{node.op_type}_{index}", taken)
            taken.add(node.name)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the graph uses; 0 if it names none."""
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that is known; `OTHER` for what is no plain tensor.

    Raises:
        BuildError: The graph contradicts itself.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(light(model), strict_mode=False).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise BuildError(f"the types of the graph cannot be inferred: {' '.join(str(error).split())[:300]}") from error
    known: dict[str, int] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        plain = value.type.WhichOneof("value") == "tensor_type"
        kind = value.type.tensor_type.elem_type if plain else OTHER
        if kind:
            known[value.name] = kind
    known |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return known | {tensor.values.name: OTHER for tensor in model.graph.sparse_initializer}


def light(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the values of its large weights: inference needs their types, and copies what it is given."""
    copy = onnx.ModelProto()
    for name in ("opset_import", "functions"):
        getattr(copy, name).extend(getattr(model, name))
    copy.ir_version = model.ir_version
    for part in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(copy.graph, part).extend(getattr(model.graph, part))
    copy.graph.name = model.graph.name
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        heavy = prod(tensor.dims) > _HEAVY and tensor.data_type == TensorProto.FLOAT
        if not heavy:
            copy.graph.initializer.append(tensor)
        elif tensor.name not in listed:
            copy.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return copy


def inner_names(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that stands in the graphs inside a node: what they make, and what they take from outside."""
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for value in (*inner.input, *inner.output, *inner.initializer):
                yield value.name
            for each in inner.node:
                yield from (*each.input, *each.output, *inner_names(each))


def slots(node: onnx.NodeProto, opset: int, types: Mapping[str, int], dtype: Type) -> Slots:
    """Which float32 inputs and outputs of one of ONNX's own operators may be narrow.

    Raises:
        onnx.defs.SchemaError: The opset has no such operator.
    """
    if node.op_type in ("Cast", "Constant", "ConstantOfShape"):
        # Their results have the type that an attribute names; a Cast takes whatever it is given.
        return Slots(outputs=[index for index, name in enumerate(node.output) if types.get(name) == TensorProto.FLOAT])
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
    given = _variables(node.input, schema.inputs)
    made = _variables(node.output, schema.outputs)
    # A variable that no input binds has its type from somewhere else: stash_type, dtype, float by definition.
    free = {
        name
        for name in given.values()
        if f"tensor({dtype})" in allowed.get(name, ()) and (node.op_type, name) not in _LEFT
    }
    return Slots(
        inputs=[i for i, name in given.items() if name in free and types.get(node.input[i]) == TensorProto.FLOAT],
        outputs=[i for i, name in made.items() if name in free and types.get(node.output[i]) == TensorProto.FLOAT],
    )


_LEFT = {("Resize", "T2")}
"""The region of a Resize: coordinates, like its scales."""


def _variables(names: Collection[str], formal: Collection[onnx.defs.OpSchema.FormalParameter]) -> dict[int, str]:
    """The type variable of each position that is there; the last formal one may stand for any number."""
    told = [one.type_str for one in formal]
    return {index: told[min(index, len(told) - 1)] for index, name in enumerate(names) if name and told}
