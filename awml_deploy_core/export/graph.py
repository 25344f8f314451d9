"""What stands in an ONNX file beside the numbers: names, axes, versions, metadata, and nothing of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper

from awml_deploy_core.export.trace import Unfit
from awml_deploy_core.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from awml_deploy_core.records import Component, Tensor

__all__ = [
    "cap_ir",
    "declare",
    "fix_metadata",
    "list_initializers",
    "opset_of",
    "scrub",
    "weigh",
    "write",
]

_ONNX_TYPES = {
    "bfloat16": TensorProto.BFLOAT16,
    "bool": TensorProto.BOOL,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "int8": TensorProto.INT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "uint8": TensorProto.UINT8,
}


def declare(model: onnx.ModelProto, component: Component, sizes: Mapping[str, int]) -> None:
    """Write the component's names and axes over the exporter's, once they are known to agree.

    Exporters name dims after their own symbols and write the sizes of outputs as expressions; an input that the
    network does not use may have been dropped. The declared form stands in the file whole.

    Args:
        model: Is changed.
        component: What must stand there.
        sizes: Size of every axis at the recorded inputs.

    Raises:
        Unfit: If the graph has other tensors, types or sizes.
    """
    for kind, values, declared in (
        ("inputs", model.graph.input, component.inputs),
        ("outputs", model.graph.output, component.outputs),
    ):
        there = {value.name: value for value in values}
        wanted = [tensor.name for tensor in declared]
        kept = [name for name in wanted if name in there]
        if list(there) != kept or (kind == "outputs" and kept != wanted):
            raise Unfit(f"the graph has the {kind} {', '.join(there)} instead of {', '.join(wanted)}")
        for tensor in declared:
            if tensor.name in there:
                _agree(there[tensor.name], component, tensor, sizes)
        fresh = [_value(component, tensor, sizes) for tensor in declared]
        del values[:]
        values.extend(fresh)


def _value(component: Component, tensor: Tensor, sizes: Mapping[str, int]) -> onnx.ValueInfoProto:
    shape = [sizes[n] if isinstance(n, str) and not component.axis(n).dynamic else n for n in tensor.shape]
    return helper.make_tensor_value_info(tensor.name, _ONNX_TYPES[tensor.dtype], shape)


def _agree(value: onnx.ValueInfoProto, component: Component, tensor: Tensor, sizes: Mapping[str, int]) -> None:
    got = value.type.tensor_type
    if got.elem_type != _ONNX_TYPES[tensor.dtype]:
        name = TensorProto.DataType.Name(got.elem_type).lower()
        raise Unfit(f"{tensor.name} is {name} in the graph, {tensor.dtype} in the component")
    if not got.HasField("shape"):
        return
    dims = got.shape.dim
    if len(dims) != len(tensor.shape):
        raise Unfit(f"{tensor.name} has {len(dims)} dims in the graph, {len(tensor.shape)} in the component")
    for want, dim in zip(tensor.shape, dims, strict=True):
        if not dim.HasField("dim_value"):
            continue
        if isinstance(want, str) and component.axis(want).dynamic:
            # An axis that only outputs have (detections) may well have one size.
            if any(want in value.shape for value in component.inputs):
                raise Unfit(
                    f"the size {dim.dim_value} of {want} is traced into the graph at {tensor.name}, "
                    "though the axis is declared dynamic",
                    "Write the network without numbers that depend on the size, or declare the axis fixed.",
                )
        elif dim.dim_value != (size := sizes.get(want, dim.dim_value) if isinstance(want, str) else want):
            raise Unfit(f"{tensor.name} has the size {dim.dim_value} in the graph where the component has {size}")


def scrub(model: onnx.ModelProto) -> None:
    """Remove what differs between two machines: stack traces, paths, notes, and shapes under made-up names."""
    for part in (model, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
    _scrub_graph(model.graph)
    for function in model.functions:
        del function.value_info[:]
        for node in function.node:
            _scrub_node(node)


def _scrub_graph(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        _scrub_node(node)


def _scrub_node(node: onnx.NodeProto) -> None:
    node.doc_string = ""
    del node.metadata_props[:]
    for attribute in node.attribute:
        attribute.doc_string = ""
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _scrub_graph(graph)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators."""
    return int(next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0))


def cap_ir(model: onnx.ModelProto, most: int | None) -> None:
    """Lower the IR version to what a reader understands, as far as the operators allow.

    Raises:
        Unfit: If the opset needs a newer one.
    """
    if most is None or model.ir_version <= most:
        return
    least = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    if least > most:
        raise Unfit(
            f"opset {opset_of(model)} needs IR version {least}, but at most {most} is allowed",
            "Lower onnx_config.opset_version or raise onnx_config.max_ir_version.",
        )
    model.ir_version = most


def fix_metadata(model: onnx.ModelProto, producer: str, version: str, metadata: Mapping[str, str]) -> None:
    """Write who made the file and what from."""
    model.producer_name, model.producer_version = producer, version
    helper.set_model_props(model, dict(sorted(metadata.items())))


def list_initializers(model: onnx.ModelProto, *, with_values: bool) -> None:
    """Show weights among the inputs, so that a runtime may replace them, and without values must be given them."""
    floats = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    there = list(model.graph.initializer)
    listed = there if with_values else [tensor for tensor in there if tensor.data_type in floats]
    model.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in listed)
    if not with_values:
        kept = [tensor for tensor in there if tensor.data_type not in floats]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)


def weigh(tensors: Iterable[Any]) -> int:
    """Bytes of torch tensors, counting each once."""
    return sum({id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}.values())


def write(model: onnx.ModelProto, path: Path, *, external: bool) -> tuple[str, ...]:
    """Write a model, the same bytes for the same model.

    The hash of an external file goes into the graph's metadata, so that the hash of the graph covers both.

    Returns:
        Names of the files, the graph last.
    """
    if not external:
        path.write_bytes(model.SerializeToString(deterministic=True))
        return (path.name,)
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)
    onnx.save_model(model, path, save_as_external_data=True, location=beside.name, size_threshold=1024)
    if not beside.exists():
        return (path.name,)
    loaded = onnx.load(path, load_external_data=False)
    known = {entry.key: entry.value for entry in loaded.metadata_props}
    helper.set_model_props(loaded, dict(sorted({**known, "external_data_sha256": sha256_file(beside)}.items())))
    path.write_bytes(loaded.SerializeToString(deterministic=True))
    return (beside.name, path.name)
