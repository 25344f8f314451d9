"""The parts that a run cannot do without, and nothing else: one process, no checks, no report.

Arguments: the folder of the deployment, the census of a run, and the file to write.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()

import hashlib  # noqa: E402  imports are a part that is timed
import io  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager, redirect_stdout  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import onnxslim  # noqa: E402
import torch  # noqa: E402

from awml_calibration.network import Classifier  # noqa: E402

AXES = {"input": {0: "batch_size", 2: "height", 3: "width"}, "output": {0: "batch_size"}}

parts: dict[str, tuple[float, float]] = {"imports": (time.perf_counter() - BEGAN, time.process_time())}


@contextmanager
def part(name: str) -> Iterator[None]:
    """Wall time and processor time of a part."""
    began = time.perf_counter(), time.process_time()
    yield
    parts[name] = (time.perf_counter() - began[0], time.process_time() - began[1])


def export(model: torch.nn.Module, path: Path, exporter: str, opset: int) -> None:
    batch = 2 if exporter == "dynamo" else 1  # dynamo takes a single row for a constant
    options: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    options |= {"dynamic_axes": AXES, "dynamo": False}
    if exporter == "dynamo":
        free = dict.fromkeys(AXES["input"], torch.export.Dim.DYNAMIC)
        options |= {"dynamic_axes": None, "dynamic_shapes": (free,), "dynamo": True, "external_data": False}
    with redirect_stdout(io.StringIO()):
        torch.onnx.export(
            model, (torch.rand(batch, 5, 480, 640),), str(path), opset_version=opset, verbose=False, **options
        )


def main(folder: Path, census: dict[str, Any]) -> None:
    with part("load"):
        model = Classifier(18, 64).eval()
        model.load_state_dict(torch.load(folder / "checkpoint.pth", weights_only=True)["state_dict"])
    raw, slim = folder / "bare.raw.onnx", folder / "bare.onnx"
    with torch.no_grad():
        with part("torch.onnx.export"):
            export(model, raw, census["exporter"], census["opset"])
        with part("onnxslim"):
            onnx.save(onnxslim.slim(onnx.load(raw)), slim)
        with part("hashes"):
            for path in (folder / "checkpoint.pth", slim):
                hashlib.sha256(path.read_bytes()).hexdigest()
        with part("session"):
            session = onnxruntime.InferenceSession(slim, providers=["CPUExecutionProvider"])
        inputs = {tuple(each["shape"]): torch.rand(each["shape"]) for each in census["forwards"] + census["runs"]}
        with part("torch forwards"):
            for each in census["forwards"]:
                model(inputs[tuple(each["shape"])])
        with part("session runs"):
            for each in census["runs"]:
                session.run(None, {"input": inputs[tuple(each["shape"])].numpy()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
    Path(sys.argv[3]).write_text(json.dumps(parts))
