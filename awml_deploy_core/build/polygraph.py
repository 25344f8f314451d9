"""Building through Polygraphy, inside the process that imports TensorRT."""

from __future__ import annotations

import inspect
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from awml_deploy_core.errors import ArtifactError, BuildError, ConfigError, DeployError, RequirementError, nearest

__all__ = ["build", "probe"]

Say = Callable[..., None]

_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY")
_FAULT = re.compile(r"In node (-?\d+) with name: (.*?) and operator: (\S+) \((\w+)\): (\w+): (.*)", re.DOTALL)
_OWN = ("self", "network", "builder", "tf32", "fp16", "int8", "fp8", "bf16", "profiles", "progress_monitor")
"""Arguments of Polygraphy's `CreateConfig` that have keys of their own here, or must not be set behind the policy."""


def tensorrt(name: str) -> Any:
    """The module of a TensorRT.

    Raises:
        RequirementError: It cannot be imported.
    """
    try:
        if name == "tensorrt_rtx":
            import tensorrt_rtx as module
        else:
            import tensorrt as module
    except Exception as error:
        raise RequirementError(
            f"the package {name} is installed and cannot be imported: {type(error).__name__}: {error}",
            hint="Its version must fit this Python and its own libraries; reinstall it.",
        ) from error
    return module


def members(enum: Any) -> tuple[str, ...]:
    """The names of an enumeration; there is none where this TensorRT lacks it."""
    return tuple(enum.__members__) if hasattr(enum, "__members__") else ()


def probe(request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """What a TensorRT can do, by the names that it knows."""
    del say
    trt = tensorrt(request["flavor"])
    return {
        "version": trt.__version__,
        "builder_flags": members(trt.BuilderFlag),
        "network_flags": members(trt.NetworkDefinitionCreationFlag),
        "dtypes": members(trt.DataType),
    }


# ---------------------------------------------------------------- building


def build(request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Parse, configure, build, write; answer what the receipt is read from.

    Raises:
        BuildError: What the parser or the builder gave as its reason.
    """
    trt = tensorrt(request["flavor"])
    from polygraphy.backend import trt as poly

    with _listening() as heard:
        libraries = _libraries(trt, request["plugin_libraries"])
        _known(trt, request)
        say("phase", name="parse", done=0, total=0)
        with _explained(request, heard, "parses"):
            loaded = poly.NetworkFromOnnxPath(request["onnx"], strongly_typed=request["strong"] or None)()
        network = loaded[1]
        configured: list[Any] = []

        def configure(builder: Any, network: Any) -> Any:
            configured.append(_config(trt, poly, request, say)(builder, network))
            _limits(trt, configured[0], request)
            return configured[0]

        started = time.monotonic()
        with _explained(request, heard, "builds"):
            cache = request["timing_cache"]
            plan = bytes(poly.EngineBytesFromNetwork(loaded, config=configure, save_timing_cache=cache)())
        seconds = time.monotonic() - started
        facts = _facts(trt, network, configured[0], request)
    _write(Path(request["engine"]), plan)
    return {"seconds": seconds, "size": len(plan), "version": trt.__version__, "facts": facts, "libraries": libraries}


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What TensorRT says, through Polygraphy's logger; its exceptions say only that something went wrong."""
    from polygraphy.logger import G_LOGGER

    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            print(text, flush=True)  # noqa: T201  into the log of the build
            if record.levelno >= logging.ERROR:
                heard.append(re.sub(r"^\[.\]\s*", "", text).strip())

    G_LOGGER.use_python_logging_system = True
    logger, ear = logging.getLogger("Polygraphy"), Ear()
    logger.addHandler(ear)
    logger.setLevel(1)
    logger.propagate = False
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


@contextmanager
def _explained(request: Mapping[str, Any], heard: Sequence[str], verb: str) -> Iterator[None]:
    """Turn what TensorRT raises into its own reason."""
    try:
        yield
    except DeployError:
        raise
    except Exception as error:
        where = f"component {request['component']}: {request['onnx']}"
        faults = [found for text in heard if (found := _FAULT.search(text))]
        if faults:
            node = int(faults[0][1])
            raise BuildError(
                f"{where}: TensorRT's parser refuses node {faults[0][2] or node!r} "
                f"({_operator(request, node, faults[0][3])}): {faults[0][5]}: {' '.join(faults[0][6].split())}",
                hint=_remedy(faults[0][5]),
            ) from error
        reasons = dict.fromkeys(text for text in heard if not text.startswith(("Could not parse", "Invalid Engine")))
        reason = "; ".join(list(reasons)[-3:]) or f"{type(error).__name__}: {error}"
        if "Failed to parse the ONNX model" in reason:
            raise ArtifactError(f"{where} is no ONNX file, or cut short", hint="Export it again.") from error
        raise BuildError(f"{where}: TensorRT {verb} it not: {' '.join(reason.split())}") from error


def _remedy(code: str) -> str:
    if code == "INVALID_NODE":
        return "If a library has this operator, name it in backend_config.common_config.plugin_libraries."
    if code.startswith("UNSUPPORTED"):
        return "Write the network without this operator, or try another onnx_config.opset_version."
    return "The log of the build beside the engine has all that TensorRT said."


def _operator(request: Mapping[str, Any], index: int, operator: str) -> str:
    """The operator with its domain."""
    nodes = _graph(request).node
    domain = nodes[index].domain if 0 <= index < len(nodes) and nodes[index].op_type == operator else ""
    return f"{domain}::{operator}" if domain else operator


def _graph(request: Mapping[str, Any]) -> Any:
    import onnx

    return onnx.load(request["onnx"], load_external_data=False).graph


def _known(trt: Any, request: Mapping[str, Any]) -> None:
    """Ask the parser about every operator before a long build.

    Raises:
        BuildError: Naming the nodes whose operators it does not know.
        ArtifactError: The file is no ONNX, or lacks its weights.
    """
    import onnx

    path = Path(request["onnx"])
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ArtifactError(
            f"component {request['component']}: {path} is no ONNX file, or cut short", hint="Export it again."
        ) from error
    beside = {entry.value for one in model.graph.initializer for entry in one.external_data if entry.key == "location"}
    absent = sorted(name for name in beside if not (path.parent / name).is_file())
    if absent:
        raise ArtifactError(
            f"component {request['component']}: {path} keeps its weights in {', '.join(absent)}, which is not there",
            hint="Copy both files together, or export with onnx_config.external_data = 'inline'.",
        )
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parser = trt.OnnxParser(builder.create_network(0), logger)
    own = {function.name for function in model.functions}
    unknown = [n for n in model.graph.node if n.op_type not in own and not parser.supports_operator(n.op_type)]
    if unknown:
        kinds = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in unknown)
        named = ", ".join(f"{kind} ({count} node{'s' * (count > 1)})" for kind, count in kinds.items())
        first = unknown[0].name or "its first one"
        raise BuildError(
            f"component {request['component']}: {path}: TensorRT {trt.__version__} has no operator {named}; {first}",
            hint=_remedy("INVALID_NODE" if any(node.domain for node in unknown) else "UNSUPPORTED"),
        )


# ---------------------------------------------------------------- configuring


def _config(trt: Any, poly: Any, request: Mapping[str, Any], say: Say) -> Any:
    """Polygraphy's configuration for what was asked."""
    flags = set(request["flags"])
    wanted: dict[str, Any] = {
        "tf32": "TF32" in flags,
        "memory_pool_limits": {trt.MemoryPoolType.WORKSPACE: request["workspace"]},
        "profiles": _profiles(poly, request["profiles"]),
        "load_timing_cache": request["timing_cache"] if _is_file(request["timing_cache"]) else None,
        "progress_monitor": _monitor(trt, say),
        **{name.lower(): True for name in ("FP16", "BF16", "INT8") if name in flags},
        **request["options"],
        **_extra(poly, request["extra"]),
    }
    levels = request.get("hardware")
    if levels:
        wanted["hardware_compatibility_level"] = _member(trt, "HardwareCompatibilityLevel", levels)
    return poly.CreateConfig(**{name: value for name, value in wanted.items() if value is not None})


def _is_file(path: str | None) -> bool:
    return path is not None and Path(path).is_file()


def _profiles(poly: Any, given: Sequence[Mapping[str, Mapping[str, Sequence[int]]]]) -> list[Any] | None:
    made = []
    for profile in given:
        made.append(poly.Profile())
        for name, shapes in profile.items():
            made[-1].add(name, tuple(shapes["min"]), tuple(shapes["opt"]), tuple(shapes["max"]))
    return made or None


def _extra(poly: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the config hands to Polygraphy unseen.

    Raises:
        ConfigError: Polygraphy knows no such argument, or it has a key of its own.
    """
    known = {
        name
        for kind in poly.CreateConfig.__mro__
        for name in inspect.signature(kind.__init__).parameters
        if kind is not object
    } - {"args", "kwargs"}
    for name in given:
        if name in _OWN or name not in known:
            near = nearest(name, known.difference(_OWN))
            fact = "has a key of its own" if name in _OWN else "is unknown to Polygraphy's CreateConfig"
            raise ConfigError(
                f"backend_config.common_config.extra.{name} {fact}",
                hint=f"Did you mean {near!r}?" if near else f"There are {', '.join(sorted(known.difference(_OWN)))}.",
            )
    return dict(given)


def _member(trt: Any, enum: str, name: str) -> Any:
    found = getattr(trt, enum, None)
    if found is None or name not in members(found):
        raise RequirementError(
            f"this TensorRT has no {enum} {name!r}", hint=f"It has {', '.join(members(found)) or 'none'}."
        )
    return getattr(found, name)


def _limits(trt: Any, config: Any, request: Mapping[str, Any]) -> None:
    """What Polygraphy has no word for."""
    for name, size in request.get("memory_pools", {}).items():
        config.set_memory_pool_limit(_member(trt, "MemoryPoolType", name), size)
    if request.get("dla_core") is not None:
        config.DLA_core = request["dla_core"]
    for name in request.get("compute_capabilities", ()):
        if not hasattr(config, "set_compute_capability"):
            raise RequirementError("this TensorRT builds for the GPU at hand alone, not for a named capability")
        index = list(request["compute_capabilities"]).index(name)
        config.num_compute_capabilities = max(config.num_compute_capabilities, index + 1)
        config.set_compute_capability(_member(trt, "ComputeCapability", name), index)


def _monitor(trt: Any, say: Say) -> Any:
    """The builder's phases as progress, where this TensorRT tells them."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            say("phase", name=phase_name, parent=parent_phase, done=0, total=num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            say("phase", name=phase_name, done=step + 1, total=self.steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            total = self.steps.pop(phase_name, 0)
            say("phase", name=phase_name, done=total, total=total)

    return Monitor()


def _libraries(trt: Any, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Load libraries with custom layers, and say which layers each brought.

    Raises:
        RequirementError: One cannot be loaded.
    """
    import ctypes

    loaded = []
    known = _creators(trt)
    for path in paths:
        try:
            ctypes.CDLL(str(Path(path).absolute()), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise RequirementError(
                f"plugin library {path} cannot be loaded: {error}",
                hint="It must be built for this machine and this TensorRT.",
            ) from error
        now = _creators(trt)
        loaded.append({"path": path, "creators": sorted(now - known)})
        known = now
    return loaded


def _creators(trt: Any) -> set[str]:
    registry = trt.get_plugin_registry() if hasattr(trt, "get_plugin_registry") else None
    if registry is None:
        return set()
    listed = getattr(registry, "all_creators", None) or getattr(registry, "plugin_creator_list", None) or ()
    return {f"{one.plugin_namespace}::{one.name} {one.plugin_version}".removeprefix("::") for one in listed}


# ---------------------------------------------------------------- what the receipt is read from


def _facts(trt: Any, network: Any, config: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    compute = [layer for layer in layers if _kind(layer) in _COMPUTE and layer.num_outputs]
    graph = _graph(request)
    return {
        "strong": _is_strong(trt, network, request),
        "flags": [name for name in members(trt.BuilderFlag) if config.get_flag(getattr(trt.BuilderFlag, name))],
        "tensors": dict(_dtypes(network, layers)),
        "compute": [{"name": layer.name, "dtype": _dtype(layer.get_output(0))} for layer in compute],
        "quantized": sum(_kind(layer) == "QUANTIZE" for layer in layers),
        "graph_quantized": sum(node.op_type == "QuantizeLinear" for node in graph.node),
        **_of_graph(request),
    }


def _is_strong(trt: Any, network: Any, request: Mapping[str, Any]) -> bool:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is not None and hasattr(network, "get_flag"):
        return bool(network.get_flag(flag)) or "FP16" not in members(trt.BuilderFlag)
    return bool(request["strong"])


def _kind(layer: Any) -> str:
    return str(layer.type).rpartition(".")[2]


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).rpartition(".")[2]


def _dtypes(network: Any, layers: Sequence[Any]) -> Counter[str]:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [layer.get_output(index) for layer in layers for index in range(layer.num_outputs)]
    return Counter(_dtype(tensor) for tensor in (*inputs, *outputs) if tensor is not None)


_ONNX = {1: "FLOAT", 10: "HALF", 16: "BF16", 3: "INT8", 2: "UINT8", 17: "FP8", 19: "FP8", 22: "INT4", 23: "FP4"}


def _of_graph(request: Mapping[str, Any]) -> dict[str, Any]:
    """Types of the tensors in the file, and how many bytes its weights have of each."""
    import onnx

    model = onnx.load(request["onnx"], load_external_data=False)
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        inferred = model.graph  # what cannot be inferred is not counted
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    kinds = [value.type.tensor_type.elem_type for value in values]
    kinds += [tensor.data_type for tensor in model.graph.initializer]
    weights: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        weights[onnx.TensorProto.DataType.Name(tensor.data_type)] += prod(tensor.dims) * size
    return {"graph_tensors": dict(Counter(_ONNX[kind] for kind in kinds if kind in _ONNX)), "weights": dict(weights)}


def _write(path: Path, plan: bytes) -> None:
    """Write the plan under its temporary name.

    Raises:
        RequirementError: The disk does not take it.
    """
    try:
        path.write_bytes(plan)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RequirementError(
            f"{path} cannot be written: {error.strerror}", hint="Free space, or choose another work_dir."
        ) from error
