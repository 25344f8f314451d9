"""People on foot and on two wheels; each stands at the origin and looks along x."""

from __future__ import annotations

import numpy as np

from awml_yolox.example.colours import BLACK, CLOTHES, LAMP, PAINTS, PLATE, REAR, SKINS, Rng, pick, tint
from awml_yolox.example.solids import Colour, Face, Floats, Group, Part, circle, extrude, rectangle, tube

STEEL: Colour = (120, 118, 116)


def pedestrian(rng: Rng) -> list[Group]:
    """Somebody who walks or stands."""
    size = rng.uniform(0.82, 1.08)
    coat, legs, skin, hair = (
        pick(rng, CLOTHES),
        pick(rng, CLOTHES),
        pick(rng, SKINS),
        tint((30, 40, 60), rng.uniform(0.5, 2)),
    )
    stride, lean = rng.uniform(0.05, 0.42), rng.normal(0, 0.03)
    skirt = rng.random() < 0.2
    hip, shoulder = 0.88 * size, 1.42 * size
    found: list[Group] = []
    for sign in (1, -1):
        step = sign * stride * size
        knee = (step * 0.35 + 0.05, sign * 0.1, 0.48 * size)
        heel = (step, sign * 0.1, 0.08)
        found.append((
            tube(heel, (heel[0] + 0.15, heel[1], 0.06), 0.055, BLACK),
            tube(knee, heel, (0.075 * size, 0.055 * size), skin if skirt else legs),
            tube((lean, sign * 0.09, hip), knee, (0.1 * size, 0.078 * size), legs),
        ))  # fmt: skip
        swing = -sign * stride * 0.7
        elbow = (lean + swing * 0.4, sign * 0.25 * size, 1.12 * size)
        hand = (lean + swing + 0.06, sign * 0.24 * size, 0.88 * size)
        found.append((
            tube((lean, sign * 0.2 * size, shoulder - 0.04), elbow, (0.065, 0.055), tint(coat, 0.9)),
            tube(elbow, hand, (0.052, 0.042), tint(coat, 0.85)),
            tube(hand, hand, 0.05, skin),
        ))  # fmt: skip
    torso = [
        tube((lean, 0.0, hip), (lean * 1.5, 0.0, shoulder - 0.12), (0.155 * size, 0.18 * size), coat),
        tube((lean, -0.12 * size, shoulder - 0.07), (lean, 0.12 * size, shoulder - 0.07), 0.1 * size, tint(coat, 1.06)),
    ]
    if skirt:
        torso.insert(0, tube((lean, 0.0, hip), (lean, 0.0, 0.6 * size), (0.15, 0.24), legs))
    head = (lean * 2 + 0.02, 0.0, 1.62 * size)
    torso += [
        tube((lean * 2, 0.0, shoulder - 0.05), head, 0.055, skin),
        tube(head, (head[0], 0.0, head[2] + 0.05), 0.1 * size, skin),
        tube((head[0] - 0.03, 0.0, head[2] + 0.05), (head[0] - 0.02, 0.0, head[2] + 0.08), 0.098 * size, hair),
    ]
    found.append(tuple(torso))
    if rng.random() < 0.4:
        bag = tint(pick(rng, CLOTHES), 0.8)
        found.append((tube((lean - 0.22, 0.0, 1.02 * size), (lean - 0.2, 0.0, 1.3 * size), 0.14, bag),))
    return found


def _tyre(x: float, radius: float, wide: float) -> Group:
    """A wheel with spokes, thick enough to be seen from the front."""
    outer, inner = circle(radius, (x, 0, radius), 18), circle(radius * (1 - wide), (x, 0, radius), 18)
    hub = (x, 0.0, radius)
    spokes = [
        tube(hub, (x + radius * 0.9 * float(np.cos(a)), 0.0, radius * (1 + 0.9 * float(np.sin(a)))), 0.008, STEEL)
        for a in np.linspace(0, 2 * np.pi, 7)[:-1]
    ]
    tread = [
        tube((x + sign * radius, 0.0, radius * 0.9), (x + sign * radius, 0.0, radius * 1.1), 0.02, BLACK)
        for sign in (1, -1)
    ]
    return (*spokes, Face(loops=(outer, inner), colour=BLACK), *tread, tube((x, 0, 0.03), (x, 0, 0.09), 0.022, BLACK))


def _rider(
    rng: Rng, seat: Floats, grips: Floats, pedals: tuple[Floats, Floats], *, helmet: bool, lean: float
) -> list[Group]:
    """Somebody who sits on a saddle, with the hands at the bar."""
    coat, legs, skin, cap = pick(rng, CLOTHES), pick(rng, CLOTHES), pick(rng, SKINS), pick(rng, PAINTS)
    neck = seat + np.array([lean, 0, 0.52])
    found: list[Group] = []
    for sign, foot in zip((1, -1), pedals, strict=True):
        hip, side = seat + np.array([0, sign * 0.1, 0.02]), np.array([0, sign, 0.0])
        knee = (hip + foot) / 2 + (0.17, 0, 0.09) + side * 0.03
        found.append(
            (
                tube(knee, foot, (0.07, 0.055), legs),
                tube(hip, knee, (0.1, 0.075), legs),
                tube(foot, foot + np.array([0.14, 0, 0]), 0.05, BLACK),
            )
        )
        hand, arm = grips + side * 0.24, neck + side * 0.18 - (0, 0, 0.06)
        elbow = (arm + hand) / 2 + side * 0.07 - (0.02, 0, 0.06)
        found.append(
            (
                tube(arm, elbow, (0.065, 0.055), tint(coat, 0.9)),
                tube(elbow, hand, (0.05, 0.04), tint(coat, 0.88)),
                tube(hand, hand, 0.045, skin),
            )
        )
    head = neck + np.array([0.06, 0, 0.17])
    hat = cap if helmet else (26, 34, 48)
    found.append((
        tube(seat, neck - (0, 0, 0.08), (0.16, 0.18), coat),
        tube(neck + np.array([0, -0.12, -0.06]), neck + np.array([0, 0.12, -0.06]), 0.09, coat),
        tube(head, head + np.array([0.01, 0, 0.04]), 0.1, skin),
        tube(head + np.array([-0.02, 0, 0.05]), head + np.array([0, 0, 0.07]), 0.125 if helmet else 0.1, hat),
    ))  # fmt: skip
    return found


def bicycle(rng: Rng) -> list[Group]:
    """A bicycle, mostly with somebody on it."""
    paint, radius = pick(rng, PAINTS), 0.34
    rear, front = -0.52, 0.52
    crank, saddle, stem = (-0.08, 0.0, 0.3), (-0.22, 0.0, 0.92), (0.36, 0.0, 0.86)
    frame: Group = (
        tube((rear, 0, radius), crank, 0.018, paint), tube((rear, 0, radius), (-0.2, 0, 0.8), 0.018, paint),
        tube(crank, saddle, 0.022, paint), tube(crank, (0.38, 0, 0.72), 0.026, paint),
        tube((-0.2, 0, 0.78), (0.37, 0, 0.8), 0.022, paint), tube((front, 0, radius), stem, 0.022, paint),
        tube(stem, (0.3, 0, 1.02), 0.02, STEEL), tube((0.3, -0.27, 1.02), (0.3, 0.27, 1.02), 0.022, BLACK),
        tube((-0.32, 0, 0.93), (-0.12, 0, 0.94), (0.07, 0.04), BLACK),
        tube((rear - 0.3, 0, 0.62), (rear - 0.28, 0, 0.64), 0.035, REAR),
    )  # fmt: skip
    basket = extrude([(0.4, 0.8), (0.4, 1.0), (0.68, 1.02), (0.66, 0.8)], 0.16, tint(STEEL, 0.8))
    whole = (*frame, *basket) if rng.random() < 0.4 else frame
    found = [_tyre(rear, radius, 0.16), _tyre(front, radius, 0.16), whole]
    if rng.random() < 0.85:
        turn = rng.uniform(0, np.pi)
        pedals = tuple(
            np.array([-0.08 + sign * 0.17 * np.cos(turn), sign * 0.11, 0.3 + sign * 0.17 * np.sin(turn)])
            for sign in (1, -1)
        )
        found += _rider(
            rng,
            np.array([-0.2, 0, 1.0]),
            np.array([0.3, 0, 1.04]),
            (pedals[0], pedals[1]),
            helmet=rng.random() < 0.5,
            lean=rng.uniform(0.1, 0.3),
        )
    return found


def motorcycle(rng: Rng) -> list[Group]:
    """A scooter or a motorcycle, mostly with somebody on it."""
    paint, scooter = pick(rng, PAINTS), rng.random() < 0.4
    radius, rear, front = (0.24, -0.6, 0.62) if scooter else (0.31, -0.68, 0.72)
    plate = extrude(rectangle((-0.97, -0.95), (0.55, 0.7)), 0.1, PLATE)
    guard = [(front - 0.3, 0.5), (front - 0.2, 0.66), (front + 0.2, 0.64), (front + 0.3, 0.45)]
    seat = tube((-0.75, 0, 0.88), (-0.2, 0, 0.88), (0.1, 0.12), BLACK)
    lamp = tube((-0.98, 0, 0.8), (-0.96, 0, 0.8), 0.065, REAR)
    found: list[Group] = [
        (*_fat(rear, radius), *plate),
        (*_fat(front, radius), *extrude(guard, 0.09, paint)),
        (*_hull(paint, scooter=scooter), seat, lamp),
        _fork(paint, front, radius, scooter=scooter),
    ]
    if rng.random() < 0.8:
        feet = (np.array([0.08, 0.17, 0.3]), np.array([0.08, -0.17, 0.3]))
        found += _rider(
            rng, np.array([-0.32, 0, 0.94]), np.array([0.36, 0, 1.1]), feet, helmet=True, lean=rng.uniform(0.05, 0.2)
        )
    return found


def _hull(paint: Colour, *, scooter: bool) -> list[Part]:
    """The body of a scooter, or engine, tail, tank and exhaust of a motorcycle."""
    if scooter:
        profile = [(-0.9, 0.68), (-0.85, 0.86), (0.0, 0.84), (0.05, 0.3), (-0.5, 0.3)]
        return extrude(profile, (0.11, 0.15, 0.16, 0.16, 0.15), paint)
    tail = [(-0.95, 0.82), (-0.9, 0.9), (-0.1, 0.84), (-0.1, 0.66), (-0.5, 0.64)]
    return [
        *extrude([(-0.35, 0.25), (-0.4, 0.62), (0.3, 0.66), (0.35, 0.3)], 0.17, (62, 62, 64)),
        *extrude(tail, 0.13, tint(paint, 0.8)),
        *extrude([(-0.2, 0.66), (-0.15, 0.86), (0.2, 1.0), (0.4, 0.86), (0.35, 0.62)], 0.17, paint),
        tube((-0.2, -0.2, 0.34), (-0.95, -0.22, 0.42), (0.05, 0.075), STEEL),
    ]


def _fork(paint: Colour, front: float, radius: float, *, scooter: bool) -> Group:
    """What turns with the bar: fork, shield, lamp and mirrors."""
    broad = [(0.28, 0.35), (0.3, 1.0), (0.42, 1.02), (0.55, 0.6), (0.45, 0.35)]
    small = [(0.38, 0.68), (0.34, 1.12), (0.5, 1.1), (0.66, 0.8)]
    return (
        *(tube((front, y, radius), (0.45, y, 0.9), 0.035, STEEL) for y in (0.08, -0.08)),
        *extrude(broad if scooter else small, 0.2, paint),
        tube((0.55, 0, 0.88), (0.58, 0, 0.88), 0.1, LAMP),
        tube((0.36, -0.34, 1.08), (0.36, 0.34, 1.08), 0.028, BLACK),
        *(tube((0.4, sign * 0.3, 1.08), (0.38, sign * 0.36, 1.24), (0.01, 0.05), BLACK) for sign in (1, -1)),
    )


def _fat(x: float, radius: float) -> Group:
    """The wheel of a motorcycle: a thick tyre around a disc."""
    found = []
    for y in (0.06, -0.06):
        normal = np.array([0.0, np.sign(y), 0.0])
        found.append(Face(loops=(circle(radius, (x, y, radius), 16),), colour=BLACK, normal=normal))
        found.append(Face(loops=(circle(radius * 0.62, (x, y, radius), 16),), colour=STEEL, normal=normal))
        found.append(Face(loops=(circle(radius * 0.45, (x, y, radius), 16),), colour=(70, 70, 74), normal=normal))
    return (tube((x, 0, 0.08), (x, 0, 2 * radius - 0.08), 0.08, BLACK), *found)
