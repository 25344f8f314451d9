"""Where the milliseconds of a sample go, seen from outside: a run around a run.

A pipeline is not asked to measure itself. Whatever lies before its first call is preprocessing, what lies between two
calls is its own glue, what follows the last call is postprocessing, and the parts add up to the total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from attrs import define, field, frozen

from awml_deploy_core.records import Array, Component, Run, Timing

__all__ = ["STAGES", "Clock", "Moment", "TimedRun", "clocked", "fps", "stages", "summarise"]

STAGES = ("preprocess", "run", "middle", "postprocess", "total")
"""Parts of a sample's time. `run` is the sum of all calls; `run:NAME` beside it is the part of one component."""

Clock = Callable[[], float]


@frozen(kw_only=True)
class Moment:
    """One call on the clock, in seconds: what lies between `asked` and `started` is ours and counts for nothing."""

    component: str
    asked: float
    started: float
    ended: float


@define(kw_only=True, eq=False)
class TimedRun:
    """Passes every call on to `run` and keeps when it happened.

    Args:
        run: What really runs the components.
        clock: Seconds, monotonic.
        wait: Returns when the device has nothing left to do; without it a GPU's time lands in the wrong part.
        on_first: Shown the component and the inputs of the first call, off the record.
    """

    run: Run
    clock: Clock
    wait: Callable[[], None]
    on_first: Callable[[str, Mapping[str, Array]], None] | None = None
    moments: list[Moment] = field(factory=list, init=False)
    notes: list[tuple[str, float]] = field(factory=list, init=False)
    step: Literal["preprocess", "run", "postprocess"] = field(default="preprocess", init=False)

    @property
    def device(self) -> str:
        """Where tensors live."""
        return self.run.device

    @property
    def components(self) -> Mapping[str, Component]:
        """The components that can be called, by name."""
        return self.run.components

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component and keep the time that it took."""
        asked = started = self.now()
        if self.on_first is not None and not self.moments:
            self.on_first(component, inputs)
            started = self.clock()
        self.step = "run"
        outputs = self.run(component, **inputs)
        self.moments.append(Moment(component=component, asked=asked, started=started, ended=self.now()))
        self.step = "postprocess"
        return outputs

    def note(self, name: str, value: float = 1) -> None:
        """Keep a count of this sample, so that it can be dropped if the sample fails."""
        self.notes.append((name, value))

    def now(self) -> float:
        """The time once the device is idle."""
        self.wait()
        return self.clock()


def clocked(method: Callable[[Any, Run], Any], inputs: Any, run: TimedRun) -> tuple[Any, dict[str, float]]:
    """What the method answers, with its stage times."""
    began = run.now()
    answer = method(inputs, run)
    return answer, stages(began, run.moments, run.now())


def stages(began: float, moments: Sequence[Moment], ended: float) -> dict[str, float]:
    """Milliseconds by stage and component; a sample that called nothing spent all of its time in preprocessing."""
    first = moments[0].asked if moments else ended
    last = moments[-1].ended if moments else ended
    seconds = {"preprocess": first - began, "run": sum(moment.ended - moment.started for moment in moments)}
    for moment in moments:
        name = f"run:{moment.component}"
        seconds[name] = seconds.get(name, 0.0) + moment.ended - moment.started
    seconds["middle"] = sum(after.asked - before.ended for before, after in pairwise(moments))
    seconds["postprocess"] = ended - last
    seconds["total"] = sum(seconds[name] for name in STAGES[:-1])
    return {name: 1e3 * value for name, value in seconds.items()}


def summarise(ms: Sequence[float]) -> Timing:
    """Mean, spread and percentiles of at least one measurement.

    The deviation is the population's; percentiles are interpolated linearly between the neighbouring measurements.
    """
    values = np.asarray(ms, dtype=np.float64)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99), method="linear"))
    return Timing(
        count=values.size,
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        max=float(values.max()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
    )


def fps(total: Timing) -> float:
    """Samples per second at the mean total time."""
    return 1e3 / total.mean
