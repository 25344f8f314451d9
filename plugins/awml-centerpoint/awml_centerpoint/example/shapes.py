"""What the rays can meet: upright columns with a rectangle or an ellipse as their outline, all in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import fields_dict, frozen

Floats = np.ndarray[Any, np.dtype[Any]]
Ints = np.ndarray[Any, np.dtype[Any]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Rng = np.random.Generator

NOBODY = -1
"""The owner of what is no object."""

# What a surface is made of: how much light comes back from it (0 to 255), and how often none does.
MATERIALS = {
    "asphalt": (14, 0.02),
    "pavement": (28, 0.02),
    "wall": (55, 0.02),
    "paint": (70, 0.03),
    "dark": (12, 0.10),
    "glass": (25, 0.55),
    "tyre": (8, 0.10),
    "metal": (110, 0.03),
    "sign": (245, 0.00),
    "cloth": (40, 0.03),
    "leaf": (48, 0.05),
    "bark": (30, 0.02),
}
NAMES = tuple(MATERIALS)
BRIGHTNESS = np.array([MATERIALS[name][0] for name in NAMES], np.float32)
LOSS = np.array([MATERIALS[name][1] for name in NAMES], np.float32)


@frozen(kw_only=True, eq=False)
class Shapes:
    """Upright columns, one row each.

    Args:
        centre: x, y of the middle.
        half: Half axes of the outline, along and across.
        yaw: Direction of the first half axis.
        low: Height of the lower end.
        high: Height of the upper end.
        round: Whether the outline is an ellipse, else a rectangle.
        gaps: Share of the rays that pass through, as in a hedge.
        material: Index into NAMES.
        owner: Number of the object that it is a part of, or NOBODY.
    """

    centre: Floats
    half: Floats
    yaw: Floats
    low: Floats
    high: Floats
    round: Mask
    gaps: Floats
    material: Ints
    owner: Ints

    def __len__(self) -> int:
        return len(self.yaw)


def column(
    where: tuple[float, float, float],
    size: tuple[float, float, float],
    material: str,
    *,
    yaw: float = 0.0,
    ellipse: bool = False,
    gaps: float = 0.0,
) -> Shapes:
    """One column.

    Args:
        where: x, y of its middle and z of its lower end.
        size: Whole length and width of its outline, and its height.
        material: What it is made of.
        yaw: Direction of its length.
        ellipse: Whether its outline is an ellipse.
        gaps: Share of the rays that pass through.
    """
    return Shapes(
        centre=np.array([where[:2]], np.float64),
        half=np.array([size[:2]], np.float64) / 2,
        yaw=np.array([yaw], np.float64),
        low=np.array([where[2]], np.float64),
        high=np.array([where[2] + size[2]], np.float64),
        round=np.array([ellipse]),
        gaps=np.array([gaps], np.float64),
        material=np.array([NAMES.index(material)]),
        owner=np.array([NOBODY]),
    )


def gather(parts: Sequence[Shapes]) -> Shapes:
    """Several tables as one."""
    return Shapes(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields_dict(Shapes)})


def rows(shapes: Shapes, chosen: Ints | Mask) -> Shapes:
    """Some rows of a table."""
    return Shapes(**{name: getattr(shapes, name)[chosen] for name in fields_dict(Shapes)})


def place(shapes: Shapes, where: tuple[float, float, float], yaw: float, owner: int = NOBODY) -> Shapes:
    """The same columns turned about the origin and moved."""
    x, y, z = where
    c, s = np.cos(yaw), np.sin(yaw)
    return Shapes(
        centre=shapes.centre @ np.array([[c, s], [-s, c]]) + (x, y),
        half=shapes.half,
        yaw=shapes.yaw + yaw,
        low=shapes.low + z,
        high=shapes.high + z,
        round=shapes.round,
        gaps=shapes.gaps,
        material=shapes.material,
        owner=np.full(len(shapes), owner),
    )
