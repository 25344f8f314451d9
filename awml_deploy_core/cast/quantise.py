"""INT8 with QuantizeLinear and DequantizeLinear in the graph, its ranges from real samples.

Symmetric, and biases left in float: TensorRT refuses other zero points and biases in int32. Inputs and results of what
calculates in INT8 are quantised; whatever else reads such an input (the sum behind a residual block) reads it as it
was. That is more exact, and ONNX Runtime fuses a quantised convolution only if nothing else reads its input.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from attrs import frozen

from awml_deploy_core.cast.dtypes import inlined, name_all, opset_of
from awml_deploy_core.cast.islands import Keep, require_there
from awml_deploy_core.errors import ArtifactError, BuildError, ConfigError, LoadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]

__all__ = ["OPERATORS", "Calibration", "quantise", "quantised_nodes"]

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What is computed in INT8; everything else keeps its type."""

_PER_CHANNEL_OPSET = 13


@frozen(kw_only=True)
class Calibration:
    """How ranges are found.

    Args:
        method: `minmax` takes the largest value, `percentile` leaves the rarest out, `entropy` loses least information.
        percentile: Per cent of the values that `percentile` keeps.
        per_channel: A scale for every output channel of a weight instead of one for all.
    """

    method: Literal["minmax", "percentile", "entropy"] = "minmax"
    percentile: float = 99.99
    per_channel: bool = True


_METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}


def quantised_nodes(model: onnx.ModelProto) -> int:
    """How many nodes quantise; a graph that has some is taken as it is."""
    bodies = (model.graph, *model.functions)
    return sum(node.op_type == "QuantizeLinear" for body in bodies for node in body.node)


def quantise(
    source: Path,
    feeds: Iterable[Feed],
    *,
    calibration: Calibration | None = None,
    keep: Keep | None = None,
) -> tuple[onnx.ModelProto, int]:
    """Add quantisation to a graph in float32.

    Args:
        source: The ONNX file.
        feeds: Inputs of the component on the samples for calibration; one is held at a time.
        calibration: How ranges are found.
        keep: Nodes, operators and outputs that stay in float.

    Returns:
        The graph, and on how many feeds its ranges rest.

    Raises:
        ArtifactError: The file cannot be read.
        ConfigError: `keep` names something that is not there, or the opset has no scales per channel.
        LoadError: There are no feeds, or one holds what is no number.
        BuildError: Nothing can be quantised, or ONNX Runtime's quantiser fails, with its reason.
    """
    how, keep = calibration or Calibration(), keep or Keep()
    model = _read(source)
    require_there([*model.graph.node], keep)
    if how.per_channel and opset_of(model) < _PER_CHANNEL_OPSET:
        raise ConfigError(
            f"{source}: ONNX has scales per channel from opset {_PER_CHANNEL_OPSET} on, the file has {opset_of(model)}",
            hint=f"Set `onnx_config.opset_version = {_PER_CHANNEL_OPSET}`, or `calibration.per_channel = False`.",
        )
    operators = [name for name in OPERATORS if name not in keep.ops]
    nodes = [node.name for node in model.graph.node if node.op_type in operators and not _kept(node, keep)]
    if not nodes:
        raise BuildError(
            f"{source}: nothing in it can be quantised: it has no {', '.join(operators) or 'operator that is allowed'}"
            + (" that is not to be kept" if operators else ""),
            hint="Choose another precision_policy for this component.",
        )
    ranges, count = _calibrated(source, model, feeds, how, operators)
    with _explained(source), _quiet():
        made = _quantised(model, ranges, how, nodes, operators)
    if not quantised_nodes(made):
        raise BuildError(
            f"{source}: nothing in it can be quantised: the inputs of its {', '.join(operators)} are no tensors of "
            "float32 that a sample reached",
            hint="Choose another precision_policy for this component.",
        )
    return made, count


def _read(source: Path) -> onnx.ModelProto:
    """The graph with a name for every node: the quantiser is told by names what to leave out."""
    try:
        model = inlined(onnx.load(source))
    except Exception as error:
        raise ArtifactError(f"{source} is no ONNX file, or cut short", hint="Export it again.") from error
    name_all(model.graph)
    return model


def _kept(node: onnx.NodeProto, keep: Keep) -> bool:
    return node.name in keep.nodes or bool(set(node.output) & set(keep.outputs))


# ---------------------------------------------------------------- ranges


def _calibrated(
    source: Path, model: onnx.ModelProto, feeds: Iterable[Feed], how: Calibration, operators: list[str]
) -> tuple[Any, int]:
    """The range of every tensor beside an operator, and on how many feeds they rest."""
    from onnxruntime import quantization as tools

    options: dict[str, Any] = {"symmetric": True}
    if how.method == "percentile":
        options["percentile"] = how.percentile
    method = getattr(tools.CalibrationMethod, _METHODS[how.method])
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        plain, augmented = Path(folder) / "plain.onnx", str(Path(folder) / "augmented.onnx")
        plain.write_bytes(model.SerializeToString())
        with _explained(source):
            calibrator = tools.create_calibrator(plain, operators, augmented, method, extra_options=options)
        for feed in feeds:
            _require_finite(feed)
            # Of all that it reads at once it keeps every tensor, and wants them to be of one size.
            with _explained(source), _quiet():
                calibrator.collect_data(_One(feed))
            count += 1
        if not count:
            raise LoadError(
                f"{source}: there is no sample to calibrate on",
                hint="load_samples('calibrate') must give samples on which this component is called.",
            )
        with _explained(source), _quiet():
            ranges = calibrator.compute_data()
    endless = [name for name, found in ranges.items() if not all(np.isfinite(end).all() for end in found.range_value)]
    if endless:
        raise BuildError(
            f"{source}: on the samples for calibration {', '.join(endless[:5])} holds NaN or infinity",
            hint="Compare the variants `trained` and `onnx` first, or look at these samples.",
        )
    return ranges, count


def _require_finite(feed: Feed) -> None:
    broken = [name for name, value in feed.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
    if broken:
        raise LoadError(
            f"a sample for calibration holds NaN or infinity in {', '.join(broken)}",
            hint="Repair the sample, or take it out of load_samples('calibrate').",
        )


class _One:
    """What ONNX Runtime's calibrators read from, with one feed in it."""

    def __init__(self, feed: Feed) -> None:
        self._left = [dict(feed)]

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return self._left.pop() if self._left else None


# ---------------------------------------------------------------- the graph


def _quantised(
    model: onnx.ModelProto, ranges: Any, how: Calibration, nodes: list[str], operators: list[str]
) -> onnx.ModelProto:
    from onnxruntime import quantization as tools

    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    int8 = tools.QuantType.QInt8
    quantiser = tools.QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        how.per_channel,
        False,
        int8,
        int8,
        ranges,
        nodes,
        [],
        operators,
        options,
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    made: onnx.ModelProto = quantiser.model.model
    _bypass(made.graph, model.graph, set(nodes))
    return made


def _bypass(graph: onnx.GraphProto, original: onnx.GraphProto, quantised: set[str]) -> None:
    """Let nodes that do not calculate in INT8 read what was quantised for others as it was before."""
    maker = {name: node for node in graph.node for name in node.output}
    read = {node.name: list(node.input) for node in original.node}
    weights = {tensor.name: tensor for tensor in original.initializer}
    there = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.name in quantised or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for index, name in enumerate(node.input):
            before = _unquantised(maker, name)
            # The result of a convolution is quantised for its own sake: so it stays in INT8 to the end.
            if before is not None and (before not in maker or maker[before].name not in quantised):
                node.input[index] = before
            weight = read[node.name][index] if before is None and name in maker and node.name in read else ""
            if weight in weights:
                node.input[index] = weight
                graph.initializer.extend([] if weight in there else [weights[weight]])
                there.add(weight)


def _unquantised(maker: Mapping[str, onnx.NodeProto], name: str) -> str | None:
    """What a tensor was before it was quantised and back."""
    back = maker.get(name)
    there = maker.get(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
    return there.input[0] if there is not None and there.op_type == "QuantizeLinear" else None


@contextlib.contextmanager
def _explained(source: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BuildError(f"{source}: ONNX Runtime cannot quantise it: {type(error).__name__}: {reason}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints, and warns that the graph could be prepared for it."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
