"""The figures of a detector: COCO's or PASCAL VOC's, and what was taken for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.records import Metrics, Record, Table
from awml_deploy_core.tasks.detection2d import coco, voc
from awml_deploy_core.tasks.detection2d.confusion import confusion
from awml_deploy_core.tasks.detection2d.flat import Flat, flatten

if TYPE_CHECKING:
    from awml_deploy_core.records import Cell

__all__ = ["metrics"]

Values = dict[str, float | None]


def metrics(
    records: Sequence[Record],
    class_names: Sequence[str],
    *,
    style: Literal["coco", "voc"] = "coco",
    iou_thresholds: Sequence[float] | None = None,
    max_detections: Sequence[int] = (1, 10, 100),
    voc_mode: Literal["11points", "area"] = "11points",
    confusion_score: float = 0.25,
    confusion_iou: float = 0.5,
) -> Metrics:
    """Mean average precision in the manner of COCO or PASCAL VOC, per class, and the confusion matrix.

    The primary figure is `mAP`. For COCO that is the mean over the overlaps 0.5, 0.55 ... 0.95, beside it stand `AP50`
    and `AP75`, `AP_small`, `AP_medium` and `AP_large` (up to 32², to 96² and above, in pixels), the recalls `AR_1`,
    `AR_10`, `AR_100` and by size, and per class `AP/car`, `AP50/car`, `AP75/car`. For VOC there are `AP50`, rounded
    to three digits as mmdetection does, `mAP`, which is not, and per class `AP50/car`. Means are taken over classes
    with a truth; a figure that nothing can be said about is None, so all are where no record has a truth. Truths
    without a prediction make 0.

    Args:
        records: Predictions beside their truths; records without a truth are counted and left out.
        class_names: Names by label.
        style: Whose rules.
        iou_thresholds: Overlaps that make a match; by default COCO's ten, or 0.5 for VOC.
        max_detections: Boxes per image and class that COCO counts: all figures are at the last, `AR_n` at each.
        voc_mode: Whether VOC's precision is taken at eleven recalls, as until 2009, or is the area under the curve.
        confusion_score: Least score of a prediction in the confusion matrix.
        confusion_iou: Least overlap there.

    Raises:
        LoadError: A label has no class name, or the arrays of a prediction or truth do not fit together.
        ConfigError: Two classes have the same name, or no such style or threshold can be meant.
        RequirementError: COCO's rules need faster-coco-eval, and it is not installed.
    """
    names = tuple(class_names)
    thresholds = _checked(names, style, iou_thresholds, max_detections, voc_mode)
    flat = flatten(records, len(names))
    if style == "coco":
        values = _coco(flat, names, thresholds, tuple(max_detections))
    else:
        values = _voc(flat, names, thresholds, voc_mode)
    matrix = confusion(flat, len(names), score=confusion_score, overlap=confusion_iou)
    title = f"Confusion at score {confusion_score:g} and overlap {confusion_iou:g} (rows: truth, columns: prediction)"
    rows: list[tuple[Cell, ...]] = [
        (name, *map(int, row)) for name, row in zip((*names, "background"), matrix, strict=True)
    ]
    confused = Table(title=title, columns=("truth", *names, "background"), rows=rows)
    tables = (_per_class(flat, names, values), *_by_size(values), confused, _samples(flat))
    return Metrics(primary="mAP", values=values, tables=tables)


def _checked(
    names: Sequence[str], style: str, thresholds: Sequence[float] | None, counts: Sequence[int], mode: str
) -> tuple[float, ...]:
    if len(set(names)) != len(names):
        raise ConfigError(f"class_names must differ, got {', '.join(names)}")
    for what, given, known in (("style", style, ("coco", "voc")), ("voc_mode", mode, ("11points", "area"))):
        if given not in known:
            raise ConfigError(f"detection2d has no {what} {given!r}", hint=f"There are {' and '.join(known)}.")
    if not counts or list(counts) != sorted(set(counts)) or counts[0] < 1:
        raise ConfigError(f"max_detections must ascend from at least 1, got {list(counts)}")
    chosen = tuple(thresholds if thresholds is not None else coco.THRESHOLDS if style == "coco" else (0.5,))
    if not chosen or not all(0 < one <= 1 for one in chosen) or list(chosen) != sorted(set(chosen)):
        raise ConfigError(f"iou_thresholds must ascend between 0 and 1, got {list(chosen)}")
    return chosen


# ---------------------------------------------------------------- values


def _coco(flat: Flat, names: Sequence[str], thresholds: tuple[float, ...], counts: tuple[int, ...]) -> Values:
    """COCO's figures under their names; the evaluation's -1, which means nothing, becomes None."""
    curves = coco.evaluate(flat, names, thresholds, counts) if flat.truths.image.size else None

    def precision(threshold: Any = slice(None), label: Any = slice(None), size: int = 0) -> float | None:
        return None if curves is None else _mean(curves.precision[threshold, :, label, size, -1])

    def recall(count: int = -1, size: int = 0) -> float | None:
        return None if curves is None else _mean(curves.recall[:, :, size, count])

    levels = [(f"AP{_percent(one)}", thresholds.index(one)) for one in (0.5, 0.75) if one in thresholds]
    sizes = list(enumerate(coco.SIZES, start=1))
    values: Values = {"mAP": precision()}
    values |= {key: precision(level) for key, level in levels}
    values |= {f"AP_{size}": precision(size=place) for place, size in sizes}
    values |= {f"AR_{count}": recall(place) for place, count in enumerate(counts)}
    values |= {f"AR_{size}": recall(size=place) for place, size in sizes}
    for label, name in enumerate(names):
        values[f"AP/{name}"] = precision(label=label)
        values |= {f"{key}/{name}": precision(level, label) for key, level in levels}
    return values


def _mean(part: Any) -> float | None:
    defined = part[part > -1]
    return float(defined.mean()) if defined.size else None


def _voc(flat: Flat, names: Sequence[str], thresholds: tuple[float, ...], mode: Literal["11points", "area"]) -> Values:
    curves = voc.evaluate(flat, len(names), thresholds)
    table = [[voc.average_precision(curve, mode) for curve in row] for row in curves]
    means = [voc.mean(row) for row in table]
    known = [one for one in means if one is not None]
    values: Values = {"mAP": sum(known) / len(known) if known else None}
    for threshold, mean in zip(thresholds, means, strict=True):
        values[f"AP{_percent(threshold)}"] = None if mean is None else round(mean, 3)
    for label, name in enumerate(names):
        values |= {f"AP{_percent(one)}/{name}": row[label] for one, row in zip(thresholds, table, strict=True)}
    return values


def _percent(threshold: float) -> str:
    return f"{threshold * 100:.4g}"


# ---------------------------------------------------------------- tables


def _per_class(flat: Flat, names: Sequence[str], values: Mapping[str, float | None]) -> Table:
    figures = [key.removesuffix(f"/{names[0]}") for key in values if names and key.endswith(f"/{names[0]}")]
    counted = ~(flat.truths.ignore | flat.truths.crowd)
    truths, found = (
        np.bincount(labels, minlength=len(names)) for labels in (flat.truths.labels[counted], flat.found.labels)
    )
    rows: Iterator[tuple[Cell, ...]] = (
        (name, *(values[f"{figure}/{name}"] for figure in figures), int(truths[label]), int(found[label]))
        for label, name in enumerate(names)
    )
    return Table(title="Per class", columns=("class", *figures, "truths", "predictions"), rows=rows)


def _by_size(values: Mapping[str, float | None]) -> tuple[Table, ...]:
    if "AP_small" not in values:
        return ()
    rows = [(size, values[f"AP_{size}"], values[f"AR_{size}"]) for size in coco.SIZES]
    return (Table(title="By size", columns=("size", "AP", "AR"), rows=rows),)


def _samples(flat: Flat) -> Table:
    empty = flat.images - len(np.unique(flat.truths.image))
    aside = int(np.count_nonzero(flat.truths.ignore | flat.truths.crowd))
    columns = ("with truth", "without truth", "with no object", "objects not counted", "predictions not finite")
    return Table(title="Samples", columns=columns, rows=[(flat.images, flat.without_truth, empty, aside, flat.broken)])
