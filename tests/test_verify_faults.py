"""Every way to break a component turns the verdict, and the component at fault is the one that is named."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from awml_deploy_core.judge import Tolerances, check
from awml_deploy_core.records import Array, Call, Component, Run, Tensor, Variant, Verdict
from awml_deploy_core.verify import verify_components

NAMES = ("trained", "onnx")
TRAINED = Variant(name="trained", backend="pytorch")
ONNX = Variant(name="onnx", backend="onnx", parent="trained")


def component(name: str, outputs: tuple[str, ...], dtype: str = "float32") -> Component:
    made = tuple(Tensor(name=output, shape=(8, 4), dtype=dtype) for output in outputs)
    return Component(name=name, inputs=(Tensor(name="x", shape=(8, 6)),), outputs=made)


class ModuleRun:
    """Runs modules; `change` stands for what an export may do to a call."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        components: tuple[Component, ...],
        change: Callable[[str, dict[str, Array]], dict[str, Array]] | None = None,
    ) -> None:
        self.device = "cpu"
        self.components = {one.name: one for one in components}
        self.modules = modules
        self.change = change or (lambda _, outputs: outputs)

    def note(self, name: str, value: float = 1) -> None:
        raise AssertionError("verification counts nothing")

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        with torch.no_grad():
            answer = self.modules[component](*inputs.values())
        names = [tensor.name for tensor in self.components[component].outputs]
        return self.change(component, dict(zip(names, answer, strict=True)))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8, eps=1e-3)
        self.a = nn.Linear(8, 4)
        self.b = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(self.norm(self.shared(x)))
        return self.a(y), 100 * torch.sigmoid(self.b(y))


COMPONENTS = (component("encoder", ("features", "mask")), component("head", ("logits", "pixels")))


def network(seed: int) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    modules: dict[str, nn.Module] = {"encoder": Head(), "head": Head()}
    for module in modules.values():
        for _ in range(5):
            module(torch.randn(32, 6))
        module.eval()
    return modules


@pytest.fixture(scope="module")
def modules() -> dict[str, nn.Module]:
    return network(0)


@pytest.fixture(scope="module")
def calls(modules: dict[str, nn.Module]) -> list[Call]:
    torch.manual_seed(1)
    run = ModuleRun(modules, COMPONENTS)
    found = []
    for sample in ("s1", "s2", "s3"):
        for name in run.components:
            x = torch.randn(8, 6)
            found.append(Call(sample=sample, component=name, inputs={"x": x}, outputs=run(name, x=x), ms=1.0))
    return found


def verdicts(reference: Run | None, candidate: Run, calls: list[Call]) -> tuple[Verdict, ...]:
    return check(TRAINED, ONNX, verify_components(reference, candidate, calls, names=NAMES), Tolerances()).verdicts


def failures(verdicts: tuple[Verdict, ...]) -> set[tuple[str | None, str, str]]:
    failed = [verdict.comparison for verdict in verdicts if not verdict.passed]
    return {(found.component, found.output, found.finding) for found in failed}


# ---------------------------------------------------------------- sound candidates


def test_a_sound_candidate_passes_on_every_call_and_output(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    found = verdicts(ModuleRun(modules, COMPONENTS), ModuleRun(copy.deepcopy(modules), COMPONENTS), calls)

    assert len(found) == 3 * 2 * 2
    assert all(verdict.passed for verdict in found)
    assert {verdict.comparison.sample for verdict in found} == {"s1", "s2", "s3"}
    assert (found[0].comparison.reference, found[0].comparison.candidate) == NAMES


def test_rounding_differences_pass(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    double = copy.deepcopy(modules)

    def rounded(name: str, outputs: dict[str, Array]) -> dict[str, Array]:
        x = next(call.inputs["x"] for call in calls if call is rounded_at[0])
        with torch.no_grad():
            wide = double[name].double()(x.double())
        return {key: value.float() for key, value in zip(outputs, wide, strict=True)}

    rounded_at: list[Call] = [calls[0]]

    def one_by_one() -> Iterator[Call]:
        for call in calls:
            rounded_at[0] = call
            yield call

    comparisons = list(verify_components(None, ModuleRun(modules, COMPONENTS, rounded), one_by_one(), names=NAMES))
    assert any(one.stats is not None and one.stats.max_abs > 0 for one in comparisons)
    assert check(TRAINED, ONNX, comparisons, Tolerances()).status == "passed"


def test_recorded_answers_can_be_the_reference(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    wrong = [Call(sample=c.sample, component=c.component, inputs=c.inputs, outputs={}, ms=c.ms) for c in calls]

    assert not failures(verdicts(None, ModuleRun(modules, COMPONENTS), calls))
    assert failures(verdicts(None, ModuleRun(modules, COMPONENTS), wrong))
    assert not failures(verdicts(ModuleRun(modules, COMPONENTS), ModuleRun(modules, COMPONENTS), wrong))


def test_calls_are_read_one_at_a_time(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    read = []

    def reading() -> Iterator[Call]:
        for call in calls:
            read.append(call)
            yield call

    comparisons = verify_components(None, ModuleRun(modules, COMPONENTS), reading(), names=NAMES)
    next(comparisons)
    assert len(read) == 1


# ---------------------------------------------------------------- broken weights, one component at a time


def with_other_checkpoint(modules: dict[str, nn.Module]) -> None:
    modules["head"] = network(7)["head"]


def with_one_weight_off(modules: dict[str, nn.Module]) -> None:
    layer = modules["head"].get_submodule("shared")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[3, 2] += 0.02


def with_wrong_epsilon(modules: dict[str, nn.Module]) -> None:
    norm = modules["head"].get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm1d)
    norm.eps = 1e-5


def without_bias(modules: dict[str, nn.Module]) -> None:
    layer = modules["head"].get_submodule("b")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.bias.zero_()


@pytest.mark.parametrize("broken", [with_other_checkpoint, with_one_weight_off, with_wrong_epsilon, without_bias])
def test_broken_weights_fail_in_their_component_only(
    broken: Callable[[dict[str, nn.Module]], None], modules: dict[str, nn.Module], calls: list[Call]
) -> None:
    candidate = copy.deepcopy(modules)
    broken(candidate)
    found = failures(verdicts(ModuleRun(modules, COMPONENTS), ModuleRun(candidate, COMPONENTS), calls))

    assert {name for name, _, _ in found} == {"head"}
    assert {finding for _, _, finding in found} == {"ok"}


# ---------------------------------------------------------------- broken outputs


def swap(outputs: dict[str, Array]) -> dict[str, Array]:
    (a, x), (b, y) = outputs.items()
    return {a: y, b: x}


def drop(outputs: dict[str, Array]) -> dict[str, Array]:
    return dict(list(outputs.items())[:1])


def add(outputs: dict[str, Array]) -> dict[str, Array]:
    return {**outputs, "argmax": torch.zeros(2)}


def halve(outputs: dict[str, Array]) -> dict[str, Array]:
    """Half of the batch is a copy of the other half."""
    return {name: torch.cat([value[:4], value[:4]]) for name, value in outputs.items()}


def narrow(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: value.half() for name, value in outputs.items()}


def flatten(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: value.reshape(1, 32) for name, value in outputs.items()}


def transpose(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: value.t().reshape(8, 4) for name, value in outputs.items()}


def overflow(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: torch.where(value > 50, math.inf, value) for name, value in outputs.items()}


def wipe(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: torch.zeros_like(value) for name, value in outputs.items()}


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (swap, {("logits", "ok"), ("pixels", "ok")}),
        (drop, {("pixels", "missing")}),
        (add, {("argmax", "extra")}),
        (halve, {("logits", "ok"), ("pixels", "ok")}),
        (narrow, {("logits", "dtype"), ("pixels", "dtype")}),
        (flatten, {("logits", "shape"), ("pixels", "shape")}),
        (transpose, {("logits", "ok"), ("pixels", "ok")}),
        (overflow, {("pixels", "inf")}),
        (wipe, {("logits", "ok"), ("pixels", "ok")}),
    ],
)
def test_broken_outputs_fail_with_what_was_found(
    broken: Callable[[dict[str, Array]], dict[str, Array]],
    found: set[tuple[str, str]],
    modules: dict[str, nn.Module],
    calls: list[Call],
) -> None:
    def change(name: str, outputs: dict[str, Array]) -> dict[str, Array]:
        return broken(outputs) if name == "head" else outputs

    got = failures(verdicts(None, ModuleRun(modules, COMPONENTS, change), calls))
    assert got == {("head", *pair) for pair in found}


def test_nan_on_a_rare_input_fails_on_that_sample_alone(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    rare = next(call for call in calls if call.sample == "s2" and call.component == "encoder")
    peak = rare.outputs["features"].max()

    def change(_: str, outputs: dict[str, Array]) -> dict[str, Array]:
        return {name: torch.where(value == peak, math.nan, value) for name, value in outputs.items()}

    failed = [v for v in verdicts(None, ModuleRun(modules, COMPONENTS, change), calls) if not v.passed]
    assert [(v.comparison.sample, v.comparison.output, v.comparison.finding) for v in failed] == [
        ("s2", "features", "nan")
    ]
    place = tuple(int(i) for i in np.unravel_index(int(rare.outputs["features"].argmax()), (8, 4)))
    assert failed[0].comparison.detail.endswith(f"first at {place}")


def test_a_flipped_class_index_fails(calls: list[Call]) -> None:
    labels = (component("encoder", ("label",), "int64"),)
    call = Call(sample="s1", component="encoder", inputs={}, outputs={"label": torch.tensor([4, 1])}, ms=0.0)

    class Flipped(ModuleRun):
        def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
            return {"label": torch.tensor([4, 2])}

    assert failures(verdicts(None, Flipped({}, labels), [call])) == {("encoder", "label", "ok")}


# ---------------------------------------------------------------- what the candidate is declared to give


def test_the_component_demands_the_element_type(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    half = tuple(component(one.name, tuple(t.name for t in one.outputs), "float16") for one in COMPONENTS)
    fp16 = ModuleRun(modules, half, lambda _, outputs: narrow(outputs))

    found = [one.finding for one in verify_components(None, fp16, calls, names=NAMES)]
    assert set(found) == {"ok"}
    assert {f for _, _, f in failures(verdicts(None, ModuleRun(modules, half), calls))} == {"dtype"}


# ---------------------------------------------------------------- candidates that do not answer


def test_what_a_candidate_raises_is_a_finding_with_its_reason_and_the_rest_goes_on(
    modules: dict[str, nn.Module], calls: list[Call]
) -> None:
    def change(name: str, outputs: dict[str, Array]) -> dict[str, Array]:
        if name == "head":
            raise RuntimeError("Reshape: 12 elements do not fit (1, 32)\nmore")
        return outputs

    comparisons = list(verify_components(None, ModuleRun(modules, COMPONENTS, change), calls, names=NAMES))
    lost = {(one.output, one.finding, one.detail) for one in comparisons if one.component == "head"}
    reason = "RuntimeError: Reshape: 12 elements do not fit (1, 32)"
    assert lost == {("logits", "missing", reason), ("pixels", "missing", reason)}
    assert all(one.finding == "ok" for one in comparisons if one.component == "encoder")


def test_what_the_reference_raises_ends_the_verification(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    def change(name: str, outputs: dict[str, Array]) -> dict[str, Array]:
        raise RuntimeError("no memory")

    broken = ModuleRun(modules, COMPONENTS, change)
    with pytest.raises(RuntimeError, match="no memory"):
        list(verify_components(broken, ModuleRun(modules, COMPONENTS), calls, names=NAMES))


def test_an_interrupt_is_no_finding(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    def change(name: str, outputs: dict[str, Array]) -> dict[str, Array]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(verify_components(None, ModuleRun(modules, COMPONENTS, change), calls, names=NAMES))


def test_a_component_that_no_call_reaches_fails(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    some = [call for call in calls if call.component == "encoder"]

    assert failures(verdicts(None, ModuleRun(modules, COMPONENTS), some)) == {("head", "", "calls")}


def test_no_calls_prove_nothing(modules: dict[str, nn.Module]) -> None:
    one = check(TRAINED, ONNX, verify_components(None, ModuleRun(modules, COMPONENTS), [], names=NAMES), Tolerances())

    assert (one.verdicts, one.status) == ((), "unverified")


def test_repeated_calls_of_one_sample_are_told_apart(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    two = [calls[0], calls[0], calls[1]]
    details: list[Any] = [
        one.detail for one in verify_components(None, ModuleRun(modules, COMPONENTS), two, names=NAMES)
    ]

    assert details == ["", "", "call 2", "call 2", "", ""]


def test_recorded_inputs_move_to_the_device_of_the_run(modules: dict[str, nn.Module], calls: list[Call]) -> None:
    seen: list[str] = []

    class Elsewhere(ModuleRun):
        def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
            seen.extend(value.device.type for value in inputs.values())
            return dict(calls[0].outputs)

    run = Elsewhere(modules, COMPONENTS)
    run.device = "meta"
    plain = Call(sample="s1", component="encoder", inputs={"x": torch.zeros(1)}, outputs=calls[0].outputs, ms=0.0)
    assert [one.finding for one in verify_components(None, run, [plain], names=NAMES)][:2] == ["ok", "ok"]
    assert seen == ["meta"]


def test_a_failure_is_a_finding_even_if_no_answer_was_recorded(modules: dict[str, nn.Module]) -> None:
    call = Call(sample="s1", component="head", inputs={"y": torch.zeros(1)}, outputs={}, ms=0.0)

    assert ("head", "", "missing") in failures(verdicts(None, ModuleRun(modules, COMPONENTS), [call]))
