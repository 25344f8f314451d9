"""Which nodes stay in float32, and why: asked for, impossible, out of range, or exact because something hangs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import onnx
from attrs import field, frozen
from onnx import TensorProto

from awml_deploy_core.cast.dtypes import OTHER, Slots, Type, inner_names, slots
from awml_deploy_core.cast.weights import LARGEST, LEAST, largest, vanishes
from awml_deploy_core.errors import ConfigError, nearest

__all__ = ["HEADROOM", "Keep", "Scene", "found", "require_there"]

HEADROOM = 0.5
"""Share of the largest value that recorded samples may reach: other samples reach a little more."""

_LEFT = {
    **dict.fromkeys(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"), "it makes random numbers"),
    **dict.fromkeys(("RandomUniform", "RandomUniformLike"), "it makes random numbers"),
    **dict.fromkeys(("Range", "EyeLike"), "it makes positions"),
    "Constant": "it is a result as it stands",
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"), "it belongs to a quantisation"),
}

_SHAPED = {"Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
_PLAIN = {"Abs", "Add", "Ceil", "Clip", "Concat", "Div", "Floor", "Max", "Min", "Mod", "Mul", "Neg", "Round", "Sub"}
_BEFORE = _SHAPED | _PLAIN | {"Cast", "Pow", "Sqrt", "Where"}
"""What is traced back from a whole number to the values that it is made of."""

_AFTER = _SHAPED | {"Clip", "Max", "Sqrt"}
"""What leaves a value as small as it is."""

_NEEDS_MORE_THAN_ZERO = {"Div", "Log", "Pow", "Reciprocal"}

_WHOLE = {
    getattr(TensorProto, name) for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
}


@frozen(kw_only=True)
class Keep:
    """What stays in float32 because the user says so.

    Args:
        nodes: Names of nodes.
        ops: Kinds of operators.
        outputs: Names of tensors; whoever makes one stays wide.
    """

    nodes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@frozen(kw_only=True, eq=False)
class Scene:
    """A graph with what is known of it.

    Args:
        nodes: Its nodes, all named.
        types: Element types of its tensors.
        weights: Its initializers by name.
        opset: The version of ONNX's own operators.
        dtype: The narrow type.
        peaks: Largest magnitudes on real samples.
    """

    nodes: list[onnx.NodeProto]
    types: Mapping[str, int]
    weights: Mapping[str, onnx.TensorProto]
    opset: int
    dtype: Type
    peaks: Mapping[str, float] = field(factory=dict)
    reach: dict[str, float] = field(factory=dict, init=False)

    def is_float(self, name: str) -> bool:
        """Whether a tensor is one of those that could change."""
        return self.types.get(name) == TensorProto.FLOAT


def require_there(nodes: list[onnx.NodeProto], keep: Keep) -> None:
    """See that everything that is to be kept exists.

    Raises:
        ConfigError: Something does not.
    """
    outputs = [name for node in nodes for name in node.output if name]
    for kind, asked, there in (
        ("nodes", keep.nodes, sorted({node.name for node in nodes if node.name})),
        ("ops", keep.ops, sorted({node.op_type for node in nodes})),
        ("outputs", keep.outputs, outputs),
    ):
        for name in asked:
            if name not in there:
                near = nearest(name, there)
                hint = (
                    f"Did you mean {near!r}?" if near else f"There are {', '.join(there[:12]) or 'none with a name'}."
                )
                raise ConfigError(f"keep.{kind}: the graph has no {name!r}", hint=hint)


def found(scene: Scene, keep: Keep) -> dict[int, str]:
    """The nodes that stay wide by their position, with the reason; an empty one where there is no float32 at all."""
    rules = (
        partial(_kept, keep=keep),
        partial(_impossible, scene),
        partial(_quantised, beside=_quantisers(scene)),
        partial(_out_of_range, scene),
        partial(_weights_out_of_range, scene),
    )
    wide: dict[int, str] = {}
    for index, node in enumerate(scene.nodes):
        if not any(scene.is_float(name) for name in (*node.input, *node.output)) or _widens(scene, node):
            wide[index] = ""
        elif reason := _first(rules, node):
            wide[index] = reason
    for index, reason in (*_exact(scene), *_tiny(scene)):
        wide.setdefault(index, reason)
    return wide


def _widens(scene: Scene, node: onnx.NodeProto) -> bool:
    """Whether it stands behind an island of somebody else, or of an earlier rewriting."""
    return node.op_type == "Cast" and scene.types.get(node.input[0]) in (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def _first(rules: tuple[Callable[[onnx.NodeProto], str], ...], node: onnx.NodeProto) -> str:
    return next((reason for rule in rules if (reason := rule(node))), "")


# ---------------------------------------------------------------- one node by itself


def _kept(node: onnx.NodeProto, keep: Keep) -> str:
    if node.name in keep.nodes:
        return "kept by name"
    if node.op_type in keep.ops:
        return f"kept as {node.op_type}"
    return "kept by its output" if set(node.output) & set(keep.outputs) else ""


def _impossible(scene: Scene, node: onnx.NodeProto) -> str:
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}::{node.op_type} is not one of ONNX's own operators"
    if any(True for _ in inner_names(node)):
        return f"{node.op_type} has graphs inside, which are left as they are"
    tensors = [name for name in (*node.input, *node.output) if name]
    unknown = next((name for name in tensors if name not in scene.types), None)
    if unknown is not None:
        return f"the type of {unknown} is not known"
    if any(scene.types[name] == OTHER for name in tensors):
        return "it takes or gives what is no plain tensor"
    if node.op_type in _LEFT:
        return _LEFT[node.op_type]
    if node.op_type == "Cast" and not scene.is_float(node.output[0]):
        return ""
    try:
        may = slots(node, scene.opset, scene.types, scene.dtype)
    except onnx.defs.SchemaError:
        return f"ONNX has no {node.op_type} at opset {scene.opset}"
    return "" if may != Slots(inputs=[], outputs=[]) else f"{node.op_type} has no {scene.dtype} at opset {scene.opset}"


def _quantisers(scene: Scene) -> set[str]:
    """Tensors on either side of a quantisation."""
    given = {node.input[0] for node in scene.nodes if node.op_type == "QuantizeLinear"}
    return given | {node.output[0] for node in scene.nodes if node.op_type == "DequantizeLinear"}


def _quantised(node: onnx.NodeProto, beside: set[str]) -> str:
    # A Cast between a convolution and its quantised inputs would hide from TensorRT that it may calculate in INT8.
    return "its inputs or its result are quantised" if beside & {*node.input, *node.output} else ""


def _out_of_range(scene: Scene, node: onnx.NodeProto) -> str:
    most = HEADROOM * LARGEST[scene.dtype]
    for name in (*node.input, *node.output):
        peak = scene.peaks.get(name, 0.0) if scene.is_float(name) else 0.0
        if peak > most:
            return f"{name} reaches {peak:.3g}"
        if 0 < peak < LEAST[scene.dtype]:
            return f"{name} reaches {peak:.3g} only"
    squares = scene.peaks.get(node.output[0], 0.0) ** 2 if node.op_type == "ReduceL2" else 0.0
    return f"the squares inside reach {squares:.3g}" if squares > most else ""


def _weights_out_of_range(scene: Scene, node: onnx.NodeProto) -> str:
    most = LARGEST[scene.dtype]
    # The bounds of a Clip may be out of reach: what is clipped has been looked at.
    for name in node.input[:1] if node.op_type == "Clip" else node.input:
        if scene.is_float(name) and name in scene.weights:
            if name not in scene.reach:
                scene.reach[name] = largest(scene.weights[name])
            if scene.reach[name] > most:
                return f"its weight {name} reaches {scene.reach[name]:.3g}"
    filling = next((one.t for one in node.attribute if one.name == "value"), None)
    if node.op_type == "ConstantOfShape" and filling is not None and largest(filling) > most:
        return f"it fills with {largest(filling):.3g}"
    return ""


# ---------------------------------------------------------------- nodes that hang together


def _exact(scene: Scene) -> Iterator[tuple[int, str]]:
    """What whole numbers and sizes are made of: half a step off, and the shape is another one."""
    maker = {name: index for index, node in enumerate(scene.nodes) for name in node.output if name}
    for index, node in enumerate(scene.nodes):
        waiting = _wanted_exactly(scene, node)
        if not waiting:
            continue
        reason = f"{node.name} makes whole numbers or sizes of it"
        if node.op_type == "Cast":
            yield index, "it makes whole numbers"
        seen: set[int] = set()
        while waiting:
            above = maker.get(waiting.pop())
            if above is None or above in seen or scene.nodes[above].op_type not in _BEFORE:
                continue
            seen.add(above)
            yield above, reason
            waiting += [name for name in scene.nodes[above].input if scene.is_float(name)]


def _wanted_exactly(scene: Scene, node: onnx.NodeProto) -> list[str]:
    if node.op_type == "Cast" and scene.types.get(node.output[0]) in _WHOLE:
        given = [node.input[0]]
    elif node.op_type == "Resize":
        given = list(node.input[1:3])
    else:
        given = list(node.input) if node.op_type == "Range" else []
    return [name for name in given if scene.is_float(name)]


def _tiny(scene: Scene) -> Iterator[tuple[int, str]]:
    """Where something would be divided by an epsilon that float16 takes for 0."""
    if scene.dtype != "float16":
        return
    small: dict[str, str] = {}
    for index, node in enumerate(scene.nodes):
        given = [name for name in node.input if scene.is_float(name)]
        of = next((small[name] for name in given if name in small), "")
        if of and node.op_type in _AFTER | _NEEDS_MORE_THAN_ZERO:
            yield index, f"it builds on {of}, which is 0 in float16"
            if node.op_type in _AFTER:
                small.update(dict.fromkeys(node.output, of))
        epsilon = next((name for name in given if name in scene.weights and vanishes(scene.weights[name])), "")
        if epsilon:
            yield index, f"{epsilon} is 0 in float16"
            small.update(dict.fromkeys(node.output, epsilon))
