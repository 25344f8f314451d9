from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from awml_deploy_core.errors import LoadError
from awml_deploy_core.evaluate import evaluate
from awml_deploy_core.records import Component, Frame, Metrics, Record, Run, Sample


class Mean:
    device = "cpu"
    components: Mapping[str, Component] = {}

    def __call__(self, component: str, /, **inputs: Any) -> dict[str, Any]:
        return {"mean": inputs["x"].mean()}

    def note(self, name: str, value: float = 1) -> None:
        raise AssertionError


class Pipeline:
    def predict(self, inputs: Any, run: Run) -> Any:
        return run("mean", x=torch.as_tensor(inputs))["mean"]


def figures(records: Sequence[Record]) -> Metrics:
    return Metrics(primary="n", values={"n": float(len(records))})


def samples_of(count: int, load: Callable[[int], Frame]) -> list[Sample]:
    return [Sample(id=f"s{i}", load=partial(load, i)) for i in range(count)]


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("awml-load")]


def test_the_next_sample_is_loading_while_this_one_is_predicted() -> None:
    began = [threading.Event() for _ in range(5)]
    main = threading.get_ident()

    def load(index: int) -> Frame:
        assert threading.get_ident() != main
        began[index].set()
        return Frame(inputs=index)

    class Waiting:
        def predict(self, inputs: Any, run: Run) -> Any:
            # Would wait in vain if loading came only after this had ended.
            return inputs + 1 == len(began) or began[inputs + 1].wait(20)

    found = evaluate("v", Mean(), samples_of(5, load), Waiting, score=figures)
    assert [record.prediction for record in found.records] == [True] * 5
    assert found.evaluation.protocol["overlap"] is True


@pytest.mark.parametrize(("prefetch", "batch_size"), [(0, 1), (1, 1), (3, 1), (2, 4)])
def test_loading_runs_ahead_so_far_and_no_further(prefetch: int, batch_size: int) -> None:
    loaded: list[int] = []
    ahead: list[int] = []
    caught_up = threading.Event()

    def load(index: int) -> Frame:
        loaded.append(index)
        return Frame(inputs=index)

    def digest(tree: Any) -> str:
        # One thread serves in order: when it comes to the digest it has loaded all that it had been asked for.
        caught_up.set()
        return ""

    class Slow:
        def predict(self, inputs: Any, run: Run) -> Any:
            return self.predict_batch([inputs], run)[0]

        def predict_batch(self, inputs: Sequence[Any], run: Run) -> list[Any]:
            caught_up.clear()
            run("mean", x=torch.zeros(1))
            assert caught_up.wait(20)
            ahead.append(len(loaded) - inputs[-1] - 1)
            return list(inputs)

    samples = samples_of(24, load)
    evaluate("v", Mean(), samples, Slow, score=figures, prefetch=prefetch, batch_size=batch_size, digest_inputs=digest)
    assert loaded == list(range(24))
    assert (ahead[0], max(ahead), ahead[-1]) == (prefetch * batch_size, prefetch * batch_size, 0)


def test_without_overlap_inputs_are_digested_before_the_component_runs() -> None:
    order: list[str] = []

    class Telling(Mean):
        def __call__(self, component: str, /, **inputs: Any) -> dict[str, Any]:
            order.append("run")
            return super().__call__(component, **inputs)

    def digest(tree: Any) -> str:
        order.append("digest")
        return ""

    samples = samples_of(3, lambda i: Frame(inputs=np.ones(i + 1)))
    evaluate("v", Telling(), samples, Pipeline, score=figures, prefetch=0, digest_inputs=digest)
    assert order == ["digest", "run"] * 3


def test_memory_stays_flat_over_two_thousand_samples() -> None:
    frame = 64 * 1024
    peaks: list[int] = []

    def load(index: int) -> Frame:
        return Frame(inputs=np.full(frame // 8, index, np.float64), ground_truth=index)

    class Watched(Pipeline):
        def predict(self, inputs: Any, run: Run) -> Any:
            if inputs[0] % 200 == 199:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
            # A view: who keeps it keeps the frame.
            return run("mean", x=torch.from_numpy(inputs)) | {"row": inputs[:2]}

    tracemalloc.start()
    try:
        found = evaluate("v", Mean(), samples_of(2000, load), Watched, score=figures)
    finally:
        tracemalloc.stop()
    assert len(found.records) == len(found.digests) == 2000
    assert len(peaks) == 10
    # All frames together are 125 MB. A record with its times and digest takes some 3 kB.
    grown = peaks[-1] - peaks[0]
    assert peaks[0] < 30 * frame
    assert grown < 1800 * 6 * 1024


def test_digests_do_not_pile_up_behind_a_slow_hash() -> None:
    alive = most = 0
    lock = threading.Lock()

    class Kept:
        """Stands for the copy of an input: counted while it lives."""

        def __init__(self) -> None:
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    class Array(np.ndarray[Any, Any]):
        def copy(self, order: Any = "C") -> Any:
            answer = np.asarray(self).copy().view(Array)
            answer.kept = Kept()
            return answer

    def slow(tree: Any) -> str:
        threading.Event().wait(0.01)
        return ""

    class Arrays:
        def predict(self, inputs: Any, run: Run) -> Any:
            run("mean", x=inputs)
            return 0

    samples = samples_of(60, lambda i: Frame(inputs=np.ones(4).view(Array)))
    evaluate("v", Mean(), samples, Arrays, score=figures, prefetch=2, digest_inputs=slow)
    assert 0 < most <= 5


@pytest.mark.parametrize("where", ["load", "predict", "score"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_loading_thread_ends_however_the_evaluation_ends(where: str, error: type[BaseException]) -> None:
    def raises(here: str) -> None:
        if here == where:
            raise error("enough")

    def load(index: int) -> Frame:
        if index == 3:
            raises("load")
        return Frame(inputs=np.ones(2))

    class Failing(Pipeline):
        def predict(self, inputs: Any, run: Run) -> Any:
            raises("predict")
            return super().predict(inputs, run)

    def score(records: Sequence[Record]) -> Metrics:
        raises("score")
        return figures(records)

    expected = LoadError if error is ValueError and where != "score" else error
    with pytest.raises(expected):
        evaluate("v", Mean(), samples_of(50, load), Failing, score=score)
    for thread in loaders():
        thread.join(10)
    assert loaders() == []


def test_ctrl_c_does_not_wait_for_a_slow_disk() -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(index: int) -> Frame:
        if index == 1:
            loading.set()
            go_on.wait(20)
        return Frame(inputs=np.ones(2))

    class Interrupted:
        def predict(self, inputs: Any, run: Run) -> Any:
            assert loading.wait(20)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate("v", Mean(), samples_of(9, load), Interrupted, score=figures)
    (thread,) = loaders()  # still at its sample, and we are here
    go_on.set()
    thread.join(10)
    assert loaders() == []


def test_nothing_is_differentiated() -> None:
    weight = torch.ones(2, requires_grad=True)

    class InPlace:
        def predict(self, inputs: Any, run: Run) -> Any:
            scores = weight * torch.as_tensor(inputs)
            return scores.view(2).sigmoid_(), scores.requires_grad, torch.is_inference_mode_enabled()

    found = evaluate("v", Mean(), samples_of(1, lambda i: Frame(inputs=np.ones(2))), InPlace, score=figures)
    assert found.records[0].prediction[1:] == (False, False)
    assert torch.is_grad_enabled()
