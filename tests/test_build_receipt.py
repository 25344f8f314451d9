"""A test for each way in which a build can lie, and one for each policy that does not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from awml_deploy_core.build.flavor import Flavor
from awml_deploy_core.build.policy import Plan, plan
from awml_deploy_core.build.receipt import Facts, Layer, Receipt, hold

RTX = Flavor(name="tensorrt_rtx", version="1.7.1", builder_flags=["TF32"], network_flags=["STRONGLY_TYPED"])
TEN = Flavor(
    name="tensorrt",
    version="10.3",
    builder_flags=["FP16", "BF16", "INT8", "TF32"],
    network_flags=["STRONGLY_TYPED"],
)


def layers(wide: int, narrow: int, dtype: str = "HALF") -> tuple[Layer, ...]:
    return tuple(Layer(name=f"/conv{n}/Conv", dtype="FLOAT" if n < wide else dtype) for n in range(wide + narrow))


def facts(**more: Any) -> Facts:
    """An honest float32 build without TF32."""
    values: dict[str, Any] = {
        "strong": True,
        "flags": (),
        "tensors": {"FLOAT": 9},
        "compute": layers(4, 0),
        "quantized": 0,
        "graph_quantized": 0,
        "graph_tensors": {"FLOAT": 9},
    }
    return Facts(**{**values, **more})


def half(wide: int, narrow: int, **more: Any) -> Facts:
    return facts(compute=layers(wide, narrow), tensors={"FLOAT": 2, "HALF": 9}, graph_tensors={"HALF": 9}, **more)


def judged(policy: Any, found: Facts, islands: dict[str, str] | None = None, flavor: Flavor = RTX) -> Receipt:
    return hold(plan(policy, flavor), found, islands or {})


# ---------------------------------------------------------------- honest builds

INT8 = {"quantized": 3, "graph_quantized": 3, "dequantized": 5, "graph_dequantized": 5}


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ("fp32", facts()),
        ("fp32_tf32", facts(flags=("TF32",))),
        ("auto", facts(flags=("TF32",))),
        ("strongly_typed", facts()),
        ("strongly_typed", half(4, 4)),
        ("fp16", half(0, 4)),
        ("fp16", half(1, 9)),
        ("bf16", facts(compute=layers(0, 4, "BF16"), tensors={"BF16": 9})),
        ("explicit_int8", facts(tensors={"FLOAT": 9, "INT8": 4}, **INT8)),
    ],
)
def test_what_was_asked_for_holds(policy: str, found: Facts) -> None:
    receipt = judged(policy, found)
    assert (receipt.holds, receipt.reasons) == (True, ())
    assert receipt.policy == policy


def test_the_summary_says_what_is_there() -> None:
    found = half(1, 9, flags=("TF32",), quantized=0)
    assert judged("auto", found).summary == "compute layers: 1 FLOAT, 9 HALF, TF32 on"
    assert "3 quantising layers" in judged("explicit_int8", facts(**INT8)).summary
    assert "TF32 off" in judged("fp32", facts()).summary
    assert "2 tensors of type DOUBLE became FLOAT" in judged("fp32", facts(graph_tensors={"DOUBLE": 2})).summary


# ---------------------------------------------------------------- lies


@pytest.mark.parametrize(
    ("policy", "found", "reason"),
    [
        ("fp32_tf32", facts(), "the flag TF32 was asked for and is not set"),
        ("auto", facts(), "the flag TF32 was asked for and is not set"),
        ("fp32", facts(flags=("TF32",)), "the flag TF32 is set and was not asked for"),
        ("fp16", half(0, 4, flags=("TF32",)), "the flag TF32 is set and was not asked for"),
        ("fp32", facts(flags=("FP16",)), "the flag FP16 is set and was not asked for"),
        ("strongly_typed", facts(flags=("INT8",)), "the flag INT8 is set and was not asked for"),
        ("fp32", facts(strong=False), "the network is weakly typed and was to be the other"),
        ("fp16", half(0, 4, strong=False), "the network is weakly typed and was to be the other"),
        ("fp16", facts(compute=layers(4, 0)), "only 0 of 4 compute layers are HALF"),
        ("fp16", half(6, 4), "only 4 of 10 compute layers are HALF"),
        ("fp16", half(2, 8), "/conv0/Conv, /conv1/Conv are not HALF, and nothing says why"),
        ("bf16", half(0, 4), "only 0 of 4 compute layers are BF16"),
        ("fp32", half(0, 4), "9 tensors are HALF"),
        ("fp32_tf32", facts(flags=("TF32",), tensors={"FLOAT": 3, "INT8": 2}), "2 tensors are INT8"),
        ("explicit_int8", facts(), "the graph has no QuantizeLinear node"),
        ("explicit_int8", facts(**{**INT8, "quantized": 2}), "the network has 2 quantising layers, the graph 3"),
        ("explicit_int8", facts(**{**INT8, "dequantized": 0}), "the network has 0 dequantising layers, the graph 5"),
        ("auto", half(0, 4, flags=("TF32",)), None),
        (
            "strongly_typed",
            facts(graph_tensors={"HALF": 3}),
            "the graph has tensors of type HALF, the network has none",
        ),
        (
            "strongly_typed",
            facts(tensors={"FLOAT": 1, "HALF": 8}),
            "the network has tensors of type HALF, the graph has none",
        ),
    ],
)
def test_a_lie_is_caught(policy: str, found: Facts, reason: str | None) -> None:
    receipt = judged(policy, found)
    if reason is None:
        assert receipt.holds is True
        return
    assert receipt.holds is False
    assert reason in receipt.reasons
    assert reason in receipt.summary


def test_half_of_the_layers_may_be_wide_if_each_has_its_reason() -> None:
    reasons = {f"/conv{n}/Conv": "values beyond float16" for n in range(5)}
    receipt = judged("fp16", half(5, 5), reasons)
    assert receipt.holds is True
    assert [(one.name, one.reason) for one in receipt.islands] == list(reasons.items())
    assert judged("fp16", half(5, 5), dict(list(reasons.items())[1:])).reasons == (
        "/conv0/Conv is not HALF, and nothing says why",
    )
    assert judged("fp16", half(6, 5), {**reasons, "/conv5/Conv": "asked"}).holds is False


def test_a_reason_belongs_to_its_own_node() -> None:
    found = half(2, 8)
    named = (Layer(name="conv10", dtype="FLOAT"), Layer(name="conv1 [Convolution]", dtype="FLOAT"), *found.compute[2:])
    receipt = judged("fp16", attrs.evolve(found, compute=named), {"conv1": "asked"})
    assert [one.reason for one in receipt.islands] == ["", "asked"]


def test_integers_are_no_float_layers() -> None:
    compute = (*layers(0, 3), Layer(name="indices", dtype="INT32"))
    assert judged("fp16", attrs.evolve(half(0, 3), compute=compute)).holds is True


def test_a_graph_that_computes_nothing_is_judged_by_its_tensors() -> None:
    assert judged("fp16", half(0, 0)).holds is True
    assert judged("fp16", facts(compute=())).reasons == ("no tensor is HALF",)
    assert judged("fp16", facts(compute=()), {"/decode": "kept by the config"}).holds is True


def test_types_that_onnx_cannot_tell_are_not_held_against_the_network() -> None:
    unknown = facts(tensors={"FLOAT": 1, "HALF": 8}, graph_unknown=2)
    assert judged("strongly_typed", unknown).holds is True


# ---------------------------------------------------------------- weak typing


def weakly(policy: Any, **more: Any) -> Receipt:
    return hold(plan(policy, TEN, "weak"), facts(strong=False, **more), {})


def test_what_a_builder_chose_by_itself_is_not_provable_without_a_gpu() -> None:
    receipt = weakly("fp16", flags=("FP16",))
    assert receipt.holds is None
    assert receipt.summary == "FP16 set; what the builder chose is not provable here"


def test_a_dropped_flag_is_caught_on_a_weak_network_too() -> None:
    receipt = weakly("fp16", flags=())
    assert receipt.holds is False
    assert receipt.summary == "the flag FP16 was asked for and is not set"
    assert weakly("fp16", flags=("FP16", "INT8")).holds is False
    assert weakly("explicit_int8", flags=("INT8",)).holds is False, "no Q/DQ"
    assert weakly("explicit_int8", flags=("INT8",), **INT8).holds is None
    assert hold(Plan(policy="auto", strong=False, flags=("TF32",)), facts(flags=("TF32",)), {}).holds is False
