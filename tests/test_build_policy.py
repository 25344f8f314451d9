"""What each policy means for each TensorRT: the whole table, and nothing that changes without a word."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from awml_deploy_core.build.flavor import Flavor
from awml_deploy_core.build.policy import plan
from awml_deploy_core.config import Precision
from awml_deploy_core.errors import ExitCode, RequirementError

OLD = Flavor(name="tensorrt", version="8.6.1", builder_flags=["FP16", "INT8", "TF32"], network_flags=["EXPLICIT_BATCH"])
TEN = Flavor(
    name="tensorrt",
    version="10.3.0",
    builder_flags=["FP16", "BF16", "INT8", "FP8", "TF32"],
    network_flags=["EXPLICIT_BATCH", "STRONGLY_TYPED"],
)
ELEVEN = Flavor(name="tensorrt", version="11.0.0", builder_flags=["TF32"], network_flags=["PREFER_AOT"])
RTX = Flavor(name="tensorrt_rtx", version="1.7.1", builder_flags=["TF32"], network_flags=["STRONGLY_TYPED"])

REFUSED = "refused"
STRONG = (None, True, ())

# policy: 8.6, 10, 10 with weak typing, 11 and RTX; each as (what is written into the graph, strong typing, flags)
TABLE: dict[str, tuple[Any, Any, Any, Any]] = {
    "auto": ((None, False, ("TF32",)), (None, False, ("TF32",)), (None, False, ("TF32",)), (None, True, ("TF32",))),
    "fp16": ((None, False, ("FP16",)), ("fp16", True, ()), (None, False, ("FP16",)), ("fp16", True, ())),
    "fp32_tf32": (
        (None, False, ("TF32",)),
        (None, True, ("TF32",)),
        (None, False, ("TF32",)),
        (None, True, ("TF32",)),
    ),
    "fp32": ((None, False, ()), STRONG, (None, False, ()), STRONG),
    "bf16": (REFUSED, ("bf16", True, ()), (None, False, ("BF16",)), ("bf16", True, ())),
    "explicit_int8": (
        ("int8", False, ("INT8",)),
        ("int8", True, ()),
        ("int8", False, ("INT8",)),
        ("int8", True, ()),
    ),
    "strongly_typed": (REFUSED, STRONG, REFUSED, STRONG),
}


def asked(policy: Any, flavor: Flavor | None, typing: Any = "strong") -> Any:
    try:
        made = plan(policy, flavor, typing)
    except RequirementError:
        return REFUSED
    assert made.policy == policy
    return made.cast, made.strong, made.flags


@pytest.mark.parametrize("policy", TABLE)
def test_the_table(policy: str) -> None:
    got = (asked(policy, OLD), asked(policy, TEN), asked(policy, TEN, "weak"), asked(policy, ELEVEN))
    assert got == TABLE[policy]
    assert asked(policy, RTX) == asked(policy, ELEVEN) == asked(policy, None)
    assert asked(policy, OLD, "weak") == asked(policy, OLD)


def test_every_policy_stands_in_the_table() -> None:
    assert set(TABLE) == set(get_args(Precision))


@pytest.mark.parametrize("flavor", [ELEVEN, RTX, None])
@pytest.mark.parametrize("policy", TABLE)
def test_weak_typing_is_refused_where_it_is_gone(policy: Any, flavor: Flavor | None) -> None:
    with pytest.raises(RequirementError, match="takes every type from the graph") as caught:
        plan(policy, flavor, "weak")
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert caught.value.hint


def test_a_refusal_names_policy_and_tensorrt() -> None:
    with pytest.raises(
        RequirementError, match=r"'bf16'` needs BF16 in the graph, which TensorRT 8\.6\.1 does not have"
    ):
        plan("bf16", OLD)
    with pytest.raises(RequirementError, match=r"'strongly_typed'` needs types taken from the graph"):
        plan("strongly_typed", OLD)
    with pytest.raises(RequirementError, match="contradict each other"):
        plan("strongly_typed", TEN, "weak")


def test_what_the_reader_must_know_is_noted() -> None:
    assert any("cannot mix precisions" in note for note in plan("auto", RTX).notes)
    assert plan("auto", TEN).notes == ()
    assert any("weights only" in note for note in plan("explicit_int8", RTX).notes)
    assert plan("explicit_int8", ELEVEN).notes == ()
    assert plan("fp16", RTX).notes == ()


def test_the_flavors_know_themselves() -> None:
    assert [(one.weak, one.strong) for one in (OLD, TEN, ELEVEN, RTX)] == [
        (True, False),
        (True, True),
        (False, True),
        (False, True),
    ]
    assert (str(RTX), str(TEN)) == ("TensorRT-RTX 1.7.1", "TensorRT 10.3.0")
