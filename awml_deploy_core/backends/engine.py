"""An engine in memory: Polygraphy's runner, torch's memory, and CUDA graphs where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from awml_deploy_core.backends.fit import Tensors
from awml_deploy_core.errors import ArtifactError, RequirementError

if TYPE_CHECKING:
    from awml_deploy_core.records import Component

__all__ = ["Loaded"]


@frozen(kw_only=True, eq=False)
class _Recorded:
    """The launches of one set of sizes, with the memory that they read and write."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensors
    outputs: Tensors


def _memory(trt: Any, engine: Any, where: torch.device) -> Any:
    """Where TensorRT puts its answers, in place of Polygraphy's own.

    That one writes the content of the memory into a log message whenever it hands some out, which copies it to the host
    in every run.
    """
    from polygraphy.datatype import DataType

    class Memory(trt.IOutputAllocator):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.kept: Tensors = {}
            self.buffers: Tensors = {}
            self.shapes: dict[str, tuple[int, ...]] = {}

        def reallocate_output(self, tensor_name: str, _memory: int, size: int, _alignment: int) -> int:
            if tensor_name not in self.kept or self.kept[tensor_name].numel() < max(size, 1):
                self.kept[tensor_name] = torch.empty(max(size, 1), dtype=torch.uint8, device=where)
            return self.kept[tensor_name].data_ptr()

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, _stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            # What was asked for may be more than what is written, and after a smaller run is.
            dtype = DataType.from_dtype(engine.get_tensor_dtype(tensor_name), "tensorrt")
            self.buffers[tensor_name] = self.kept[tensor_name][: torch.Size(shape).numel() * dtype.itemsize]
            self.shapes[tensor_name] = tuple(shape)

        def set_use_torch(self, _: bool) -> None:
            """It is torch's memory in any case."""

    return Memory()


class Loaded:
    """An engine on a GPU; closing it gives its memory back.

    Args:
        trt: The module of its TensorRT.
        path: The engine.
        component: Names its tensors.
        where: The GPU.
        graphs: Whether to replay CUDA graphs.
    """

    def __init__(self, trt: Any, path: Path, component: Component, where: torch.device, *, graphs: bool) -> None:
        from polygraphy.backend.trt import EngineFromPath, TrtRunner
        from polygraphy.exception import PolygraphyException

        self._trt, self._component, self._where, self._graphs = trt, component, where, graphs
        self._recorded: dict[tuple[torch.Size, ...], _Recorded] = {}
        with torch.cuda.device(where):
            try:
                self._runner: Any = TrtRunner(EngineFromPath(str(path))())
                self._runner.activate()
                self._runner.output_allocator = _memory(trt, self._runner.engine, where)
            except OSError as error:
                raise RequirementError(
                    f"Polygraphy cannot load the CUDA runtime: {error}",
                    hint="Install nvidia-cuda-runtime, or put the folder of libcudart.so on LD_LIBRARY_PATH.",
                ) from error
            except PolygraphyException as error:
                raise ArtifactError(
                    f"{path}: TensorRT {trt.__version__} cannot load it on {torch.cuda.get_device_name(where)}",
                    hint="An engine fits the GPU that it was built for: rebuild it here with `export.mode = 'trt'`.",
                ) from error

    def run(self, inputs: Tensors) -> Tensors:
        """Run on the GPU; the answer is the caller's."""
        with torch.cuda.device(self._where):
            held = {name: tensor.contiguous() for name, tensor in inputs.items()}
            sizes = tuple(tensor.shape for tensor in held.values())
            if self._graphs and sizes in self._recorded:
                return self._replayed(self._recorded[sizes], held)
            answer = self._inferred(held)
            if self._graphs:
                self._recorded[sizes] = self._record(held, answer)
            return answer

    def close(self) -> None:
        """Give the memory back; more than once is fine."""
        self._recorded.clear()
        runner, self._runner = self._runner, None
        if runner is not None:
            with torch.cuda.device(self._where):
                runner.deactivate()

    def _inferred(self, held: Tensors) -> Tensors:
        from polygraphy.exception import PolygraphyException

        # The runner works on a stream of its own, and keeps the memory of its answers for the next call.
        torch.cuda.current_stream().synchronize()
        try:
            answer = self._runner.infer(held, check_inputs=False, copy_outputs_to_host=False)
        except PolygraphyException as error:
            raise ArtifactError(
                f"component {self._component.name}: the engine fails to run: {error}",
                hint="Do the sizes lie within its profile?",
            ) from error
        mine = {tensor.name: answer[tensor.name].clone() for tensor in self._component.outputs}
        torch.cuda.current_stream().synchronize()
        return mine

    def _record(self, held: Tensors, answer: Tensors) -> _Recorded:
        """Record a run of these sizes; one run has gone before, as TensorRT wants it."""
        context = self._runner.context
        inputs = {name: tensor.clone() for name, tensor in held.items()}
        outputs = {name: torch.empty_like(tensor) for name, tensor in answer.items()}
        for name, tensor in (*inputs.items(), *outputs.items()):
            if name in outputs:
                context.set_output_allocator(name, None)
            context.set_tensor_address(name, tensor.data_ptr())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            started = context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
        if not started:
            raise ArtifactError(
                f"component {self._component.name}: the engine cannot be recorded as a CUDA graph",
                hint="Run it without CUDA graphs.",
            )
        return _Recorded(graph=graph, inputs=inputs, outputs=outputs)

    @staticmethod
    def _replayed(recorded: _Recorded, held: Tensors) -> Tensors:
        for name, tensor in held.items():
            recorded.inputs[name].copy_(tensor)
        recorded.graph.replay()
        return {name: tensor.clone() for name, tensor in recorded.outputs.items()}
