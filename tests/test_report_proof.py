"""What the comparisons prove: the worst error first, the tolerance that would pass, where a fault enters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.judge import Check, Verification, judge
from awml_deploy_core.records import Comparison, Stats, Variant, Verdict
from awml_deploy_core.report import Report, proof


def verdict(error: float, tolerance: float, output: str = "boxes", **more: Any) -> Verdict:
    said: dict[str, Any] = {"scope": "component", "sample": "s", "component": "head", **more}
    stats = Stats(count=1, max_abs=error, mean_abs=error, max_rel=1.0, mean_rel=1.0, cosine=1.0, snr_db=None)
    comparison = Comparison(
        reference="trained",
        candidate="onnx",
        output=output,
        shape=(1,),
        dtypes=("float32", "float32"),
        stats=None if more.get("finding") else stats,
        **said,
    )
    return judge(comparison, tolerance)


def check(*verdicts: Verdict, reference: str = "trained", candidate: str = "onnx") -> Check:
    return Check(reference=reference, candidate=candidate, verdicts=verdicts)


def row(*verdicts: Verdict) -> tuple[str, ...]:
    """Error, limit, tolerance that would pass and place, as the table of the ladder has them."""
    return proof.ladder(told(check(*verdicts))).rows[0][2:]


def test_the_worst_error_is_the_one_nearest_to_its_own_limit() -> None:
    found = row(verdict(90.0, 100.0, "pixels"), verdict(0.5, 0.1, "score"), verdict(0.0, 0.0, "label"))
    assert found == ("0.5", "0.1", "0.5", "score")


def test_an_error_where_none_is_allowed_is_worse_than_any_other() -> None:
    assert row(verdict(1e9, 1.0, "a"), verdict(1.0, 0.0, "label")) == ("1", "0", "1", "label")


def test_a_finding_is_worse_than_any_error_and_no_tolerance_mends_it() -> None:
    found = row(verdict(1.0, 0.0, "label"), verdict(0, 1.0, finding="shape"), verdict(0.5, 1.0))
    assert found == ("shape", "–", "–", "boxes")  # noqa: RUF001  it is the dash


def test_an_error_that_is_not_finite_is_shown_as_what_it_is() -> None:
    one = check(verdict(0.5, 1.0), verdict(math.nan, 1.0, sample="t"))
    assert row(*one.verdicts)[0] == "nan"
    assert proof.places(one).rows[0][2] == "nan"
    assert proof.faults(one).rows == (("boxes", "t", "nan", "1", ""),)


def test_a_place_names_its_component_where_there_are_several() -> None:
    assert row(verdict(0.5, 1.0), verdict(0.0, 1.0, component="neck"))[-1] == "head.boxes"
    assert row(verdict(0.5, 1.0, scope="chained"))[-1] == "boxes (chained)"
    assert row(verdict(0.5, 1.0, "prediction", scope="prediction", component=None))[-1] == "prediction"
    assert row(verdict(0.5, 1.0, "", finding="calls"))[-1] == "head"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from(["component", "chained"])), min_size=1))
def test_the_tolerance_that_would_pass_does_pass_on_every_sample_and_in_every_scope(
    measured: list[tuple[float, float, str]],
) -> None:
    verdicts = [
        verdict(error, allowed, scope=scope, sample=str(i)) for i, (error, allowed, scope) in enumerate(measured)
    ]
    copied = float(row(*verdicts)[2])
    assert check(*(judge(one.comparison, copied) for one in verdicts)).status == "passed"


def test_each_fault_is_shown_once_at_its_worst_sample() -> None:
    one = check(verdict(1.0, 0.1, sample="a"), verdict(3.0, 0.1, sample="b"), verdict(0.0, 0.1, "fine"))
    assert proof.faults(one).rows == (("boxes", "b", "3", "0.1", ""),)


def told(*checks: Check) -> Report:
    parents = {"trained": None, "exported": "trained", "onnx": "exported", "onnx:fp16": "onnx"}
    variants = tuple(Variant(name=name, backend="onnx", parent=parent) for name, parent in parents.items())
    return Report(
        model="toy",
        plugin="awml-toy 1",
        status="failed",
        started="now",
        work_dir=Path("out"),
        variants=variants,
        verification=Verification(checks=checks),
    )


GOOD, BAD = verdict(0.0, 1.0), verdict(2.0, 1.0)


def test_a_fault_enters_at_the_lowest_rung_that_is_wrong() -> None:
    edited = check(BAD, candidate="exported")
    assert proof.blame(told(edited, check(GOOD, reference="exported"), check(BAD))) is edited
    exported = check(BAD, reference="exported")
    assert proof.blame(told(check(GOOD, candidate="exported"), exported, check(BAD))) is exported


def test_a_rung_made_from_a_wrong_one_is_not_blamed() -> None:
    below, above = check(BAD), check(BAD, reference="onnx", candidate="onnx:fp16")
    assert proof.blame(told(below, above)) is None
    assert proof.blame(told(check(GOOD), above)) is above


def test_nobody_is_blamed_where_nothing_failed() -> None:
    assert proof.blame(told(check(GOOD), check(reference="exported"))) is None


def test_samples_have_a_column_where_checks_differ_in_them() -> None:
    same = told(check(GOOD), check(GOOD, candidate="exported"))
    assert proof.ladder(same).title == "Verification on 1 sample"
    more = told(check(GOOD), check(GOOD, verdict(0, 1, sample="t"), candidate="exported"))
    assert [row[-1] for row in proof.ladder(more).rows] == ["1", "2"]
