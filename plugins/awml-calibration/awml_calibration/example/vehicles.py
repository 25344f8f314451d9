"""Cars, vans, lorries and buses, each of a few solids."""

from __future__ import annotations

from typing import Literal

import numpy as np
from attrs import frozen

from awml_calibration.example.colours import PAINTS, Colour, Rng, pick
from awml_calibration.example.solids import LYING, Floats, Solid, Surface, circle, outline, prism, turn

SIZES = {"car": (4.4, 1.8, 1.5), "van": (5.0, 1.95, 2.1), "lorry": (8.0, 2.4, 3.2), "bus": (11, 2.5, 3.0)}
"""Length, width, height in metres."""

BLACK: Colour = (0.08, 0.08, 0.08)


@frozen(kw_only=True, eq=False)
class Part:
    """A piece of a vehicle.

    Args:
        ahead: Metres from the vehicle's middle.
        up: Metres from the ground.
        base: Its outline from above.
        rise: Its height.
        surface: What it is made of.
        top: Scale of its upper end in x and y, and its shift along x.
        colour: Which of the vehicle's colours.
    """

    ahead: float
    up: float
    base: Floats
    rise: float
    surface: Surface
    top: tuple[float, float, float] = (1, 1, 0)
    colour: Literal["paint", "load", "black"] = "paint"


def vehicle(rng: Rng, x: float, y: float, yaw: float) -> list[Solid]:
    """Any vehicle, its wheels on the ground at (x, y)."""
    form = str(rng.choice(["car", "car", "car", "van", "lorry", "bus"]))
    length, width, height = np.array(SIZES[form]) * rng.uniform(0.92, 1.08, 3)
    paint, seed = pick(rng, PAINTS), int(rng.integers(99))
    colours = {"paint": paint, "black": BLACK, "load": pick(rng, PAINTS) if form == "lorry" else paint}
    body = {"car": _car, "van": _van, "lorry": _lorry, "bus": _bus}[form](length, width, height)
    radius = 0.33 if form in {"car", "van"} else 0.48
    return [_place(part, colours, seed, (x, y, yaw)) for part in body] + _wheels(length, width, radius, (x, y, yaw))


def _place(part: Part, colours: dict[str, Colour], seed: int, where: tuple[float, float, float]) -> Solid:
    x, y, yaw = where
    at = (x + part.ahead * np.cos(yaw), y + part.ahead * np.sin(yaw), part.up)
    colour = colours[part.colour]
    return prism(part.base, part.rise, at, part.surface, colour, rotation=turn(yaw), top=part.top, seed=seed)


def _car(length: float, width: float, height: float) -> list[Part]:
    body, cabin = outline(length, width, 0.18), outline(length * 0.62, width * 0.92)
    half = height * 0.42
    return [
        Part(ahead=0, up=0.22, base=body, rise=half, surface="body", top=(0.97, 0.94, 0)),
        Part(ahead=-0.25, up=0.22 + half, base=cabin, rise=half, surface="glass", top=(0.66, 0.8, -0.1)),
    ]


def _van(length: float, width: float, height: float) -> list[Part]:
    body, cabin, low = outline(length, width, 0.15), outline(length * 0.86, width), height * 0.45
    return [
        Part(ahead=0, up=0.25, base=body, rise=low, surface="body"),
        Part(ahead=-0.3, up=0.25 + low, base=cabin, rise=height * 0.43, surface="glass", top=(0.84, 0.9, -0.25)),
    ]


def _bus(length: float, width: float, height: float) -> list[Part]:
    base = outline(length, width, 0.1)
    return [
        Part(ahead=0, up=0.3, base=base, rise=0.9, surface="body"),
        Part(ahead=0, up=1.2, base=base, rise=height - 1.2, surface="glass", top=(1, 0.98, 0)),
    ]


def _lorry(length: float, width: float, height: float) -> list[Part]:
    cab, load, frame = (
        outline(length * 0.24, width * 0.95, 0.1),
        outline(length * 0.74, width),
        outline(length, width / 2),
    )
    return [
        Part(ahead=length * 0.38, up=0.4, base=cab, rise=height * 0.72, surface="glass", top=(0.85, 1, 0)),
        Part(ahead=-length * 0.12, up=0.75, base=load, rise=height - 0.75, surface="plain", colour="load"),
        Part(ahead=0, up=0.45, base=frame, rise=0.3, surface="plain", colour="black"),
    ]


def _wheels(length: float, width: float, radius: float, where: tuple[float, float, float]) -> list[Solid]:
    x, y, yaw = where
    rotation, found = turn(yaw), []
    for ahead in (-0.31 * length, 0.31 * length):
        for aside in (-width / 2 - 0.01, width / 2 - 0.23):
            at = np.array([x, y, radius]) + rotation @ np.array([ahead, aside, 0])
            wheel = prism(circle(radius, 14), 0.24, tuple(at), "wheel", (0.03, 0.03, 0.03), rotation=rotation @ LYING)
            found.append(wheel)
    return found
