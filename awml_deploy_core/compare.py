"""Two trees to comparisons, leaf by leaf; this module judges nothing.

A leaf that cannot be measured, or not fully, is a finding: a NaN or an infinity with its place, another shape, element
type or kind of value, a leaf that only one side has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal

import numpy as np

from awml_deploy_core.measure import QUANTILES, dtype_name, measure, measure_finite
from awml_deploy_core.records import Comparison, Stats
from awml_deploy_core.tree import leaves
from awml_deploy_core.tree.bits import is_tensor

__all__ = ["QUANTILES", "compare", "measure"]

_Finding = Literal["ok", "nan", "inf", "shape", "dtype", "missing", "extra", "calls", "type"]


def compare(
    reference: Any,
    candidate: Any,
    *,
    names: tuple[str, str],
    scope: Literal["component", "chained", "prediction"],
    sample: str,
    component: str | None = None,
    demanded: Mapping[str, str] | None = None,
    detail: str = "",
) -> tuple[Comparison, ...]:
    """Measure two trees leaf by leaf.

    Args:
        reference: The side that is trusted: a component's outputs by name, or any tree.
        candidate: The side under test.
        names: Names of the two variants.
        scope: What the trees are; goes into the result, as do `sample` and `component`.
        sample: Id of the sample.
        component: Name of the component, if the trees are its outputs.
        demanded: Element types by output that the candidate must have. Others must have the reference's.
        detail: Said about every leaf, before what is found out about it.

    Returns:
        One comparison per leaf of the reference in its order, then one per leaf that only the candidate has. Outputs
        are called by their name, leaves of other trees by their path.
    """
    flat = _is_flat(reference) and _is_flat(candidate)
    left, right = _leaves(reference, flat), _leaves(candidate, flat)
    compared = []
    for output in left | right:
        pair = left.get(output, _ABSENT), right.get(output, _ABSENT)
        finding, fact, stats = _leaf(*pair, (demanded or {}).get(output))
        shown = pair[1] if pair[0] is _ABSENT else pair[0]
        compared.append(
            Comparison(
                reference=names[0],
                candidate=names[1],
                scope=scope,
                sample=sample,
                component=component,
                output=output,
                shape=tuple(np.shape(shown)),
                dtypes=(_kind(pair[0])[1], _kind(pair[1])[1]),
                finding=finding,
                detail="; ".join(filter(None, (detail, fact))),
                stats=stats,
            )
        )
    return tuple(compared)


_ABSENT = object()


def _leaves(tree: Any, flat: bool) -> dict[str, Any]:
    found = tree if flat else dict(leaves(tree))
    return {name: leaf.value if isinstance(leaf, Enum) else leaf for name, leaf in found.items()}


def _is_flat(tree: Any) -> bool:
    """Whether a tree is outputs by name; names may hold what a path has another meaning for."""
    return isinstance(tree, Mapping) and all(
        isinstance(key, str) and (is_tensor(value) or isinstance(value, np.ndarray)) for key, value in tree.items()
    )


def _kind(leaf: Any) -> tuple[str, str]:
    """What a leaf is, and the name of its element type; empty where there is none."""
    if leaf is _ABSENT or leaf is None or isinstance(leaf, str | bytes):
        return ("text" if isinstance(leaf, str | bytes) else "none"), ""
    dtype = dtype_name(leaf)
    if dtype.startswith(("str", "bytes", "object")):
        return "text", dtype
    return ("array" if is_tensor(leaf) or isinstance(leaf, np.ndarray) else "number"), dtype


def _leaf(left: Any, right: Any, demanded: str | None) -> tuple[_Finding, str, Stats | None]:
    """What is found out about one leaf: finding, what is to be said about it, statistics if it has any."""
    if right is _ABSENT or left is _ABSENT:
        return ("missing" if right is _ABSENT else "extra"), "", None
    (kind, wanted), (other, dtype) = _kind(left), _kind(right)
    if kind != other:
        return "type", f"{kind} against {other}", None
    if kind in ("none", "text"):
        same = np.array_equal(np.asarray(left), np.asarray(right))
        return ("ok", "", _SAME) if same else ("type", f"{left!r} against {right!r}"[:200], None)
    if np.shape(left) != np.shape(right):
        return "shape", f"{tuple(np.shape(left))} against {tuple(np.shape(right))}", None
    finding, fact, stats = _numeric(left, right)
    if finding == "ok" and dtype != (demanded or wanted):
        return "dtype", f"{demanded or wanted} is wanted, got {dtype}", stats
    return finding, fact, stats


_SAME = Stats(count=1, max_abs=0.0, mean_abs=0.0, max_rel=0.0, mean_rel=0.0, cosine=None, snr_db=None)


def _numeric(left: Any, right: Any) -> tuple[_Finding, str, Stats]:
    """Statistics of the pairs that have an error, and a finding if others have none."""
    stats, odd = measure_finite(left, right)
    if odd is None:
        return "ok", "", stats
    sides = (("reference", odd.reference), ("candidate", odd.candidate))
    said = ", ".join(f"{side} has {nan} NaN and {inf} Inf" for side, (nan, inf) in sides if nan or inf)
    size = math.prod(np.shape(left))
    return ("nan" if odd.reference[0] or odd.candidate[0] else "inf"), f"{said} of {size}, first at {odd.first}", stats
