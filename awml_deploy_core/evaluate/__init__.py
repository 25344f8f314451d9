"""One variant over the samples: records, figures, times, failures.

`evaluate` walks the samples in this process, `evaluate_sharded` lets spawned processes share them. Both end in the
same place: rows sorted by index, scored once, so the figures do not depend on how the work was split. Scoring arrives
as a function; nothing here knows what a prediction means.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from attrs import field, frozen

from awml_deploy_core.evaluate.timing import STAGES, Clock, summarise
from awml_deploy_core.evaluate.walk import Digest, Part, Plan, Progress, too_many, units, walk
from awml_deploy_core.evaluate.workers import Opened, Opener, share
from awml_deploy_core.records import Evaluation, Metrics, Pipeline, Record, Run, Sample, Timing
from awml_deploy_core.tree import checksum

__all__ = ["Evaluated", "Opened", "Opener", "evaluate", "evaluate_sharded", "prove_equal", "shard"]

Score = Callable[[Sequence[Record]], Metrics]


@frozen(kw_only=True, eq=False)
class Evaluated:
    """An evaluation and what is behind it.

    Args:
        evaluation: Figures, times, failures.
        records: What the figures were made of.
        digests: Of what the first `run` call of each sample got.
        shown: Whole predictions by the index of the sample, where they were asked for.
    """

    evaluation: Evaluation
    records: tuple[Record, ...]
    digests: Mapping[str, str]
    shown: Mapping[int, Any] = field(factory=dict)


def evaluate(
    variant_name: str,
    run: Run,
    samples: Sequence[Sample],
    build_pipeline: Callable[[], Pipeline],
    *,
    score: Score,
    indices: Iterable[int] | None = None,
    num_warmup: int = 0,
    batch_size: int = 1,
    max_failed_samples: int = 0,
    prefetch: int = 2,
    on_progress: Progress | None = None,
    digest_inputs: Digest | None = checksum,
    clock: Clock = time.perf_counter,
    shown: Iterable[int] = (),
) -> Evaluated:
    """Run one variant over samples in this process.

    Samples of a sequence are pulled together, run one by one in order and share a fresh pipeline. Where the pipeline
    has `reduce`, a record holds what that answered as its prediction and no ground truth: all that the figures need
    of the truth has gone into the answer. Predictions are copied to host memory.

    Args:
        variant_name: Name of the variant, for messages and the result.
        run: What runs its components.
        samples: The whole data set.
        build_pipeline: Makes a fresh pipeline.
        score: Turns all records into figures; called once.
        indices: Which samples to take; None takes all.
        num_warmup: Passes over the first samples that leave no trace in the result.
        batch_size: Samples handed to `predict_batch` at once, where the pipeline has it. A batch that fails is run
            again sample by sample.
        max_failed_samples: Failures that are only recorded; one more ends the evaluation.
        prefetch: Batches to load ahead in a thread of their own, where inputs are digested too; 0 loads and digests
            while nothing else runs, for undisturbed times.
        on_progress: Told how many samples are done, and of how many.
        digest_inputs: Digest of component and inputs of a sample's first call; None does without the proof that all
            variants were given the same.
        clock: Seconds, monotonic.
        shown: Indices of samples whose whole predictions are wanted, for pictures.

    Raises:
        LoadError: More samples failed than may.
    """
    plan = Plan(
        variant=variant_name,
        indices=tuple(range(len(samples)) if indices is None else indices),
        num_warmup=num_warmup,
        batch_size=batch_size,
        max_failed_samples=max_failed_samples,
        prefetch=prefetch,
        digest_inputs=digest_inputs,
        clock=clock,
        shown=frozenset(shown),
    )
    return _conclude(variant_name, [walk(plan, run, samples, build_pipeline, on_progress)], score)


def shard(
    samples: Sequence[Sample], workers: int, *, indices: Iterable[int] | None = None, batch_size: int = 1
) -> tuple[tuple[int, ...], ...]:
    """Share samples among at most so many workers: sequences and batches stay whole, loads are even.

    The longest piece goes first, always to whoever has least, so no two loads differ by more than one piece.
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    pieces = units(samples, range(len(samples)) if indices is None else indices, batch_size)
    for piece in sorted(pieces, key=lambda piece: (-len(piece), piece)):
        min(shares, key=len).extend(piece)
    return tuple(tuple(sorted(indices)) for indices in shares if indices)


def evaluate_sharded(
    variant_name: str,
    opener: Opener,
    shards: Sequence[Sequence[int]],
    *,
    score: Score,
    num_warmup: int = 0,
    batch_size: int = 1,
    max_failed_samples: int = 0,
    prefetch: int = 2,
    on_progress: Progress | None = None,
    digest_inputs: Digest | None = checksum,
    threads: int | None = None,
    shown: Iterable[int] = (),
) -> Evaluated:
    """Run one variant in one spawned process per shard; the figures are those of one process.

    Args:
        variant_name: As for `evaluate`, like all that is not said here.
        opener: Picklable; called in each worker, opens run, samples and pipeline there and closes them.
        shards: Indices for each worker, as `shard` makes them with the same batch size.
        score: Called once, here.
        num_warmup: Passes that each worker makes first.
        batch_size: Samples handed to `predict_batch` at once.
        max_failed_samples: Failures of all workers together that are only recorded.
        prefetch: Batches that each worker loads ahead.
        on_progress: Told how many samples all workers have done.
        digest_inputs: Picklable.
        threads: torch threads of each worker. None takes this process's number, because another one may add in
            another order and so change the last bits.
        shown: Indices of samples whose whole predictions are wanted.

    Raises:
        RequirementError: A worker was killed or left without an answer.
        LoadError: More samples failed than may.
    """
    wanted = frozenset(shown)
    plans = [
        Plan(
            variant=variant_name,
            indices=tuple(indices),
            num_warmup=num_warmup,
            batch_size=batch_size,
            max_failed_samples=max_failed_samples,
            prefetch=prefetch,
            digest_inputs=digest_inputs,
            clock=time.perf_counter,
            shown=wanted,
        )
        for indices in shards
    ]
    parts = share(opener, plans, torch.get_num_threads() if threads is None else threads, on_progress)
    failures = [failure for part in parts for failure in part.failures]
    if len(failures) > max_failed_samples:
        raise too_many(variant_name, failures, max_failed_samples)
    return _conclude(variant_name, parts, score)


def prove_equal(digests_by_variant: Mapping[str, Mapping[str, str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name the samples on which a variant was given something else than the first variant.

    Returns:
        Pairs of variant and sample ids; empty is the proof. A sample that only one of the two has a digest of is not
        proved equal and is among them.
    """
    unequal = []
    first = next(iter(digests_by_variant.values()), {})
    for variant, digests in digests_by_variant.items():
        ids = tuple(sample for sample in {**first, **digests} if first.get(sample) != digests.get(sample))
        if ids:
            unequal.append((variant, ids))
    return tuple(unequal)


def _conclude(variant: str, parts: Sequence[Part], score: Score) -> Evaluated:
    """Join what processes found, in the order of the samples, and score it once."""
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: row[0].index)
    failures = sorted((failure for part in parts for failure in part.failures), key=lambda failure: failure.index)
    records = tuple(record for record, _ in rows)
    evaluation = Evaluation(
        variant=variant,
        records=len(records),
        failures=tuple(failures),
        notes=_notes(note for part in parts for note in part.notes),
        timings=_timings([times for _, times in rows]),
        protocol=_protocol([part.protocol for part in parts]),
        metrics=score(records),
    )
    digests = {name: value for part in parts for name, value in part.digests.items()}
    shown = {index: prediction for part in parts for index, prediction in part.shown.items()}
    return Evaluated(evaluation=evaluation, records=records, digests=digests, shown=shown)


def _protocol(protocols: Sequence[Mapping[str, Any]]) -> dict[str, str | int | float | bool]:
    """The protocol that all processes followed: the fewest warm-up passes, the largest batches."""
    together = {name: pick(protocol[name] for protocol in protocols) for name, pick in _PICK.items() if protocols}
    return {**(protocols[0] if protocols else {}), **together, "workers": len(protocols)}


_PICK = {"warmup": min, "batch_size": max}


def _notes(notes: Iterable[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for name, value in notes:
        values.setdefault(name, []).append(value)
    # fsum, because a plain sum would depend on how the samples were shared.
    return {name: math.fsum(values[name]) for name in sorted(values)}


def _timings(times: Iterable[Mapping[str, float]]) -> dict[str, Timing]:
    """Summaries by stage, in the order in which a sample goes through them."""
    ms: dict[str, list[float]] = {}
    for sample in times:
        for name, value in sample.items():
            ms.setdefault(name, []).append(value)
    components = (name for name in ms if name not in STAGES)
    return {name: summarise(ms[name]) for name in (*STAGES[:2], *components, *STAGES[2:]) if name in ms}
