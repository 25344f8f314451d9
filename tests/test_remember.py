"""An answer is asked for once, and given again as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from awml_deploy_core.records import Array, Component
from awml_deploy_core.remember import Remembering


class Doubling:
    """Counts how often it is asked."""

    device = "cpu"

    def __init__(self) -> None:
        self.components: dict[str, Component] = {}
        self.asked = 0
        self.noted: list[tuple[str, float]] = []

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        self.asked += 1
        if component == "broken":
            raise ValueError("no")
        return {name: value + value for name, value in inputs.items()}

    def note(self, name: str, value: float = 1) -> None:
        self.noted.append((name, value))


@pytest.fixture
def run(tmp_path: Path) -> tuple[Doubling, Remembering]:
    inner = Doubling()
    return inner, Remembering(inner, tmp_path / "kept")


def test_equal_inputs_are_asked_once_in_either_kind(run: tuple[Doubling, Remembering]) -> None:
    inner, outer = run
    first = outer("net", x=torch.arange(3.0))
    second = outer("net", x=torch.arange(3.0))
    third = outer("net", x=np.arange(3, dtype=np.float32))
    assert inner.asked == 1
    assert torch.equal(first["x"], second["x"])
    assert isinstance(third["x"], np.ndarray)
    assert third["x"].tolist() == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("component", "value"), [("other", torch.arange(3.0)), ("net", torch.ones(3)), ("net", torch.arange(3))]
)
def test_another_question_is_asked(run: tuple[Doubling, Remembering], component: str, value: torch.Tensor) -> None:
    inner, outer = run
    outer("net", x=torch.arange(3.0))
    assert outer(component, x=value)["x"].dtype == value.dtype
    assert inner.asked == 2


def test_an_answer_belongs_to_the_caller(run: tuple[Doubling, Remembering]) -> None:
    inner, outer = run
    for _ in range(3):
        outer("net", x=torch.ones(2))["x"].zero_()
    assert outer("net", x=torch.ones(2))["x"].tolist() == [2.0, 2.0]
    assert inner.asked == 1


def test_a_failure_is_not_kept(run: tuple[Doubling, Remembering]) -> None:
    inner, outer = run
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            outer("broken", x=torch.ones(2))
    assert inner.asked == 2


def test_a_type_that_numpy_lacks_is_asked_again(run: tuple[Doubling, Remembering]) -> None:
    inner, outer = run
    for _ in range(2):
        assert outer("net", x=torch.ones(2, dtype=torch.bfloat16))["x"].dtype is torch.bfloat16
    assert inner.asked == 2


def test_what_is_kept_survives_the_run_around_it(tmp_path: Path) -> None:
    inner = Doubling()
    Remembering(inner, tmp_path)("net", x=torch.ones(2))
    Remembering(inner, tmp_path)("net", x=torch.ones(2))
    assert inner.asked == 1


def test_everything_else_is_passed_on(run: tuple[Doubling, Remembering]) -> None:
    inner, outer = run
    outer.note("dropped", 2)
    assert inner.noted == [("dropped", 2)]
    assert outer.device == "cpu"
    assert outer.components is inner.components
