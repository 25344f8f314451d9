"""The largest magnitude of every tensor on real samples, found inside the graph.

Each float tensor gets two nodes that give its extremes. Numbers leave the session, tensors do not, and so the memory
of a run stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from awml_deploy_core.cast.dtypes import element_types, inlined
from awml_deploy_core.errors import ForeignError, LoadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]

__all__ = ["peaks"]

_PREFIX = "awml_peak"


def peaks(model: onnx.ModelProto, feeds: Iterable[Feed]) -> dict[str, float]:
    """The largest finite magnitude of each float32 tensor over all feeds; 0 for one that never held anything.

    Infinity and NaN are the same in every type, so they say nothing about what fits.

    Raises:
        ForeignError: ONNX Runtime cannot run the graph.
        LoadError: A feed holds NaN.
    """
    plain = inlined(model)
    found = dict.fromkeys(_watched(plain), 0.0)
    session = _session(plain, list(found), masked=False) if found else None
    careful: list[str] = []
    masked: ort.InferenceSession | None = None
    for feed in feeds:
        _require_numbers(feed)
        if session is None:
            break
        unclear = _look(session, feed, found)
        if not set(unclear) <= set(careful):
            careful = [name for name in found if name in {*careful, *unclear}]
            masked = _session(plain, careful, masked=True)
        if unclear and masked is not None:
            _look(masked, feed, found)
    return found


def _require_numbers(feed: Feed) -> None:
    broken = [name for name, value in feed.items() if value.dtype.kind == "f" and np.isnan(value).any()]
    if broken:
        raise LoadError(
            f"a sample for the range check holds NaN in {', '.join(broken)}",
            hint="Repair the sample, or take it out of the data.",
        )


def _look(session: ort.InferenceSession, feed: Feed, found: dict[str, float]) -> list[str]:
    """Raise what was found to what this feed reaches; answer the tensors that hold more than finite values."""
    unclear = []
    names = [output.name.removeprefix(f"{_PREFIX}_max_") for output in session.get_outputs()[::2]]
    values = iter(session.run(None, dict(feed)))
    for name, most, least in zip(names, values, values, strict=True):
        if most == -np.inf and least == np.inf:
            continue  # it is empty
        peak = max(abs(float(most)), abs(float(least)))
        if np.isfinite(most) and np.isfinite(least):
            found[name] = max(found[name], peak)
        else:
            unclear.append(name)
    return unclear


def _session(model: onnx.ModelProto, watched: Sequence[str], *, masked: bool) -> ort.InferenceSession:
    probed = _probed(model, watched, masked=masked)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Fusing nodes would take tensors away that are watched.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # In the order of the file: by default every tensor would wait for its probes until the whole graph has run.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    try:
        return ort.InferenceSession(probed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ForeignError(f"ONNX Runtime cannot run the graph to look at its values: {reason}") from error


def _watched(model: onnx.ModelProto) -> Iterator[str]:
    types = element_types(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    made = (name for node in model.graph.node for name in node.output)
    for name in (*(value.name for value in model.graph.input), *made):
        if types.get(name) == TensorProto.FLOAT and name not in weights:
            yield name


def _probed(model: onnx.ModelProto, watched: Sequence[str], *, masked: bool) -> onnx.ModelProto:
    """The graph with the extremes of tensors as its outputs, each found right behind the tensor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, asked = copy.graph, set(watched)
    nodes: list[onnx.NodeProto] = []
    made: list[str] = []
    for names, node in (([value.name for value in graph.input], None), *((one.output, one) for one in graph.node)):
        nodes += [] if node is None else [node]
        for name in names:
            if name in asked:
                nodes += _probe(name, masked=masked)
                made += [f"{_PREFIX}_max_{name}", f"{_PREFIX}_min_{name}"]
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in made)
    if masked:
        for name, value in (("limit", np.inf), ("zero", 0.0)):
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{_PREFIX}_{name}"))
    return copy


def _probe(name: str, *, masked: bool) -> Iterator[onnx.NodeProto]:
    looked_at = name
    if masked:
        # Zero where the tensor holds infinity or NaN.
        looked_at, size, finite = (f"{_PREFIX}_{kind}_{name}" for kind in ("values", "abs", "finite"))
        yield helper.make_node("Abs", [name], [size])
        yield helper.make_node("Less", [size, f"{_PREFIX}_limit"], [finite])
        yield helper.make_node("Where", [finite, name, f"{_PREFIX}_zero"], [looked_at])
    yield helper.make_node("ReduceMax", [looked_at], [f"{_PREFIX}_max_{name}"], keepdims=0)
    yield helper.make_node("ReduceMin", [looked_at], [f"{_PREFIX}_min_{name}"], keepdims=0)
