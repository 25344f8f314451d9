"""From our settings to TensorRT's builder configuration, through Polygraphy's `CreateConfig`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from awml_deploy_core.build.cache import remembered
from awml_deploy_core.errors import ConfigError, RequirementError, nearest

__all__ = ["PRECISION", "configuration", "limit", "members"]

Say = Callable[..., None]

PRECISION = ("FP16", "BF16", "INT8", "FP8", "INT4")
"""Flags by which a builder may choose a narrower type."""

_ELSEWHERE = {
    "allow_gpu_fallback": "dla_core",
    "builder_optimization_level": "optimization_level",
    "exclude_lean_runtime": "version_compatible",
    "hardware_compatibility_level": "hardware_compatibility",
    "load_timing_cache": "timing_cache",
    "max_aux_streams": "aux_streams",
    "memory_pool_limits": "max_workspace_size and memory_pools",
    "sparse_weights": "sparsity",
    "use_dla": "dla_core",
    "version_compatible": "version_compatible",
    **dict.fromkeys(("bf16", "calibrator", "fp16", "fp8", "int8", "tf32"), "precision_policy"),
}
"""Arguments of `CreateConfig` that have keys of their own, and which."""

_OURS = {"algorithm_selector", "profiles", "progress_monitor"}
"""Arguments that a config cannot say at all."""

_ENUMS = {
    "engine_capability": "EngineCapability",
    "preview_features": "PreviewFeature",
    "profiling_verbosity": "ProfilingVerbosity",
    "quantization_flags": "QuantizationFlag",
    "runtime_platform": "RuntimePlatform",
    "tactic_sources": "TacticSource",
    "tiling_optimization_level": "TilingOptimizationLevel",
}
"""Arguments that TensorRT wants members of an enumeration for; a config writes their names."""


def members(enum: Any) -> tuple[str, ...]:
    """The names of an enumeration; there is none where this TensorRT lacks it."""
    return tuple(getattr(enum, "__members__", ()))


def configuration(trt: Any, poly: Any, request: Mapping[str, Any], say: Say) -> Any:
    """Polygraphy's configuration for what was asked.

    Raises:
        ConfigError: `extra` has a name that Polygraphy does not know.
        RequirementError: This TensorRT lacks what was asked for.
    """
    flags = set(request["flags"])
    _require_accelerator(trt, request)
    wanted: dict[str, Any] = {
        # Polygraphy clears it unless it is asked for, TensorRT itself sets it.
        "tf32": "TF32" in flags,
        "memory_pool_limits": {trt.MemoryPoolType.WORKSPACE: request["workspace"]},
        "profiles": _profiles(poly, request["profiles"]),
        "progress_monitor": _monitor(trt, say),
        **{name.lower(): True for name in PRECISION if name in flags},
        **request["options"],
        **_extra(trt, poly, request["extra"]),
    }
    if request["hardware"]:
        wanted["hardware_compatibility_level"] = _member(trt, "HardwareCompatibilityLevel", request["hardware"])
    return poly.CreateConfig(**{name: value for name, value in wanted.items() if value is not None})


def limit(trt: Any, config: Any, request: Mapping[str, Any]) -> None:
    """Set what Polygraphy has no word for.

    Raises:
        RequirementError: This TensorRT lacks it.
    """
    for name, size in request["memory_pools"].items():
        config.set_memory_pool_limit(_member(trt, "MemoryPoolType", name), size)
    known = remembered(request["timing_cache"], request["flavor"])
    if known is not None:
        # One that does not fit is refused, and an empty one is in its place already.
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    if request["dla_core"] is not None:
        config.DLA_core = request["dla_core"]
    wanted = [_member(trt, "ComputeCapability", name) for name in request["compute_capabilities"]]
    if wanted:
        config.num_compute_capabilities = len(wanted)
    for index, one in enumerate(wanted):
        config.set_compute_capability(one, index)


def _require_accelerator(trt: Any, request: Mapping[str, Any]) -> None:
    if request["dla_core"] is not None and request["flavor"] == "tensorrt_rtx":
        raise RequirementError(
            f"dla_core = {request['dla_core']}: TensorRT-RTX {trt.__version__} builds for GPUs only",
            hint="Leave dla_core out, or use flavor = 'tensorrt' on a machine with that accelerator.",
        )


def _profiles(poly: Any, given: Sequence[Mapping[str, Mapping[str, Sequence[int]]]]) -> list[Any] | None:
    made = []
    for profile in given:
        made.append(poly.Profile())
        for name, shapes in profile.items():
            made[-1].add(name, tuple(shapes["min"]), tuple(shapes["opt"]), tuple(shapes["max"]))
    return made or None


def _extra(trt: Any, poly: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the config hands to Polygraphy unseen."""
    accepted = {
        name
        for kind in poly.CreateConfig.__mro__
        if kind is not object
        for name in inspect.signature(kind.__init__).parameters
    }
    known = accepted - {"self", "args", "kwargs", "builder", "network"} - _ELSEWHERE.keys() - _OURS
    for name in given:
        if name in known:
            continue
        where = f"backend_config.common_config.extra.{name}"
        if name in _ELSEWHERE:
            raise ConfigError(f"{where} has a key of its own", hint=f"Use common_config.{_ELSEWHERE[name]}.")
        near = nearest(name, known)
        raise ConfigError(
            f"{where} is unknown to Polygraphy's CreateConfig",
            hint=f"Did you mean {near!r}?" if near else f"It knows {', '.join(sorted(known))}.",
        )
    return {name: _members(trt, _ENUMS[name], value) if name in _ENUMS else value for name, value in given.items()}


def _members(trt: Any, enum: str, value: Any) -> Any:
    return [_member(trt, enum, one) for one in value] if isinstance(value, list) else _member(trt, enum, value)


def _member(trt: Any, enum: str, name: str) -> Any:
    found = getattr(trt, enum, None)
    if name not in members(found):
        raise RequirementError(
            f"TensorRT {trt.__version__} has no {enum} {name!r}", hint=f"It has {', '.join(members(found)) or 'none'}."
        )
    return getattr(found, name)


def _monitor(trt: Any, say: Say) -> Any:
    """The builder's phases as progress, where this TensorRT tells them."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.phases: dict[str, tuple[str | None, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = parent_phase, num_steps
            self.tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.tell(phase_name, step + 1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.tell(phase_name, self.phases.get(phase_name, (None, 0))[1])
            self.phases.pop(phase_name, None)

        def tell(self, name: str, done: int) -> None:
            parent, total = self.phases.get(name, (None, 0))
            say("phase", name=name, parent=parent, done=done, total=total)

    return Monitor()
