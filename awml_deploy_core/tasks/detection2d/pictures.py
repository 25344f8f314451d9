"""One image with its truth and what each variant found, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from awml_deploy_core.records import Array, Picture
from awml_deploy_core.tasks.detection2d.flat import Floats, area, column, corners

if TYPE_CHECKING:
    from awml_deploy_core.tasks.canvas import Panel

__all__ = ["picture"]

MANY = 30
"""Boxes in a panel from which on class names would hide the image."""


def picture(
    image: Array,
    truth: Any,
    predictions: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    score: float = 0.25,
) -> Picture:
    """A panel with the truth and one per variant, boxes in the colours of their classes.

    The truth is drawn in dashes, in its own panel with names and in the others in white, so that what was missed is
    what is dashed alone. Of tags that would hide one another those of the surer boxes stay; where there are many boxes
    tags have scores alone, and the legend says the rest.

    Args:
        image: An array of shape (H, W) or (H, W, 1 | 3), red first.
        truth: Ground truth, or None.
        predictions: Predictions by variant.
        class_names: Names by label.
        score: Least score of a box that is drawn.
    """
    from awml_deploy_core.tasks import canvas

    pixels = np.asarray(image)
    wanted = None if truth is None else _truth(truth)
    found = {variant: _prediction(given, score) for variant, given in predictions.items()}
    sheets = ([("truth", wanted)] if wanted or not found else []) + list(found.items())
    columns = 1 if len(sheets) == 1 or pixels.shape[1] > 2.4 * pixels.shape[0] else 2
    panels = []
    for title, sheet in sheets:
        shown, scale = canvas.photograph(pixels, canvas.WIDE * 3 // 2 if columns == 1 else canvas.WIDE)
        panel = canvas.Panel(image=shown)
        if sheet is not None:
            _draw(panel, sheet, wanted, class_names, scale)
        panels.append(panel.titled(title, "unknown" if sheet is None else sheet.note))
    said = [f"{title}: {_said(sheet, class_names)}" for title, sheet in sheets]
    cut = [f"scores from {score:g}"] if found else []
    whole = _page(panels, sheets, class_names, columns)
    return Picture(png=canvas.encode(whole), caption="; ".join(said + cut))


def _page(panels: list[Any], sheets: list[tuple[str, _Sheet | None]], names: Sequence[str], columns: int) -> Any:
    """The panels in rows. A place that is left over shows numbers, which are a legend too; else one stands below."""
    from awml_deploy_core.tasks import canvas

    counts = [(title, _counts(sheet)) for title, sheet in sheets]
    labels = sorted({label for _, count in counts for label in count})
    if labels and len(panels) % columns:
        labels.sort(key=lambda label: -max(count.get(label, 0) for _, count in counts))
        rows = [
            (_name(label, names), canvas.colour(label), [count.get(label, 0) for _, count in counts])
            for label in labels
        ]
        return canvas.stack(
            [*panels, canvas.tally("boxes", [title for title, _ in counts], rows, panels[0].size)], columns=columns
        )
    whole = canvas.stack(panels, columns=columns)
    if not labels:
        return whole
    entries = canvas.legend([(_name(label, names), canvas.colour(label)) for label in labels], whole.width)
    return canvas.stack([whole, entries], columns=1, gap=0)


@frozen(kw_only=True, eq=False)
class _Sheet:
    """The boxes of one panel; without scores it is the truth."""

    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats | None = None
    aside: NDArray[np.bool_]
    note: str


def _truth(truth: Mapping[str, Any]) -> _Sheet:
    labels = column(truth, "labels", np.int64)
    aside = np.zeros(len(labels), np.bool_)
    for key in ("ignore", "crowd"):
        if truth.get(key) is not None:
            aside = aside | column(truth, key, np.bool_)
    count = int(np.count_nonzero(~aside))
    note = f"{_count(count, 'object')}, {len(labels) - count} not counted" if aside.any() else _count(count, "object")
    return _Sheet(boxes=corners(truth), labels=labels, aside=aside, note=note)


def _prediction(prediction: Mapping[str, Any], score: float) -> _Sheet:
    boxes, labels, scores = corners(prediction), column(prediction, "labels", np.int64), column(prediction, "scores")
    sound = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    rows = np.flatnonzero(sound & (scores >= score))
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    note = f"{len(rows)} of {_count(len(scores), 'box', 'boxes')}, scores from {score:g}"
    note += f", {np.count_nonzero(~sound)} not finite" if not sound.all() else ""
    return _Sheet(
        boxes=boxes[rows], labels=labels[rows], scores=scores[rows], aside=np.zeros(len(rows), np.bool_), note=note
    )


def _draw(panel: Panel, sheet: _Sheet, truth: _Sheet | None, names: Sequence[str], scale: float) -> None:
    """Truth below, large boxes before small ones, and tags above all."""
    from awml_deploy_core.tasks import canvas

    if sheet.scores is not None and truth is not None:
        for box in truth.boxes * scale:
            panel.box(tuple(box), canvas.WHITE, width=1, dashed=True)
    tags = list(_tags(sheet, names, scale))
    for row in np.argsort(-area(sheet.boxes), kind="stable"):
        panel.box(tags[row].box, tags[row].colour, width=3 if sheet.scores is None else 2, dashed=sheet.scores is None)
    for tag in tags:
        if tag.text:
            panel.tag(tag)


def _tags(sheet: _Sheet, names: Sequence[str], scale: float) -> Iterator[Any]:
    from awml_deploy_core.tasks import canvas

    for row, (label, box) in enumerate(zip(sheet.labels.tolist(), sheet.boxes * scale, strict=True)):
        hue = canvas.GREY if sheet.aside[row] else canvas.colour(label)
        words = [] if len(sheet.labels) > MANY else [_name(label, names)]
        words += [] if sheet.scores is None else [f"{sheet.scores[row]:.2f}"]
        yield canvas.Tag(text=" ".join(words), box=tuple(box.tolist()), colour=hue)


def _said(sheet: _Sheet | None, names: Sequence[str]) -> str:
    if sheet is None:
        return "unknown"
    return ", ".join(f"{count} {_name(label, names)}" for label, count in _counts(sheet).items()) or "nothing"


def _counts(sheet: _Sheet | None) -> dict[int, int]:
    """Boxes by label, the lowest label first."""
    labels, counts = np.unique([] if sheet is None else sheet.labels, return_counts=True)
    return dict(zip(labels.astype(int).tolist(), counts.tolist(), strict=True))


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else str(label)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
