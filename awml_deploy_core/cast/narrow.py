"""float32 to float16 or bfloat16, node by node.

Inputs and outputs of the graph keep float32. Each node computes either narrow or wide; where a tensor is needed in the
other type, one Cast is put behind whoever makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from attrs import field, frozen
from onnx import TensorProto, helper, numpy_helper

from awml_deploy_core.cast.dtypes import (
    TYPES,
    Slots,
    Type,
    element_types,
    inlined,
    inner_names,
    light,
    name_all,
    opset_of,
    slots,
    unused,
)
from awml_deploy_core.cast.islands import Keep, Scene, found, require_there
from awml_deploy_core.cast.weights import converted, lift_constants, vanishing
from awml_deploy_core.errors import BuildError, ConfigError

__all__ = ["Keep", "Narrowed", "narrow"]

_BFLOAT_OPSET = 22
_LISTED = 4
"""The first IR version whose weights need not be listed among the inputs."""


@frozen(kw_only=True, eq=False)
class Narrowed:
    """A graph in a narrow type.

    Args:
        model: The graph.
        islands: Nodes that stay wide, each with the reason.
        notes: What a reader of the report should know.
    """

    model: onnx.ModelProto
    islands: Mapping[str, str]
    notes: tuple[str, ...] = ()


@frozen(kw_only=True, eq=False)
class _Rewrite:
    """A graph on its way.

    Args:
        scene: What was known of it before.
        graph: The graph, its nodes taken out.
        pinned: Tensors whose names stand for float32: outputs, and what graphs inside nodes take.
        taken: Every name that is in use.
        names: Under which name a tensor can be had in which type.
    """

    scene: Scene
    graph: onnx.GraphProto
    pinned: set[str]
    taken: set[str]
    names: dict[tuple[str, int], str] = field(factory=dict)

    @property
    def narrow(self) -> int:
        return TYPES[self.scene.dtype]

    def name(self, tensor: str, kind: int) -> str:
        """A name for a tensor in another type that nothing has yet."""
        word = "float" if kind == TensorProto.FLOAT else self.scene.dtype
        free = unused(f"{tensor}_as_{word}", self.taken)
        self.taken.add(free)
        return free


def narrow(
    model: onnx.ModelProto,
    dtype: Type = "float16",
    *,
    keep: Keep | None = None,
    peaks: Mapping[str, float] | None = None,
) -> Narrowed:
    """Rewrite a graph into a narrow type; the given one is left as it is.

    Args:
        model: A graph in float32, weights inside.
        dtype: The type.
        keep: What stays wide.
        peaks: Largest magnitude of each tensor on real samples; nodes that touch a value which does not fit stay wide.

    Raises:
        ConfigError: `keep` names something that is not there, or the opset has no such type.
        BuildError: The types of the graph cannot be inferred.
    """
    opset = opset_of(model)
    if dtype == "bfloat16" and opset < _BFLOAT_OPSET:
        raise ConfigError(
            f"`precision_policy = 'bf16'`: ONNX has convolutions in bfloat16 from opset {_BFLOAT_OPSET} on, "
            f"the file has {opset}",
            hint=f"Set `onnx_config.opset_version = {_BFLOAT_OPSET}`.",
        )
    keep = keep or Keep()
    copy = inlined(model)
    name_all(copy.graph)
    require_there([*copy.graph.node], keep)
    lift_constants(copy.graph, kept={*keep.nodes, *keep.ops, *keep.outputs})
    listed = _unlist_weights(copy)
    scene = Scene(
        nodes=[*copy.graph.node],
        types=element_types(copy),
        weights={tensor.name: tensor for tensor in copy.graph.initializer},
        opset=opset,
        dtype=dtype,
        peaks=peaks or {},
    )
    wide = found(scene, keep)
    work = _begun(copy.graph, scene)
    rewritten = [
        made for index, node in enumerate(scene.nodes) for made in _rewritten(work, node, narrowed=index not in wide)
    ]
    del copy.graph.node[:]
    copy.graph.node.extend(rewritten)
    _tidy(work)
    _require_sound(model, copy)
    islands = {scene.nodes[index].name: reason for index, reason in wide.items() if reason}
    return Narrowed(model=copy, islands=islands, notes=(*_notes(work, islands), *listed))


# ---------------------------------------------------------------- before


def _unlist_weights(model: onnx.ModelProto) -> tuple[str, ...]:
    """Weights that are listed among the inputs could be given by a caller, but not in two types."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    count_listed = len(model.graph.input) - len(inputs)
    model.ir_version = max(model.ir_version, _LISTED)
    if not count_listed:
        return ()
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return (f"{count_listed} weights that were listed as inputs are fixed now",)


def _begun(graph: onnx.GraphProto, scene: Scene) -> _Rewrite:
    inner = {name for node in scene.nodes for name in inner_names(node)}
    pinned = inner | {value.name for value in graph.output}
    taken = {name for node in scene.nodes for name in (*node.input, *node.output, node.name)}
    taken |= {value.name for value in graph.input} | pinned | set(scene.weights)
    return _Rewrite(scene=scene, graph=graph, pinned=pinned, taken=taken)


# ---------------------------------------------------------------- one node after the other


def _rewritten(work: _Rewrite, node: onnx.NodeProto, *, narrowed: bool) -> Iterator[onnx.NodeProto]:
    """The node with its inputs in the types that it takes, between the Casts that this needs."""
    scene = work.scene
    may = slots(node, scene.opset, scene.types, scene.dtype) if narrowed else Slots()
    if narrowed and not may.outputs and all(_only_wide(work, node.input[index]) for index in may.inputs):
        may = Slots()  # a comparison, a shape: no reason to narrow what is wide
    for index, name in enumerate(node.input):
        if scene.is_float(name) and not (narrowed and node.op_type == "Cast"):
            wanted: int = work.narrow if index in may.inputs else TensorProto.FLOAT
            yield from _had(work, name, wanted)
            node.input[index] = work.names[name, wanted]
        elif scene.is_float(name):
            node.input[index] = work.names.get((name, TensorProto.FLOAT)) or work.names.get((name, work.narrow), name)
    if may.outputs:
        _retype(work, node)
    after = []
    for index, name in enumerate(node.output):
        if index not in may.outputs:
            work.names[name, TensorProto.FLOAT] = name
        elif name not in work.pinned:
            work.names[name, work.narrow] = name
        else:
            node.output[index] = work.names[name, work.narrow] = work.name(name, work.narrow)
            work.names[name, TensorProto.FLOAT] = name
            after.append(_cast(node.output[index], name, TensorProto.FLOAT))
    if node.op_type == "Cast" and scene.types.get(node.input[0]) == work.narrow and not may.outputs:
        work.names[node.output[0], work.narrow] = node.input[0]  # there it is already
    yield node
    yield from after


def _only_wide(work: _Rewrite, name: str) -> bool:
    return (name, work.narrow) not in work.names


def _had(work: _Rewrite, name: str, wanted: int) -> Iterator[onnx.NodeProto]:
    """See that a tensor can be had in a type."""
    if (name, wanted) in work.names:
        return
    if name in work.scene.weights:
        tensor = work.scene.weights[name]
        if wanted != TensorProto.FLOAT:
            tensor = converted(tensor, wanted)
            tensor.name = work.name(name, wanted)
            work.graph.initializer.append(tensor)
        work.names[name, wanted] = tensor.name
    elif wanted == TensorProto.FLOAT and (name, work.narrow) not in work.names:
        work.names[name, wanted] = name  # an input of the graph
    else:
        other = work.names.get((name, work.narrow if wanted == TensorProto.FLOAT else TensorProto.FLOAT), name)
        work.names[name, wanted] = work.name(name, wanted)
        yield _cast(other, work.names[name, wanted], wanted)


def _cast(given: str, made: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [given], [made], name=f"{made}_cast", to=kind)


def _retype(work: _Rewrite, node: onnx.NodeProto) -> None:
    """Types that stand in attributes: where a Cast goes, what fills a shape."""
    if node.op_type == "Cast":
        next(attribute for attribute in node.attribute if attribute.name == "to").i = work.narrow
    elif node.op_type == "ConstantOfShape":
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        given = next((attribute.t for attribute in node.attribute if attribute.name == "value"), zero)
        value = helper.make_attribute("value", converted(given, work.narrow))
        del node.attribute[:]
        node.attribute.append(value)


# ---------------------------------------------------------------- after


def _tidy(work: _Rewrite) -> None:
    """Drop weights that nobody takes any more, and what was known of tensors that have another type now."""
    graph = work.graph
    used = {name for node in graph.node for name in (*node.input, *inner_names(node))}
    used |= {value.name for value in graph.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    narrowed = {name for (_, kind), name in work.names.items() if kind == work.narrow}
    values = [value for value in graph.value_info if value.name not in narrowed]
    del graph.value_info[:]
    graph.value_info.extend(values)


def _require_sound(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """See that the types of the new graph agree, as far as those of the old one did."""
    reason = _disagreement(after)
    if reason and not _disagreement(before):
        raise BuildError(
            f"the graph cannot be rewritten: {reason}",
            hint="Name the node in `keep.nodes`, so that it stays in float32.",
        )


def _disagreement(model: onnx.ModelProto) -> str:
    try:
        onnx.shape_inference.infer_shapes(light(model), check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        return " ".join(str(error).split())[:300]
    return ""


def _notes(work: _Rewrite, islands: Mapping[str, str]) -> Iterator[str]:
    told = list(islands.items())
    yield from (f"{node} stays in float32: {reason}" for node, reason in told[:5])
    if len(told) > 5:
        yield f"{len(told) - 5} more nodes stay in float32"
    if work.scene.dtype == "float16":
        made = {name for name, kind in work.names if kind == work.narrow and name in work.scene.weights}
        weights = [tensor for name, tensor in sorted(work.scene.weights.items()) if name in made]
        lost = sum(vanishing(tensor) for tensor in weights)
        if lost:
            total = sum(numpy_helper.to_array(tensor).size for tensor in weights)
            yield f"{lost:,} of {total:,} weights are too small for float16 and become 0"
