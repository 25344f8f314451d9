"""Two ways to run a model to comparisons: each component on equal inputs, and the whole pipeline.

The first attributes a fault, because no component hears of another's error. The second sees what the first cannot: a
wrong order or number of calls, errors that grow from component to component, and a prediction that changed. Both
stream: besides the comparisons no more is held than one call, or the outputs of one sample.

What a candidate raises on an input that the reference took is a result and not an error, so it is a finding with the
reason. What the reference raises ends the verification.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any, Literal

import numpy as np
from attrs import evolve, frozen

from awml_deploy_core.around import Around
from awml_deploy_core.compare import compare
from awml_deploy_core.errors import DeployError, LoadError, PluginError
from awml_deploy_core.records import Agreement, Array, Call, Comparison, Pipeline, Run, Sample, Stats
from awml_deploy_core.tree.bits import is_tensor

__all__ = ["PREDICTION", "verify_chained", "verify_components"]

PREDICTION = "prediction"
"""Name of the output that a comparison of whole predictions speaks of."""

Agree = Callable[[Any, Any], Agreement]

log = logging.getLogger(__name__)


# ---------------------------------------------------------------- each component alone


def verify_components(
    reference_run: Run | None, candidate_run: Run, calls: Iterable[Call], *, names: tuple[str, str]
) -> Iterator[Comparison]:
    """Compare each component's answers to equal recorded inputs.

    Args:
        reference_run: The trusted side; None if the recorded outputs are its answers.
        candidate_run: The side under test.
        calls: Recorded calls, of several samples; read once, one at a time.
        names: Names of the two variants.

    Yields:
        A comparison per output and call. If there were calls, a component that none of them reached is a finding:
        nothing was learnt about it. No calls yield nothing.
    """
    times: dict[tuple[str, str], int] = {}
    for call in calls:
        nth = times[call.sample, call.component] = times.get((call.sample, call.component), 0) + 1
        place = _Place(names=names, scope="component", sample=call.sample, component=call.component)
        expected = call.outputs if reference_run is None else _call(reference_run, call)
        answer, reason = _attempt(partial(_call, candidate_run, call))
        if reason:
            yield from (_finding(place, "missing", reason, output=output) for output in expected or [""])
        else:
            yield from _outputs(place, candidate_run, expected, answer, nth)
    reached = {component for _, component in times}
    for component in candidate_run.components if reached else ():
        if component not in reached:
            place = _Place(names=names, scope="component", sample="", component=component)
            yield _finding(place, "calls", "no recorded call reaches it")


@frozen(kw_only=True)
class _Place:
    """Where something is compared."""

    names: tuple[str, str]
    scope: Literal["component", "chained", "prediction"]
    sample: str
    component: str | None = None


def _outputs(
    place: _Place, candidate_run: Run, expected: Mapping[str, Array], answer: Mapping[str, Array], nth: int
) -> tuple[Comparison, ...]:
    """Compare the outputs of one call; the component says which element types the file must have."""
    declared = candidate_run.components[place.component or ""].outputs
    return compare(
        expected,
        answer,
        names=place.names,
        scope=place.scope,
        sample=place.sample,
        component=place.component,
        demanded={tensor.name: tensor.dtype for tensor in declared},
        detail=f"call {nth}" if nth > 1 else "",
    )


def _finding(place: _Place, finding: Literal["ok", "missing", "calls"], detail: str, *, output: str = "") -> Comparison:
    return Comparison(
        reference=place.names[0],
        candidate=place.names[1],
        scope=place.scope,
        sample=place.sample,
        component=place.component,
        output=output,
        shape=(),
        dtypes=("", ""),
        finding=finding,
        detail=detail,
    )


def _call(run: Run, call: Call) -> dict[str, Array]:
    moved = {name: value.to(run.device) if is_tensor(value) else value for name, value in call.inputs.items()}
    return run(call.component, **moved)


def _attempt(action: Callable[[], Any]) -> tuple[Any, str]:
    """What the candidate answers, or None and why it does not."""
    try:
        return action(), ""
    except Exception as error:  # whatever it is: the reference did the same without it
        log.debug("the candidate fails where the reference did not", exc_info=True)
        return None, _said(error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


# ---------------------------------------------------------------- the whole pipeline


def verify_chained(
    reference_run: Run,
    candidate_run: Run,
    samples: Iterable[Sample],
    build_pipeline: Callable[[str], Pipeline],
    *,
    names: tuple[str, str],
    agree: Agree | None = None,
) -> Iterator[Comparison]:
    """Compare what the pipeline makes of each sample on either side.

    Each side loads the sample for itself, since a pipeline may change what it is given. The samples of a sequence
    share a pipeline, whose memory lasts as long as the sequence; every other sample gets a new one.

    Args:
        reference_run: The trusted side.
        candidate_run: The side under test.
        samples: Loaded one at a time; those of one sequence follow one another.
        build_pipeline: Makes a pipeline without memory for a device.
        names: Names of the two variants.
        agree: The task's rule for two predictions; None leaves predictions out.

    Yields:
        Per sample a comparison per output of every call, in order, a finding if the calls differ, and one for the
        prediction, whose error is 1 less the agreement's score.
    """
    last: tuple[str | None, Pipeline, Pipeline] | None = None
    for sample in samples:
        if sample.sequence is None or last is None or last[0] != sample.sequence:
            last = sample.sequence, build_pipeline(reference_run.device), build_pipeline(candidate_run.device)
        yield from _sample(sample, (reference_run, candidate_run), last[1:], names, agree)


def _sample(
    sample: Sample,
    runs: tuple[Run, Run],
    pipelines: tuple[Pipeline, Pipeline],
    names: tuple[str, str],
    agree: Agree | None,
) -> Iterator[Comparison]:
    expected: list[tuple[str, dict[str, Array]]] = []
    trusted = _trusted(sample, pipelines[0], _Tap(runs[0], lambda name, out: expected.append((name, _copied(out)))))
    wanted = [component for component, _ in expected]
    compared: list[Comparison] = []
    called: list[str] = []

    def listen(name: str, outputs: Mapping[str, Array]) -> None:
        called.append(name)
        # After a wrong call nothing that follows corresponds to anything.
        if called == wanted[: len(called)]:
            place = _Place(names=names, scope="chained", sample=sample.id, component=name)
            compared.extend(_outputs(place, runs[1], expected[len(called) - 1][1], outputs, called.count(name)))

    prediction, reason = _attempt(partial(_predict, sample, pipelines[1], _Tap(runs[1], listen)))
    yield from compared
    if called != wanted:
        fact = f"the reference calls {_listed(wanted)}, the candidate {_listed(called)}"
        yield _finding(_Place(names=names, scope="chained", sample=sample.id), "calls", fact)
    place = _Place(names=names, scope="prediction", sample=sample.id)
    if reason:
        yield _finding(place, "missing", reason, output=PREDICTION)
    elif agree is not None:
        yield _agreed(place, agree(trusted, prediction))


class _Tap(Around):
    """A run that lets a listener see the outputs of each call before the pipeline can change them."""

    def __init__(self, run: Run, listen: Callable[[str, dict[str, Array]], None]) -> None:
        super().__init__(run)
        self._listen = listen

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        outputs = super().__call__(component, **inputs)
        self._listen(component, outputs)
        return outputs


def _copied(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value.detach().clone() if is_tensor(value) else np.array(value) for name, value in outputs.items()}


def _listed(components: list[str]) -> str:
    return ", ".join(f"{len(list(group))} x {name}" for name, group in groupby(components)) or "nothing"


def _predict(sample: Sample, pipeline: Pipeline, run: Run) -> Any:
    import torch

    inputs = sample.load().inputs
    with torch.no_grad():
        return pipeline.predict(inputs, run)


def _trusted(sample: Sample, pipeline: Pipeline, run: Run) -> Any:
    """What the reference predicts; its failure is the sample's or the plugin's, and no comparison."""
    try:
        return _predict(sample, pipeline, run)
    except DeployError:
        raise
    except Exception as error:
        raise LoadError(f"sample {sample.id}: the reference of a comparison fails: {_said(error)}") from error


def _agreed(place: _Place, agreement: Agreement) -> Comparison:
    """An agreement as a comparison: its error is the part of the prediction that differs."""
    if not 0 <= agreement.score <= 1:
        raise PluginError(f"compare_predictions: the score must lie between 0 and 1, got {agreement.score}")
    error = 1.0 - agreement.score
    words = [f"{agreement.matched} matched, {agreement.unmatched} not"]
    words += [f"{name} off by up to {distance:.3g}" for name, distance in agreement.distances.items()]
    stats = Stats(
        count=agreement.matched + agreement.unmatched,
        max_abs=error,
        mean_abs=error,
        max_rel=error,
        mean_rel=error,
        cosine=None,
        snr_db=None,
        scale=1.0,
    )
    return evolve(_finding(place, "ok", "; ".join(words), output=PREDICTION), stats=stats)
