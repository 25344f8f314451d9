"""One label per sample.

A prediction is `{"label": int, "scores": array of one number per class}`, a ground truth `{"label": int}`; labels
count from 0 in the order of the class names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Agreement, Array, Metrics, Picture, Record, Table
from awml_deploy_core.tasks.draw import bar, encode_png, fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.records import Cell

__all__ = ["agree", "metrics", "picture"]

_FIGURES = ("precision", "recall", "f1")
_RIGHT, _WRONG, _UNKNOWN = (46, 160, 67), (207, 34, 46), (130, 130, 130)


def metrics(records: Sequence[Record], class_names: Sequence[str]) -> Metrics:
    """Accuracy, precision, recall and F1, macro and per class, and the confusion matrix.

    A quotient with nothing below the line counts 0, as in scikit-learn's `zero_division=0`: the precision of a class
    that was never predicted, the recall of one that never occurs. Macro figures are means over all class names. With
    no labelled record no figure is defined, and all are None.

    Args:
        records: Predictions beside their truths; records without a truth are counted and left out.
        class_names: Names by label.

    Raises:
        LoadError: A label has no class name.
        ConfigError: Two classes have the same name.
    """
    names = tuple(class_names)
    if len(set(names)) != len(names):
        raise ConfigError(f"class_names must differ, got {', '.join(names)}")
    labelled = [record for record in records if record.ground_truth is not None]
    matrix = _confusion(labelled, len(names))
    per_class = _per_class(matrix) if labelled else None
    values: dict[str, float | None] = {"accuracy": float(np.trace(matrix) / matrix.sum()) if labelled else None}
    for column, figure in enumerate(_FIGURES):
        values[f"macro_{figure}"] = None if per_class is None else float(per_class[:, column].mean())
    for row, name in enumerate(names):
        for column, figure in enumerate(_FIGURES):
            values[f"{figure}/{name}"] = None if per_class is None else float(per_class[row, column])
    return Metrics(primary="accuracy", values=values, tables=_tables(names, matrix, values, len(records)))


def agree(reference: Any, candidate: Any) -> Agreement:
    """Whether the labels are the same; `distances` holds the largest difference of a score.

    Scores that are no numbers agree with nothing, each other included.
    """
    ours, theirs = _scores(reference), _scores(candidate)
    sound = bool(np.isfinite(ours).all() and np.isfinite(theirs).all())
    same = sound and int(reference["label"]) == int(candidate["label"])
    with np.errstate(invalid="ignore"):  # infinities that cancel are NaN, which says what there is to say
        far = float(np.abs(ours - theirs).max(initial=0.0)) if ours.shape == theirs.shape else float("inf")
    return Agreement(matched=int(same), unmatched=int(not same), score=float(same), distances={"scores": far})


def picture(image: Array, truth: Any, predictions: Mapping[str, Any], class_names: Sequence[str]) -> Picture:
    """The image with a bar per variant below it: as long as its score, green if right, red if wrong, grey if unknown.

    Args:
        image: An array of shape (H, W) or (H, W, 1 | 3).
        truth: Ground truth, or None.
        predictions: Predictions by variant.
        class_names: Names by label.
    """
    pixels = fit(np.asarray(image))
    label = None if truth is None else int(truth["label"])
    bars = [bar(pixels.shape[1], _score(found), _colour(label, int(found["label"]))) for found in predictions.values()]
    said = "; ".join(
        f"{variant}: {_name(int(found['label']), class_names)} ({_score(found):.3f})"
        for variant, found in predictions.items()
    )
    caption = f"truth: {'unknown' if label is None else _name(label, class_names)}"
    return Picture(png=encode_png(np.concatenate([pixels, *bars])), caption=f"{caption}; {said}" if said else caption)


def _confusion(records: Sequence[Record], classes: int) -> NDArray[np.int64]:
    """Counts; rows are truths, columns predictions."""
    matrix = np.zeros((classes, classes), np.int64)
    for record in records:
        truth, label = int(record.ground_truth["label"]), int(record.prediction["label"])
        for what, value in (("truth", truth), ("predicted label", label)):
            if not 0 <= value < classes:
                raise LoadError(
                    f"sample {record.id!r}: its {what} is {value}, and there are {classes} class names",
                    hint="class_names must name every label, counted from 0.",
                )
        matrix[truth, label] += 1
    return matrix


def _per_class(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision, recall and F1 as columns, a row per class."""
    right = np.diag(matrix)
    predicted, occurring = matrix.sum(axis=0), matrix.sum(axis=1)
    below = (predicted, occurring, predicted + occurring)
    above = (right, right, 2 * right)
    return np.stack([over / np.maximum(under, 1) for over, under in zip(above, below, strict=True)], axis=1)


def _tables(
    names: Sequence[str], matrix: NDArray[np.int64], values: Mapping[str, float | None], records: int
) -> tuple[Table, ...]:
    support = matrix.sum(axis=1)
    rows: list[tuple[Cell, ...]] = [
        (name, *(values[f"{figure}/{name}"] for figure in _FIGURES), int(support[row]))
        for row, name in enumerate(names)
    ]
    counts = int(matrix.sum())
    confusion: list[tuple[Cell, ...]] = [(name, *map(int, matrix[row])) for row, name in enumerate(names)]
    return (
        Table(title="Per class", columns=("class", *_FIGURES, "support"), rows=rows),
        Table(title="Confusion (rows: truth, columns: prediction)", columns=("truth", *names), rows=confusion),
        Table(title="Samples", columns=("with truth", "without truth"), rows=[(counts, records - counts)]),
    )


def _scores(prediction: Any) -> NDArray[np.float64]:
    return np.asarray(prediction["scores"], dtype=np.float64)


def _score(prediction: Any) -> float:
    """What the prediction gives its own label, NaN if it has no score for it."""
    scores, label = _scores(prediction).reshape(-1), int(prediction["label"])
    return float(scores[label]) if 0 <= label < scores.size else float("nan")


def _name(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if 0 <= label < len(class_names) else str(label)


def _colour(truth: int | None, label: int) -> tuple[int, int, int]:
    if truth is None:
        return _UNKNOWN
    return _RIGHT if truth == label else _WRONG
