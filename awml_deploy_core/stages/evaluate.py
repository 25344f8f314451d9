"""Every enabled variant over the same samples, and the gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from awml_deploy_core import ladder
from awml_deploy_core.config import Backend, Config, Gate
from awml_deploy_core.errors import (
    ArtifactError,
    ConfigError,
    DeployError,
    ExitCode,
    ForeignError,
    RequirementError,
    nearest,
)
from awml_deploy_core.records import Evaluation, Metrics, Record, Skip, Variant
from awml_deploy_core.report import Crossing
from awml_deploy_core.report.numbers import figure
from awml_deploy_core.stages import Story, Unmet, failed, stage
from awml_deploy_core.stages.pictures import chosen

if TYPE_CHECKING:
    from awml_deploy_core.evaluate import Evaluated


def evaluate_variants(story: Story) -> None:
    """Run every enabled variant over the same samples and hold the gates."""
    job = story.job
    if failed(story, "load"):
        with stage(story, "evaluate", skip=Skip(reason="parent failed")):
            return
    if "evaluate" not in job.stages or not job.config.evaluation.enabled:
        reason = "not asked" if job.config.evaluation.enabled else "disabled"
        with stage(story, "evaluate", skip=Skip(reason=reason)):  # type: ignore[arg-type]  # both are reasons
            return
    from awml_deploy_core.evaluate import prove_equal

    with stage(story, "evaluate") as said:
        failures: list[DeployError] = []
        for variant, skip in enabled_variants(story):
            if isinstance(skip, DeployError):
                failures.append(skip)
                continue
            if skip is not None:
                story.skipped.append(Evaluation(variant=variant.name, records=0, skipped=skip))
                said.append(f"{variant.name} skipped ({skip.reason})")
                continue
            try:
                done = evaluated(story, variant)
            except ForeignError as error:
                foreign = Skip(reason="not supported", detail=error.message)
                story.skipped.append(Evaluation(variant=variant.name, records=0, skipped=foreign))
                said.append(f"{variant.name} skipped (not supported)")
                continue
            except DeployError as error:
                failures.append(error)
                continue
            story.evaluated.append(done)
            figures = done.evaluation.metrics
            if figures is not None:
                value = figures.values[figures.primary]
                said.append(f"{variant.name}: {figures.primary} {'undefined' if value is None else f'{value:.4f}'}")
        if failures:
            raise failures[0]
        if not story.evaluated:
            gated = bool(job.config.evaluation.gates)
            code = ExitCode.EVALUATION if gated else ExitCode.OK
            raise Unmet("failed" if gated else "skipped", code, "no variant could be evaluated")
        story.unequal = prove_equal({one.evaluation.variant: one.digests for one in story.evaluated})
        story.crossings.extend(gates_crossed(job.config, [one.evaluation for one in story.evaluated]))
        if story.crossings:
            first = story.crossings[0]
            shown = "undefined" if first.value is None else figure(first.value)
            fact = f"{first.variant}: {first.metric} is {shown}, {first.limit}"
            raise Unmet("failed", ExitCode.EVALUATION, fact)


def enabled_variants(story: Story) -> Iterator[tuple[Variant, Skip | DeployError | None]]:
    """The variants to evaluate on their devices, or why one cannot be.

    Raises:
        RequirementError: A backend that is demanded is not there.
    """
    settings = story.job.config.evaluation
    for backend in Backend:
        wanted = settings.backends.get(backend)
        if (wanted is None and settings.backends) or (wanted is not None and wanted.enabled is False):
            continue
        found = of_backend(story, backend)
        demanded = wanted is not None and (wanted.required or wanted.enabled is True)
        if not found:
            skip = _absent(story, backend)
            if wanted is None and not (backend is Backend.TENSORRT and story.job.builds):
                continue
            absent = Variant(name=ladder.RUNGS[backend], backend=backend.value)
            yield absent, _demand(backend, skip) if demanded else skip
        for one in found:
            # A rehearsal is no backend of its own: it runs where precision can be known without a GPU.
            device = wanted.device if wanted and not ladder.is_cast(one) else None
            variant = ladder.on_device(one, device, story.job.config.devices.cuda)
            yield variant, _unreachable(variant, demanded=demanded)


def of_backend(story: Story, backend: Backend) -> list[Variant]:
    """The variants that a backend stands for: ONNX also for graphs in another precision."""
    name = ladder.RUNGS[backend]
    return [one for one in story.variants if one.name == name or (backend is Backend.ONNX and ladder.is_cast(one))]


def _demand(backend: Backend, skip: Skip) -> DeployError:
    where = f"evaluation.backends.{backend.value} is demanded"
    if backend is Backend.TENSORRT:
        return RequirementError(f"{where}, but {skip.detail}", hint="Say `enabled = 'auto'` to do without.")
    return ArtifactError(f"{where}, but there is {skip.reason}", hint="Export first, or say `enabled = 'auto'`.")


def _absent(story: Story, backend: Backend) -> Skip:
    if backend is Backend.TENSORRT:
        return story.no_engine()
    return Skip(reason="no checkpoint" if backend is Backend.PYTORCH else "no artifact")


def _unreachable(variant: Variant, *, demanded: bool) -> Skip | RequirementError | None:
    from awml_deploy_core.backends import onnxruntime, parse_device
    from awml_deploy_core.backends.runner import require_device
    from awml_deploy_core.backends.tensorrt import require_driver

    try:
        device = parse_device(variant.device)
        if variant.backend == Backend.TENSORRT.value:
            require_driver(variant.name)
        require_device(device, variant.name)
        if variant.backend == Backend.ONNX.value:
            onnxruntime.require_provider(device, variant.name)
    except RequirementError as error:
        if demanded:
            return error
        driverless = variant.backend == Backend.TENSORRT.value
        return Skip(reason="no driver" if driverless else "no device", detail=error.message)
    return None


def evaluated(story: Story, variant: Variant) -> Evaluated:
    """One variant over the samples, in this process or shared among several."""
    from awml_deploy_core import evaluate

    job, settings = story.job, story.job.config.evaluation
    count = len(story.samples) if settings.num_samples == -1 else min(settings.num_samples, len(story.samples))

    def score(records: Sequence[Record]) -> Metrics:
        figures: Metrics = job.plugin.call("compute_metrics", records=records, config=job.config)
        return figures

    progress = partial(story.progress, f"evaluate {variant.name}") if story.progress else None
    common: dict[str, Any] = {
        "score": score,
        "num_warmup": settings.num_warmup,
        "batch_size": settings.batch_size,
        "max_failed_samples": settings.max_failed_samples,
        "on_progress": progress,
        "shown": chosen(count, settings.num_pictures) if "draw_sample" in job.plugin.hooks else (),
    }
    if settings.workers > 1:
        shards = evaluate.shard(story.samples, settings.workers, indices=range(count), batch_size=settings.batch_size)
        opener = ladder.opening(job.plugin, job.config, variant)
        return evaluate.evaluate_sharded(variant.name, opener, shards, **common)
    with ladder.opened(variant, story.graphs, story.network) as run:
        pipeline = partial(ladder.build_pipeline, job.plugin, job.config, run.device)
        return evaluate.evaluate(variant.name, run, story.samples, pipeline, indices=range(count), **common)


def gates_crossed(config: Config, evaluations: Sequence[Evaluation]) -> Iterator[Crossing]:
    """Every limit that a variant does not keep; an undefined figure keeps none."""
    trained = next((one for one in evaluations if one.variant == "trained"), None)
    for name, gate in config.evaluation.gates.items():
        for one in evaluations:
            if one.metrics is None:
                continue
            if name not in one.metrics.values:
                near = nearest(name, one.metrics.values)
                hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(one.metrics.values)}."
                raise ConfigError(f"evaluation.gates.{name}: {one.variant} has no such metric", hint=hint)
            value = one.metrics.values[name]
            base = trained.metrics.values.get(name) if trained and trained.metrics else None
            for limit in broken_limits(gate, value, base, higher_is_better=one.metrics.higher_is_better):
                yield Crossing(variant=one.variant, metric=name, value=value, limit=limit)


def broken_limits(gate: Gate, value: float | None, base: float | None, *, higher_is_better: bool) -> Iterator[str]:
    """The limits of a gate that a value does not keep, in words."""
    if value is None:
        yield "which keeps no limit"
        return
    if gate.min is not None and not value >= gate.min:
        yield f"below the least allowed, {gate.min}"
    if gate.max is not None and not value <= gate.max:
        yield f"above the most allowed, {gate.max}"
    if gate.max_drop is not None:
        if base is None:
            yield "and there is no trained figure to hold it against"
        elif not (base - value if higher_is_better else value - base) <= gate.max_drop:
            yield f"worse than trained ({base}) by more than {gate.max_drop}"
