"""Which variants are held against each other, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import attrs
from attrs import frozen

from awml_deploy_core import judge, ladder
from awml_deploy_core.config import Backend
from awml_deploy_core.errors import ExitCode, ForeignError, PluginError, RequirementError
from awml_deploy_core.records import Comparison, Run, Skip, Variant
from awml_deploy_core.report import proof
from awml_deploy_core.stages import Story, Unmet, failed, stage
from awml_deploy_core.stages.record import recorded_calls


@frozen(kw_only=True)
class Pair:
    """Two variants to hold against each other, or why one of them is not there."""

    reference: Variant
    candidate: Variant
    tolerance: float | None = None
    skipped: Skip | None = None


def verify_ladder(story: Story) -> None:
    """Hold every rung against its parent and against `trained`, or follow the config's scenarios."""
    config = story.job.config.verification
    if failed(story, "load"):
        with stage(story, "verify", skip=Skip(reason="parent failed")):
            return
    if "verify" not in story.job.stages or not config.enabled:
        reason = "not asked" if config.enabled else "disabled"
        with stage(story, "verify", skip=Skip(reason=reason)):  # type: ignore[arg-type]  # both are reasons
            return
    with stage(story, "verify") as said:
        with ladder.runs(story.graphs, story.network, story.scratch) as run_of:
            checks = [verified(story, pair, run_of) for pair in pairs(story) if not _of_engine(pair)]
        story.verification = judge.Verification(checks=tuple(checks), samples=story.recorded, required=config.required)
        counts = {word: count for word, count in story.verification.counts.items() if count}
        said.append(", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing to compare")
        code = judge.exit_code(story.verification)
        required = config.required or story.job.named  # who names a stage wants to have it done
        if required and story.verification.status != "passed":
            code = ExitCode.VERIFICATION
        if code or story.verification.status != "passed":
            raise Unmet(story.verification.status, code, worst(story.verification))
        proved = proof.verified(story.verification)
        unproved = [each.name for each in story.variants if each.artifacts and each.name not in proved]
        if unproved:
            code = ExitCode.VERIFICATION if required else ExitCode.OK
            raise Unmet("unverified", code, f"{', '.join(unproved)} was held against nothing that leads to trained")


def verify_engines(story: Story) -> None:
    """Hold the engines against what they were built from and against `trained`, where they can run."""
    job, config = story.job, story.job.config.verification
    listed = [pair for pair in pairs(story) if _of_engine(pair)]
    if not job.verifies or not listed or failed(story, "load"):
        return
    with stage(story, "verify") as said:
        with ladder.runs(story.graphs, story.network, story.scratch) as run_of:
            checks = tuple(verified(story, pair, run_of) for pair in listed)
        before = story.verification
        story.verification = attrs.evolve(before, checks=(*before.checks, *checks), samples=story.recorded)
        alone = judge.Verification(checks=checks, samples=story.recorded, required=config.required)
        said.append("engines: " + ", ".join(f"{count} {word}" for word, count in alone.counts.items() if count))
        code = judge.exit_code(alone)
        if (config.required or job.named) and alone.status != "passed":
            code = ExitCode.VERIFICATION
        if code or alone.status != "passed":
            raise Unmet(alone.status, code, worst(alone))


def _of_engine(pair: Pair) -> bool:
    return Backend.TENSORRT.value in (pair.reference.backend, pair.candidate.backend)


def worst(verification: judge.Verification) -> str:
    """The first thing that a reader should look at."""
    for one in verification.checks:
        for each in one.verdicts:
            if not each.passed:
                c = each.comparison
                what = c.finding if c.finding != "ok" else f"error {each.would_pass:.3g} > {each.tolerance:.3g}"
                return f"{one.reference} -> {one.candidate}: {c.component or c.scope}.{c.output}: {what} on {c.sample}"
        if one.skipped:
            return f"{one.reference} -> {one.candidate}: {one.skipped.reason} {one.skipped.detail}".rstrip()
    return "nothing was compared, so nothing is proved"


def pairs(story: Story) -> list[Pair]:
    """Who is held against whom."""
    config = story.job.config
    scenarios = (config.verification.scenarios or {}).get(config.export.mode)
    if scenarios is None:
        return [Pair(reference=a, candidate=b) for a, b in judge.pairs(story.variants)]
    trained, exported = story.variant("trained"), story.variant("exported")
    listed = [Pair(reference=trained, candidate=exported)] if trained and exported else []
    # What is written in another precision is judged before an engine is built from it, whoever is in the scenarios.
    cast = [one for one in story.variants if ladder.is_cast(one)]
    listed += [Pair(reference=a, candidate=b) for a, b in judge.pairs(story.variants) if b in cast]
    cuda = (config.verification.devices or config.devices).cuda
    for scenario in scenarios:
        reference, missing_reference = _side(story, scenario.ref_backend, scenario.ref_device, cuda)
        candidate, missing_candidate = _side(story, scenario.test_backend, scenario.test_device, cuda)
        skipped = missing_reference or missing_candidate
        listed.append(Pair(reference=reference, candidate=candidate, tolerance=scenario.tolerance, skipped=skipped))
    return listed


def _side(story: Story, backend: Backend, device: str, cuda: str | None) -> tuple[Variant, Skip | None]:
    name = ladder.RUNGS[backend]
    found = story.variant(name)
    stand_in = Variant(name=name, backend=backend.value)
    if found is not None:
        return ladder.on_device(found, device, cuda), None
    if backend is Backend.TENSORRT:
        return ladder.on_device(stand_in, device, cuda), story.no_engine()
    reason: Any = "no checkpoint" if backend is Backend.PYTORCH else "no artifact"
    return ladder.on_device(stand_in, device, cuda), Skip(reason=reason)


def verified(story: Story, pair: Pair, run_of: Callable[[Variant], Run]) -> judge.Check:
    """Compare two variants on the recorded samples: each component on equal inputs, then the whole pipeline."""
    config = story.job.config.verification
    skipped = judge.Check(
        reference=pair.reference.name,
        candidate=pair.candidate.name,
        devices=(pair.reference.device, pair.candidate.device),
        required=config.required,
        skipped=pair.skipped,
    )
    if pair.skipped:
        return skipped
    try:
        runs = run_of(pair.reference), run_of(pair.candidate)
    except PluginError:
        raise
    except RequirementError as error:
        reason: Literal["not supported", "no driver", "no device"] = "no device"
        if isinstance(error, ForeignError):
            reason = "not supported"
        elif _of_engine(pair):
            reason = "no driver"
        return attrs.evolve(skipped, skipped=Skip(reason=reason, detail=error.message))
    allowed = judge.tolerances(config.tolerance if pair.tolerance is None else pair.tolerance, config.tolerances)
    found = comparisons(story, pair, *runs)
    return judge.check(pair.reference, pair.candidate, found, allowed, required=config.required)


def comparisons(story: Story, pair: Pair, reference: Run, candidate: Run) -> Iterator[Comparison]:
    """Everything that is measured between two variants."""
    from awml_deploy_core.verify import verify_chained, verify_components

    job, names = story.job, (pair.reference.name, pair.candidate.name)
    wanted = set(story.recorded)

    def agreement(reference: Any, candidate: Any) -> Any:
        return job.plugin.ask("compare_predictions", reference=reference, candidate=candidate, config=job.config)

    yield from verify_components(reference, candidate, recorded_calls(story), names=names)
    yield from verify_chained(
        reference,
        candidate,
        [sample for sample in story.samples if sample.id in wanted],
        partial(ladder.build_pipeline, job.plugin, job.config),
        names=names,
        agree=agreement if job.config.task_type or "compare_predictions" in job.plugin.hooks else None,
    )
