"""What a precision policy means for one TensorRT: what is written into the graph, which flags are set, or a refusal.

One name serves every TensorRT. Where types are taken from the graph (11.x, RTX, and 10.x on request) the precision is
written into it; where the builder still chooses, its flags are set. A policy is never changed into another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

from awml_deploy_core.config import Precision
from awml_deploy_core.errors import RequirementError

if TYPE_CHECKING:
    from awml_deploy_core.build.flavor import Flavor

__all__ = ["Plan", "plan"]

Cast = Literal["fp16", "bf16", "int8"]


@frozen(kw_only=True)
class Plan:
    """How a policy is met.

    Args:
        policy: The policy.
        cast: What is written into the graph first; None leaves it as it is.
        strong: Whether the builder is held to the types of the graph.
        flags: Names of the builder flags that are set; TF32 is off unless it is among them.
        notes: What a reader of the report should know.
    """

    policy: Precision
    cast: Cast | None = None
    strong: bool = True
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan(policy: Precision, flavor: Flavor | None, typing: Literal["strong", "weak"] = "strong") -> Plan:
    """How a policy is met by a TensorRT; without one, as by the newest, so that the cast can be rehearsed.

    Raises:
        RequirementError: The policy cannot be met there.
    """
    weak, strong = (flavor.weak, flavor.strong) if flavor else (False, True)
    if typing == "weak" and not weak:
        raise RequirementError(
            f"`typing = 'weak'`: {flavor or 'the newest TensorRT'} takes every type from the graph",
            hint="Leave typing out: the precision is then written into the graph.",
        )
    if typing == "weak" and policy == "strongly_typed":
        raise RequirementError(
            "`typing = 'weak'` and `precision_policy = 'strongly_typed'` contradict each other",
            hint="Leave typing out, or choose another policy.",
        )
    by_flag = weak and (typing == "weak" or not strong)
    if policy == "auto":
        said = () if weak else ("auto: the types of the graph are kept, this TensorRT cannot mix precisions itself",)
        return Plan(policy=policy, strong=not weak, flags=("TF32",), notes=said)
    if policy in ("fp32", "fp32_tf32"):
        return Plan(policy=policy, strong=strong and not by_flag, flags=("TF32",) if policy == "fp32_tf32" else ())
    if policy == "fp16":
        return Plan(policy=policy, strong=False, flags=("FP16",)) if by_flag else Plan(policy=policy, cast="fp16")
    if by_flag and policy == "explicit_int8":
        return Plan(policy=policy, cast="int8", strong=False, flags=("INT8",))
    if by_flag and policy == "bf16" and flavor and "BF16" in flavor.builder_flags:
        return Plan(policy=policy, strong=False, flags=("BF16",))
    if not strong:
        needs = "types taken from the graph" if policy == "strongly_typed" else "BF16 in the graph"
        raise RequirementError(
            f"`precision_policy = {policy!r}` needs {needs}, which {flavor} does not have",
            hint="Use `fp16` or `fp32` there, or TensorRT 10 and later.",
        )
    if policy == "explicit_int8":
        return Plan(policy=policy, cast="int8", notes=_int8_notes(flavor))
    return Plan(policy=policy, cast="bf16" if policy == "bf16" else None)


def _int8_notes(flavor: Flavor | None) -> tuple[str, ...]:
    if flavor is None or flavor.name != "tensorrt_rtx":
        return ()
    said = "NVIDIA documents INT8 in TensorRT-RTX for weights only, so this engine may calculate in a wider type"
    return (f"explicit_int8: {said}, and nothing is claimed about its speed",)
