"""The colours of a street, blue green red from 0 to 255."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from awml_yolox.example.solids import Colour, Floats

Rng = np.random.Generator

PAINTS: tuple[Colour, ...] = (
    (214, 212, 210), (232, 232, 230), (28, 26, 26), (92, 88, 86), (150, 146, 142), (36, 30, 150), (120, 62, 28),
    (150, 158, 166), (58, 84, 40), (36, 120, 205), (150, 110, 60), (48, 44, 96),
)  # fmt: skip
WALLS: tuple[Colour, ...] = (
    (108, 130, 150), (70, 84, 132), (156, 166, 170), (112, 108, 104), (116, 156, 182), (146, 142, 128), (90, 110, 140),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (60, 40, 34), (40, 36, 140), (176, 172, 168), (60, 84, 44), (36, 130, 196), (40, 40, 42), (130, 80, 40),
    (90, 60, 120), (200, 190, 120),
)  # fmt: skip
SKINS: tuple[Colour, ...] = ((150, 180, 222), (110, 145, 190), (60, 85, 125))
LEAVES: tuple[Colour, ...] = ((40, 84, 48), (36, 96, 70), (44, 70, 40), (40, 110, 130))
BLACK: Colour = (24, 22, 22)
LAMP: Colour = (215, 238, 245)
REAR: Colour = (36, 30, 190)
PLATE: Colour = (205, 215, 218)


def pick(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, a little lighter or darker and never twice the same."""
    return tint(colours[int(rng.integers(len(colours)))], rng.uniform(0.82, 1.15), rng.uniform(0.95, 1.05, 3))


def tint(colour: Colour, share: float, each: Floats | tuple[float, float, float] = (1, 1, 1)) -> Colour:
    """A lighter or darker colour."""
    blue, green, red = (min(max(value * share * part, 0), 255) for value, part in zip(colour, each, strict=True))
    return float(blue), float(green), float(red)


def glass(rng: Rng) -> Colour:
    """A pane, from nearly black to mirroring the sky."""
    return tint((78, 66, 56), rng.uniform(0.5, 1.3))
