"""INT8 with QuantizeLinear and DequantizeLinear in the graph, its ranges from real samples.

Symmetric and per channel, biases left in float: TensorRT refuses biases in int32.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from attrs import frozen

from awml_deploy_core.errors import BuildError, LoadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.cast.narrow import Keep

__all__ = ["OPERATORS", "Calibration", "quantise", "quantised_nodes"]

OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What is computed in INT8; everything else keeps its type."""


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
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


def quantise(
    source: Path,
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    *,
    calibration: Calibration | None = None,
    keep: Keep | None = None,
) -> tuple[onnx.ModelProto, int]:
    """Add quantisation to a graph in float32.

    Args:
        source: The ONNX file.
        feeds: Inputs of the component on the samples for calibration.
        calibration: How ranges are found.
        keep: Nodes, operators and outputs that stay in float.

    Returns:
        The graph, and on how many feeds its ranges rest.

    Raises:
        LoadError: There are no feeds, or one holds what is no number.
        BuildError: ONNX Runtime's quantiser fails, with its reason.
    """
    from onnxruntime import quantization as tools

    how = calibration or Calibration()
    reader = _Reader(tools, feeds)
    if reader.first is None:
        raise LoadError(
            f"{source}: there is no sample to calibrate on",
            hint="load_samples('calibrate') must give samples on which this component is called.",
        )
    options: dict[str, Any] = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    if how.method == "percentile":
        options["CalibPercentile"] = how.percentile
    operators = [name for name in OPERATORS if keep is None or name not in keep.ops]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "quantised.onnx"
        try:
            tools.quantize_static(
                source,
                target,
                reader,
                quant_format=tools.QuantFormat.QDQ,
                op_types_to_quantize=operators,
                nodes_to_exclude=_excluded(source, keep),
                per_channel=how.per_channel,
                activation_type=tools.QuantType.QInt8,
                weight_type=tools.QuantType.QInt8,
                calibrate_method=getattr(tools.CalibrationMethod, _METHODS[how.method]),
                extra_options=options,
            )
        except LoadError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise BuildError(f"{source}: ONNX Runtime cannot quantise it: {type(error).__name__}: {reason}") from error
        model = onnx.load(target)
    if not quantised_nodes(model):
        raise BuildError(
            f"{source}: nothing in it can be quantised: it has no {', '.join(operators) or 'operator that is allowed'}",
            hint="Choose another precision_policy for this component.",
        )
    return model, reader.count


def _excluded(source: Path, keep: Keep | None) -> list[str]:
    if keep is None:
        return []
    nodes = onnx.load(source, load_external_data=False).graph.node
    return [node.name for node in nodes if node.name in keep.nodes or set(node.output) & set(keep.outputs)]


class _Reader:
    """What ONNX Runtime's calibrators read from: one feed at a time, none of them kept."""

    def __init__(self, tools: Any, feeds: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        del tools
        self.count = 0
        self._feeds = iter(feeds)
        self.first = next(self._feeds, None)
        self._waiting = self.first

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        feed, self._waiting = self._waiting, None
        if feed is None:
            feed = next(self._feeds, None)
        if feed is None:
            return None
        broken = [name for name, value in feed.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if broken:
            raise LoadError(
                f"a sample for calibration holds NaN or infinity in {', '.join(broken)}",
                hint="Repair the sample, or take it out of load_samples('calibrate').",
            )
        self.count += 1
        return dict(feed)

    def __next__(self) -> dict[str, NDArray[Any]]:
        feed = self.get_next()
        if feed is None:
            raise StopIteration
        return feed

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return self

    def set_range(self, start_index: int, end_index: int) -> None:
        """ONNX Runtime asks for it; there is nothing to skip in a stream."""
        del start_index, end_index


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints, and warns that the graph could be prepared for it."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
