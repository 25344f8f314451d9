"""A simpler graph by onnxslim."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from awml_deploy_core.export.trace import Unfit, hushed

if TYPE_CHECKING:
    import onnx

__all__ = ["slim"]


def slim(model: onnx.ModelProto, *, folding: bool) -> onnx.ModelProto:
    """Simplify a graph; the given one is left as it is.

    Raises:
        Unfit: If onnxslim fails.
    """
    with hushed(io.StringIO()):
        import onnxslim

        skipped = None if folding else ["constant_folding"]
        try:
            simpler: onnx.ModelProto = onnxslim.slim(model, skip_optimizations=skipped)
        except Exception as error:
            lines = str(error).strip().splitlines()
            raise Unfit(f"onnxslim fails: {type(error).__name__}: {lines[0] if lines else ''}") from error
    return simpler
