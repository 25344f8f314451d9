"""How much error is allowed, what passes, and what a run's checks come to."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.compare import compare, measure
from awml_deploy_core.errors import ExitCode
from awml_deploy_core.judge import (
    DISAGREEMENT,
    SHARES,
    SMALLEST,
    Check,
    Tolerances,
    Verification,
    check,
    exit_code,
    judge,
    limit,
    pairs,
    precision,
    tolerances,
)
from awml_deploy_core.records import Artifact, Comparison, Skip, Stats, Variant

OPEN = Tolerances()
GONE = Skip(reason="no device")


def compared(error: float = 0.25, count: int = 4, scale: float = 10.0, **more: Any) -> Comparison:
    stats = Stats(
        count=count, max_abs=error, mean_abs=error, max_rel=0.0, mean_rel=0.0, cosine=None, snr_db=None, scale=scale
    )
    plain: dict[str, Any] = {
        "reference": "trained", "candidate": "onnx", "scope": "component", "sample": "s1", "component": "head",
        "output": "heat", "shape": (4,), "dtypes": ("float32", "float32"), "stats": stats,
    }  # fmt: skip
    return Comparison(**{**plain, **more})


def variant(name: str, parent: str | None = None, *precisions: str, device: str = "cpu") -> Variant:
    made = [
        Artifact(component=f"c{i}", format="onnx", path=Path("x"), sha256="", size=0, precision=word)
        for i, word in enumerate(precisions)
    ]
    return Variant(name=name, backend="onnx", device=device, artifacts=tuple(made), parent=parent)


# ---------------------------------------------------------------- one verdict


@pytest.mark.parametrize(
    ("error", "tolerance", "passed"), [(0.1, 0.1, True), (0.1, 0.09, False), (0.0, 0.0, True), (1e-300, 0.0, False)]
)
def test_an_error_equal_to_the_tolerance_passes(error: float, tolerance: float, passed: bool) -> None:
    verdict = judge(compared(error), tolerance)

    assert (verdict.passed, verdict.tolerance, verdict.would_pass) == (passed, tolerance, error)


@pytest.mark.parametrize("finding", ["nan", "inf", "shape", "dtype", "missing", "extra", "calls", "type"])
@pytest.mark.parametrize("stats", [None, compared(0.0).stats])
def test_no_tolerance_makes_a_finding_pass(finding: str, stats: Stats | None) -> None:
    verdict = judge(compared(finding=finding, stats=stats), math.inf)

    assert (verdict.passed, verdict.would_pass) == (False, None)


@pytest.mark.parametrize("stats", [None, compared(math.nan).stats, compared(math.inf).stats])
def test_an_error_that_is_no_number_never_passes(stats: Stats | None) -> None:
    verdict = judge(compared(stats=stats), math.inf)

    assert (verdict.passed, verdict.would_pass) == (False, None)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1e30), st.floats(0, 1e30))
def test_would_pass_is_the_least_tolerance_that_passes(error: float, tolerance: float) -> None:
    verdict = judge(compared(error), tolerance)

    assert verdict.would_pass is not None
    assert judge(compared(error), verdict.would_pass).passed
    assert verdict.passed == (tolerance >= verdict.would_pass)


# ---------------------------------------------------------------- how much is allowed


def test_the_most_precise_word_counts() -> None:
    allowed = tolerances(0.1, {"heat": 0.2, "head.heat": 0.3, "float32/float16": 0.4})

    assert limit(compared(), allowed) == 0.3
    assert limit(compared(component="neck"), allowed) == 0.2
    assert limit(compared(output="reg"), allowed) == 0.1
    assert limit(compared(output="reg"), allowed, ("float32", "float16")) == 0.4
    assert limit(compared(output="reg", dtypes=("float32", "float16")), allowed) == 0.4
    assert limit(compared(output="reg", dtypes=("float16", "float32")), allowed) == 0.1


def test_zero_is_a_tolerance() -> None:
    assert limit(compared(), tolerances(0.0)) == 0.0
    assert limit(compared(), tolerances(0.1, {"heat": 0.0})) == 0.0


def test_a_slash_makes_a_pair_only_between_formats() -> None:
    allowed = tolerances(None, {"head/heat": 0.1, "fp32/bf16": 0.2, "a/b/c": 0.3})

    assert set(allowed.outputs) == {"head/heat", "a/b/c"}
    assert allowed.pairs == {("float32", "bfloat16"): 0.2}


def test_without_a_word_the_limit_is_a_share_of_the_output_s_magnitude() -> None:
    assert limit(compared(scale=960.0), OPEN) == SHARES["float32"] * 960
    assert limit(compared(scale=0.5), OPEN, ("float32", "float16")) == SHARES["float16"] * 0.5
    assert limit(compared(scale=0.0), OPEN) == SHARES["float32"] * SMALLEST


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1e-2), st.integers(-8, 60))
def test_the_verdict_does_not_depend_on_the_unit(noise: float, power: int) -> None:
    reference = np.array([1.0, -0.25, 0.5])

    def passes(unit: float) -> bool:
        (found,) = compare(
            {"a": reference * unit},
            {"a": reference * unit + noise * unit},
            names=("a", "b"),
            scope="component",
            sample="s",
        )
        return judge(found, limit(found, OPEN)).passed

    near = abs(noise / SHARES["float32"] - 1) < 1e-9
    assert near or passes(2.0**power) == passes(1.0) == (noise < SHARES["float32"])


def test_coarser_formats_allow_more() -> None:
    for table in (SHARES, DISAGREEMENT):
        assert list(table) == list(SHARES)
        assert list(table.values()) == sorted(table.values())


@pytest.mark.parametrize("dtypes", [("int64", "int64"), ("bool", "bool"), ("uint8", "uint8"), ("", "")])
def test_what_is_not_rounded_must_be_equal(dtypes: tuple[str, str]) -> None:
    assert limit(compared(dtypes=dtypes), OPEN, ("float32", "float16")) == 0.0
    assert limit(compared(dtypes=dtypes), tolerances(0.1)) == 0.1


def test_a_default_in_the_output_s_unit_says_nothing_about_predictions() -> None:
    whole = compared(scope="prediction", component=None, output="prediction", dtypes=("", ""))

    assert limit(whole, tolerances(100.0)) == DISAGREEMENT["float32"]
    assert limit(whole, tolerances(100.0), ("float32", "int8")) == DISAGREEMENT["int8"]
    assert limit(whole, tolerances(100.0, {"prediction": 0.5})) == 0.5


def test_the_coarsest_artifact_gives_a_variant_s_precision() -> None:
    mixed = variant("engine", None, "fp32", "fp16")

    assert precision(mixed) == "float16"
    assert (precision(mixed, "c0"), precision(mixed, "c1")) == ("float32", "float16")
    assert precision(variant("trained")) == "float32"
    assert precision(variant("engine", None, "fp32_tf32")) == precision(variant("engine", None, "auto")) == "tf32"
    assert precision(variant("engine", None, "explicit_int8", "bf16")) == "int8"
    assert precision(variant("engine", None, "something new")) == "float32"


def test_a_component_is_judged_by_its_own_precision_and_a_chain_by_the_coarsest() -> None:
    trained, mixed = variant("trained"), variant("engine", "trained", "fp32", "fp16")
    alone = [compared(component=name) for name in ("c0", "c1")]
    chained = [compared(component=name, scope="chained") for name in ("c0", "c1")]

    limits = [verdict.tolerance for verdict in check(trained, mixed, alone + chained, OPEN).verdicts]
    assert limits == [SHARES[name] * 10 for name in ("float32", "float16", "float16", "float16")]


# ---------------------------------------------------------------- checks and their sum


def done(*errors: float, count: int = 4, **more: Any) -> Check:
    found = [compared(error, count=count, output=f"o{i}") for i, error in enumerate(errors)]
    return check(variant("trained"), variant("onnx"), found, tolerances(0.1), **more)


def test_a_check_passes_only_if_every_verdict_does() -> None:
    assert done(0.0, 0.1).status == "passed"
    assert done(0.0, 0.2, 0.1).status == "failed"


def test_a_check_without_comparisons_is_unverified() -> None:
    assert done().status == "unverified"


def test_outputs_that_were_always_empty_are_unverified() -> None:
    empty = done(0.0, count=0)

    assert (empty.status, empty.unproved) == ("unverified", ("head.o0",))


def test_an_output_that_was_empty_once_is_proved_by_another_sample() -> None:
    found = [compared(0.0, count=0), compared(0.0, sample="s2")]

    assert check(variant("trained"), variant("onnx"), found, OPEN).status == "passed"


def test_a_check_knows_who_ran_where() -> None:
    one = check(variant("onnx", device="cuda:0"), variant("engine", device="cuda:1"), [compared(0.0)], OPEN)

    assert (one.reference, one.candidate, one.devices) == ("onnx", "engine", ("cuda:0", "cuda:1"))


def skipped(**more: Any) -> Check:
    return Check(reference="onnx", candidate="engine", skipped=GONE, **more)


@pytest.mark.parametrize(
    ("checks", "required", "status", "code"),
    [
        ((), False, "unverified", 0),
        ((), True, "unverified", 6),
        ((done(0.0),), True, "passed", 0),
        ((done(0.0), done(1.0)), False, "failed", 6),
        ((done(0.0), skipped()), False, "passed", 0),
        ((done(0.0), skipped(required=True)), False, "skipped", 6),
        ((done(0.0), skipped()), True, "skipped", 6),
        ((skipped(),), False, "skipped", 0),
        ((done(1.0), skipped(required=True)), False, "failed", 6),
        ((done(0.0), done()), False, "unverified", 0),
        ((done(0.0), done(required=True)), False, "unverified", 6),
        ((done(0.0), done(0.0, count=0)), True, "unverified", 6),
    ],
)
def test_the_status_and_exit_code_of_a_run(checks: tuple[Check, ...], required: bool, status: str, code: int) -> None:
    verification = Verification(checks=checks, samples=("s1",), required=required)

    assert (verification.status, exit_code(verification)) == (status, ExitCode(code))
    assert sum(verification.counts.values()) == len(checks)


def test_checks_are_counted_by_status() -> None:
    verification = Verification(checks=(done(0.0), done(0.0), done(9.0), skipped(), done()))

    assert verification.counts == {"passed": 2, "failed": 1, "skipped": 1, "unverified": 1}


# ---------------------------------------------------------------- the ladder


def names(*ladder: Variant) -> list[tuple[str, str]]:
    return [(reference.name, candidate.name) for reference, candidate in pairs(ladder)]


def test_each_rung_meets_its_parent_and_the_trained_network_once() -> None:
    ladder = (
        variant("trained"),
        variant("exported", "trained"),
        variant("onnx", "exported"),
        variant("onnx:fp16", "onnx"),
        variant("engine", "onnx:fp16"),
    )
    assert names(*ladder) == [
        ("trained", "exported"),
        ("exported", "onnx"),
        ("trained", "onnx"),
        ("onnx", "onnx:fp16"),
        ("trained", "onnx:fp16"),
        ("onnx:fp16", "engine"),
        ("trained", "engine"),
    ]


def test_rungs_that_are_missing_make_no_pairs() -> None:
    assert names(variant("onnx", "exported"), variant("engine", "onnx")) == [("onnx", "engine")]
    assert names(variant("trained"), variant("engine", "onnx")) == [("trained", "engine")]
    assert names(variant("trained")) == names() == []


def test_one_rung_on_two_devices_meets_its_references_twice() -> None:
    onnx = variant("onnx", "trained"), variant("onnx", "trained", device="cuda:0")
    found = pairs((variant("trained"), *onnx, variant("engine", "onnx")))

    assert [candidate.device for _, candidate in found[:2]] == ["cpu", "cuda:0"]
    assert found[2][0] == onnx[0]


def test_judging_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, awml_deploy_core.judge; sys.exit(len({'torch', 'numpy', 'onnx'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_measured_nan_is_judged_as_a_failure_end_to_end() -> None:
    stats = measure(np.array([1.0]), np.array([math.nan]))

    assert not judge(compared(stats=stats), 1e9).passed
