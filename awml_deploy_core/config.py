"""The settings of a deployment, section by section, as users of the ecosystem know them.

A config file becomes a `Config` through `settings.settle`; a plugin's own `Config` subclasses it and adds fields. Every
field is described in its class's `Args`, from which the reference in the documentation and the JSON schema are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from attrs import field, frozen

__all__ = [
    "Backend",
    "BackendConfig",
    "BackendSettings",
    "CalibrationConfig",
    "CommonConfig",
    "ComponentConfig",
    "ComponentIO",
    "Config",
    "Devices",
    "EvaluationConfig",
    "ExportConfig",
    "Gate",
    "HandoverConfig",
    "KeepConfig",
    "ModelIO",
    "ModelInput",
    "OnnxConfig",
    "Precision",
    "Profile",
    "RuntimeIO",
    "Scenario",
    "TensorSpec",
    "VerificationConfig",
]

Mode = Literal["onnx", "trt", "both", "none"]
Precision = Literal["auto", "fp16", "fp32_tf32", "fp32", "bf16", "explicit_int8", "strongly_typed"]
Task = Literal["classification", "detection2d", "detection3d", "segmentation"]
Dtype = Literal["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]


class Backend(str, Enum):
    """What runs a model. Accepted wherever a config names a backend, also as a key."""

    PYTORCH = "pytorch"
    ONNX = "onnx"
    TENSORRT = "tensorrt"


# ---------------------------------------------------------------- rules for values

Rule = Callable[[Any, Any, Any], None]


def _each(check: Callable[[Any], str | None]) -> Rule:
    """An attrs validator from a function that answers what is wrong, passing over None."""

    def rule(_instance: Any, _attribute: Any, value: Any) -> None:
        wrong = None if value is None else check(value)
        if wrong:
            raise ValueError(wrong)

    return rule


def at_least(least: float) -> Rule:
    """A number that is not smaller, or a sequence or mapping of such numbers."""

    def check(value: Any) -> str | None:
        numbers = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else (value,)
        wrong = [n for n in numbers if isinstance(n, int | float) and not (isfinite(n) and n >= least)]
        return f"must be at least {least}, got {wrong[0]}" if wrong else None

    return _each(check)


def _level(value: int) -> str | None:
    return None if 0 <= value <= 5 else f"must be from 0 to 5, got {value}"


def _count_or_all(value: int) -> str | None:
    return None if value == -1 or value >= 1 else f"must be at least 1, or -1 for all, got {value}"


def _file_name(value: str) -> str | None:
    path = PurePosixPath(value)
    bad = not value or path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value
    return f"must be a file name inside the work directory, got {value!r}" if bad else None


def wrong_device(value: str) -> str | None:
    """What is wrong with the name of a device, or None."""
    return None if re.fullmatch(r"cpu|cuda(:\d+)?", value) else f"must be 'cpu', 'cuda' or 'cuda:N', got {value!r}"


def _shape(value: tuple[Any, ...]) -> str | None:
    bad = [size for size in value if isinstance(size, bool) or (isinstance(size, int) and size < 1 and size != -1)]
    return f"sizes must be at least 1 (or -1 for a dynamic one), got {bad[0]}" if bad else None


# ---------------------------------------------------------------- sections


@frozen(kw_only=True)
class Devices:
    """What the aliases `cpu` and `cuda` mean.

    Args:
        cpu: The processor; only `cpu` makes sense.
        cuda: The GPU that the alias `cuda` stands for, or None to do without one.
    """

    cpu: Literal["cpu"] = "cpu"
    cuda: str | None = field(default="cuda:0", validator=_each(wrong_device))


@frozen(kw_only=True)
class ExportConfig:
    """What is made, from which sample, and where it goes.

    Args:
        mode: `onnx` exports ONNX, `trt` builds engines from existing ONNX, `both` does the two, `none` makes nothing
            and verifies and evaluates what is there.
        work_dir: Folder for everything that a run writes.
        onnx_path: An existing ONNX file, or a folder of them, for the modes `trt` and `none`.
        sample_idx: Sample from which recording starts; wins over `runtime_io.sample_idx`.
        device: Device on which the network is run for the export.
    """

    mode: Mode = "both"
    work_dir: Path = Path("work_dirs")
    onnx_path: Path | None = None
    sample_idx: int | None = field(default=None, validator=at_least(0))
    device: str = field(default="cpu", validator=_each(wrong_device))


@frozen(kw_only=True)
class RuntimeIO:
    """Where the data lies.

    Args:
        info_file: Info file of the data set, for 3D and generic data.
        info_pkl: Info file of calibration data.
        ann_file: Annotation file of 2D data.
        img_prefix: Folder that image paths are relative to.
        data_root: Folder that all other paths of the data set are relative to.
        sample_idx: Sample from which recording starts.
    """

    info_file: Path | None = None
    info_pkl: Path | None = None
    ann_file: Path | None = None
    img_prefix: Path | None = None
    data_root: Path | None = None
    sample_idx: int = field(default=0, validator=at_least(0))


@frozen(kw_only=True)
class TensorSpec:
    """A tensor by name.

    Args:
        name: Name in the ONNX file.
        shape: Sizes without the batch; -1 or a name for a dynamic one; None leaves it to the plugin.
        dtype: Element type.
    """

    name: str
    shape: tuple[int | str, ...] | None = field(default=None, validator=_each(_shape))
    dtype: Dtype = "float32"


@frozen(kw_only=True)
class ModelIO:
    """Overrides of what the plugin says about a model with one graph. None leaves the plugin's word.

    Args:
        input_name: Name of the only input.
        input_names: Names of the inputs in order.
        input_shape: Sizes of the first input without the batch: (C, H, W).
        input_dtype: Element type of the first input.
        output_name: Name of the only output.
        output_names: Names of the outputs in order.
        head_output_names: Names of the outputs of a multi-head model, an older spelling of `output_names`.
        additional_inputs: Further inputs.
        additional_outputs: Names of further outputs.
        batch_size: A number fixes the batch in the file; None leaves it dynamic.
        dynamic_axes: Axis names by tensor and position: `{"input": {0: "batch_size"}}`.
    """

    input_name: str | None = None
    input_names: tuple[str, ...] | None = None
    input_shape: tuple[int, ...] | None = field(default=None, validator=_each(_shape))
    input_dtype: Dtype | None = None
    output_name: str | None = None
    output_names: tuple[str, ...] | None = None
    head_output_names: tuple[str, ...] | None = None
    additional_inputs: tuple[TensorSpec, ...] = ()
    additional_outputs: tuple[str, ...] = ()
    batch_size: int | None = field(default=None, validator=at_least(1))
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None


@frozen(kw_only=True)
class OnnxConfig:
    """How ONNX files are written.

    Args:
        opset_version: Opset of the file; what came out is checked against it.
        do_constant_folding: Compute constant parts of the graph at export.
        export_params: Store the weights in the file.
        keep_initializers_as_inputs: List the weights among the inputs, as old runtimes want.
        verbose: Put the exporter's own messages into the log.
        simplify: Simplify the graph and check that its numbers stay.
        save_file: File name for a model with one graph; by default the component's name.
        multi_file: True for a model with several graphs; the plugin knows, so this is only checked.
        decode_in_inference: Put the decoding of boxes into the graph, where the plugin can.
        exporter: `dynamo`, `torchscript`, or `auto`, which tries the former, checks the result and falls back.
        max_ir_version: Largest IR version that the receiving runtime reads.
        external_data: `inline` keeps the weights in the file, `external` puts them beside it into `.onnx.data`; `auto`
            keeps them as long as they fit.
    """

    opset_version: int = field(default=17, validator=at_least(7))
    do_constant_folding: bool = True
    export_params: bool = True
    keep_initializers_as_inputs: bool = False
    verbose: bool = False
    simplify: bool = True
    save_file: str | None = field(default=None, validator=_each(_file_name))
    multi_file: bool | None = None
    decode_in_inference: bool | None = None
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto"
    max_ir_version: int | None = field(default=None, validator=at_least(3))
    external_data: Literal["auto", "inline", "external"] = "auto"


@frozen(kw_only=True)
class Profile:
    """Sizes that an engine must take. What is left out comes from the plugin's axes and the recorded samples.

    Args:
        min_shape: Smallest shape.
        opt_shape: Shape to be fast at.
        max_shape: Largest shape.
    """

    min_shape: tuple[int, ...] | None = field(default=None, validator=at_least(0))
    opt_shape: tuple[int, ...] | None = field(default=None, validator=at_least(0))
    max_shape: tuple[int, ...] | None = field(default=None, validator=at_least(0))

    def __attrs_post_init__(self) -> None:
        shapes = [shape for shape in (self.min_shape, self.opt_shape, self.max_shape) if shape is not None]
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError("min_shape, opt_shape and max_shape must have the same number of sizes")
        for sizes in zip(*shapes, strict=True):
            if list(sizes) != sorted(sizes):
                raise ValueError(f"min_shape <= opt_shape <= max_shape must hold in every place, got {list(sizes)}")


@frozen(kw_only=True)
class ModelInput:
    """One optimisation profile.

    Args:
        input_shapes: Sizes by tensor.
    """

    input_shapes: Mapping[str, Profile] = field(factory=dict)


@frozen(kw_only=True)
class KeepConfig:
    """What stays in float32 when a graph is written in a narrower type.

    Args:
        nodes: Names of nodes.
        ops: Kinds of operators.
        outputs: Names of tensors; whoever makes one keeps its type.
    """

    nodes: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@frozen(kw_only=True)
class CalibrationConfig:
    """How `explicit_int8` finds the range of each tensor.

    Args:
        method: `minmax` takes the largest value, `percentile` leaves the rarest out, `entropy` loses least information.
        num_samples: How many samples for calibration to run, -1 for all.
        percentile: Per cent of the values that `percentile` keeps.
        per_channel: A scale for every output channel of a weight instead of one for all.
    """

    method: Literal["minmax", "percentile", "entropy"] = "minmax"
    num_samples: int = field(default=32, validator=_each(_count_or_all))
    percentile: float = field(default=99.99, validator=at_least(50))
    per_channel: bool = True


@frozen(kw_only=True)
class CommonConfig:
    """How TensorRT engines are built. `tensorrt_config` is another name of this section.

    Args:
        precision_policy: The precision that the engine must have, under one name for every TensorRT.
        max_workspace_size: Scratch memory in bytes that a layer may use.
        flavor: Which TensorRT: `tensorrt`, `tensorrt_rtx`, or whichever is installed.
        builder: `polygraphy` builds in Python, `trtexec` calls the program.
        plugin_libraries: Shared libraries with custom layers.
        timing_cache: Keep measured layer times between builds; a path says where.
        typing: `strong` writes precision into the graph, `weak` sets the builder's flag where it still exists.
        keep: What stays in float32 when the precision is written into the graph.
        calibration: How `explicit_int8` finds ranges.
        optimization_level: How long the builder may search, 0 to 5; None leaves it to TensorRT.
        memory_pools: Limits in bytes by the name of TensorRT's pool, beside the workspace.
        hardware_compatibility: Name of the level at which the engine runs on other GPUs.
        version_compatible: Let later TensorRTs load the engine.
        compute_capabilities: GPUs to build for, `SM86` say, where the TensorRT lets one choose.
        sparsity: Use sparse weights where they are.
        aux_streams: Largest number of streams beside the main one.
        dla_core: Run on this core of the deep-learning accelerator what can run there, the rest on the GPU.
        cuda_graphs: Record an engine's launches once for each set of sizes and replay them.
        extra: Options handed to Polygraphy's `CreateConfig`.
    """

    precision_policy: Precision = "auto"
    max_workspace_size: int = field(default=1 << 30, validator=at_least(1))
    flavor: Literal["auto", "tensorrt", "tensorrt_rtx"] = "auto"
    builder: Literal["polygraphy", "trtexec"] = "polygraphy"
    plugin_libraries: tuple[Path, ...] = ()
    timing_cache: bool | Path = True
    typing: Literal["strong", "weak"] = "strong"
    keep: KeepConfig = field(factory=KeepConfig)
    calibration: CalibrationConfig = field(factory=CalibrationConfig)
    optimization_level: int | None = field(default=None, validator=_each(_level))
    memory_pools: Mapping[str, int] = field(factory=dict, validator=at_least(1))
    hardware_compatibility: str | None = None
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()
    sparsity: bool = False
    aux_streams: int | None = field(default=None, validator=at_least(0))
    dla_core: int | None = field(default=None, validator=at_least(0))
    cuda_graphs: bool = False
    extra: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class BackendConfig:
    """TensorRT: how to build, and for which sizes.

    Args:
        common_config: How engines are built.
        model_inputs: Optimisation profiles.
    """

    common_config: CommonConfig = field(factory=CommonConfig)
    model_inputs: tuple[ModelInput, ...] = ()


@frozen(kw_only=True)
class ComponentIO:
    """Names and types of a component's tensors.

    Args:
        inputs: Inputs in order.
        outputs: Outputs in order.
        dynamic_axes: Axis names by tensor and position.
    """

    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None


@frozen(kw_only=True)
class ComponentConfig:
    """Overrides for one graph of the model, the newer form of `model_io` and `backend_config.model_inputs`.

    Args:
        name: Name for reports, by default the key of this section.
        onnx_file: Name of the ONNX file under `<work_dir>/onnx`.
        engine_file: Name of the engine under `<work_dir>/tensorrt`.
        io: Names, types and dynamic axes.
        tensorrt_profile: Sizes that the engine must take, by input.
        precision_policy: Precision of this component's engine, where it differs from the common one.
    """

    name: str | None = None
    onnx_file: str | None = field(default=None, validator=_each(_file_name))
    engine_file: str | None = field(default=None, validator=_each(_file_name))
    io: ComponentIO = field(factory=ComponentIO)
    tensorrt_profile: Mapping[str, Profile] = field(factory=dict)
    precision_policy: Precision | None = None


@frozen(kw_only=True)
class Scenario:
    """Two backends to hold against each other.

    Args:
        ref_backend: The side that counts as right.
        ref_device: Where it runs.
        test_backend: The side under test.
        test_device: Where that runs.
        tolerance: Tolerance of this scenario alone.
    """

    ref_backend: Backend
    ref_device: str = field(default="cpu", validator=_each(wrong_device))
    test_backend: Backend
    test_device: str = field(default="cpu", validator=_each(wrong_device))
    tolerance: float | None = field(default=None, validator=at_least(0))

    def __attrs_post_init__(self) -> None:
        for backend, device in ((self.ref_backend, self.ref_device), (self.test_backend, self.test_device)):
            if backend is Backend.TENSORRT and device == "cpu":
                raise ValueError("tensorrt does not run on 'cpu', name a CUDA device")


@frozen(kw_only=True)
class VerificationConfig:
    """Whether the artifacts say the same as the trained network.

    Args:
        enabled: Compare at all; an artifact of a run without it is marked unverified everywhere.
        required: Make a comparison that could not run as fatal as one that failed.
        num_verify_samples: How many samples to compare on.
        samples: Ids of the samples to compare on, instead of a number.
        tolerance: Largest absolute difference allowed; None takes the default for the element types.
        tolerances: Tolerances by output name, `component.output`, or pair of element types `float32/float16`.
        devices: What the device aliases mean here, if not the same as elsewhere.
        scenarios: Which backends are held against each other, by export mode; None follows the ladder.
    """

    enabled: bool = True
    required: bool = False
    num_verify_samples: int = field(default=3, validator=at_least(1))
    samples: tuple[str, ...] = ()
    tolerance: float | None = field(default=None, validator=at_least(0))
    tolerances: Mapping[str, float] = field(factory=dict, validator=at_least(0))
    devices: Devices | None = None
    scenarios: Mapping[Mode, tuple[Scenario, ...]] | None = None


@frozen(kw_only=True)
class BackendSettings:
    """One backend of the evaluation.

    Args:
        enabled: True demands it, `auto` takes it if this machine can, False leaves it out.
        required: Make its absence fatal.
        device: Where it runs.
        checkpoint: Weights, if not `checkpoint_path`.
        model_dir: ONNX file or folder, if not made in this run.
        engine_dir: Engine file or folder, if not made in this run.
    """

    enabled: bool | Literal["auto"] = "auto"
    required: bool = False
    device: str | None = field(default=None, validator=_each(wrong_device))
    checkpoint: Path | None = None
    model_dir: Path | None = None
    engine_dir: Path | None = None


@frozen(kw_only=True)
class Gate:
    """A limit for one metric; crossing it ends the run with code 7.

    Args:
        min: Smallest value allowed.
        max: Largest value allowed.
        max_drop: Largest loss allowed against the trained network, in the metric's own units.
    """

    min: float | None = None
    max: float | None = None
    max_drop: float | None = field(default=None, validator=at_least(0))


def _no_engine_on_cpu(backends: Mapping[Backend, BackendSettings]) -> str | None:
    engine = backends.get(Backend.TENSORRT)
    wrong = engine is not None and engine.enabled is not False and engine.device == "cpu"
    return "tensorrt does not run on 'cpu', name a CUDA device" if wrong else None


@frozen(kw_only=True)
class EvaluationConfig:
    """Accuracy and latency on every backend.

    Args:
        enabled: Evaluate at all.
        num_samples: How many samples, -1 for all.
        num_warmup: Samples run before the clock starts.
        verbose: Log every sample.
        batch_size: Samples handed to the pipeline at once, where it has `predict_batch`.
        workers: Processes that share the samples.
        max_failed_samples: Samples that may fail before the evaluation counts as failed.
        models: Existing artifacts by backend, the older form of `backends`.
        backends: Settings by backend; empty takes every variant that can run.
        num_pictures: How many samples the report shows as pictures, if the plugin draws any; 0 for none.
        gates: Limits by metric name.
    """

    enabled: bool = False
    num_samples: int = field(default=10, validator=_each(_count_or_all))
    num_warmup: int = field(default=3, validator=at_least(0))
    verbose: bool = False
    batch_size: int = field(default=1, validator=at_least(1))
    workers: int = field(default=1, validator=at_least(1))
    max_failed_samples: int = field(default=0, validator=at_least(0))
    models: Mapping[Backend, Path] = field(factory=dict)
    backends: Mapping[Backend, BackendSettings] = field(factory=dict, validator=_each(_no_engine_on_cpu))
    num_pictures: int = field(default=4, validator=at_least(0))
    gates: Mapping[str, Gate] = field(factory=dict)


@frozen(kw_only=True)
class HandoverConfig:
    """What the receiving side wants beside the artifacts, and what it would trip over.

    Args:
        targets: For whom; None takes `autoware` where the plugin has something for it.
        required: End the run with code 8 if the target would trip over something.
    """

    targets: tuple[Literal["autoware"], ...] | None = None
    required: bool = False


@frozen(kw_only=True)
class Config:
    """Everything that a deployment is told. A plugin subclasses it, adds fields and redefines none.

    Args:
        model: The model that this config is for; must agree with `--model` if both are given.
        task_type: What the model does, for metrics and pictures.
        checkpoint_path: The trained weights.
        model_config: The training project's own config, from which a plugin may read the architecture.
        class_names: Names of the classes in the order of the network's outputs.
        devices: What the device aliases mean.
        export: What is made and where it goes.
        runtime_io: Where the data lies.
        model_io: Overrides for a model with one graph.
        onnx_config: How ONNX files are written.
        backend_config: How TensorRT engines are built.
        components: Overrides by component, for any number of graphs.
        verification: Whether the artifacts say the same as the trained network.
        evaluation: Accuracy and latency on every backend.
        handover: Files for the receiving side, and what it would trip over.
        extensions: Settings of extensions by name.
        deploy_log_path: Log file, relative to the work directory; None for none.
        trust_checkpoint: Whether code in the checkpoint may run. No file can say so: it is set by `--trust-checkpoint`.
    """

    model: str | None = None
    task_type: Task | None = None
    checkpoint_path: Path | None = None
    model_config: Path | None = None
    class_names: tuple[str, ...] = ()
    devices: Devices = field(factory=Devices)
    export: ExportConfig = field(factory=ExportConfig)
    runtime_io: RuntimeIO = field(factory=RuntimeIO)
    model_io: ModelIO = field(factory=ModelIO)
    onnx_config: OnnxConfig = field(factory=OnnxConfig)
    backend_config: BackendConfig = field(factory=BackendConfig)
    components: Mapping[str, ComponentConfig] = field(factory=dict)
    verification: VerificationConfig = field(factory=VerificationConfig)
    evaluation: EvaluationConfig = field(factory=EvaluationConfig)
    handover: HandoverConfig = field(factory=HandoverConfig)
    extensions: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    deploy_log_path: Path | None = Path("deployment.log")
    trust_checkpoint: bool = False
