from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.evaluate import evaluate
from awml_deploy_core.evaluate.timing import STAGES, Moment, fps, stages, summarise
from awml_deploy_core.records import Component, Frame, Metrics, Record, Run, Sample

if TYPE_CHECKING:
    import pytest


class Clock:
    """Time passes only when somebody says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def work(self, ms: float) -> None:
        self.seconds += ms / 1e3


class Stepping:
    """A run whose components take as long as they are told to."""

    device = "cpu"
    components: Mapping[str, Component] = {}

    def __init__(self, clock: Clock, **ms: float) -> None:
        self.clock, self.ms = clock, ms

    def __call__(self, component: str, /, **inputs: Any) -> dict[str, Any]:
        self.clock.work(self.ms[component])
        return dict(inputs)

    def note(self, name: str, value: float = 1) -> None:
        raise AssertionError


def figures(records: Sequence[Record]) -> Metrics:
    return Metrics(primary="n", values={"n": float(len(records))})


def test_stage_times_come_from_when_the_components_are_called() -> None:
    clock = Clock()

    class Pipeline:
        def predict(self, inputs: Any, run: Run) -> Any:
            clock.work(inputs)
            found = run("encoder", x=np.float32(inputs))
            clock.work(3)
            run("head", **found)
            clock.work(1)
            run("head", **found)
            clock.work(5)
            return 0

        def reduce(self, prediction: Any, truth: Any) -> Any:
            clock.work(1000)
            return 0

    def load(ms: float) -> Frame:
        return Frame(inputs=ms)

    digested: list[str] = []

    def digest(tree: Any) -> str:
        clock.work(10_000)
        digested.append(tree[0])
        return "same"

    samples = [Sample(id=f"s{ms}", load=partial(load, ms)) for ms in (2.0, 4.0)]
    found = evaluate(
        "v",
        Stepping(clock, encoder=7, head=11),
        samples,
        Pipeline,
        score=figures,
        num_warmup=2,
        prefetch=0,
        digest_inputs=digest,
        clock=clock,
    )
    timings = found.evaluation.timings
    assert list(timings) == ["preprocess", "run", "run:encoder", "run:head", "middle", "postprocess", "total"]
    means = {name: round(timing.mean, 6) for name, timing in timings.items()}
    assert means == {
        "preprocess": 3,
        "run": 29,
        "run:encoder": 7,
        "run:head": 22,
        "middle": 4,
        "postprocess": 5,
        "total": 41,
    }
    assert (round(timings["total"].min, 6), round(timings["total"].max, 6)) == (40, 42)
    assert timings["total"].count == 2
    assert math.isclose(fps(timings["total"]), 1000 / 41)
    assert found.evaluation.protocol["clock"] == "Clock"
    assert digested == ["encoder"] * 2  # the first call of each sample, and none of warm-up


def test_a_batch_shares_its_time_equally() -> None:
    clock = Clock()

    class Pipeline:
        def predict(self, inputs: Any, run: Run) -> Any:
            raise AssertionError

        def predict_batch(self, inputs: Sequence[Any], run: Run) -> list[Any]:
            clock.work(8)
            run("net", x=np.zeros(len(inputs)))
            return [0] * len(inputs)

    samples = [Sample(id=f"s{i}", load=lambda: Frame(inputs=0)) for i in range(4)]
    found = evaluate("v", Stepping(clock, net=20), samples, Pipeline, score=figures, batch_size=4, clock=clock)
    total = found.evaluation.timings["total"]
    assert (total.count, round(total.mean, 6), round(total.max, 6)) == (4, 7, 7)
    assert round(fps(total), 3) == round(4 / 0.028, 3)


def test_the_device_is_idle_before_each_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    queued: list[float] = []

    class Cuda(Stepping):
        """Answers at once and works later, as a GPU does."""

        device = "cuda:0"

        def __call__(self, component: str, /, **inputs: Any) -> dict[str, Any]:
            queued.append(self.ms[component])
            return dict(inputs)

    def synchronize(device: str) -> None:
        assert device == "cuda:0"
        while queued:
            clock.work(queued.pop())

    class Pipeline:
        def predict(self, inputs: Any, run: Run) -> Any:
            queued.append(2)
            run("net", x=np.float32(0))
            queued.append(3)
            return 0

    monkeypatch.setattr("torch.cuda.synchronize", synchronize)
    samples = [Sample(id="s", load=lambda: Frame(inputs=0))]
    found = evaluate("v", Cuda(clock, net=20), samples, Pipeline, score=figures, clock=clock)
    means = {name: round(found.evaluation.timings[name].mean, 6) for name in STAGES}
    assert means == {"preprocess": 2, "run": 20, "middle": 0, "postprocess": 3, "total": 25}
    assert found.evaluation.protocol["synchronised"] is True


def test_a_sample_that_calls_nothing_spends_its_time_in_preprocessing() -> None:
    assert stages(1.0, (), 1.25) == {"preprocess": 250, "run": 0, "middle": 0, "postprocess": 0, "total": 250}


@given(st.lists(st.floats(0, 10), min_size=2, max_size=40))
def test_stages_add_up_to_the_total(steps: list[float]) -> None:
    times = list(np.cumsum(steps))
    inside = times[1:-1]
    moments = [
        Moment(component="abc"[i % 3], asked=a, started=b, ended=c)
        for i, (a, b, c) in enumerate(zip(inside[::3], inside[1::3], inside[2::3], strict=False))
    ]
    found = stages(times[0], moments, times[-1])
    aside = sum(moment.started - moment.asked for moment in moments)
    assert math.isclose(found["total"], 1e3 * (times[-1] - times[0] - aside), abs_tol=1e-6)
    assert math.isclose(found["total"], sum(found[name] for name in STAGES[:-1]))
    assert math.isclose(found["run"], sum(ms for name, ms in found.items() if name.startswith("run:")), abs_tol=1e-9)
    assert min(found.values()) >= 0


@given(st.lists(st.floats(0.001, 1e5), min_size=2, max_size=200))
def test_summaries_are_those_of_the_standard_library(ms: list[float]) -> None:
    found = summarise(ms)
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    assert (found.count, found.min, found.max) == (len(ms), min(ms), max(ms))
    assert math.isclose(found.mean, statistics.fmean(ms), rel_tol=1e-9)
    assert math.isclose(found.std, statistics.pstdev(ms), rel_tol=1e-6, abs_tol=1e-7 * max(ms))
    for percentile, value in ((50, found.p50), (90, found.p90), (95, found.p95), (99, found.p99)):
        assert math.isclose(value, cuts[percentile - 1], rel_tol=1e-9)


def test_one_measurement_is_its_own_summary() -> None:
    found = summarise([4.0])
    assert (found.mean, found.std, found.p50, found.p99) == (4, 0, 4, 4)
