"""Figures under the names that AWML's users know, beside short ones, and the tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from awml_deploy_core.records import Metrics, Table
from awml_deploy_core.tasks.detection3d import nuscenes
from awml_deploy_core.tasks.detection3d.curve import mean
from awml_deploy_core.tasks.detection3d.t4 import CENTRE, PLANE, THRESHOLDS, Figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.records import Cell
    from awml_deploy_core.tasks.detection3d.pool import Pool

    Floats = NDArray[np.float64]
    Range = tuple[float, float]
    Values = dict[str, float | None]

__all__ = ["nuscenes_results", "t4_results"]

_FIGURES = {"AP": "ap", "APH": "aph", "max-f1score": "f1", "optimal-confidence": "confidence"}
_SHORT = {CENTRE: "", PLANE: "_plane"}
_MEANS = dict(zip(nuscenes.ERRORS, ("mATE", "mASE", "mAOE", "mAVE", "mAAE"), strict=True))
_WORDS = {CENTRE: "centre distance", PLANE: "plane distance"}


def t4_results(
    found: Mapping[str, Figures], pool: Pool, names: Sequence[str], ranges: Sequence[Range], *, compat: bool
) -> Metrics:
    """Values and tables; the last range is the one that counts.

    Args:
        found: Figures by what is measured.
        pool: What was measured.
        names: Names of the classes.
        ranges: As the figures have them.
        compat: Whether they were measured as AWML does, which a table says.
    """
    return Metrics(
        primary="mAP",
        values=_short(found, names, ranges) | _known(found, names, ranges),
        tables=(
            _by_class(found, names, ranges[-1]),
            _by_range(found, ranges),
            _by_threshold(found, names, ranges[-1]),
            _samples(pool),
            _rules(ranges, compat=compat),
        ),
    )


def nuscenes_results(found: nuscenes.Scores, pool: Pool, names: Sequence[str]) -> Metrics:
    """Values and tables; errors are no fractions, the smaller the better.

    Args:
        found: Figures by class.
        pool: What was measured.
        names: Names of the classes.
    """
    errors = {_MEANS[name]: _number(value) for name, value in found.mean_errors.items() if name in found.measured}
    values: Values = {"mAP": _number(found.mean_ap), "NDS": _number(found.nds), **errors}
    known = {f"T4Metric/{name}": value for name, value in values.items()}
    for label, name in enumerate(names):
        values[f"AP/{name}"] = _number(found.ap[label].mean())
        each = zip(nuscenes.THRESHOLDS, found.ap[label], strict=True)
        known |= {f"T4Metric/{name}_AP_dist_{limit}": _number(value) for limit, value in each}
        for column, error in enumerate(nuscenes.ERRORS):
            if error in found.measured:
                known[f"T4Metric/{name}_{error}_err"] = _number(found.errors[label, column])
    tables = (_nuscenes_by_class(found, names), _samples(pool), _nuscenes_rules(found))
    return Metrics(primary="mAP", values=values | known, tables=tables)


def _short(found: Mapping[str, Figures], names: Sequence[str], ranges: Sequence[Range]) -> Values:
    values: Values = {}
    for mode, short in _SHORT.items():
        figures = found[mode]
        values |= {f"mAP{short}": _overall(figures.ap[-1]), f"mAPH{short}": _overall(figures.aph[-1])}
        values |= {
            f"mAP{short}/{_span(limits)}": _overall(each) for limits, each in zip(ranges, figures.ap, strict=True)
        }
    for label, name in enumerate(names):
        values[f"AP/{name}"] = _number(found[CENTRE].ap[-1, label].mean())
        values[f"APH/{name}"] = _number(found[CENTRE].aph[-1, label].mean())
    return values


def _known(found: Mapping[str, Figures], names: Sequence[str], ranges: Sequence[Range]) -> Values:
    """AWML's names: an evaluator per range, of which the last is the main one and has no prefix."""
    values: Values = {}
    for mode, figures in found.items():
        for row, limits in enumerate(ranges):
            prefix = "" if row == len(ranges) - 1 else f"bev_center_{limits[0]}-{limits[1]}/"
            values[f"{prefix}T4MetricV2/mAP_{mode}"] = _overall(figures.ap[row])
            values[f"{prefix}T4MetricV2/mAPH_{mode}"] = _overall(figures.aph[row])
        for word, attribute in _FIGURES.items():
            for label, name in enumerate(names):
                each = zip(THRESHOLDS[mode], getattr(figures, attribute)[-1, label], strict=True)
                values |= {f"T4MetricV2_label/{name}_{word}_{mode}_{limit}": _number(value) for limit, value in each}
    return values


def _overall(figures: Floats) -> float | None:
    """Mean over the classes of the means over the thresholds; a class that is nowhere is left out."""
    return _number(mean(figures.mean(axis=1)))


def _span(limits: Range) -> str:
    return f"{limits[0]:g}-{limits[1]:g}"


def _by_class(found: Mapping[str, Figures], names: Sequence[str], limits: Range) -> Table:
    centre, plane = found[CENTRE], found[PLANE]
    rows: list[tuple[Cell, ...]] = []
    for label, name in enumerate(names):
        figures = (each[-1, label].mean() for each in (centre.ap, centre.aph, plane.ap, plane.aph))
        rows.append((name, *map(_number, figures), int(centre.truths[-1, label]), int(centre.predictions[-1, label])))
    columns = ("class", "AP", "APH", "AP plane", "APH plane", "truths", "predictions")
    return Table(title=f"Per class, {_span(limits)} m", columns=columns, rows=rows)


def _by_range(found: Mapping[str, Figures], ranges: Sequence[Range]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for row, limits in enumerate(ranges):
        figures = (_overall(each[row]) for mode in _SHORT for each in (found[mode].ap, found[mode].aph))
        rows.append((_span(limits), *figures))
    return Table(title="By range", columns=("metres", "mAP", "mAPH", "mAP plane", "mAPH plane"), rows=rows)


def _by_threshold(found: Mapping[str, Figures], names: Sequence[str], limits: Range) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, _WORDS[mode], limit, *(_number(getattr(figures, each)[-1, label, column]) for each in _FIGURES.values()))
        for mode, figures in found.items()
        for label, name in enumerate(names)
        for column, limit in enumerate(THRESHOLDS[mode])
    ]
    columns = ("class", "measured", "metres", "AP", "APH", "largest F1", "at score")
    return Table(title=f"Per threshold, {_span(limits)} m", columns=columns, rows=rows)


def _rules(ranges: Sequence[Range], *, compat: bool) -> Table:
    row = (
        "T4MetricV2",
        ", ".join(map(_span, ranges)),
        "exchanged, as AWML has them" if compat else "length along the heading",
        "unsigned, as AWML has it" if compat else "signed",
    )
    return Table(title="Rules", columns=("metric", "ranges in metres", "sides of the footprint", "heading"), rows=[row])


def _nuscenes_by_class(found: nuscenes.Scores, names: Sequence[str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for label, name in enumerate(names):
        figures = (found.ap[label].mean(), *found.ap[label], *found.errors[label])
        rows.append((name, *map(_number, figures)))
    thresholds = (f"AP {limit} m" for limit in nuscenes.THRESHOLDS)
    return Table(
        title="Per class", columns=("class", "AP", *thresholds, *(_MEANS[e][1:] for e in nuscenes.ERRORS)), rows=rows
    )


def _nuscenes_rules(found: nuscenes.Scores) -> Table:
    missing = [_MEANS[name] for name in nuscenes.ERRORS if name not in found.measured]
    joined = ["mAP", *(_MEANS[name] for name in found.measured)]
    row = ("nuScenes detection", ", ".join(joined), ", ".join(missing) or "nothing")
    return Table(title="Rules", columns=("metric", "NDS joins", "not in the data and left out"), rows=[row])


def _samples(pool: Pool) -> Table:
    """What was counted and what was left out."""
    row = (pool.frames, pool.unlabelled, len(pool.truths), len(pool.predictions), pool.broken)
    columns = ("with truth", "without truth", "true boxes", "predicted boxes", "predicted boxes that are no numbers")
    return Table(title="Samples", columns=columns, rows=[row])


def _number(value: float) -> float | None:
    """None where a figure is not defined."""
    return float(value) if np.isfinite(value) else None
