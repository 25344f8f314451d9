"""Stands in for the module `tensorrt` of 8.6, 10 or 11, none of which can be had here: it builds nothing.

It has the names that the real one has, as far as its headers and migration guides tell, parses the ONNX file with
onnx, and writes down what was set on it when a build was asked for. `STAND_IN_VERSION` chooses, `STAND_IN_RECORD` is
the file for the notes, `STAND_IN_FATE` how a build ends: well, or by a signal, an exit, garbage, or never,
`STAND_IN_DROPS` a flag that it takes and does not set.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx

__version__ = os.environ.get("STAND_IN_VERSION", "10.3.0")
MAJOR = int(__version__.partition(".")[0])
FATE = os.environ.get("STAND_IN_FATE", "")
DROPS = os.environ.get("STAND_IN_DROPS", "")


class Member(Enum):
    """Members that print and convert as those of the real enumerations do."""

    def __int__(self) -> int:
        return list(type(self)).index(self)

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def enum(name: str, words: str) -> Any:
    made: Any = Member
    return made(name, words.split())


WEAK = {8: "FP16 INT8 TF32", 10: "FP16 BF16 INT8 FP8 TF32"}
BuilderFlag = enum(
    "BuilderFlag",
    WEAK.get(MAJOR, "TF32")
    + " DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE SPARSE_WEIGHTS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME"
    + " DIRECT_IO PREFER_PRECISION_CONSTRAINTS",
)
NetworkDefinitionCreationFlag = enum(
    "NetworkDefinitionCreationFlag",
    {8: "EXPLICIT_BATCH EXPLICIT_PRECISION", 10: "EXPLICIT_BATCH STRONGLY_TYPED"}.get(MAJOR, "PREFER_AOT"),
)
DataType = enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64")
MemoryPoolType = enum("MemoryPoolType", "WORKSPACE DLA_MANAGED_SRAM DLA_LOCAL_DRAM DLA_GLOBAL_DRAM TACTIC_DRAM")
LayerType = enum("LayerType", "CONVOLUTION MATRIX_MULTIPLY QUANTIZE DEQUANTIZE ELEMENTWISE SHAPE")
HardwareCompatibilityLevel = enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")
ProfilingVerbosity = enum("ProfilingVerbosity", "NONE LAYER_NAMES_ONLY DETAILED")
DeviceType = enum("DeviceType", "GPU DLA")
float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32

TYPES = {
    1: DataType.FLOAT,
    10: DataType.HALF,
    3: DataType.INT8,
    16: DataType.BF16,
    7: DataType.INT64,
    6: DataType.INT32,
}
KINDS = {
    "Conv": LayerType.CONVOLUTION,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "QuantizeLinear": LayerType.QUANTIZE,
    "DequantizeLinear": LayerType.DEQUANTIZE,
}


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Logger(ILogger):
    def __init__(self, severity: int = 2) -> None:
        self.severity = severity


if MAJOR > 8:

    class IProgressMonitor:
        """Unknown to 8.6."""


class Tensor:
    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self.name, self.dtype, self.shape, self.is_shape_tensor = name, dtype, shape, False


class Layer:
    def __init__(self, node: onnx.NodeProto, dtype: Any) -> None:
        self.name, self.type, self.num_outputs = node.name, KINDS.get(node.op_type, LayerType.ELEMENTWISE), 1
        self.output = Tensor(node.output[0], dtype)

    def get_output(self, _: int) -> Tensor:
        return self.output


class Network:
    def __init__(self, flags: int) -> None:
        self.creation = [
            one.name for one in NetworkDefinitionCreationFlag if flags & 1 << int(one) and one.name != DROPS
        ]
        self.inputs: list[Tensor] = []
        self.layers: list[Layer] = []
        if MAJOR > 8:
            self.get_flag = lambda flag: flag.name in self.creation

    num_inputs = property(lambda self: len(self.inputs))
    num_layers = property(lambda self: len(self.layers))
    num_outputs = 0

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Any:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, _logger: Any) -> None:
        self.network = network

    def supports_operator(self, name: str) -> bool:
        return bool(onnx.defs.has(name))

    def parse_from_file(self, path: str) -> bool:
        graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
        values = (*graph.value_info, *graph.output, *graph.input)
        types = {one.name: TYPES.get(one.type.tensor_type.elem_type, DataType.FLOAT) for one in values}
        strong = MAJOR > 10 or "STRONGLY_TYPED" in self.network.creation
        for one in graph.input:
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in one.type.tensor_type.shape.dim)
            self.network.inputs.append(Tensor(one.name, types[one.name], shape))
        for node in graph.node:
            kept = types.get(node.output[0], DataType.FLOAT)
            self.network.layers.append(Layer(node, kept if strong else DataType.FLOAT))
        return True


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"+measured"

    def combine(self, other: TimingCache, ignore_mismatch: bool) -> bool:
        self.data = other.data
        return ignore_mismatch


class Config:
    num_optimization_profiles = 1
    default_device_type, DLA_core = DeviceType.GPU, -1

    def __init__(self) -> None:
        self.profiling_verbosity = ProfilingVerbosity.NONE
        self.flags = {"TF32"}
        self.pools: dict[str, int] = {}
        self.profiles: list[dict[str, Any]] = []
        self.cache = TimingCache(b"")

    def set_flag(self, flag: Any) -> None:
        self.flags |= {flag.name} - {DROPS}

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self.flags

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self.pools.get(pool.name, 0)

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, data: bytes) -> TimingCache:
        return TimingCache(data)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch

    def get_timing_cache(self) -> TimingCache:
        return self.cache


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.shapes[name] = [list(low), list(best), list(high)]

    def __bool__(self) -> bool:
        return True


class Builder:
    num_DLA_cores = 1

    def __init__(self, _logger: Any) -> None:
        pass

    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes:
        fated()
        plain = {name: value for name, value in vars(config).items() if isinstance(value, int | str | None)}
        note = {
            "creation": network.creation,
            "flags": sorted(config.flags),
            "pools": config.pools,
            "profiles": config.profiles,
            "cache": config.cache.data.decode(),
            "strongly": [str(layer.output.dtype) for layer in network.layers],
            **{name: str(value) for name, value in vars(config).items() if isinstance(value, Member)},
            **plain,
        }
        Path(os.environ["STAND_IN_RECORD"]).write_text(json.dumps(note), encoding="utf-8")
        return b"an engine of a stand-in"


def fated() -> None:
    """End as the environment says."""
    if FATE.startswith("SIG"):
        os.write(1, b"last words\n")
        os.kill(os.getpid(), signal.Signals[FATE])
    if FATE == "exit":
        os._exit(7)
    if FATE == "garbage":
        os.write(int(sys.argv[1]), b"nonsense\n")
    if FATE == "hang":
        Path(os.environ["STAND_IN_RECORD"]).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(60)


class Creator:
    name, plugin_version, plugin_namespace = "Custom", "1", "mine"


class Registry:
    """Has the one layer that the library of the tests brings, once that is loaded."""

    @property
    def plugin_creator_list(self) -> list[Creator]:
        return [Creator()] if hasattr(ctypes.CDLL(None), "stand_in_layer") else []


def get_plugin_registry() -> Registry:
    return Registry()


def init_libnvinfer_plugins(_logger: Any, _namespace: str) -> bool:
    return True


if os.environ.get("STAND_IN_RUNTIME"):
    runtime = import_module("runtime")
    globals().update({name: value for name, value in vars(runtime).items() if name[0].isupper()})
