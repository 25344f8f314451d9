"""The colours of a street, red green blue from 0 to 1."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator
Colour = tuple[float, float, float]

PAINTS: tuple[Colour, ...] = (
    (0.82, 0.83, 0.84), (0.07, 0.07, 0.08), (0.34, 0.35, 0.37), (0.55, 0.06, 0.06), (0.08, 0.16, 0.42),
    (0.62, 0.60, 0.55), (0.10, 0.25, 0.16), (0.75, 0.45, 0.08),
)  # fmt: skip
WALLS: tuple[Colour, ...] = (
    (0.58, 0.50, 0.41), (0.46, 0.28, 0.22), (0.66, 0.64, 0.60), (0.38, 0.40, 0.42), (0.70, 0.60, 0.44),
    (0.50, 0.55, 0.56),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = ((0.1, 0.12, 0.2), (0.5, 0.1, 0.1), (0.6, 0.6, 0.58), (0.15, 0.3, 0.2), (0.7, 0.55, 0.1))
LEAVES: tuple[Colour, ...] = ((0.13, 0.27, 0.08), (0.20, 0.33, 0.09), (0.34, 0.26, 0.08))
SIGNS: tuple[Colour, ...] = ((0.05, 0.15, 0.55), (0.6, 0.05, 0.05), (0.05, 0.35, 0.15))
HAZES: tuple[Colour, ...] = ((0.66, 0.74, 0.84), (0.72, 0.74, 0.76), (0.80, 0.74, 0.66))


def pick(rng: Rng, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, a little lighter or darker."""
    red, green, blue = np.clip(np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.85, 1.15), 0, 1)
    return float(red), float(green), float(blue)
