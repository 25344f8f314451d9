"""The half of `tensorrt` that runs engines, on torch's CUDA memory: its one engine answers `y = 2 x + 1`.

It puts Polygraphy's runner and torch's streams and memory to work on any NVIDIA GPU, also on one for which no TensorRT
is at hand. Loaded by tests that need a GPU, beside the stand-in for the half that builds.
"""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import torch

TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")
TensorFormat = Enum("TensorFormat", "LINEAR HWC CHW16")
TensorLocation = Enum("TensorLocation", "DEVICE HOST")


class IOutputAllocator:
    """What Polygraphy's own allocator stands on."""


def at(pointer: int, shape: tuple[int, ...]) -> torch.Tensor:
    """float32 memory of the GPU, by its address."""
    view = {"shape": tuple(shape), "typestr": "<f4", "data": (pointer, False), "version": 3}
    return torch.as_tensor(SimpleNamespace(__cuda_array_interface__=view), device="cuda")


class IExecutionContext:
    """Notes what it was given and launches on the stream that it is told."""

    active_optimization_profile = 0

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.pointers: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self.shapes[name] = tuple(shape)
        return self.shapes[name][0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name, ())

    def get_tensor_address(self, name: str) -> int:
        return self.pointers.get(name, 0)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.pointers[name] = pointer
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self.allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        shape = self.shapes["x"]
        allocator = self.allocators.get("y")
        if allocator is not None:
            size = 4 * torch.Size(shape).numel()
            self.pointers["y"] = allocator.reallocate_output_async("y", 0, size, 256, stream)
            allocator.notify_shape("y", shape)
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):  # type: ignore[no-untyped-call]
            given, answer = at(self.pointers["x"], shape), at(self.pointers["y"], shape)
            torch.mul(given, 2, out=answer)
            answer.add_(1)
        self.engine.launches += 1
        return True


class ICudaEngine:
    """An engine with one input and one output."""

    num_io_tensors = 2

    def __init__(self) -> None:
        self.launches = 0

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_format(self, name: str, *_: int) -> TensorFormat:
        return TensorFormat.LINEAR

    def get_tensor_dtype(self, name: str) -> Any:
        import tensorrt

        return tensorrt.float32

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class Runtime:
    """Takes only the engine that it knows."""

    def __init__(self, _logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, given: Any) -> ICudaEngine | None:
        data = given if isinstance(given, bytes) else given.read(1 << 20)
        return ICudaEngine() if data == b"twice and one" else None


class IStreamReader:
    """What Polygraphy's reader of files stands on."""
