"""A frame from above: points, truth and what each variant found.

The sensor stands in the middle and looks up. Every variant has a panel of its own over the same points; truths are
white outlines below the predictions, which have the colour of their class and fade with their score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from attrs import fields, frozen
from PIL import Image, ImageDraw

from awml_deploy_core.records import Array, Picture
from awml_deploy_core.tasks.canvas import GREY, WHITE, Colour, Panel, colour, font, legend, stack
from awml_deploy_core.tasks.detection3d.geometry import footprints
from awml_deploy_core.tasks.detection3d.points import shaded
from awml_deploy_core.tasks.detection3d.pool import Boxes, array, boxes_of
from awml_deploy_core.tasks.draw import encode_png

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Spot = tuple[float, float]

__all__ = ["picture"]

GROUND: Colour = (10, 13, 18)
RING: Colour = (58, 72, 96)
WIDTH, GAP, FIGURES = 1000, 8, 11
FINE = 2
"""Lines are drawn so many times as large and shrunk, which smooths them."""
SMALLEST = 5.0
"""Pixels that every side of a drawn box has at least: a pedestrian far away is still to be seen."""
REACHES = (10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 125, 150, 200, 250)
"""Metres that a picture shows to each side if nobody says; nothing farther away is worth shrinking the rest for."""


def picture(
    points: Array,
    truth: Any,
    predictions: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    reach: float | None = None,
    shade: Literal["height", "intensity"] = "height",
    score: float = 0.25,
) -> Picture:
    """Draw a frame from above, a panel per variant.

    Args:
        points: Of shape (N, 3 or more): x, y, z, intensity. None or empty draws none.
        truth: Ground truth, or None.
        predictions: Predictions by variant; none draws the truth alone.
        class_names: Names by label.
        reach: Metres from the sensor to the edges; None shows all boxes and nearly all points up to 250 m.
        shade: `height` or `intensity`, what the colour of a point says.
        score: Predictions below it are not drawn; how many there are stands above them.

    Raises:
        LoadError: A tree is not made as the task says.
    """
    true = None if truth is None else boxes_of(truth, "drawn: its truth", scored=False)
    found = {variant: boxes_of(each, f"drawn: the prediction of {variant}") for variant, each in predictions.items()}
    cloud = np.zeros((0, 3)) if points is None else array(points).reshape(-1, array(points).shape[-1])
    sure = {variant: _above(boxes, score) for variant, boxes in found.items()}
    panels: Mapping[str, Boxes | None] = sure or {"truth": None}
    columns = min(len(panels), 2 if len(panels) <= 4 else 3)
    shown = [each for each in (true, *sure.values()) if each is not None]
    view = _View(size=(WIDTH - GAP * (columns - 1)) // columns, reach=reach or _reach(cloud, shown))
    ground = Image.fromarray(shaded(cloud, view.size, view.reach, GROUND, shade))
    drawn = [
        Panel(image=_panel(ground, view, true, boxes)).titled(title, _note(boxes, found.get(title), score))
        for title, boxes in panels.items()
    ]
    page = stack(drawn, columns=columns, gap=GAP)
    entries = _entries(shown, class_names, with_truth=true is not None and bool(found))
    page = stack([page, legend(entries, page.width)], columns=1, gap=0) if entries else page
    return Picture(png=encode_png(np.asarray(page)), caption=_caption(true, found, view.reach))


# ---------------------------------------------------------------- one panel


@frozen(kw_only=True)
class _View:
    """A square seen from above.

    Args:
        size: Pixels of a side.
        reach: Metres from the middle to an edge.
    """

    size: int
    reach: float

    @property
    def scale(self) -> float:
        """Fine pixels of a metre."""
        return FINE * self.size / (2 * self.reach)

    def place(self, metres: Floats) -> list[Spot]:
        """Fine pixels of points on the ground: x is up, y is to the left."""
        middle = FINE * self.size / 2
        return [(float(middle - y * self.scale), float(middle - x * self.scale)) for x, y in metres]


def _panel(ground: Image.Image, view: _View, truth: Boxes | None, found: Boxes | None) -> Image.Image:
    image = ground.resize((FINE * view.size, FINE * view.size), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image, "RGBA")
    rings = _rings(view.reach)
    for distance in rings:
        (left, bottom), (right, top) = view.place(np.array([[-distance, distance], [distance, -distance]]))
        pen.ellipse((left, top, right, bottom), outline=RING, width=FINE)
    _ego(pen, view)
    for corners, label, _ in _visible(truth, view):
        _box(pen, corners, colour(label) if found is None else WHITE, 0.9)
    for corners, label, score in _visible(found, view):
        _box(pen, corners, colour(label), 0.3 + 0.7 * score, fill=0.3)
    small = image.reduce(FINE)
    _distances(ImageDraw.Draw(small), view, rings)
    return small


def _rings(reach: float) -> list[float]:
    """Round distances, two to five of them."""
    tens = 10 ** floor(log10(reach / 5.5))
    step = next(tens * each for each in (1, 2, 2.5, 5, 10) if reach / (tens * each) <= 5.5)
    return [float(step * number) for number in range(1, ceil(reach / step))]


def _distances(pen: ImageDraw.ImageDraw, view: _View, rings: Sequence[float]) -> None:
    for distance in rings:
        x, y = view.place(np.array([[distance, 0.0]]))[0]
        place, words = (x / FINE, y / FINE), f"{distance:g} m"
        pen.text(place, words, fill=GREY, font=font(FIGURES), anchor="mm", stroke_width=2, stroke_fill=GROUND)


def _ego(pen: ImageDraw.ImageDraw, view: _View) -> None:
    """An arrow head where the sensor stands, as long as a car if that is neither too small to see nor too large."""
    length = float(np.clip(4.5 * view.scale, 14 * FINE, 48 * FINE)) / view.scale
    pen.polygon(view.place(np.array([[0.5, 0], [-0.5, 0.36], [-0.3, 0], [-0.5, -0.36]]) * length), fill=WHITE)


def _visible(boxes: Boxes | None, view: _View) -> Iterator[tuple[list[Spot], int, float]]:
    """Corners, label and score of what can be drawn, lowest score first."""
    if boxes is None:
        return
    box = boxes.box.copy()
    box[:, 3:5] = np.maximum(np.abs(box[:, 3:5]), SMALLEST * FINE / view.scale)
    box[~np.isfinite(box).all(axis=1)] = np.inf
    inside = (np.abs(box[:, :2]) <= view.reach).all(axis=1)
    score = np.clip(np.nan_to_num(boxes.score[inside]), 0, 1)
    corners, labels = footprints(box[inside]), boxes.label[inside]
    for place in np.argsort(score, kind="stable"):
        yield view.place(corners[place]), int(labels[place]), float(score[place])


def _box(pen: ImageDraw.ImageDraw, corners: list[Spot], hue: Colour, strength: float, fill: float = 0.0) -> None:
    """An outline with a line from the middle through the front."""
    if fill:
        pen.polygon(corners, fill=(*hue, round(255 * fill * strength)))
    front_left, rear_left, rear_right, front_right = np.array(corners)
    middle, front = (front_left + rear_right) / 2, (front_left + front_right) / 2
    ink = (*hue, round(255 * strength))
    pen.line([*corners, corners[0], tuple(rear_left)], fill=ink, width=FINE + 1, joint="curve")
    pen.line([tuple(middle), tuple(middle + 1.3 * (front - middle))], fill=ink, width=FINE + 1)


# ---------------------------------------------------------------- words


def _entries(shown: Sequence[Boxes], names: Sequence[str], *, with_truth: bool) -> list[tuple[str, Colour]]:
    """What the legend says: the classes that occur."""
    labels = sorted({int(label) for boxes in shown for label in boxes.label})
    truth = [("truth", WHITE)] if with_truth else []
    return truth + [(names[label] if 0 <= label < len(names) else str(label), colour(label)) for label in labels]


def _above(boxes: Boxes, score: float) -> Boxes:
    """The boxes that are worth drawing; a score that is no number is below all others."""
    rows = boxes.score >= score
    return Boxes(**{each.name: getattr(boxes, each.name)[rows] for each in fields(Boxes)})


def _note(drawn: Boxes | None, found: Boxes | None, score: float) -> str:
    if drawn is None or found is None:
        return ""
    return _count(found) if len(drawn) == len(found) else f"{len(drawn)} of {_count(found)}, scores from {score:g}"


def _count(boxes: Boxes) -> str:
    return "1 box" if len(boxes) == 1 else f"{len(boxes)} boxes"


def _caption(truth: Boxes | None, found: Mapping[str, Boxes], reach: float) -> str:
    words = [f"truth: {'unknown' if truth is None else _count(truth)}"]
    words += [f"{variant}: {_count(boxes)}" for variant, boxes in found.items()]
    return f"{'; '.join(words)} ({reach:g} m to each side)"


def _reach(points: NDArray[Any], shown: Sequence[Boxes]) -> float:
    """A round distance that holds all boxes and nearly all points."""
    far = [np.abs(boxes.box[:, :2]).max(axis=1) + np.hypot(boxes.box[:, 3], boxes.box[:, 4]) / 2 for boxes in shown]
    boxes = np.concatenate([*far, np.zeros(1)])
    cloud = np.abs(points[:, :2]).max(axis=1, initial=0.0)
    cloud = cloud[np.isfinite(cloud)]
    needed = max(float(boxes[np.isfinite(boxes)].max()), float(np.percentile(cloud, 98)) if cloud.size else 0.0)
    return float(next((each for each in REACHES if needed <= each), REACHES[-1])) if needed else 50.0
