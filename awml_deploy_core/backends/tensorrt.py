"""A TensorRT engine behind `run`, through Polygraphy's runner on torch's CUDA memory.

Nothing crosses to the host between two components. Nobody has run a real engine with it yet: the only GPU that was at
hand is one that TensorRT-RTX refuses. The runner and the memory were tried on that GPU with an engine that stands in.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from awml_deploy_core.backends.runner import Session
from awml_deploy_core.build.flavor import TITLES
from awml_deploy_core.errors import ArtifactError, RequirementError
from awml_deploy_core.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from awml_deploy_core.backends import Device
    from awml_deploy_core.backends.fit import Limits
    from awml_deploy_core.records import Artifact, Component, Variant

__all__ = ["described", "open_session", "require_driver", "require_fitting", "require_gpu"]

_SCHEMA_VERSION = 1


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


def open_session(variant: Variant, component: Component, device: Device, *, graphs: bool = False) -> Session:
    """Make an engine ready to run.

    Args:
        variant: Which engines.
        component: The one to open.
        device: The GPU.
        graphs: Record the launches of each size once as a CUDA graph and replay that.

    Raises:
        ArtifactError: It is missing, changed, or was built for another machine.
        RequirementError: This machine cannot load engines.
    """
    artifact = next((one for one in variant.artifacts if one.component == component.name), None)
    if artifact is None:
        raise ArtifactError(f"variant {variant.name}: there is no engine for component {component.name}")
    said = described(artifact.path)
    require_whole(artifact, said)
    require_driver(variant.name)
    trt = _module(said["flavor"])
    require_fitting(artifact.path, said, trt.__version__, _here(device))
    require_gpu(trt, said["flavor"], device)
    _load_libraries(said)
    from awml_deploy_core.backends.engine import Loaded

    loaded = Loaded(trt, artifact.path, component, torch.device(str(device)), graphs=graphs)
    return Session(
        provider=f"{TITLES[said['flavor']]} {trt.__version__}",
        call=loaded.run,
        accepts=accepted(component, said),
        close=loaded.close,
    )


def described(path: Path) -> dict[str, Any]:
    """What stands beside an engine.

    Raises:
        ArtifactError: Nothing does, or it is no such document.
    """
    beside = path.with_name(f"{path.name}.json")
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
        known = said["schema"] == "awml-deploy/engine" and said["schema_version"] <= _SCHEMA_VERSION
        complete = (
            said["flavor"] in TITLES and {"version", "sha256", "profiles", "libraries", "settings"} <= said.keys()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _undescribed(path, beside) from error
    if not (known and complete):
        raise _undescribed(path, beside)
    return dict(said)


def _undescribed(path: Path, beside: Path) -> ArtifactError:
    return ArtifactError(
        f"{path}: {beside.name} beside it cannot be read, so nobody knows what it was built for",
        hint="Copy both files together, or build the engine again.",
    )


def require_whole(artifact: Artifact, said: Mapping[str, Any]) -> None:
    """Refuse an engine that is not the one that was built.

    Raises:
        ArtifactError: It is missing, or its bytes are others.
    """
    if not artifact.path.is_file():
        raise ArtifactError(f"{artifact.path} does not exist", hint="Build it first.")
    if sha256_file(artifact.path) != said["sha256"]:
        raise ArtifactError(
            f"{artifact.path} is not the engine that {artifact.path.name}.json describes",
            hint="It was changed or copied in part: copy it again, or build it again.",
        )


# ---------------------------------------------------------------- whether it fits this machine


def require_fitting(path: Path, said: Mapping[str, Any], version: str, gpu: str | None) -> None:
    """Refuse an engine that another TensorRT built, or one for another GPU.

    Args:
        path: The engine.
        said: What stands beside it.
        version: Of the TensorRT that is here.
        gpu: The GPU that is here: `NVIDIA RTX A2000 (8.6)`.

    Raises:
        ArtifactError: Naming what it was built with, and what is here.
    """
    if _version_fits(said, version) and _gpu_fits(said, gpu):
        return
    name = TITLES[said["flavor"]]
    wanted = said["settings"].get("compute_capabilities") or [said.get("gpu") or "an unknown GPU"]
    driver = f", driver for CUDA {said['driver']}" if said.get("driver") else ""
    raise ArtifactError(
        f"{path} was built with {name} {said['version']} for {', '.join(wanted)}{driver}; "
        f"this machine has {name} {version} and {gpu or 'no GPU'}",
        hint=f"Rebuild it here with `export.mode = 'trt'`, `flavor = {said['flavor']!r}` and the same ONNX files.",
    )


def _version_fits(said: Mapping[str, Any], version: str) -> bool:
    if said["version"] == version:
        return True
    compatible = said["settings"].get("options", {}).get("version_compatible")
    there, here = _numbers(said["version"]), _numbers(version)
    return bool(compatible) and there[:1] == here[:1] and there <= here


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _gpu_fits(said: Mapping[str, Any], gpu: str | None) -> bool:
    """Whether the engine runs on this GPU, as far as is known; TensorRT itself has the last word."""
    if gpu is None:
        return True
    here = _capability(gpu)
    chosen = said["settings"].get("compute_capabilities") or ()
    if chosen and "CURRENT" not in chosen:
        return f"SM{here.replace('.', '')}" in chosen
    there = said.get("gpu")
    if there is None or said["flavor"] == "tensorrt_rtx":
        return True  # RTX compiles for the GPU where it runs
    level = said["settings"].get("hardware")
    if level in (None, "NONE", "SAME_COMPUTE_CAPABILITY"):
        return _capability(there) == here
    return _numbers(here) >= (8, 0)


def _capability(gpu: str) -> str:
    return gpu.rpartition("(")[2].rstrip(")")


def require_gpu(trt: Any, flavor: str, device: Device) -> None:
    """Refuse a GPU that TensorRT-RTX does not run on, before it fails with a number.

    Raises:
        RequirementError: Naming the GPU.
    """
    known = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    here = _here(device)
    if flavor == "tensorrt_rtx" and known and f"SM{_capability(here).replace('.', '')}" not in known:
        raise RequirementError(
            f"device {device}: TensorRT-RTX {trt.__version__} does not run on {here}",
            hint="Run it on a GeForce or RTX GPU, or build with flavor = 'tensorrt'.",
        )


def _here(device: Device) -> str:
    major, minor = torch.cuda.get_device_capability(device.index)
    return f"{torch.cuda.get_device_name(device.index)} ({major}.{minor})"


# ---------------------------------------------------------------- what it needs


def _module(flavor: str) -> Any:
    wanted = str(int(flavor == "tensorrt_rtx"))
    if "polygraphy.config" in sys.modules and os.environ.get("POLYGRAPHY_USE_TENSORRT_RTX", "0") != wanted:
        raise RequirementError(
            f"this process already uses the other TensorRT, so an engine of {TITLES[flavor]} cannot be loaded in it",
            hint="Run the two engines in two runs.",
        )
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = wanted
    try:
        if flavor == "tensorrt_rtx":
            import tensorrt_rtx as module
        else:
            import tensorrt as module
    except ImportError as error:
        raise RequirementError(
            f"the engine was built with {TITLES[flavor]}, which cannot be imported here: {error}",
            hint=f"Install {flavor}.",
        ) from error
    return module


def _load_libraries(said: Mapping[str, Any]) -> None:
    """Load the custom layers before the engine, if they are those that it was built with.

    Raises:
        ArtifactError: A library is missing, or is another one.
        RequirementError: It cannot be loaded.
    """
    for one in said["libraries"]:
        path = Path(one["path"]).absolute()
        if not path.is_file() or sha256_file(path) != one["sha256"]:
            fact = "is another one than" if path.is_file() else "is not there, with"
            raise ArtifactError(
                f"plugin library {path} {fact} which the engine was built", hint="Copy it here, or build again."
            )
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise RequirementError(
                f"plugin library {path} cannot be loaded: {error}", hint="It must be built for this machine."
            ) from error


def accepted(component: Component, said: Mapping[str, Any]) -> Limits:
    """The sizes that the first profile takes."""
    limits: dict[str, tuple[int, int | None]] = {}
    for name, shapes in (said["profiles"] or [{}])[0].items():
        tensor = next((one for one in component.inputs if one.name == name), None)
        if tensor is None or len(tensor.shape) != len(shapes["min"]):
            raise ArtifactError(
                f"component {component.name}: the engine's profile names {name} with {len(shapes['min'])} sizes",
                hint="The engine belongs to another model or to other settings: build it again.",
            )
        for axis, low, high in zip(tensor.shape, shapes["min"], shapes["max"], strict=True):
            if isinstance(axis, str):
                limits[axis] = (low, high)
    return limits
