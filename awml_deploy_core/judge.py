"""Comparisons to verdicts, verdicts to a result; nothing is run here and no array is seen.

What a user writes is an absolute error in the output's own unit, the largest that any element may have: `tolerance =
0.1` means what it always meant. Where nothing is written the limit is a share of the output's largest magnitude in the
reference, because rounding grows with the numbers: the share that allows 0.03 in pixels up to 1000 allows 0.0003 in
logits up to 10. The share depends on the coarser number format of the two sides. It is never taken of less than
`SMALLEST`: terms of size one that cancel leave 3e-8 and more in float32, so smaller errors say nothing. Integers and
booleans have no rounding and must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from attrs import field, frozen

from awml_deploy_core.errors import ExitCode
from awml_deploy_core.records import DTYPES, Comparison, Skip, Variant, Verdict

__all__ = [
    "Check",
    "Status",
    "Tolerances",
    "Verification",
    "check",
    "exit_code",
    "judge",
    "limit",
    "pairs",
    "precision",
    "tolerances",
]

Status = Literal["passed", "failed", "skipped", "unverified"]

SHARES = {
    "float32": 3e-5,
    "tf32": 1e-2,
    "float16": 2e-2,
    "bfloat16": 1.5e-1,
    "float8": 2e-1,
    "int8": 2e-1,
}
"""Error allowed as a share of the output's largest magnitude, by the coarser format; from fine to coarse.

Three to ten times the worst of 24 small convolutional and attention nets: 3e-6 in float32 (ONNX Runtime against
PyTorch), 5e-3 in float16, 5e-2 in bfloat16. The others are not measured but placed between and above these.
"""

SMALLEST = 1e-3
"""Least magnitude that a share is taken of."""

DISAGREEMENT = {
    "float32": 0.02,
    "tf32": 0.05,
    "float16": 0.1,
    "bfloat16": 0.2,
    "float8": 0.3,
    "int8": 0.3,
}
"""Part of a prediction (1 less the agreement's score) that may differ, by the coarser format; chosen, not measured."""

_FORMATS = {
    "fp32": "float32",
    "fp64": "float32",
    "float64": "float32",
    "fp32_tf32": "tf32",
    "auto": "tf32",  # TensorRT left to itself uses TF32
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8": "float8",
    "explicit_int8": "int8",
}


# ---------------------------------------------------------------- how much is allowed


@frozen(kw_only=True)
class Tolerances:
    """What a config says about allowed errors, all absolute.

    Args:
        default: For every output that nothing more precise is said about; None leaves it to the shares.
        outputs: By `component.output`, by `output`, or `prediction` for the part of a prediction that may differ.
        pairs: By formats of reference and candidate, `("float32", "float16")`.
    """

    default: float | None = None
    outputs: Mapping[str, float] = field(factory=dict)
    pairs: Mapping[tuple[str, str], float] = field(factory=dict)


def tolerances(default: float | None = None, named: Mapping[str, float] | None = None) -> Tolerances:
    """Sort a config's `tolerances` into outputs and pairs of formats such as `float32/float16`."""
    formats = {*DTYPES, *SHARES, *_FORMATS}
    halves = {key: tuple(key.split("/")) for key in named or {}}
    pair = {key: (two[0], two[1]) for key, two in halves.items() if len(two) == 2 and formats.issuperset(two)}
    return Tolerances(
        default=default,
        outputs={key: value for key, value in (named or {}).items() if key not in pair},
        pairs={(_format(left), _format(right)): (named or {})[key] for key, (left, right) in pair.items()},
    )


def precision(variant: Variant, component: str | None = None) -> str:
    """The coarsest format that a variant calculates in, in one component or in all."""
    made = [artifact.precision for artifact in variant.artifacts if component in (None, artifact.component)]
    return _coarsest(made)


def limit(comparison: Comparison, allowed: Tolerances, formats: tuple[str, str] = ("float32", "float32")) -> float:
    """The largest error that a comparison may show, in the output's own unit.

    The most precise word counts: `component.output`, then the output, the pair of formats, the default, and last the
    share (see the module). A default and pairs speak of outputs in their unit, so they say nothing about predictions.

    Args:
        comparison: What was measured.
        allowed: What the user said.
        formats: What reference and candidate calculate in, as `precision` answers; the tensors' own types are
            heeded besides.
    """
    for name in (f"{comparison.component}.{comparison.output}", comparison.output):
        if name in allowed.outputs:
            return allowed.outputs[name]
    coarse = [_coarsest(two) for two in zip(formats, comparison.dtypes, strict=True)]
    coarsest = _coarsest(coarse)
    if comparison.scope == "prediction":
        return DISAGREEMENT[coarsest]
    pair = allowed.pairs.get((coarse[0], coarse[1]), allowed.default)
    if pair is not None:
        return pair
    if not all("float" in dtype for dtype in comparison.dtypes):
        return 0.0
    return SHARES[coarsest] * max(comparison.stats.scale if comparison.stats else 0.0, SMALLEST)


def _format(name: str) -> str:
    # A format that is not known is held to the strictest limit: a false alarm is seen, a false pass is not.
    return name if name in SHARES else _FORMATS.get(name, "float32")


def _coarsest(names: Iterable[str]) -> str:
    return max(map(_format, names), key=list(SHARES).index, default="float32")


# ---------------------------------------------------------------- verdicts


def judge(comparison: Comparison, tolerance: float) -> Verdict:
    """Hold a comparison against an absolute error; an error equal to it passes.

    A finding fails whatever the tolerance. So does an error that is not a finite number.
    """
    measured = comparison.stats.max_abs if comparison.finding == "ok" and comparison.stats else math.nan
    would_pass = measured if math.isfinite(measured) else None
    passed = would_pass is not None and would_pass <= tolerance
    return Verdict(comparison=comparison, tolerance=tolerance, passed=passed, would_pass=would_pass)


@frozen(kw_only=True)
class Check:
    """One candidate held against one reference on all samples.

    Args:
        reference: Name of the variant that is trusted.
        candidate: Name of the variant under test.
        devices: Where the two ran.
        required: Whether it is fatal that it could not be done.
        verdicts: What came of it.
        skipped: Why nothing did.
    """

    reference: str
    candidate: str
    devices: tuple[str, str] = ("cpu", "cpu")
    required: bool = False
    verdicts: tuple[Verdict, ...] = ()
    skipped: Skip | None = None

    @property
    def unproved(self) -> tuple[str, ...]:
        """Outputs that were compared only while they were empty, which proves nothing."""
        sizes: dict[str, int] = {}
        for compared in (verdict.comparison for verdict in self.verdicts if verdict.comparison.finding == "ok"):
            name = compared.output if compared.component is None else f"{compared.component}.{compared.output}"
            sizes[name] = sizes.get(name, 0) + (compared.stats.count if compared.stats else 0)
        return tuple(name for name, count in sizes.items() if not count)

    @property
    def status(self) -> Status:
        """`passed` only if there are verdicts, all of them good, and every output had something to compare."""
        if any(not verdict.passed for verdict in self.verdicts):
            return "failed"
        if self.skipped:
            return "skipped"
        return "passed" if self.verdicts and not self.unproved else "unverified"


def check(
    reference: Variant,
    candidate: Variant,
    comparisons: Iterable[Comparison],
    allowed: Tolerances,
    *,
    required: bool = False,
) -> Check:
    """Judge a stream of comparisons of two variants.

    Args:
        reference: The variant that is trusted.
        candidate: The variant under test.
        comparisons: What `verify_components` and `verify_chained` yield.
        allowed: What the user said about errors.
        required: Whether it is fatal that it could not be done.
    """
    verdicts = []
    for compared in comparisons:
        # What runs after a coarse component is coarse too, except where every component gets the same inputs.
        alone = compared.component if compared.scope == "component" else None
        formats = precision(reference, alone), precision(candidate, alone)
        verdicts.append(judge(compared, limit(compared, allowed, formats)))
    return Check(
        reference=reference.name,
        candidate=candidate.name,
        devices=(reference.device, candidate.device),
        required=required,
        verdicts=tuple(verdicts),
    )


# ---------------------------------------------------------------- the result


@frozen(kw_only=True)
class Verification:
    """Everything that was held against each other in a run.

    Args:
        checks: One per pair of variants, those that were skipped included.
        samples: Ids of the samples.
        required: Whether anything but a pass is fatal.
    """

    checks: tuple[Check, ...] = ()
    samples: tuple[str, ...] = ()
    required: bool = False

    @property
    def counts(self) -> dict[Status, int]:
        """How many checks ended how."""
        found = [one.status for one in self.checks]
        every: tuple[Status, ...] = ("passed", "failed", "skipped", "unverified")
        return {status: found.count(status) for status in every}

    @property
    def status(self) -> Status:
        """`failed` if any check did; `passed` only if one did and what is missing may be missing."""
        counts = self.counts
        if counts["failed"]:
            return "failed"
        if counts["unverified"] or not self.checks:
            return "unverified"
        lacking = any(one.status == "skipped" and (one.required or self.required) for one in self.checks)
        return "skipped" if lacking or not counts["passed"] else "passed"


def exit_code(verification: Verification) -> ExitCode:
    """What the process says about the verification: a failure, or the lack of what is required, is fatal."""
    lacking = any(one.required and one.status != "passed" for one in verification.checks)
    lacking = lacking or (verification.required and verification.status != "passed")
    return ExitCode.VERIFICATION if lacking or verification.status == "failed" else ExitCode.OK


def pairs(ladder: Sequence[Variant]) -> tuple[tuple[Variant, Variant], ...]:
    """Who is held against whom: each rung against its parent, which attributes a fault, and against `trained`.

    Args:
        ladder: The variants at hand, in any order. A rung whose parent is not among them is held against `trained`
            only, and against nothing if that is missing too.

    Returns:
        Reference and candidate, each pair once, in the order of the ladder.
    """
    rungs = {variant.name: variant for variant in reversed(ladder)}
    found: dict[tuple[Variant, Variant], None] = {}
    for variant in ladder:
        for name in (variant.parent, "trained"):
            if name in rungs and name != variant.name:
                found[rungs[name], variant] = None
    return tuple(found)
