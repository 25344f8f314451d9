"""The whole pipeline on both sides: calls in order, errors that travel, memory along sequences, predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from awml_deploy_core.errors import DeployError, LoadError, PluginError
from awml_deploy_core.judge import Tolerances, check
from awml_deploy_core.records import (
    Agreement,
    Array,
    Axis,
    Comparison,
    Component,
    Frame,
    Pipeline,
    Run,
    Sample,
    Stats,
    Tensor,
    Variant,
)
from awml_deploy_core.verify import PREDICTION, verify_chained

NAMES = ("trained", "onnx")


def component(name: str) -> Component:
    made = [Tensor(name=tensor, shape=("n",)) for tensor in ("x", "y")]
    return Component(name=name, inputs=made[:1], outputs=made[1:], axes=(Axis(name="n"),))


class FormulaRun:
    """Components as formulas; the candidate's may be wrong."""

    def __init__(self, device: str = "cpu", **formulas: Callable[[Any], Any]) -> None:
        self.device = device
        self.formulas: dict[str, Callable[[Any], Any]] = {
            "double": lambda x: 2 * x,
            "shift": lambda x: x + 1,
            **formulas,
        }
        self.components = {name: component(name) for name in self.formulas}
        self.notes: list[str] = []

    def note(self, name: str, value: float = 1) -> None:
        self.notes.append(name)

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        return {"y": self.formulas[component](inputs["x"])}


class Straight:
    """double, then shift; the answer is what is above a threshold."""

    def predict(self, inputs: Any, run: Run) -> Any:
        run.note("seen")
        y = run("shift", x=run("double", x=inputs)["y"])["y"]
        return y[y > 3]


def samples(*values: Any, sequence: str | None = None) -> list[Sample]:
    def one(i: int, value: Any) -> Sample:
        return Sample(id=f"s{i}", load=lambda: Frame(inputs=torch.tensor(value)), sequence=sequence)

    return [one(i, value) for i, value in enumerate(values)]


def alike(reference: Any, candidate: Any) -> Agreement:
    common = min(len(reference), len(candidate))
    apart = max(len(reference), len(candidate)) - common
    return Agreement(matched=common, unmatched=apart, score=common / (common + apart) if common + apart else 1.0)


def chained(
    candidate: Run, of: list[Sample], build: Callable[[str], Pipeline] = lambda _: Straight(), **more: Any
) -> list[Comparison]:
    return list(verify_chained(FormulaRun(), candidate, of, build, names=NAMES, **more))


def seen(comparisons: list[Comparison]) -> list[tuple[str, str, str | None, str]]:
    return [(one.sample, one.scope, one.component, one.finding) for one in comparisons]


def errors(comparisons: list[Comparison]) -> list[float]:
    """As parts of the reference's magnitude."""
    return [one.stats.max_abs / one.stats.scale for one in comparisons if isinstance(one.stats, Stats)]


def status(comparisons: list[Comparison]) -> str:
    variants = Variant(name="trained", backend="pytorch"), Variant(name="onnx", backend="onnx")
    return check(*variants, comparisons, Tolerances()).status


TWO = samples([1.0, 2.0], [3.0, 0.0])


def test_a_sound_candidate_is_compared_call_by_call_and_by_its_predictions() -> None:
    comparisons = chained(FormulaRun(), TWO, agree=alike)

    assert seen(comparisons) == [
        ("s0", "chained", "double", "ok"),
        ("s0", "chained", "shift", "ok"),
        ("s0", "prediction", None, "ok"),
        ("s1", "chained", "double", "ok"),
        ("s1", "chained", "shift", "ok"),
        ("s1", "prediction", None, "ok"),
    ]
    assert status(comparisons) == "passed"
    assert {(one.reference, one.candidate) for one in comparisons} == {NAMES}


def test_an_error_travels_along_the_chain() -> None:
    double, shift, prediction = chained(FormulaRun(double=lambda x: 2 * x + 0.5), TWO[:1], agree=alike)

    assert double.stats is not None
    assert shift.stats is not None
    assert double.stats.max_abs == shift.stats.max_abs == 0.5
    assert prediction.output == PREDICTION


def test_without_a_rule_predictions_are_left_out() -> None:
    assert {one.scope for one in chained(FormulaRun(), TWO)} == {"chained"}


def test_a_prediction_s_error_is_what_the_agreement_lacks() -> None:
    candidate = FormulaRun(shift=lambda x: torch.cat([x[:1], x[1:] * 0]) + 1)
    agreement = Agreement(matched=3, unmatched=1, score=0.75, distances={"centre": 0.5})
    prediction = chained(candidate, TWO[:1], agree=lambda *_: agreement)[-1]

    assert prediction.stats is not None
    assert (prediction.stats.max_abs, prediction.stats.count) == (0.25, 4)
    assert prediction.detail == "3 matched, 1 not; centre off by up to 0.5"
    assert status([prediction]) == "failed"


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_a_score_outside_its_range_is_the_plugin_s_fault(score: float) -> None:
    with pytest.raises(PluginError, match="between 0 and 1"):
        chained(FormulaRun(), TWO, agree=lambda *_: Agreement(matched=1, unmatched=0, score=score))


def test_predictions_without_anything_in_them_prove_nothing() -> None:
    assert status([chained(FormulaRun(), samples([0.0]), agree=alike)[-1]]) == "unverified"


# ---------------------------------------------------------------- calls


class Until:
    """Doubles until the first value is large: how often depends on what the component answers."""

    def predict(self, inputs: Any, run: Run) -> Any:
        while inputs[0] < 10:
            inputs = run("double", x=inputs)["y"]
        return run("shift", x=inputs)["y"]


def test_another_number_of_calls_is_a_finding_and_what_corresponds_is_compared() -> None:
    comparisons = chained(FormulaRun(double=lambda x: 3 * x), samples([1.0]), lambda _: Until())

    assert seen(comparisons) == [("s0", "chained", "double", "ok")] * 3 + [("s0", "chained", None, "calls")]
    assert comparisons[-1].detail == "the reference calls 4 x double, 1 x shift, the candidate 3 x double, 1 x shift"
    assert [one.detail for one in comparisons[:3]] == ["", "call 2", "call 3"]
    assert status(comparisons[-1:]) == "failed"


def test_more_calls_than_the_reference_made_are_a_finding() -> None:
    comparisons = chained(FormulaRun(double=lambda x: 1.5 * x), samples([1.0]), lambda _: Until())

    assert [one.finding for one in comparisons] == ["ok"] * 4 + ["calls"]


class Either:
    """Which component is called depends on what another answers."""

    def predict(self, inputs: Any, run: Run) -> Any:
        y = run("double", x=inputs)["y"]
        y = run("shift" if y[0] > 0 else "double", x=y)["y"]
        return run("shift", x=y)["y"]


def test_nothing_is_compared_after_a_call_of_another_component() -> None:
    comparisons = chained(FormulaRun(double=lambda x: -x), samples([1.0]), lambda _: Either())

    assert seen(comparisons) == [("s0", "chained", "double", "ok"), ("s0", "chained", None, "calls")]


class Silent:
    def predict(self, inputs: Any, run: Run) -> Any:
        return inputs


def test_a_sample_that_calls_nothing_is_compared_by_its_prediction() -> None:
    assert seen(chained(FormulaRun(), TWO[:1], lambda _: Silent(), agree=alike)) == [("s0", "prediction", None, "ok")]
    assert status(chained(FormulaRun(), TWO, lambda _: Silent())) == "unverified"


# ---------------------------------------------------------------- isolation


class InPlace:
    """Changes what it is given and what a component answers."""

    def predict(self, inputs: Any, run: Run) -> Any:
        inputs.add_(1)
        y = run("double", x=inputs)["y"]
        y.mul_(100)
        return run("shift", x=y)["y"]


def test_a_pipeline_that_works_in_place_disturbs_nothing() -> None:
    shared = torch.tensor([1.0, 2.0])
    of = [Sample(id="s0", load=lambda: Frame(inputs=shared.clone()))]
    double, _ = chained(FormulaRun(double=lambda x: 2 * x + 1), of, lambda _: InPlace())

    assert errors([double]) == [1.0 / 6.0]


def test_each_side_gets_a_pipeline_for_its_device_and_no_gradients() -> None:
    devices: list[str] = []

    class Probe:
        def predict(self, inputs: Any, run: Run) -> Any:
            assert not torch.is_grad_enabled()
            return run("double", x=inputs)["y"]

    def build(device: str) -> Pipeline:
        devices.append(device)
        return Probe()

    stream = verify_chained(FormulaRun("cpu"), FormulaRun("cuda:0"), TWO, build, names=NAMES)
    next(stream)
    assert torch.is_grad_enabled()
    assert sum(1 for _ in stream) == 1
    assert devices == ["cpu", "cuda:0"] * 2


def test_samples_are_loaded_one_at_a_time() -> None:
    loaded: list[str] = []

    def lazily() -> Iterator[Sample]:
        for sample in TWO:
            loaded.append(sample.id)
            yield sample

    next(verify_chained(FormulaRun(), FormulaRun(), lazily(), lambda _: Straight(), names=NAMES))
    assert loaded == ["s0"]


def test_counters_reach_the_run() -> None:
    run = FormulaRun()
    chained(run, TWO)

    assert run.notes == ["seen", "seen"]


def test_numpy_pipelines_are_compared_too() -> None:
    class Plain:
        def predict(self, inputs: Any, run: Run) -> Any:
            y = run("double", x=inputs.numpy())["y"]
            y *= 0
            return y

    (found,) = chained(FormulaRun(double=lambda x: np.multiply(x, 2.5)), TWO[:1], lambda _: Plain())
    assert errors([found]) == [1.0 / 4.0]


# ---------------------------------------------------------------- sequences


class Remembering:
    def __init__(self) -> None:
        self.state = torch.zeros(1)

    def predict(self, inputs: Any, run: Run) -> Any:
        self.state = run("double", x=self.state + inputs)["y"]
        return self.state


def remembered(of: list[Sample]) -> list[float]:
    return errors(chained(FormulaRun(double=lambda x: 2.02 * x), of, lambda _: Remembering()))


def test_memory_lasts_as_long_as_the_sequence() -> None:
    along = remembered(samples([1.0], [1.0], [1.0], sequence="drive"))
    apart = remembered(samples([1.0], [1.0], [1.0]))

    assert along[0] < along[1] < along[2]
    assert apart == [pytest.approx(0.01, rel=1e-3)] * 3


def test_the_next_sequence_starts_without_memory() -> None:
    first, second = samples([1.0], [1.0], sequence="a"), samples([1.0], [1.0], sequence="b")
    found = remembered(first + second)

    assert found[:2] == found[2:]
    assert found[0] < found[1]


# ---------------------------------------------------------------- what fails


def stop(_: Any) -> Any:
    raise RuntimeError("out of memory\nat line 3")


def test_a_candidate_that_fails_loses_the_prediction_with_the_reason_and_the_rest_goes_on() -> None:
    of = TWO
    comparisons = chained(FormulaRun(shift=lambda x: stop(x) if x[0] < 3 else x + 1), of, agree=alike)

    assert seen(comparisons)[:3] == [
        ("s0", "chained", "double", "ok"),
        ("s0", "chained", None, "calls"),
        ("s0", "prediction", None, "missing"),
    ]
    assert comparisons[2].detail == "RuntimeError: out of memory"
    assert [one.finding for one in comparisons[3:]] == ["ok", "ok", "ok"]
    assert status(comparisons) == "failed"


def test_a_candidate_that_fails_is_a_finding_without_a_rule_too() -> None:
    assert seen(chained(FormulaRun(double=stop), TWO[:1]))[-1] == ("s0", "prediction", None, "missing")


def test_a_reference_that_fails_ends_it_naming_the_sample() -> None:
    with pytest.raises(
        LoadError, match=r"sample s0: the reference of a comparison fails: RuntimeError: out of memory$"
    ):
        list(verify_chained(FormulaRun(double=stop), FormulaRun(), TWO, lambda _: Straight(), names=NAMES))


def test_a_reference_s_own_message_is_kept() -> None:
    def refuse(_: Any) -> Any:
        raise DeployError("the file is cut")

    with pytest.raises(DeployError, match=r"^the file is cut$"):
        list(verify_chained(FormulaRun(double=refuse), FormulaRun(), TWO, lambda _: Straight(), names=NAMES))


def test_the_rule_s_own_failure_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        chained(FormulaRun(), TWO, agree=lambda *_: Agreement(matched=1, unmatched=0, score=1 / 0))
