"""A TensorRT engine behind `run`, on torch's CUDA memory: nothing crosses to the host between two components.

Nobody has run this on a GPU yet: the only GPU that was at hand is one that TensorRT-RTX refuses. The checks before an
engine is loaded, and what happens without a driver, are tested.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from awml_deploy_core.backends.runner import Session
from awml_deploy_core.errors import ArtifactError, RequirementError
from awml_deploy_core.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from awml_deploy_core.backends import Device
    from awml_deploy_core.backends.fit import Limits, Tensors
    from awml_deploy_core.records import Artifact, Component, Variant

__all__ = ["described", "open_session", "require_driver", "require_fitting"]


def require_driver(variant: str) -> None:
    """Refuse to load an engine where no driver is: TensorRT cannot even look into it.

    Raises:
        RequirementError: torch sees no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RequirementError(
            f"variant {variant}: no CUDA driver: an engine can be loaded only on a machine with an NVIDIA GPU",
            hint="Run `--stages verify,evaluate,report` with the same work_dir there.",
        )


def open_session(variant: Variant, component: Component, device: Device) -> Session:
    """Make an engine ready to run.

    Raises:
        ArtifactError: It is missing, changed, or was built for another machine.
        RequirementError: This machine cannot load engines.
    """
    require_driver(variant.name)
    artifact = next((one for one in variant.artifacts if one.component == component.name), None)
    if artifact is None:
        raise ArtifactError(f"variant {variant.name}: there is no engine for component {component.name}")
    said = described(artifact.path)
    trt = _module(said["flavor"])
    require_fitting(artifact, said, trt.__version__)
    engine, context = _loaded(trt, artifact, device)
    held = [context, engine]
    return Session(
        provider=f"{said['flavor']} {trt.__version__}",
        call=lambda inputs: _run(held[1], held[0], component, inputs, torch.device(str(device))),
        accepts=_accepts(component, said),
        close=held.clear,
    )


def described(path: Path) -> dict[str, Any]:
    """What stands beside an engine.

    Raises:
        ArtifactError: Nothing does, or it is no such document.
    """
    beside = path.with_name(f"{path.name}.json")
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
        assert said["schema"] == "awml-deploy/engine"
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ArtifactError(
            f"{path}: {beside.name} beside it cannot be read, so nobody knows what it was built for",
            hint="Copy both files together, or build the engine again.",
        ) from error
    return dict(said)


def require_fitting(artifact: Artifact, said: Mapping[str, Any], version: str) -> None:
    """Refuse an engine that was changed, or that another TensorRT built.

    Raises:
        ArtifactError: Naming what it was built with, and what is here.
    """
    if not artifact.path.is_file() or sha256_file(artifact.path) != said["sha256"]:
        raise ArtifactError(
            f"{artifact.path} is not the engine that {artifact.path.name}.json describes",
            hint="It was changed or copied in part: build it again.",
        )
    if said["version"] != version:
        raise ArtifactError(
            f"{artifact.path} was built with {said['flavor']} {said['version']}; this machine has {version}",
            hint="Rebuild it here with `export.mode = 'trt'` and the same ONNX files.",
        )


def _module(flavor: str) -> Any:
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(flavor == "tensorrt_rtx"))
    try:
        if flavor == "tensorrt_rtx":
            import tensorrt_rtx as module
        else:
            import tensorrt as module
    except ImportError as error:
        raise RequirementError(
            f"the engine was built with {flavor}, which is not installed here: {error}", hint=f"Install {flavor}."
        ) from error
    return module


def _loaded(trt: Any, artifact: Artifact, device: Device) -> tuple[Any, Any]:
    with torch.cuda.device(device.index):
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = runtime.deserialize_cuda_engine(artifact.path.read_bytes())
        if engine is None:
            name = torch.cuda.get_device_name(device.index)
            raise ArtifactError(
                f"{artifact.path}: TensorRT {trt.__version__} cannot load it on {name}",
                hint="An engine fits the GPU that it was built for: rebuild it here with `export.mode = 'trt'`.",
            )
        return engine, engine.create_execution_context()


def _accepts(component: Component, said: Mapping[str, Any]) -> Limits:
    """The sizes that the first profile takes."""
    limits: dict[str, tuple[int, int | None]] = {}
    for name, shapes in (said["profiles"] or [{}])[0].items():
        tensor = next(one for one in component.inputs if one.name == name)
        for axis, low, high in zip(tensor.shape, shapes["min"], shapes["max"], strict=True):
            if isinstance(axis, str):
                limits[axis] = (low, high)
    return limits


def _run(engine: Any, context: Any, component: Component, inputs: Tensors, where: torch.device) -> Tensors:
    """Run on the present stream of torch; outputs are fresh memory of the caller's."""
    held = {name: tensor.contiguous() for name, tensor in inputs.items()}
    for name, tensor in held.items():
        context.set_input_shape(name, tuple(tensor.shape))
        context.set_tensor_address(name, tensor.data_ptr())
    outputs = {}
    for declared in component.outputs:
        shape = tuple(context.get_tensor_shape(declared.name))
        outputs[declared.name] = torch.empty(shape, dtype=_dtype(engine, declared.name), device=where)
        context.set_tensor_address(declared.name, outputs[declared.name].data_ptr())
    stream = torch.cuda.current_stream(where)
    if not context.execute_async_v3(stream.cuda_stream):
        raise ArtifactError(f"component {component.name}: the engine fails to run", hint="See the log of TensorRT.")
    for tensor in held.values():
        tensor.record_stream(stream)
    return outputs


def _dtype(engine: Any, name: str) -> torch.dtype:
    names = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT32": "int32", "INT64": "int64"}
    names |= {"INT8": "int8", "UINT8": "uint8", "BOOL": "bool"}
    found: torch.dtype = getattr(torch, names[str(engine.get_tensor_dtype(name)).rpartition(".")[2]])
    return found
