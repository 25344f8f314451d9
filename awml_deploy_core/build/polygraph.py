"""Building through Polygraphy, inside the process that imports TensorRT."""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awml_deploy_core.build import cache, graph, machine
from awml_deploy_core.build.configure import configuration, limit, members
from awml_deploy_core.build.listen import explained, listening, remedy
from awml_deploy_core.errors import BuildError, RequirementError
from awml_deploy_core.files import sha256_file, write_whole

if TYPE_CHECKING:
    import onnx

__all__ = ["build", "probe", "tensorrt"]

Say = Callable[..., None]

_COMPUTE = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY", "EINSUM")


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
        # The registry's packages import without the library when NVIDIA's index could not be reached.
        module.BuilderFlag, module.__version__  # noqa: B018
    except Exception as error:
        raise RequirementError(
            f"the package {name} is installed and cannot be imported: {type(error).__name__}: {error}",
            hint="Its version must fit this Python and its own libraries; reinstall it.",
        ) from error
    return module


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


def build(request: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Parse, configure, build, write; answer what the receipt is read from.

    Raises:
        BuildError: What the parser or the builder gave as its reason.
    """
    component, path = request["component"], Path(request["onnx"])
    model = graph.read(component, path)
    filed = graph.facts(model)
    graph.require_opset(component, path, model)
    graph.require_policy(component, path, request["policy"], filed)
    graph.require_profiles(component, model, request["profiles"])
    trt = tensorrt(request["flavor"])
    from polygraphy.backend import trt as poly

    where, configured = f"component {component}: {path}", []

    def operator(index: int, kind: str) -> str:
        nodes = model.graph.node
        return graph.domain_of(nodes[index]) if 0 <= index < len(nodes) and nodes[index].op_type == kind else kind

    def configure(builder: Any, network: Any) -> Any:
        config = configuration(trt, poly, request, say)(builder, network)
        limit(trt, config, request)
        configured.append(config)
        return config

    with listening() as heard:
        libraries = _libraries(trt, request["plugin_libraries"])
        _require_operators(trt, where, model)
        say("phase", name="parse", parent=None, done=0, total=1)
        with explained(where, heard, "parse", operator):
            loaded = poly.NetworkFromOnnxPath(str(path), strongly_typed=_strongly(trt, request))()
        started = time.monotonic()
        with explained(where, heard, "build", operator):
            plan = bytes(poly.EngineBytesFromNetwork(loaded, config=configure)())
        seconds = time.monotonic() - started
        kept = cache.keep(configured[0], request["timing_cache"], request["flavor"])
        facts = {**_facts(trt, loaded[1], configured[0], request), **filed}
    write_whole(request["engine"], plan)
    return {
        "seconds": seconds,
        "size": len(plan),
        "version": trt.__version__,
        "facts": facts,
        "libraries": libraries,
        "timing_cache": kept,
        "gpu": next((f"{gpu.name} ({gpu.capability})" for gpu in machine.gpus()), None),
        "driver": machine.driver(),
    }


def _strongly(trt: Any, request: Mapping[str, Any]) -> bool | None:
    """Whether to ask for strong typing; where it is the only one there may be no flag for it."""
    return True if request["strong"] and "STRONGLY_TYPED" in members(trt.NetworkDefinitionCreationFlag) else None


def _require_operators(trt: Any, where: str, model: onnx.ModelProto) -> None:
    """Ask about every operator before a long build.

    Raises:
        BuildError: Naming those that neither the parser nor a plugin has.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parser = trt.OnnxParser(builder.create_network(0), logger)
    plugins = {one.rpartition("::")[2].split()[0] for one in _creators(trt)}
    unknown = [
        node
        for node in graph.operators(model)
        if node.op_type not in plugins and (graph.is_disguised(node) or not parser.supports_operator(node.op_type))
    ]
    if not unknown:
        return
    first: dict[str, str] = {}
    for node in reversed(unknown):
        first[graph.domain_of(node)] = node.name or (node.output[0] if node.output else "")
    counts = Counter(map(graph.domain_of, unknown))
    named = ", ".join(
        f"{kind} ({count} node{'s' * (count > 1)}, first {first[kind]!r})" for kind, count in counts.items()
    )
    foreign = any("::" in kind for kind in counts)
    raise BuildError(
        f"{where}: TensorRT {trt.__version__} has no operator {named}",
        hint=remedy("FOREIGN" if foreign else "UNSUPPORTED"),
    )


def _libraries(trt: Any, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Load libraries with custom layers, and say which layers each brought.

    Raises:
        RequirementError: One cannot be loaded.
    """
    loaded = []
    for path in paths:
        before, whole = _creators(trt), Path(path).absolute()
        try:
            ctypes.CDLL(str(whole), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise RequirementError(
                f"plugin library {path} cannot be loaded: {error}" if whole.is_file() else f"there is no {path}",
                hint="backend_config.common_config.plugin_libraries: it must be built for this machine and TensorRT.",
            ) from error
        brought = sorted(_creators(trt) - before)
        loaded.append({"path": str(path), "sha256": sha256_file(whole), "creators": brought})
    return loaded


def _creators(trt: Any) -> set[str]:
    registry = trt.get_plugin_registry() if hasattr(trt, "get_plugin_registry") else None
    listed = getattr(registry, "all_creators", None) or getattr(registry, "plugin_creator_list", None) or ()
    return {f"{one.plugin_namespace}::{one.name} {one.plugin_version}".removeprefix("::") for one in listed}


# ---------------------------------------------------------------- what the receipt is read from


def _facts(trt: Any, network: Any, config: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    compute = [layer for layer in layers if _last(layer.type) in _COMPUTE and layer.num_outputs]
    capabilities = range(getattr(config, "num_compute_capabilities", 0))
    return {
        "strong": _is_strong(trt, network, request),
        "flags": [name for name in members(trt.BuilderFlag) if config.get_flag(getattr(trt.BuilderFlag, name))],
        "tensors": dict(_dtypes(network, layers)),
        "compute": [{"name": layer.name, "dtype": _last(layer.get_output(0).dtype)} for layer in compute],
        "quantized": sum(_last(layer.type) == "QUANTIZE" for layer in layers),
        "dequantized": sum(_last(layer.type) == "DEQUANTIZE" for layer in layers),
        "capabilities": [_last(config.get_compute_capability(index)) for index in capabilities],
    }


def _is_strong(trt: Any, network: Any, request: Mapping[str, Any]) -> bool:
    """Asked of the network itself; one that has no word for it is weak where weak flags exist, else strong."""
    if "FP16" not in members(trt.BuilderFlag):
        return True
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    if flag is None:
        return False
    return bool(network.get_flag(flag)) if hasattr(network, "get_flag") else bool(request["strong"])


def _last(member: Any) -> str:
    return str(member).rpartition(".")[2]


def _dtypes(network: Any, layers: Sequence[Any]) -> Counter[str]:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [layer.get_output(index) for layer in layers for index in range(layer.num_outputs)]
    return Counter(_last(tensor.dtype) for tensor in (*inputs, *outputs) if tensor is not None)
