"""Records come in the order of the samples, whatever the order in which they were walked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from awml_deploy_core.evaluate import evaluate
from awml_deploy_core.records import Component, Frame, Metrics, Record, Sample


class Nothing:
    """A run without components."""

    device = "cpu"
    components: Mapping[str, Component] = {}

    def note(self, name: str, value: float = 1) -> None: ...

    def __call__(self, component: str, /, **inputs: Any) -> dict[str, Any]:
        raise AssertionError(component)


def test_interleaved_sequences_are_put_back_in_order() -> None:
    samples = [Sample(id=f"s{i}", load=partial(Frame, inputs=i), sequence="ab"[i % 2]) for i in range(6)]
    walked: list[int] = []
    scored: list[int] = []

    def score(records: Sequence[Record]) -> Metrics:
        scored.extend(record.index for record in records)
        return Metrics(primary="count", values={"count": float(len(records))})

    class Listening:
        def predict(self, inputs: Any, run: Any) -> Any:
            walked.append(inputs)
            return inputs

    done = evaluate("toy", Nothing(), samples, Listening, score=score)
    assert walked == [0, 2, 4, 1, 3, 5]
    assert scored == [record.prediction for record in done.records] == [0, 1, 2, 3, 4, 5]
