"""Recording: which samples are run, what is kept, and that nobody can reach into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from awml_deploy_core.backends import open_run
from awml_deploy_core.errors import ArtifactError, LoadError, PluginError
from awml_deploy_core.record import Recorder, record, resize_inputs, sizes_of
from awml_deploy_core.records import Axis, Call, Component, Frame, Run, Sample, Tensor, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from awml_deploy_core.backends.runner import Runner


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> Any:
    sizes: Any = shape
    return Tensor(name=name, shape=sizes, dtype=dtype)


def component(name: str, inputs: Any, outputs: Any, axes: Any) -> Component:
    return Component(name=name, inputs=inputs, outputs=outputs, axes=axes)


ROWS = Axis(name="n", independent=True)
FIRST = component("first", [tensor("x", "n", 2)], [tensor("y", "n", 2)], [ROWS])
SECOND = component("second", [tensor("y", "n", 2)], [tensor("z", "n", 2)], [ROWS])


@pytest.fixture
def run() -> Iterator[Runner]:
    modules = {"first": nn.Identity(), "second": nn.ReLU()}
    with open_run(Variant(name="trained", backend="pytorch"), [FIRST, SECOND], modules=modules) as opened:
        yield opened


def sample(name: str, inputs: Any, sequence: str | None = None) -> Sample:
    return Sample(id=name, load=lambda: Frame(inputs=inputs), sequence=sequence)


class Chain:
    """Runs the second component only where the first one leaves something."""

    def predict(self, inputs: torch.Tensor, run: Run) -> torch.Tensor:
        y: torch.Tensor = run("first", x=inputs)["y"]
        if y.max() > 0:
            y = run("second", y=y)["z"]
        inputs.zero_()
        y.zero_()
        return y


def test_it_goes_forward_until_every_component_was_called(run: Runner) -> None:
    values = [5.0, -1.0, -2.0, 3.0, 4.0]
    samples = [sample(f"s{index}", torch.full((1, 2), value)) for index, value in enumerate(values)]
    calls: list[Call] = []
    recording = record(samples, run, Chain, start=1, on_call=calls.append)
    assert recording.samples == ("s1", "s2", "s3")
    assert recording.calls == {"first": 3, "second": 1}
    assert [(call.sample, call.component) for call in calls] == [
        ("s1", "first"), ("s2", "first"), ("s3", "first"), ("s3", "second"),
    ]  # fmt: skip
    # The pipeline has emptied its tensors in place since; what was recorded is what went through.
    assert [call.inputs.get("x", call.inputs.get("y"))[0, 0].item() for call in calls] == [-1, -2, 3, 3]
    assert [next(iter(call.outputs.values()))[0, 0].item() for call in calls] == [-1, -2, 3, 3]
    assert recording.examples["first"]["x"].tolist() == [[-1, -1]]
    assert recording.examples["second"]["y"].tolist() == [[3, 3]]
    assert all(call.ms > 0 for call in calls)


def test_it_goes_on_to_the_asked_number_of_samples(run: Runner) -> None:
    samples = [sample(f"s{index}", torch.ones(1, 2)) for index in range(4)]
    assert record(samples, run, Chain, count=3).samples == ("s0", "s1", "s2")
    assert record(samples, run, Chain, count=9).samples == ("s0", "s1", "s2", "s3")


def test_numpy_inputs_are_recorded_as_they_are(run: Runner) -> None:
    class Plain:
        def predict(self, inputs: Any, run: Run) -> None:
            run("second", **run("first", x=inputs))

    recording = record([sample("s", np.ones((1, 2), np.float32))], run, Plain)
    assert isinstance(recording.examples["second"]["y"], np.ndarray)


def test_each_sequence_has_a_pipeline_of_its_own(run: Runner) -> None:
    built: list[list[str]] = []

    class Memory:
        def __init__(self) -> None:
            self.seen: list[str] = []
            built.append(self.seen)

        def predict(self, inputs: str, run: Run) -> None:
            self.seen.append(inputs)
            run("first", x=torch.zeros(1, 2))

    sequences = ["a", "a", "b", "b", None, None, "a"]
    samples = [sample(f"s{i}", f"s{i}", sequence) for i, sequence in enumerate(sequences)]
    with pytest.raises(LoadError):
        record(samples, run, Memory)
    assert built == [["s0", "s1"], ["s2", "s3"], ["s4"], ["s5"], ["s6"]]


def test_a_component_that_is_never_called_is_named(run: Runner) -> None:
    samples = [sample(f"s{index}", -torch.ones(1, 2)) for index in range(3)]
    with pytest.raises(LoadError, match=r"second never called by the samples s0 to s2 \(3 in all\)"):
        record(samples, run, Chain)


def test_a_component_that_is_not_declared_is_named(run: Runner) -> None:
    class Wrong:
        def predict(self, inputs: Any, run: Run) -> None:
            run("secnd", y=inputs)

    with pytest.raises(PluginError, match="runs 'secnd', but the components are first, second") as caught:
        record([sample("s", torch.ones(1, 2))], run, Wrong)
    assert caught.value.hint == "Did you mean 'second'?"


@pytest.mark.parametrize("start", [-1, 2])
def test_a_start_outside_the_data_set(run: Runner, start: int) -> None:
    with pytest.raises(LoadError, match=f"sample {start} was asked for, but there are 2"):
        record([sample("s", None)] * 2, run, Chain, start=start)


def test_a_sample_that_cannot_be_read_is_named_with_its_cause(run: Runner) -> None:
    def load() -> Frame:
        raise OSError("disk is gone\nand more")

    with pytest.raises(LoadError, match=r"^sample s: cannot be loaded: OSError: disk is gone$") as caught:
        record([Sample(id="s", load=load)], run, Chain)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_pipeline_that_fails_is_named_with_the_sample(run: Runner) -> None:
    with pytest.raises(LoadError, match="sample s: makes the pipeline fail: AttributeError"):
        record([sample("s", torch.ones(1, 2))], run, object)  # type: ignore[arg-type]


def test_errors_that_are_already_for_the_user_pass(run: Runner) -> None:
    def load() -> Frame:
        raise ArtifactError("the file changed")

    with pytest.raises(ArtifactError, match=r"^the file changed$"):
        record([Sample(id="s", load=load)], run, Chain)


def test_the_pipeline_runs_without_gradients(run: Runner) -> None:
    modes: list[bool] = []

    class Asks(Chain):
        def predict(self, inputs: torch.Tensor, run: Run) -> torch.Tensor:
            modes.append(torch.is_grad_enabled())
            return super().predict(inputs, run)

    record([sample("s", torch.ones(1, 2))], run, Asks)
    assert modes == [False]


def test_the_recorder_passes_everything_else_through(run: Runner) -> None:
    recorder: Run = Recorder(run, lambda _: None)
    recorder.note("capped", 2)
    assert (recorder.device, recorder.components, run.notes) == ("cpu", run.components, {"capped": 2})


# ---------------------------------------------------------------- another size

axes = st.builds(
    lambda low, more, free, independent: Axis(
        name="a", min=low, max=None if free else max(low + more, 1), independent=independent
    ),
    st.integers(0, 9),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)


@settings(deadline=None)
@given(axis=axes, data=st.data())
def test_another_size_is_within_the_limits_and_differs(axis: Axis, data: Any) -> None:
    size = data.draw(st.integers(axis.min, axis.max if axis.max is not None else axis.min + 9))
    described = component("c", [tensor("x", "a", 2), tensor("i", 3, "a", dtype="int64")], [tensor("y", "a")], [axis])
    inputs = {"x": torch.rand(size, 2) + 1, "i": torch.randint(0, 7, (3, size))}
    resized = resize_inputs(described, inputs)
    other = sizes_of(described, resized)["a"]
    assert resized["x"].shape == (other, 2)
    assert resized["i"].shape == (3, other)
    assert axis.min <= other
    assert axis.max is None or other <= axis.max
    room = axis.max is None or len(set(range(max(axis.min, 1), axis.max + 1)) - {size}) > 0
    assert (other != size) is room
    if size:
        assert set(resized["i"].flatten().tolist()) <= set(inputs["i"].flatten().tolist())


def test_repeated_rows_are_all_different() -> None:
    described = component("c", [tensor("x", "a", 2)], [tensor("y", "a")], [Axis(name="a", min=4, independent=True)])
    resized = resize_inputs(described, {"x": np.arange(1, 9, dtype=np.float32).reshape(4, 2)})["x"]
    assert isinstance(resized, np.ndarray)
    assert resized.shape == (8, 2)
    assert len({tuple(row) for row in resized.tolist()}) == 8
    np.testing.assert_array_equal(resized[4:], resized[:4] * np.float32(0.75))


def test_other_axes_are_scaled_like_an_image() -> None:
    described = component("c", [tensor("x", 1, "W")], [tensor("y", "W")], [Axis(name="W", min=2, max=8)])
    assert resize_inputs(described, {"x": torch.tensor([[1, 2, 3, 4]])})["x"].tolist() == [[1, 3]]
    assert resize_inputs(described, {"x": torch.tensor([[1, 2]])})["x"].tolist() == [[1, 1, 2, 2]]


def test_fixed_axes_and_axes_not_asked_for_stay() -> None:
    fixed, free = Axis(name="a", dynamic=False), Axis(name="b")
    described = component("c", [tensor("x", "a", "b", "n")], [tensor("y", "a", "b", "n")], [fixed, free, ROWS])
    inputs = {"x": torch.ones(2, 3, 4)}
    assert resize_inputs(described, inputs)["x"].shape == (2, 6, 1)
    assert resize_inputs(described, inputs, ["b"])["x"].shape == (2, 6, 4)
    assert inputs["x"].shape == (2, 3, 4)
