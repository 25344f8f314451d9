"""Triton Model Navigator on the same network; runs in the environment that `bench_navigator.py` makes.

Arguments: the folder of the deployment, how many inferences are timed, and the opset.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_navigator.configuration import (  # type: ignore[import-not-found]  # another environment has it
    CustomConfig,
    DeviceKind,
    Format,
    OnnxConfig,
    OnnxTraceExportConfig,
    OptimizationProfile,
    TorchConfig,
)
from model_navigator.torch import optimize  # type: ignore[import-not-found]

from awml_calibration.network import Classifier


def require_done(status: Any) -> None:
    """Refuse to be compared with a run that left something out."""
    for name, model in status.models_status.items():
        commands = {**model.status}
        for runner, each in model.runners_status.items():
            commands |= {f"{command} on {runner}": result for command, result in each.status.items()}
        print(f"{name}: {', '.join(f'{command} {result.value}' for command, result in commands.items())}")
        if any(result.value != "OK" for result in commands.values()):
            raise SystemExit("Model Navigator did not do all that it was asked for")


def main(folder: Path, samples: int, opset: int) -> None:
    if not torch.cuda.is_available():
        # Its profiler waits for CUDA on the CPU as well and fails where torch was built without; it is helped out here.
        torch.cuda.synchronize = lambda *_: None
    model = Classifier(18, 64).eval()
    model.load_state_dict(torch.load(folder / "checkpoint.pth", weights_only=True)["state_dict"])
    rng = np.random.default_rng(0)
    inputs = [torch.from_numpy(rng.random((1, 5, 480, 640), np.float32)) for _ in range(3)]
    axes = {"input": {0: "batch_size", 2: "height", 3: "width"}, "output": {0: "batch_size"}}
    onnx = OnnxConfig(
        opset=opset,
        dynamic_axes=axes,
        export_engine=[OnnxTraceExportConfig()],
        custom_args={"dynamo": False},
    )
    custom: list[CustomConfig] = [TorchConfig(autocast=False), onnx]
    package = optimize(
        model,
        inputs,
        sample_count=len(inputs),
        input_names=("input",),
        output_names=("output",),
        target_formats=(Format.TORCH, Format.ONNX),
        target_device=DeviceKind.CPU,
        runners=("TorchCPU", "OnnxCPU"),
        custom_configs=custom,
        # One window of as many inferences as we time, at batch 1, taken whether it is stable or not.
        optimization_profile=OptimizationProfile(
            max_batch_size=1,
            batch_sizes=[1],
            window_size=samples,
            min_trials=1,
            max_trials=1,
            stabilization_windows=1,
            stability_percentage=100.0,
        ),
        workspace=folder / "navigator",
    )
    require_done(package.status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
