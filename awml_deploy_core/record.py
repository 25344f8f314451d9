"""A run around a run that keeps calls, and the same inputs at another size.

One recording of the PyTorch model on real samples gives the example inputs of the export and the inputs of every
check, so that no shape is described twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import frozen

from awml_deploy_core.around import Around
from awml_deploy_core.errors import DeployError, LoadError
from awml_deploy_core.records import Array, Call

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from awml_deploy_core.records import Axis, Component, Frame, Pipeline, Run, Sample

__all__ = ["Recorder", "Recording", "record", "resize_inputs", "sizes_of"]


@frozen(kw_only=True, eq=False)
class Recording:
    """What a recording leaves behind once its calls have streamed past.

    Args:
        samples: Ids of the samples that were run, in order.
        examples: Inputs of the first call of each component.
        calls: How often each component was called.
    """

    samples: tuple[str, ...]
    examples: Mapping[str, Mapping[str, Array]]
    calls: Mapping[str, int]


class Recorder(Around):
    """A run that hands a copy of every call to a listener.

    Inputs are copied before the call and outputs after it, because a pipeline may change either in place later on.

    Args:
        run: What really runs.
        on_call: Is given each call; keeps what it needs of it.
    """

    def __init__(self, run: Run, on_call: Callable[[Call], None]) -> None:
        super().__init__(run)
        self.sample = ""
        self._on_call = on_call

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component and tell the listener."""
        before = {name: _copy(value) for name, value in inputs.items()}
        started = time.perf_counter()
        outputs = super().__call__(component, **inputs)
        ms = 1e3 * (time.perf_counter() - started)
        after = {name: _copy(value) for name, value in outputs.items()}
        self._on_call(Call(sample=self.sample, component=component, inputs=before, outputs=after, ms=ms))
        return outputs


def record(
    samples: Sequence[Sample],
    run: Run,
    build_pipeline: Callable[[], Pipeline],
    *,
    start: int = 0,
    count: int = 1,
    on_call: Callable[[Call], None] | None = None,
) -> Recording:
    """Run the model forward from a sample until every component has been called.

    A frame may call none (no points, no pillars), so the next ones are tried. Samples keep their order and each
    sequence gets a pipeline of its own, whose memory lasts as long as the sequence.

    Args:
        samples: The data set.
        run: The network behind the components.
        build_pipeline: Makes a pipeline without memory.
        start: Index of the first sample.
        count: Run at least so many samples, also when every component was called before; a model with a memory
            shows little in its first one.
        on_call: Is given each call as it happens; none is kept here but the inputs of the first of each component.

    Returns:
        The samples that were run, and example inputs for every component.

    Raises:
        LoadError: If a sample cannot be read or run, or a component was never called.
    """
    if not 0 <= start < len(samples):
        raise LoadError(
            f"recording: sample {start} was asked for, but there are {len(samples)}",
            hint="Correct export.sample_idx, or the path of the data set.",
        )
    examples: dict[str, Mapping[str, Array]] = {}
    calls = dict.fromkeys(run.components, 0)
    used: list[str] = []

    def listen(call: Call) -> None:
        examples.setdefault(call.component, call.inputs)
        calls[call.component] += 1
        if on_call:
            on_call(call)

    recorder = Recorder(run, listen)
    for sample, pipeline in _in_sequences(samples, start, build_pipeline):
        recorder.sample = sample.id
        _predict(sample, pipeline, recorder)
        used.append(sample.id)
        if len(used) >= count and all(calls.values()):
            break
    never = [name for name, times in calls.items() if not times]
    if never:
        raise LoadError(
            f"recording: {', '.join(never)} never called by the samples {used[0]} to {used[-1]} ({len(used)} in all)",
            hint="Choose another export.sample_idx, or call it in the pipeline's predict.",
        )
    return Recording(samples=tuple(used), examples=examples, calls=calls)


def _in_sequences(
    samples: Sequence[Sample], start: int, build_pipeline: Callable[[], Pipeline]
) -> Iterator[tuple[Sample, Pipeline]]:
    """Each sample with its pipeline: the same one as long as a sequence lasts, else a new one."""
    current: tuple[str, Pipeline] | None = None
    for index in range(start, len(samples)):
        sample = samples[index]
        if sample.sequence is None:
            yield sample, build_pipeline()
            continue
        if current is None or current[0] != sample.sequence:
            current = (sample.sequence, build_pipeline())
        yield sample, current[1]


def _predict(sample: Sample, pipeline: Pipeline, run: Run) -> None:
    frame: Frame = _attempt(sample, "cannot be loaded", sample.load)
    # The same mode for every backend: `inference_mode` inside one of them only would break in-place code there alone.
    with torch.no_grad():
        _attempt(sample, "makes the pipeline fail", lambda: pipeline.predict(frame.inputs, run))


def _attempt(sample: Sample, what: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except DeployError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise LoadError(f"sample {sample.id}: {what}: {type(error).__name__}: {reason}") from error


def _copy(value: Array) -> Array:
    return value.detach().clone() if isinstance(value, torch.Tensor) else np.array(value)


# ---------------------------------------------------------------- another size


def sizes_of(component: Component, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The size of every axis that the inputs show."""
    return {
        name: size
        for tensor in component.inputs
        for name, size in zip(tensor.shape, inputs[tensor.name].shape, strict=True)
        if isinstance(name, str)
    }


def resize_inputs(
    component: Component, inputs: Mapping[str, Array], axes: Collection[str] | None = None
) -> dict[str, Array]:
    """The inputs at another size on every dynamic axis, which is where traced-in sizes show.

    On an independent axis rows are repeated, each round a quarter fainter in its floating-point values, so that no
    two rows are alike; or the first row is kept. On other axes the nearest recorded value is taken, as when an image
    is scaled: all values are real ones, and indices and flags stay valid. Axes stay within `min` and `max`.

    Args:
        component: Says which axes there are.
        inputs: Recorded ones.
        axes: Change only these.

    Returns:
        New inputs; axes that allow one size only are as before.
    """
    resized = dict(inputs)
    for name, size in sizes_of(component, inputs).items():
        axis = component.axis(name)
        other = _other_size(axis, size)
        if other is None or (axes is not None and name not in axes):
            continue
        for tensor in component.inputs:
            if name in tensor.shape:
                resized[tensor.name] = _resize(resized[tensor.name], tensor.shape.index(name), other, axis.independent)
    return resized


def _other_size(axis: Axis, size: int) -> int | None:
    """A size within the limits that differs, small where rows are independent."""
    if not axis.dynamic:
        return None
    double, half = max(2 * size, 2), max(size // 2, 1)
    # One row is where code branches and shapes broadcast; an explicit minimum is a size that a plugin stands for.
    tried = [1 if size > 1 else 2] if axis.independent else [axis.min] if axis.min > 1 else []
    most = [axis.max] if axis.max is not None else []
    tried += [double, *most, half, axis.min]
    return next((n for n in tried if n not in (size, 0) and axis.min <= n and (not most or n <= most[0])), None)


def _resize(value: Array, dim: int, size: int, independent: bool) -> Array:
    if not isinstance(value, torch.Tensor):
        return _resize(torch.from_numpy(np.array(value)), dim, size, independent).numpy()
    rows = value.shape[dim]
    if not rows:
        return value.new_zeros((*value.shape[:dim], size, *value.shape[dim + 1 :]))
    order = torch.arange(size, device=value.device)
    if not independent:
        return value.index_select(dim, order * rows // size)
    repeated = value.index_select(dim, order % rows)
    if not value.is_floating_point():
        return repeated
    faint = (0.75 ** (order // rows)).to(value.dtype)
    return repeated * faint.reshape(-1, *[1] * (value.dim() - dim - 1))
