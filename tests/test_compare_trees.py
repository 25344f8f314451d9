"""Two trees leaf by leaf: what is compared, what is found, and where."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch
from attrs import frozen

from awml_deploy_core.compare import compare
from awml_deploy_core.records import Comparison


class Light(Enum):
    RED = "red"
    GREEN = "green"


@frozen(eq=False)
class Box:
    score: float
    corners: Any
    label: str = "car"


def against(reference: Any, candidate: Any, **more: Any) -> tuple[Comparison, ...]:
    return compare(reference, candidate, names=("trained", "onnx"), scope="component", sample="s1", **more)


def findings(reference: Any, candidate: Any, **more: Any) -> dict[str, str]:
    return {found.output: found.finding for found in against(reference, candidate, **more)}


def test_equal_outputs_are_compared_one_by_one_in_the_reference_s_order() -> None:
    reference = {"reg.0": torch.ones(1, 2), "heat": torch.zeros(3)}
    compared = against(reference, dict(reversed(reference.items())), component="head")

    assert [found.output for found in compared] == ["reg.0", "heat"]
    assert compared[0] == Comparison(
        reference="trained",
        candidate="onnx",
        scope="component",
        sample="s1",
        component="head",
        output="reg.0",
        shape=(1, 2),
        dtypes=("float32", "float32"),
        stats=compared[0].stats,
    )
    assert compared[0].stats is not None
    assert (compared[0].stats.count, compared[0].stats.max_abs, compared[0].stats.scale) == (2, 0.0, 1.0)


def test_missing_and_extra_outputs_are_named() -> None:
    compared = against({"a": np.ones(2), "b": np.ones(3)}, {"b": np.ones(3), "c": np.ones(4)})

    assert {found.output: (found.finding, found.shape) for found in compared} == {
        "a": ("missing", (2,)),
        "b": ("ok", (3,)),
        "c": ("extra", (4,)),
    }
    assert compared[0].dtypes == ("float64", "")
    assert compared[0].stats is None


def test_no_outputs_at_all_against_some() -> None:
    assert findings({"a": np.ones(2)}, {}) == {"a": "missing"}
    assert findings({}, {"a": np.ones(2)}) == {"a": "extra"}
    assert findings({}, {}) == {}


@pytest.mark.parametrize("other", [(2,), (2, 1, 1), (1, 2), (0, 1), ()])
def test_another_shape_is_a_finding_even_if_it_would_broadcast(other: tuple[int, ...]) -> None:
    (found,) = against({"a": np.ones((2, 1))}, {"a": np.ones(other)})

    assert (found.finding, found.detail, found.stats) == ("shape", f"(2, 1) against {other}", None)


def test_another_element_type_is_a_finding_and_is_measured_all_the_same() -> None:
    (found,) = against({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, 2.5]).half()})

    assert (found.finding, found.dtypes) == ("dtype", ("float32", "float16"))
    assert found.detail == "float32 is wanted, got float16"
    assert found.stats is not None
    assert found.stats.max_abs == 0.5


def test_the_demanded_type_decides_whatever_the_reference_has() -> None:
    wide, narrow = {"a": torch.tensor([1])}, {"a": torch.tensor([1], dtype=torch.int32)}

    assert findings(wide, narrow, demanded={"a": "int32"}) == {"a": "ok"}
    assert findings(wide, wide, demanded={"a": "int32"}) == {"a": "dtype"}
    assert findings(wide, narrow, demanded={"b": "int32"}) == {"a": "dtype"}


@pytest.mark.parametrize(("odd", "finding"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "inf")])
def test_an_odd_number_is_a_finding_with_its_place_and_the_rest_is_measured(odd: float, finding: str) -> None:
    candidate = np.full((2, 3), 1.5)
    candidate[1, 0] = candidate[1, 2] = odd
    (found,) = against({"a": np.ones((2, 3))}, {"a": candidate})

    counts = "2 NaN and 0 Inf" if finding == "nan" else "0 NaN and 2 Inf"
    assert (found.finding, found.detail) == (finding, f"candidate has {counts} of 6, first at (1, 0)")
    assert found.stats is not None
    assert (found.stats.count, found.stats.max_abs, found.stats.mean_abs) == (4, 0.5, 0.5)


def test_nan_on_both_sides_is_a_finding_and_both_are_named() -> None:
    both = {"a": np.array([math.nan, 1.0])}
    (found,) = against(both, both)

    assert found.finding == "nan"
    assert found.detail == "reference has 1 NaN and 0 Inf, candidate has 1 NaN and 0 Inf of 2, first at (0,)"


def test_nan_outweighs_infinity_and_the_element_type() -> None:
    (found,) = against({"a": np.ones(2)}, {"a": np.array([math.inf, math.nan], np.float32)})

    assert found.finding == "nan"


def test_nothing_but_nan_leaves_nothing_measured() -> None:
    (found,) = against({"a": np.ones(2)}, {"a": np.full(2, math.nan)})

    assert found.finding == "nan"
    assert found.stats is not None
    assert found.stats.count == 0


def test_a_tensor_is_compared_with_an_array() -> None:
    assert findings({"a": torch.ones(2)}, {"a": np.ones(2, np.float32)}) == {"a": "ok"}


# ---------------------------------------------------------------- nested trees


def test_nested_leaves_are_called_by_their_path() -> None:
    left = {"boxes": [Box(0.9, np.ones(4))], "odd key": np.zeros(1)}
    right = {"boxes": [Box(0.9, np.full(4, 2.0), "bus"), Box(0.1, np.zeros(4))], "odd key": np.zeros(1)}

    assert findings(left, right) == {
        "$.boxes[0].score": "ok",
        "$.boxes[0].corners": "ok",
        "$.boxes[0].label": "type",
        "$.boxes[1].score": "extra",
        "$.boxes[1].corners": "extra",
        "$.boxes[1].label": "extra",
        "$['odd key']": "ok",
    }
    corners = against(left, right)[1].stats
    assert corners is not None
    assert corners.max_abs == 1.0


def test_names_that_look_like_paths_do_not_hide_one_another() -> None:
    tree = {"a": {"b": np.ones(1)}, "a.b": np.zeros(1)}

    assert len(against(tree, tree)) == 2


def test_text_none_and_enum_members_are_equal_or_not() -> None:
    left = [None, "car", b"x", Light.RED, np.array(["a", "b"])]

    assert set(findings(left, left).values()) == {"ok"}
    assert set(findings(left, [0.5, "bus", b"y", Light.GREEN, np.array(["a", "c"])]).values()) == {"type"}


def test_a_number_and_an_array_are_not_the_same_kind() -> None:
    (found,) = against([1.0], [np.array([1.0])])

    assert (found.finding, found.detail) == ("type", "number against array")


def test_plain_numbers_are_measured_and_keep_their_type() -> None:
    assert against(3, 5)[0].stats == against(np.int64(3), np.int64(5))[0].stats
    assert findings(1, 1.0) == {"$": "dtype"}
    assert findings(True, 1) == {"$": "dtype"}
    assert findings(2**70, 2**70) == {"$": "ok"}
    assert findings(2**70, 2**70 + 1) == {"$": "type"}


def test_what_is_said_about_the_call_stands_before_what_is_found() -> None:
    (found,) = against({"a": np.ones(1)}, {"a": np.ones(2)}, detail="call 2")

    assert found.detail == "call 2; (1,) against (2,)"
