"""Figures for people: few digits, and none that lies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.report import numbers

positive = st.floats(1e-300, 1e300)


@given(positive)
def test_a_tolerance_that_would_pass_still_passes_when_it_is_copied_from_the_report(error: float) -> None:
    copied = float(numbers.needed(error))
    assert error <= copied <= error * 1.01


@given(positive)
def test_an_error_is_right_to_three_digits(error: float) -> None:
    assert float(numbers.error(error)) == pytest.approx(error, rel=5.001e-3)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_difference_has_the_sign_of_the_difference_and_is_zero_only_if_there_is_none(
    value: float, base: float
) -> None:
    said = numbers.delta(value, base)
    assert math.copysign(1, float(said)) == math.copysign(1, value - base) or value == base
    assert (float(said) == 0) == (value - base == 0)
    assert said.startswith(("+", "-")) or said == "0"


@given(st.floats(-1e9, 1e9))
def test_a_metric_is_never_rounded_to_zero(value: float) -> None:
    assert (float(numbers.figure(value)) == 0) == (value == 0)


@pytest.mark.parametrize("write", [numbers.error, numbers.needed, numbers.figure, numbers.ms, numbers.rate])
def test_what_is_not_known_is_a_dash(write: object) -> None:
    assert callable(write)
    assert write(None) == "–"  # noqa: RUF001  it is the dash


@pytest.mark.parametrize("write", [numbers.error, numbers.needed, numbers.figure, numbers.ms])
def test_what_is_not_finite_is_said(write: object) -> None:
    assert callable(write)
    assert [write(math.inf), write(math.nan)] == ["inf", "nan"]


def test_figures_have_sensible_digits() -> None:
    assert [numbers.ms(value) for value in (0.04, 9.994, 12.34, 1234.5)] == ["0.04", "9.99", "12.3", "1234"]
    assert [numbers.size(value) for value in (17, 1_834, 99_949, 420_000, 44_820_113)] == [
        "17 B",
        "1.8 kB",
        "99.9 kB",
        "0.42 MB",
        "44.8 MB",
    ]
    assert [numbers.duration(value) for value in (0.04, 59.94, 59.96, 74.31, 4021)] == [
        "0.0 s",
        "59.9 s",
        "1 min 00 s",
        "1 min 14 s",
        "1 h 07 min",
    ]
    assert [numbers.figure(value) for value in (0.965, 0.0, 1e-7, 117.25)] == ["0.9650", "0.0000", "1e-07", "117.2"]
    assert [numbers.rate(value) for value in (8.0, 0.0)] == ["125", "–"]  # noqa: RUF001  it is the dash
    assert [numbers.counted(number, "sample") for number in (0, 1, 2000)] == ["0 samples", "1 sample", "2,000 samples"]
    assert [numbers.count(value) for value in (17.0, 2.5)] == ["17", "2.5"]
