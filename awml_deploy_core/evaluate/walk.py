"""One process's way through its samples: load, predict, keep, or record why not.

Samples are loaded and inputs digested in one thread beside the inference. What comes out is a `Part`: rows and
failures that are not summed up yet, so that parts of several processes can be joined.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from typing import Any, Literal

import numpy as np
import torch
from attrs import define, field, frozen

from awml_deploy_core.errors import DeployError, LoadError, PluginError
from awml_deploy_core.evaluate.timing import Clock, TimedRun, clocked
from awml_deploy_core.records import Failure, Frame, Pipeline, Record, Run, Sample
from awml_deploy_core.tree import tree_map

__all__ = ["Digest", "Part", "Plan", "Progress", "too_many", "units", "walk"]

log = logging.getLogger(__name__)

Digest = Callable[[Any], str]
Progress = Callable[[int, int], None]
Window = tuple[int, ...]


@frozen(kw_only=True, eq=False)
class Plan:
    """Which samples to take and how; the arguments of `evaluate`, where each is explained."""

    variant: str
    indices: tuple[int, ...]
    num_warmup: int
    batch_size: int
    max_failed_samples: int
    prefetch: int
    digest_inputs: Digest | None
    clock: Clock
    shown: frozenset[int] = frozenset()


@frozen(kw_only=True, eq=False)
class Part:
    """What one process found: records with their times, failures, notes, digests by sample, how it was measured.

    `shown` are whole predictions by the index of the sample, of those that the plan wants to show.
    """

    rows: tuple[tuple[Record, Mapping[str, float]], ...]
    failures: tuple[Failure, ...]
    notes: tuple[tuple[str, float], ...]
    digests: Mapping[str, str]
    protocol: Mapping[str, str | int | float | bool]
    shown: Mapping[int, Any] = field(factory=dict)


@define(kw_only=True, eq=False)
class _Work:
    """What the walk was given, and what it has found so far."""

    plan: Plan
    run: Run
    samples: Sequence[Sample]
    pool: ThreadPoolExecutor
    on_progress: Progress | None
    rows: list[tuple[Record, Mapping[str, float]]] = field(factory=list, init=False)
    failures: list[Failure] = field(factory=list, init=False)
    notes: list[tuple[str, float]] = field(factory=list, init=False)
    digests: dict[str, Future[str]] = field(factory=dict, init=False)
    shown: dict[int, Any] = field(factory=dict, init=False)
    batched: bool = field(default=False, init=False)


def walk(
    plan: Plan,
    run: Run,
    samples: Sequence[Sample],
    build_pipeline: Callable[[], Pipeline],
    on_progress: Progress | None,
) -> Part:
    """Take every sample of the plan, sequences whole and in order.

    Raises:
        LoadError: More samples failed than may.
    """
    windows = [window for unit in units(samples, plan.indices, plan.batch_size) for window in _windows(samples, unit)]
    # no_grad around all of predict: pipelines may work in place on what a run answers.
    with _loading() as pool, torch.no_grad():
        work = _Work(plan=plan, run=run, samples=samples, pool=pool, on_progress=on_progress)
        warm = _warm_up(work, build_pipeline, windows) if plan.num_warmup else 0
        _through(work, build_pipeline, windows)
        digests = {name: future.result() for name, future in work.digests.items()}
    return Part(
        rows=tuple(work.rows),
        failures=tuple(work.failures),
        notes=tuple(work.notes),
        digests=digests,
        protocol=_protocol(work, warm),
        shown=work.shown,
    )


def units(samples: Sequence[Sample], indices: Iterable[int], batch_size: int) -> list[tuple[int, ...]]:
    """What must stay together: whole sequences, and batches of the samples that belong to none."""
    sequences: dict[str, list[int]] = {}
    alone: list[int] = []
    seen: dict[str, int] = {}
    for index in sorted(set(indices)):
        sample = samples[index]
        if seen.setdefault(sample.id, index) != index:
            raise LoadError(f"sample id {sample.id!r} occurs twice, at {seen[sample.id]} and {index}")
        (alone if sample.sequence is None else sequences.setdefault(sample.sequence, [])).append(index)
    batches = [tuple(alone[start : start + batch_size]) for start in range(0, len(alone), batch_size)]
    return sorted([*batches, *map(tuple, sequences.values())])


def too_many(variant: str, failures: Sequence[Failure], limit: int, hint: str | None = None) -> LoadError:
    """The error for more failures than the limit; names the last one."""
    last = failures[-1]
    general = "Repair the sample or take it out of the data; evaluation.max_failed_samples lets some fail."
    return LoadError(
        f"evaluation of {variant!r}: sample {last.id!r} failed at {last.step} ({last.reason}); "
        f"{len(failures)} failed, at most {limit} may",
        hint=hint or general,
    )


# ---------------------------------------------------------------- loading


@contextmanager
def _loading() -> Iterator[ThreadPoolExecutor]:
    """One thread that loads and digests, gone when the block is left."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="awml-load")
    patient = True
    try:
        yield pool
    except BaseException as error:
        # A slow disk must not hold back who wants to leave; the thread ends after the sample at hand.
        patient = isinstance(error, Exception)
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=True)


def _windows(samples: Sequence[Sample], unit: tuple[int, ...]) -> Iterator[Window]:
    """A batch as it is; a sequence one by one, because its pipeline remembers the frame before."""
    if samples[unit[0]].sequence is None:
        yield unit
    else:
        yield from ((index,) for index in unit)


def _loads(work: _Work, windows: Sequence[Window]) -> Iterator[tuple[Window, list[Future[Frame]]]]:
    """Every window with its loads under way, `prefetch` windows before it is needed.

    One thread takes loads and digests in the order of asking, so a digest is done before the window after the next
    ones is loaded: nothing piles up.
    """
    waiting: deque[tuple[Window, list[Future[Frame]]]] = deque()
    for window in windows:
        waiting.append((window, [work.pool.submit(_load, work.samples[index]) for index in window]))
        if len(waiting) > work.plan.prefetch:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _load(sample: Sample) -> Frame:
    frame = sample.load()
    if not isinstance(frame, Frame):
        raise TypeError(f"load answered {type(frame).__name__} instead of a Frame")
    return frame


def _loaded(work: _Work, index: int, load: Future[Frame]) -> Frame | None:
    """The frame, or None and a recorded failure."""
    try:
        return load.result()
    except Exception as error:  # noqa: BLE001  recorded, counted, fatal beyond the limit
        _fail(work, index, "load", error)
        return None


# ---------------------------------------------------------------- predicting


def _warm_up(work: _Work, build_pipeline: Callable[[], Pipeline], windows: Sequence[Window]) -> int:
    """Run the first samples for nothing; answer how many passes came through."""
    pipeline: Any = build_pipeline()
    done = 0
    for window in islice(cycle(windows), work.plan.num_warmup):
        run = _timed(work, ())
        try:
            inputs = [_load(work.samples[index]).inputs for index in window]
            if len(window) > 1 and hasattr(pipeline, "predict_batch"):
                pipeline.predict_batch(inputs, run)
            else:
                pipeline.predict(inputs[0], run)
            done += 1
        except Exception:
            # Not lost: the same sample comes again and is then recorded as a failure.
            log.debug("%s: a warm-up pass failed", work.plan.variant, exc_info=True)
    return done


def _through(work: _Work, build_pipeline: Callable[[], Pipeline], windows: Sequence[Window]) -> None:
    pipeline: Any = None
    sequence: str | None = None
    for window, loads in _loads(work, windows):
        if pipeline is None or work.samples[window[0]].sequence != sequence:
            pipeline, sequence = build_pipeline(), work.samples[window[0]].sequence
        frames = {index: _loaded(work, index, load) for index, load in zip(window, loads, strict=True)}
        loaded = {index: frame for index, frame in frames.items() if frame is not None}
        if len(loaded) > 1 and hasattr(pipeline, "predict_batch"):
            _batch(work, pipeline, loaded)
        else:
            for index, frame in loaded.items():
                _single(work, pipeline, index, frame)


def _batch(work: _Work, pipeline: Any, loaded: Mapping[int, Frame]) -> None:
    work.batched = True
    run = _timed(work, tuple(loaded))
    try:
        predictions, times = clocked(pipeline.predict_batch, [frame.inputs for frame in loaded.values()], run)
    except Exception as error:  # noqa: BLE001  each frame is tried again alone
        log.warning("%s: a batch of %d failed, run one by one now: %s", work.plan.variant, len(loaded), error)
        work.notes.append(("batches_retried", 1))
        _retry(work, pipeline, tuple(loaded))
        return
    if not isinstance(predictions, Sequence) or len(predictions) != len(loaded):
        answered = len(predictions) if isinstance(predictions, Sequence) else type(predictions).__name__
        raise PluginError(
            f"predict_batch must answer a list with a prediction per frame: {len(loaded)}, not {answered}"
        )
    work.notes += run.notes
    shares = {name: ms / len(loaded) for name, ms in times.items()}
    for (index, frame), prediction in zip(loaded.items(), predictions, strict=True):
        _keep(work, pipeline, index, frame, prediction=prediction, times=shares)


def _retry(work: _Work, pipeline: Any, window: Window) -> None:
    """One by one and loaded anew, because the failed attempt may have changed the inputs in place."""
    for index in window:
        frame = _loaded(work, index, work.pool.submit(_load, work.samples[index]))
        if frame is not None:
            _single(work, pipeline, index, frame)


def _single(work: _Work, pipeline: Any, index: int, frame: Frame) -> None:
    run = _timed(work, (index,))
    try:
        prediction, times = clocked(pipeline.predict, frame.inputs, run)
    except Exception as error:  # noqa: BLE001  recorded, counted, fatal beyond the limit
        _fail(work, index, run.step, error)
    else:
        work.notes += run.notes
        _keep(work, pipeline, index, frame, prediction=prediction, times=times)


def _timed(work: _Work, window: Window) -> TimedRun:
    """The run with a clock; without a window it leaves no digests."""
    device = work.run.device
    idle = partial(torch.cuda.synchronize, device) if device.startswith("cuda") else lambda: None
    witnessed = work.plan.digest_inputs is not None and window
    first = partial(_witness, work, window) if witnessed else None
    return TimedRun(run=work.run, clock=work.plan.clock, wait=idle, on_first=first)


def _witness(work: _Work, window: Window, component: str, inputs: Mapping[str, Any]) -> None:
    """Have the first call's inputs digested; of a batch that is retried, what the batch was given counts."""
    assert work.plan.digest_inputs is not None
    # A copy, because the pipeline may use its buffers again before the thread comes to it.
    future = work.pool.submit(work.plan.digest_inputs, (component, tree_map(_own, dict(inputs))))
    if not work.plan.prefetch:
        future.result()
    for index in window:
        work.digests.setdefault(work.samples[index].id, future)


# ---------------------------------------------------------------- keeping


def _keep(work: _Work, pipeline: Any, index: int, frame: Frame, *, prediction: Any, times: Mapping[str, float]) -> None:
    reduce = getattr(pipeline, "reduce", None)
    try:
        small = prediction if reduce is None else reduce(prediction, frame.ground_truth)
        small = tree_map(_own, small)
        if index in work.plan.shown:
            work.shown[index] = small if reduce is None else tree_map(_own, prediction)
    except Exception as error:  # noqa: BLE001  recorded, counted, fatal beyond the limit
        _fail(work, index, "postprocess" if reduce is None else "reduce", error)
        return
    truth = frame.ground_truth if reduce is None else None
    work.rows.append((Record(id=work.samples[index].id, index=index, prediction=small, ground_truth=truth), times))
    _progress(work)


def _own(leaf: Any) -> Any:
    """A copy in host memory: a view would hold on to all of what it looks at, a device to its memory."""
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().to("cpu", copy=True)
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _fail(
    work: _Work, index: int, step: Literal["load", "preprocess", "run", "postprocess", "reduce"], error: Exception
) -> None:
    name, plan = work.samples[index].id, work.plan
    reason = error.message if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"
    work.failures.append(Failure(id=name, index=index, step=step, reason=reason))
    log.info("%s: sample %r failed at %s: %s", plan.variant, name, step, reason)
    if len(work.failures) > plan.max_failed_samples:
        hint = error.hint if isinstance(error, DeployError) else None
        raise too_many(plan.variant, work.failures, plan.max_failed_samples, hint) from error
    _progress(work)


def _progress(work: _Work) -> None:
    if work.on_progress is not None:
        work.on_progress(len(work.rows) + len(work.failures), len(set(work.plan.indices)))


def _protocol(work: _Work, warm: int) -> dict[str, str | int | float | bool]:
    plan, device, clock = work.plan, work.run.device, work.plan.clock
    return {
        "device": device,
        "warmup": warm,
        "batch_size": plan.batch_size if work.batched else 1,
        "torch_threads": torch.get_num_threads(),
        "prefetch": plan.prefetch,
        "overlap": plan.prefetch > 0,
        "synchronised": device.startswith("cuda"),
        "clock": f"{clock.__module__}.{clock.__name__}" if hasattr(clock, "__name__") else type(clock).__name__,
        "percentiles": "linear",
        "times": "ms per sample; a batch is shared equally",
    }
