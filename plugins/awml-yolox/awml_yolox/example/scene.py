"""A picture of a street, with the box of everything that can be seen of each annotated thing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from attrs import define, field, frozen

from awml_yolox.example.camera import Camera, back_to_front, outline
from awml_yolox.example.colours import LAMP, REAR
from awml_yolox.example.ground import lay_ground
from awml_yolox.example.solids import Colour, Face, Floats, Group, Part, Thing, Tube, points
from awml_yolox.example.street import CLASSES, Street, lay_out
from awml_yolox.example.weather import LIGHTS, Light, develop, sky

Image = np.ndarray[Any, np.dtype[np.uint8]]
Numbers = np.ndarray[Any, np.dtype[np.int16]]
SHIFT = 4
SEEN = 0.25
"""Things of which less can be seen, of all that there is of them, are not annotated."""
SMALLEST = (6, 10)
"""Narrowest and lowest box that is annotated."""


@frozen(kw_only=True, eq=False)
class Scene:
    """A picture and its truth.

    Args:
        image: uint8 (height, width, 3), blue green red.
        boxes: float32 (N, 4): x1, y1, x2, y2 in pixels, of what can be seen.
        labels: int64 (N,), places in `CLASSES`.
        owners: int16 (height, width): which thing of the street each pixel shows; -1 none of them.
    """

    image: Image
    boxes: np.ndarray[Any, np.dtype[np.float32]]
    labels: np.ndarray[Any, np.dtype[np.int64]]
    owners: Numbers


@define(eq=False)
class _Canvas:
    """The picture while it is painted."""

    camera: Camera
    light: Light
    sun: Floats
    image: Image
    owners: Numbers
    glow: Image
    whole: list[float] = field(factory=list)


def draw(seed: int) -> Scene:
    """The picture of a street; the same bytes for the same seed."""
    return photograph(lay_out(seed))


def photograph(street: Street, *, develops: bool = True) -> Scene:
    """Paint a street from the back to the front.

    Args:
        street: What there is.
        develops: Add blur, noise and rain, as a camera would.
    """
    light = LIGHTS[street.weather]
    image = sky(street.camera, street.weather, street.seed)
    lay_ground(image, street, light)
    width, height = street.camera.size
    canvas = _Canvas(
        camera=street.camera, light=light, sun=street.sun, image=image,
        owners=np.full((height, width), -1, np.int16), glow=np.zeros((height, width), np.uint8),
    )  # fmt: skip
    for thing in street.backdrop:
        _paint(canvas, thing, -1)
    order = back_to_front(street.camera, list(street.things))
    whole = np.zeros(len(order))
    for index in order:
        whole[index] = _paint(canvas, street.things[index], index)
    boxes, labels = _annotate(street, canvas.owners, whole)
    done = develop(image, canvas.glow, street.weather, street.seed) if develops else image
    return Scene(image=done, boxes=boxes, labels=labels, owners=canvas.owners)


def _paint(canvas: _Canvas, thing: Thing, number: int) -> float:
    """Paint a thing; answers of how many pixels it would be if nothing hid it and the picture were larger."""
    loops: list[Floats] = []
    for group in sorted(thing.groups, key=lambda group: -_distance(canvas.camera, group)):
        veil = 1 - np.exp(-_distance(canvas.camera, group) / canvas.light.sight)
        for part in group:
            found = outline(canvas.camera, part)
            if found:
                _fill(canvas, part, found, float(veil), number)
                loops.append(found[0])
    return _extent(loops) if thing.kind else 0.0


def _distance(camera: Camera, group: Group) -> float:
    return float(np.linalg.norm(points(group).mean(0) - camera.at))


def _fixed(loops: list[Floats]) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    return [np.clip(np.round(loop * (1 << SHIFT)), -(1 << 24), 1 << 24).astype(np.int32) for loop in loops]


def _fill(canvas: _Canvas, part: Part, loops: list[Floats], veil: float, number: int) -> None:
    shines = canvas.light.lamps and (part.colour in {LAMP, REAR} or (isinstance(part, Face) and part.glow))
    fixed = _fixed(loops)
    colour = part.colour if shines else _shaded(canvas, part)
    cv2.fillPoly(canvas.image, fixed, _veiled(canvas, colour, veil), cv2.LINE_AA, SHIFT)
    cv2.fillPoly(canvas.owners, fixed, (number,), cv2.LINE_8, SHIFT)
    cv2.fillPoly(canvas.glow, fixed, (255 if shines else 0,), cv2.LINE_8, SHIFT)
    if isinstance(part, Tube) and np.ptp(loops[0], 0).min() > 4:
        light = tuple(min(value * 1.16, 255) for value in colour)
        cv2.fillPoly(canvas.image, _fixed([_lit_side(loops[0])]), _veiled(canvas, light, veil), cv2.LINE_AA, SHIFT)


def _lit_side(loop: Floats) -> Floats:
    """The upper left part of a round body."""
    middle = loop.mean(0)
    return np.asarray(middle + (loop - middle) * 0.6 - 0.14 * np.ptp(loop, 0).min())


def _shaded(canvas: _Canvas, part: Part) -> Colour:
    light = canvas.light
    if isinstance(part, Face) and part.normal is not None:
        strength = light.sky * (0.82 + 0.18 * float(part.normal[2])) + light.sun * max(
            float(part.normal @ canvas.sun), 0
        )
    else:
        strength = light.sky * 0.85 + light.sun * 0.45
    blue, green, red = (
        min(value * strength * share, 255) for value, share in zip(part.colour, light.cast, strict=True)
    )
    return blue, green, red


def _veiled(canvas: _Canvas, colour: tuple[float, ...], veil: float) -> tuple[float, ...]:
    return tuple(value * (1 - veil) + haze * veil for value, haze in zip(colour, canvas.light.haze, strict=True))


def _extent(loops: list[Floats]) -> float:
    """Pixels of the outlines together, in or outside the picture."""
    if not loops:
        return 0.0
    every = np.concatenate(loops)
    low = np.floor(every.min(0)) - 1
    width, height = (int(value) for value in np.ceil(every.max(0)) + 2 - low)
    share = min(1.0, 600 / max(width, height))
    mask = np.zeros((int(height * share) + 1, int(width * share) + 1), np.uint8)
    for loop in loops:
        cv2.fillPoly(mask, _fixed([(loop - low) * share]), (1,), cv2.LINE_8, SHIFT)
    return float(mask.sum()) / share**2


def _annotate(street: Street, owners: Numbers, whole: Floats) -> tuple[Any, Any]:
    boxes, labels = [], []
    for index, thing in enumerate(street.things):
        if thing.kind is None:
            continue
        rows, columns = np.nonzero(owners == index)
        if len(rows) <= SEEN * whole[index]:
            continue
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        if box[2] - box[0] >= SMALLEST[0] and box[3] - box[1] >= SMALLEST[1]:
            boxes.append(box)
            labels.append(CLASSES.index(thing.kind))
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)
