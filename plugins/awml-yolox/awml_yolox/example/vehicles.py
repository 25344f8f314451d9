"""Cars, lorries, buses and trailers; each stands with its middle at the origin and looks along x."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from awml_yolox.example.colours import BLACK, LAMP, PAINTS, PLATE, REAR, Rng, glass, pick, tint
from awml_yolox.example.solids import Colour, Group, Part, Patch, extrude, rectangle, wheel

LIGHT: Colour = (205, 235, 245)


def car(rng: Rng) -> list[Group]:
    """A saloon, hatchback, estate car, off-roader or van."""
    form = str(rng.choice(["saloon", "hatch", "estate", "offroad", "van"]))
    length = {"saloon": 4.6, "hatch": 3.9, "estate": 4.5, "offroad": 4.6, "van": 5.0}[form] * rng.uniform(0.94, 1.06)
    height = {"saloon": 1.45, "hatch": 1.5, "estate": 1.5, "offroad": 1.75, "van": 2.05}[form] * rng.uniform(0.96, 1.04)
    half, waist = 0.9 * rng.uniform(0.95, 1.06), height * (0.56 if form == "van" else 0.6)
    paint, pane, end = pick(rng, PAINTS), glass(rng), length / 2
    low = 0.3 if form == "offroad" else 0.2
    nose = waist * rng.uniform(0.78, 0.9)
    hull = extrude(
        [
            (-end, low), (-end, waist * 0.85), (-end + 0.1, waist), (end * 0.45, waist), (end - 0.12, nose),
            (end, nose - 0.18), (end, low),
        ],
        (half - 0.03, half, half - 0.02, half - 0.02, half - 0.06, half - 0.05, half - 0.05),
        paint,
        _flanks(end, waist, low, paint),
        {0: _back(paint), 5: _front(paint), 3: [(0.46, 0, 0.54, 1, tint(paint, 1.06))]},
    )  # fmt: skip
    cabin = _cabin(form, (end, half, height), waist, paint, pane)
    radius = 0.36 if form in {"offroad", "van"} else 0.31
    wheels = [part for x in (-0.6, 0.6) for part in wheel(x * end + 0.04, half + 0.01, radius)]
    under = extrude(rectangle((-end * 0.9, end * 0.9), (0.1, low)), half - 0.1, BLACK)
    mirrors = extrude(rectangle((end * 0.3, end * 0.36), (waist, waist + 0.14)), half + 0.1, tint(paint, 0.7))
    return [(*under, *hull, *wheels, *(mirrors if rng.random() < 0.8 else ()), *cabin)]


def _flanks(end: float, waist: float, low: float, paint: Colour) -> list[tuple[list[tuple[float, float]], Colour]]:
    """Sill, a lighter shoulder, door seams, wheel arches."""
    seams = [rectangle((x, x + 0.025), (low + 0.1, waist)) for x in (-0.5 * end, 0.0, 0.42 * end)]
    arches = []
    for x in (-0.6 * end + 0.04, 0.6 * end + 0.04):
        angle = np.linspace(0, np.pi, 9)
        arches.append([(float(x + 0.4 * np.cos(a)), float(low + (waist - low) * 0.72 * np.sin(a))) for a in angle])
    shoulder = [
        (-end + 0.1, waist * 0.86),
        (-end + 0.12, waist * 0.97),
        (end * 0.45, waist * 0.97),
        (end * 0.9, waist * 0.82),
    ]
    sill = rectangle((-end, end), (low, low + 0.12))
    return [
        (shoulder, tint(paint, 1.14)),
        (sill, tint(paint, 0.5)),
        *((seam, tint(paint, 0.55)) for seam in seams),
        *((arch, BLACK) for arch in arches),
    ]


def _back(paint: Colour) -> list[Patch]:
    return [
        (0, 0, 1, 0.3, tint(paint, 0.45)), (0.02, 0.55, 0.2, 0.88, REAR), (0.8, 0.55, 0.98, 0.88, REAR),
        (0.36, 0.38, 0.64, 0.55, PLATE), (0.2, 0.9, 0.8, 0.94, tint(paint, 0.6)),
    ]  # fmt: skip


def _front(paint: Colour) -> list[Patch]:
    """The strip runs downwards: its lower edge in shares is the upper one on the car."""
    return [
        (0.24, 0.1, 0.76, 0.5, (38, 38, 40)), (0.02, 0.05, 0.22, 0.4, LAMP), (0.78, 0.05, 0.98, 0.4, LAMP),
        (0.36, 0.55, 0.64, 0.75, PLATE), (0, 0.78, 1, 1, tint(paint, 0.45)),
    ]  # fmt: skip


def _cabin(form: str, size: tuple[float, float, float], waist: float, paint: Colour, pane: Colour) -> list[Part]:
    """Pillars, panes and roof."""
    end, half, height = size
    slope = {"saloon": 0.55, "hatch": 0.25, "estate": 0.2, "offroad": 0.12, "van": 0.06}[form]
    foot, rear = (0.86 if form == "van" else 0.45) * end, -end + (0.55 if form == "saloon" else 0.06)
    back, roof = rear + slope, height
    front = foot - (0.5 if form == "van" else 0.75)
    rise = roof - waist

    def at(x0: float, x1: float, share: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * share, waist + rise * share

    profile = [
        (rear, waist),
        at(rear, back, 0.93),
        (back + 0.12, roof),
        (front - 0.12, roof),
        at(foot, front, 0.93),
        (foot, waist),
    ]
    lower, upper = half - 0.06, half - 0.06 - 0.2 * rise
    widths = (lower, upper, upper - 0.06, upper - 0.06, upper, lower)
    splits = (0.04, 0.36, 0.4, 0.68, 0.72, 0.95)
    panes = []
    for first, last in zip(splits[::2], splits[1::2], strict=True):
        (x0, z0), (x1, _), (x2, z1), (x3, _) = (
            at(rear + (foot - rear) * first, back + (front - back) * first, 0.1),
            at(rear + (foot - rear) * last, back + (front - back) * last, 0.1),
            at(rear + (foot - rear) * last, back + (front - back) * last, 0.84),
            at(rear + (foot - rear) * first, back + (front - back) * first, 0.84),
        )
        panes.append(([(x0, z0), (x1, z0), (x2, z1), (x3, z1)], pane))
        panes.append(([(x0, (z0 + z1) / 2), (x1, z0 + 0.62 * (z1 - z0)), (x2, z1), (x3, z1)], tint(pane, 1.5)))
    if form == "van":
        panes = panes[4:] if paint[0] > 120 else panes
    return extrude(profile, widths, paint, panes, {0: _pane(pane), 4: _pane(pane)})


def _pane(pane: Colour) -> list[Patch]:
    return [(0.06, 0.08, 0.94, 0.92, pane), (0.1, 0.5, 0.7, 0.92, tint(pane, 1.45))]


def bus(rng: Rng) -> list[Group]:
    """A city bus or a coach."""
    length, half, height = rng.uniform(9, 12) / 2, 1.25, rng.uniform(2.9, 3.3)
    paint, stripe, pane = pick(rng, PAINTS), pick(rng, PAINTS), glass(rng)
    sides = [(rectangle((-length, length), (0.75, 1.15)), stripe)]
    count = int(rng.integers(5, 8))
    step = (2 * length - 0.6) / count
    band = (1.35, height - 0.55)
    for index in range(count):
        x0 = -length + 0.3 + index * step
        x1 = x0 + step - 0.12
        sides.append(([(x0, band[0]), (x1, band[0]), (x1, band[1]), (x0, band[1])], pane))
        sides.append(([(x0, band[0] + 0.5), (x1, band[0] + 0.7), (x1, band[1]), (x0, band[1])], tint(pane, 1.5)))
    for x in (length - 1.6, -0.4):
        sides.append(([(x, 0.42), (x + 1.1, 0.42), (x + 1.1, height - 0.5), (x, height - 0.5)], tint(pane, 0.8)))
        sides.append(([(x + 0.53, 0.42), (x + 0.58, 0.42), (x + 0.58, height - 0.5), (x + 0.53, height - 0.5)], paint))
    front: list[Patch] = [
        (0.05, 0.24, 0.95, 0.68, pane), (0.1, 0.3, 0.5, 0.55, tint(pane, 1.45)), (0.12, 0.05, 0.88, 0.19, (20, 20, 20)),
        (0.3, 0.09, 0.7, 0.15, (60, 170, 250)), (0.04, 0.8, 0.22, 0.88, LAMP), (0.78, 0.8, 0.96, 0.88, LAMP),
        (0, 0.92, 1, 1, (60, 60, 60)), (0, 0.7, 1, 0.76, stripe),
    ]  # fmt: skip
    back: list[Patch] = [
        (0.14, 0.55, 0.86, 0.86, pane), (0.03, 0.18, 0.12, 0.5, REAR), (0.88, 0.18, 0.97, 0.5, REAR),
        (0.2, 0.1, 0.8, 0.36, tint(paint, 0.7)), (0.38, 0.4, 0.62, 0.47, PLATE), (0, 0, 1, 0.06, (60, 60, 60)),
    ]  # fmt: skip
    profile = [
        (-length, 0.32),
        (-length, height - 0.1),
        (-length + 0.12, height),
        (length - 0.3, height),
        (length, height - 0.2),
        (length, 0.32),
    ]
    hull = extrude(profile, half, paint, sides, {0: back, 4: front})
    wheels = [part for x in (-0.55, 0.6) for part in wheel(x * length, half + 0.01, 0.48)]
    unit = extrude(
        [(-2, height), (-1.8, height + 0.22), (0.8, height + 0.22), (1, height)], half * 0.7, tint(paint, 0.85)
    )
    return [(*_chassis(length, half), *hull, *wheels, *(unit if rng.random() < 0.5 else ()))]


def _chassis(length: float, half: float) -> list[Part]:
    return extrude(rectangle((-length * 0.95, length * 0.95), (0.2, 0.5)), half - 0.15, BLACK)


def truck(rng: Rng) -> list[Group]:
    """A lorry with a box, a tipper or a flat bed."""
    form = str(rng.choice(["box", "box", "tipper", "flat"]))
    end, half, height = rng.uniform(5.6, 8.4) / 2, rng.uniform(1.05, 1.25), rng.uniform(2.7, 3.5)
    paint, load = pick(rng, PAINTS), pick(rng, PAINTS)
    cab_back = end - 1.75
    tall = min(height, 2.75) * (0.96 if form == "box" else 0.9)
    cab = _driver((cab_back, end), half, tall, paint, glass(rng))
    radius = 0.45
    wheels = [part for x in (-0.72 * end, -0.72 * end + 0.95, end - 0.85) for part in wheel(x, half + 0.01, radius)]
    body = LOADS[form](rng, (-end, cab_back - 0.12), half, height, load)
    rails = [*_chassis(end, half), *wheels]
    tail = extrude(rectangle((-end - 0.02, -end + 0.2), (0.5, 0.78)), half, (50, 50, 52), (), {0: _tail()})
    return [tuple(rails), (*tail, *body), tuple(cab)]


def _tail() -> list[Patch]:
    return [(0.02, 0.15, 0.16, 0.85, REAR), (0.84, 0.15, 0.98, 0.85, REAR), (0.4, 0.2, 0.6, 0.8, PLATE)]


def _driver(x: tuple[float, float], half: float, height: float, paint: Colour, pane: Colour) -> list[Part]:
    """The driver's cab of a lorry."""
    back, end = x
    profile = [
        (back, 0.5),
        (back, height),
        (end - 0.35, height),
        (end - 0.04, height * 0.56),
        (end, height * 0.5),
        (end, 0.42),
    ]
    door = rectangle((back + 0.3, back + 0.32), (0.75, height * 0.92))
    window = [
        (back + 0.42, height * 0.58),
        (back + 0.42, height * 0.88),
        (end - 0.42, height * 0.88),
        (end - 0.18, height * 0.58),
    ]
    arch = [(end - 0.85 + 0.6 * float(np.cos(a)), 0.5 + 0.5 * float(np.sin(a))) for a in np.linspace(0, np.pi, 9)]
    front: list[Patch] = [(0.06, 0.06, 0.94, 0.9, pane), (0.1, 0.1, 0.5, 0.5, tint(pane, 1.45))]
    grille: list[Patch] = [
        (0.2, 0.1, 0.8, 0.55, (45, 45, 48)), (0.02, 0.5, 0.2, 0.75, LAMP), (0.8, 0.5, 0.98, 0.75, LAMP),
        (0.38, 0.62, 0.62, 0.78, PLATE), (0, 0.82, 1, 1, (58, 58, 60)),
    ]  # fmt: skip
    return extrude(
        profile, half - 0.03, paint, [(door, tint(paint, 0.6)), (window, pane), (arch, BLACK)], {2: front, 4: grille}
    )


def _box(rng: Rng, x: tuple[float, float], half: float, height: float, paint: Colour) -> list[Part]:
    """A closed box, perhaps with somebody's name on it."""
    (back, front), floor = x, 0.8
    lines = [(rectangle((at, at + 0.04), (floor, height)), tint(paint, 0.86)) for at in np.linspace(back, front, 6)]
    sign = pick(rng, PAINTS)
    logo = [(back + 0.8, 1.5), (back + 0.8, 2.2), (front - 0.9, 2.3), (front - 0.9, 1.6)]
    seam, bar = tint(paint, 0.6), (140, 140, 140)
    doors: list[Patch] = [
        (0.49, 0.02, 0.51, 0.98, tint(paint, 0.5)), (0.03, 0.02, 0.05, 0.98, seam), (0.95, 0.02, 0.97, 0.98, seam),
        (0.3, 0.1, 0.32, 0.9, bar), (0.68, 0.1, 0.7, 0.9, bar),
    ]  # fmt: skip
    sides = [*lines, *([(logo, sign)] if rng.random() < 0.6 else [])]
    return extrude(rectangle(x, (floor, height)), half, paint, sides, {0: doors})


def _tub(_rng: Rng, x: tuple[float, float], half: float, _height: float, paint: Colour) -> list[Part]:
    """The open tub of a tipper with a heap of earth."""
    (back, front), floor = x, 0.8
    ribs = [
        ([(at, floor), (at - 0.03, 1.75), (at + 0.09, 1.75), (at + 0.09, floor)], tint(paint, 0.7))
        for at in np.linspace(back + 0.3, front - 0.3, 6)
    ]
    tub = [(back, floor), (back - 0.1, 1.75), (front, 1.75), (front, floor)]
    heap = [(back + 0.2, 1.7), (back + 1.2, 2.1), (front - 1, 2.15), (front - 0.1, 1.7)]
    return [
        *extrude(tub, (half - 0.1, half, half, half - 0.1), paint, ribs),
        *extrude(heap, (half - 0.1, 0.4, 0.4, half - 0.1), (70, 95, 115)),
    ]


def _deck(rng: Rng, x: tuple[float, float], half: float, _height: float, paint: Colour) -> list[Part]:
    """A flat bed with two crates."""
    (back, front), floor = x, 0.8
    crate, middle = pick(rng, PAINTS), (back + front) / 2
    return [
        *extrude(rectangle(x, (floor, 1.25)), half, paint),
        *extrude(rectangle((back + 0.3, middle), (1.25, 2.0)), half * 0.8, (90, 130, 160)),
        *extrude(rectangle((middle + 0.1, front - 0.2), (1.25, 1.8)), half * 0.8, crate),
    ]


LOADS = {"box": _box, "tipper": _tub, "flat": _deck}


def trailer(rng: Rng) -> list[Group]:
    """A trailer by itself: a long box on legs with its wheels at the end, or a tank."""
    form = str(rng.choice(["curtain", "tank", "container"]))
    end, half, height = rng.uniform(7.5, 11) / 2, 1.25, rng.uniform(3.3, 3.8)
    paint = pick(rng, PAINTS)
    wheels = [part for index in range(3) for part in wheel(-end + 0.9 + index * 1.1, half + 0.01, 0.46)]
    frame = extrude([(-end, 0.75), (-end, 1.05), (end, 1.05), (end, 0.9)], half - 0.05, (48, 48, 52), (), {0: _tail()})
    leg = extrude(rectangle((end - 2.4, end - 2.2), (0.05, 0.9)), half - 0.25, (70, 70, 72))
    board = extrude(
        rectangle((-end, -end + 0.1), (0.35, 0.55)),
        half - 0.05,
        (40, 40, 200),
        (),
        {0: [(x, 0, x + 0.1, 1, (230, 230, 230)) for x in (0.05, 0.25, 0.45, 0.65, 0.85)]},
    )
    body = _tank(end, half) if form == "tank" else _long_box(form, end, half, height, paint)
    return [(*leg, *wheels, *board, *frame, *body)]


def _tank(end: float, half: float) -> list[Part]:
    """A tank of polished steel, eight-sided."""
    steel: Colour = (196, 192, 188)
    low, high = 1.05, 1.05 + 1.9
    found: list[Part] = []
    bands = ((low, 0.55, 0.75), (low + 0.5, 0.98, 1.05), (high - 0.5, 0.98, 1.2), (high, 0.5, 1.2))
    for (z0, w0, _), (z1, w1, shade) in pairwise(bands):
        rings = [(rectangle((x, x + 0.12), (z0, z1)), tint(steel, 0.6)) for x in np.linspace(-end + 0.7, end - 0.7, 5)]
        found += extrude(
            rectangle((-end, end), (z0, z1)),
            (half * w0, half * w1, half * w1, half * w0),
            tint(steel, shade * 0.9),
            rings,
        )
    return found


def _long_box(form: str, end: float, half: float, height: float, paint: Colour) -> list[Part]:
    step = 0.35 if form == "container" else 1.3
    lines = [
        (rectangle((x, x + step * 0.35), (1.05, height)), tint(paint, 0.86 if form == "container" else 0.93))
        for x in np.arange(-end + 0.1, end - 0.2, step)
    ]
    trim = [
        (rectangle((-end, end), (1.05, 1.2)), tint(paint, 0.5)),
        (rectangle((-end, end), (height - 0.12, height)), tint(paint, 0.6)),
    ]
    doors: list[Patch] = [
        (0.49, 0, 0.51, 1, tint(paint, 0.4)), (0, 0, 0.03, 1, tint(paint, 0.6)), (0.97, 0, 1, 1, tint(paint, 0.6)),
        *((x, 0.05, x + 0.015, 0.95, (165.0, 165.0, 165.0)) for x in (0.18, 0.34, 0.64, 0.8)),
        (0.1, 0.1, 0.9, 0.16, (40, 140, 235)),
    ]  # fmt: skip
    return extrude(rectangle((-end, end), (1.05, height)), half, paint, [*lines, *trim], {0: doors})
