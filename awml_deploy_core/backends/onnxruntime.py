"""ONNX Runtime behind `run`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime as ort
import torch
import torch.utils.dlpack

from awml_deploy_core.backends.runner import Session
from awml_deploy_core.errors import ArtifactError, ForeignError, RequirementError

if TYPE_CHECKING:
    from awml_deploy_core.backends import Device
    from awml_deploy_core.backends.fit import Limits, Tensors
    from awml_deploy_core.records import Artifact, Component, Variant

__all__ = ["foreign", "open_file", "open_session", "run_file"]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_ONNX_NAME = {"float32": "float", "float64": "double"}


def open_session(variant: Variant, component: Component, device: Device, threads: int | None) -> Session:
    """Make the ONNX file of a component ready to run.

    Raises:
        ArtifactError: If there is no file, or it is broken or not what the component describes.
        RequirementError: If ONNX Runtime cannot run on the device.
    """
    artifact = _artifact(variant, component)
    session = open_file(str(artifact.path), device, threads, component.name)
    accepts = _compare(session, component, artifact)
    # The only reference to the session, so that closing frees it whoever still holds the call.
    held = [session]
    return Session(
        provider=session.get_providers()[0],
        call=lambda inputs: run_file(held[0], device, inputs, f"component {component.name}: {artifact.path}"),
        accepts=accepts,
        close=held.clear,
    )


def open_file(path: str, device: Device, threads: int | None, name: str) -> Any:
    """Open a session on exactly one device, with no other to fall back to.

    ONNX Runtime itself warns and takes the CPU when it cannot have the provider that it was asked for.

    Raises:
        ArtifactError: If the file cannot be loaded.
        RequirementError: If the provider is not there or gave way to another.
    """
    provider = require_provider(device, f"component {name}")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters is raised; the rest would break into the progress
    options.intra_op_num_threads = threads or 0
    # TF32 is on by default and would make an FP32 graph fifty times coarser than it is.
    where = {"device_id": str(device.index), "use_tf32": "0"} if device.kind == "cuda" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session = ort.InferenceSession(path, options, providers=[(provider, where)])
    except _faults() as error:
        _require_known(path, name)
        if isinstance(error, ort.capi.onnxruntime_pybind11_state.NotImplemented):
            raise ForeignError(
                f"component {name}: ONNX Runtime cannot run {path} on {device}: {_reason(error)}",
                hint="Only the engine can show what this precision costs; on the CPU there is no bfloat16.",
            ) from error
        raise ArtifactError(
            f"component {name}: {path} cannot be loaded: {_reason(error)}",
            hint="Was it copied in part, or without its .data file? Export it again.",
        ) from error
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise RequirementError(
            f"component {name}: {provider} was asked for, but {session.get_providers()[0]} runs {path}",
            hint="CUDA, cuDNN and onnxruntime-gpu must fit each other; see ONNX Runtime's table of versions.",
        )
    return session


def foreign(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that only a runtime with extra libraries can run."""
    ours = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"} | {function.domain for function in model.functions}
    return [node for node in model.graph.node if node.domain not in ours]


def _require_known(path: str, name: str) -> None:
    """Refuse a graph with operators of another runtime, a TensorRT plugin say, as what it is.

    Raises:
        ForeignError: Naming the operators.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # noqa: BLE001  a file that is no ONNX is reported by the caller
        return
    kinds = sorted({f"{node.domain}::{node.op_type}" for node in foreign(model)})
    if kinds:
        raise ForeignError(
            f"component {name}: {path} has operators that ONNX Runtime lacks: {', '.join(kinds)}",
            hint="It runs only where these are; verify the same model without them, too.",
        )


def require_provider(device: Device, name: str) -> str:
    """The provider for a device.

    Raises:
        RequirementError: If this ONNX Runtime was built without it.
    """
    provider = PROVIDERS[device.kind]
    if provider not in ort.get_available_providers():
        raise RequirementError(
            f"{name}: ONNX Runtime {ort.__version__} has no {provider} for {device}",
            hint="Install onnxruntime-gpu instead of onnxruntime, or choose the device cpu.",
        )
    return provider


def run_file(session: Any, device: Device, inputs: Tensors, name: str) -> Tensors:
    """Run a session; the answer lives where the inputs live and belongs to the caller.

    Raises:
        ArtifactError: If the graph fails, naming what `name` names.
    """
    half = "tensor(bfloat16)" in {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    try:
        return _run_bound(session, device, inputs) if half or device.kind == "cuda" else _run(session, inputs)
    except _faults() as error:
        raise ArtifactError(
            f"{name} fails to run: {_reason(error)}",
            hint="Is a size traced into the graph? Export it again with the present network.",
        ) from error


def _artifact(variant: Variant, component: Component) -> Artifact:
    found = [artifact for artifact in variant.artifacts if artifact.component == component.name]
    if not found:
        raise ArtifactError(f"variant {variant.name}: there is no ONNX file for component {component.name}")
    path = found[0].path
    if not path.is_file():
        raise ArtifactError(f"component {component.name}: {path} does not exist", hint="Export it first.")
    if path.stat().st_size != found[0].size:
        raise ArtifactError(
            f"component {component.name}: {path} has {path.stat().st_size} bytes, it had {found[0].size} when made",
            hint="It was cut short or overwritten. Export it again.",
        )
    return found[0]


def _compare(session: Any, component: Component, artifact: Artifact) -> Limits:
    """Hold the file against the component; answer the sizes of axes that the file fixes."""
    inputs = {value.name: value for value in session.get_inputs()}
    for kind, there, declared in (
        ("inputs", set(inputs), component.inputs),
        ("outputs", {value.name for value in session.get_outputs()}, component.outputs),
    ):
        wanted = {tensor.name for tensor in declared}
        # An output too many is for verification to report; anything else cannot be run at all.
        if wanted - there or (kind == "inputs" and there - wanted):
            _differs(component, artifact, f"has the {kind} {_list(there)}, the component {_list(wanted)}")
    fixed: dict[str, tuple[int, int | None]] = {}
    for tensor in component.inputs:
        value = inputs[tensor.name]
        dtype = f"tensor({_ONNX_NAME.get(tensor.dtype, tensor.dtype)})"
        same = len(value.shape) == len(tensor.shape) and all(
            isinstance(want, str) or not isinstance(size, int) or want == size
            for want, size in zip(tensor.shape, value.shape, strict=True)
        )
        if value.type != dtype or not same:
            got = f"{value.type} {value.shape}"
            _differs(
                component, artifact, f"takes {tensor.name} as {got}, the component as {dtype} {list(tensor.shape)}"
            )
        for name, size in zip(tensor.shape, value.shape, strict=True):
            if isinstance(name, str) and isinstance(size, int):
                fixed[name] = (size, size)
    return fixed


def _differs(component: Component, artifact: Artifact, fact: str) -> None:
    raise ArtifactError(
        f"component {component.name}: {artifact.path} {fact}",
        hint="The file belongs to another model or to other settings. Export it again.",
    )


def _run(session: Any, inputs: Tensors) -> Tensors:
    names = [value.name for value in session.get_outputs()]
    arrays = session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
    return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}


def _run_bound(session: Any, device: Device, inputs: Tensors) -> Tensors:
    """Run where the tensors live, so that nothing crosses to the host.

    On the CPU binding costs more than it saves; there it serves bfloat16, for which numpy has no type.
    """
    binding = session.io_binding()
    held = {name: tensor.contiguous() for name, tensor in inputs.items()}
    for name, tensor in held.items():
        # A null pointer, which torch gives for an empty tensor, would be refused.
        pointer = tensor.data_ptr() or torch.empty(1, device=tensor.device).data_ptr()
        binding.bind_input(name, device.kind, device.index, _element(tensor.dtype), list(tensor.shape), pointer)
    names = [value.name for value in session.get_outputs()]
    for name in names:
        binding.bind_output(name, device.kind, device.index)
    if device.kind == "cuda":
        # ONNX Runtime works on a stream of its own: what torch still computes must be there before it starts.
        torch.cuda.current_stream(device.index).synchronize()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return {
        value.name: _torch(answer) for value, answer in zip(session.get_outputs(), binding.get_outputs(), strict=True)
    }


def _torch(value: Any) -> torch.Tensor:
    # Before 1.26 only the value inside the wrapper speaks dlpack, and Python 3.10 gets nothing newer than 1.23.
    speaks = value if hasattr(value, "__dlpack__") else value._ortvalue  # noqa: SLF001
    tensor = torch.utils.dlpack.from_dlpack(speaks)
    # dlpack had no booleans for long: they arrive as bytes.
    return tensor.view(torch.bool) if value.data_type() == "tensor(bool)" and tensor.dtype != torch.bool else tensor


def _element(dtype: torch.dtype) -> int:
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        return int(onnx.TensorProto.BFLOAT16)
    return int(onnx.helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=dtype).numpy().dtype))


def _faults() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its own classes share no parent."""
    state = ort.capi.onnxruntime_pybind11_state
    names = (
        "EPFail Fail InvalidArgument InvalidGraph InvalidProtobuf NoModel NoSuchFile NotImplemented RuntimeException"
    )
    return tuple(getattr(state, name) for name in names.split())


def _reason(error: Exception) -> str:
    """ONNX Runtime's message without its number and code."""
    return str(error).split(" : ", 3)[-1].strip().splitlines()[0]


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
