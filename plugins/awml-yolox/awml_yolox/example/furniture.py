"""What else stands in a street: clutter that is annotated as unknown, and houses, trees and posts that are not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from awml_yolox.example.colours import BLACK, CLOTHES, LEAVES, PAINTS, WALLS, Rng, glass, pick, tint
from awml_yolox.example.solids import Colour, Face, Floats, Group, Part, Tube, block, extrude, patch, rectangle, tube

WHITE: Colour = (232, 232, 230)
ORANGE: Colour = (20, 96, 240)
POST: Colour = (138, 136, 132)


def clutter(rng: Rng) -> list[Group]:
    """A cone, a barrier, a barrel, a bin, a board or a stack of boxes."""
    return CLUTTER[int(rng.integers(len(CLUTTER)))](rng)


def _cone(rng: Rng) -> list[Group]:
    tall = rng.uniform(0.7, 0.95)
    parts: list[Part] = [*block((-0.22, 0.22), (-0.22, 0.22), (0, 0.05), (30, 50, 70))]
    shares = (0.05, 0.35, 0.55, 0.75, 1.0)
    for index, (low, high) in enumerate(pairwise(shares)):
        radii = (0.19 * (1 - low) + 0.03, 0.19 * (1 - high) + 0.03)
        parts.append(_drum(low * tall, high * tall, radii, WHITE if index == 1 else ORANGE))
    return [tuple(parts)]


def _drum(low: float, high: float, radii: tuple[float, float], colour: Colour) -> Tube:
    return tube((0, 0, low), (0, 0, high), radii, colour, flat=True)


def _barrel(rng: Rng) -> list[Group]:
    colour = ORANGE if rng.random() < 0.6 else pick(rng, PAINTS)
    parts: list[Part] = []
    for index, low in enumerate(np.arange(5) * 0.2):
        parts.append(
            _drum(
                float(low), float(low + 0.2), (0.29 - 0.01 * index, 0.28 - 0.01 * index), WHITE if index % 2 else colour
            )
        )
    return [(*parts, _drum(1.0, 1.04, (0.25, 0.1), tint(colour, 0.7)))]


def _barrier(rng: Rng) -> list[Group]:
    half = rng.uniform(0.7, 1.1)
    board = np.array([[0, half, 0.62], [0, -half, 0.62], [0, -half, 0.95], [0, half, 0.95]], float)
    stripes = []
    for share in np.arange(0, 1, 0.2):
        corners = np.array(
            [[0, half * (1 - 2 * share - d), z] for d, z in ((0, 0.62), (0.2, 0.62), (0.32, 0.95), (0.12, 0.95))]
        )
        corners[:, 1] = np.clip(corners[:, 1], -half, half)
        stripes.append(Face(loops=(corners,), colour=(40, 40, 205)))
    legs = [tube((x, y, 0.02), (0, y, 0.95), 0.03, POST) for y in (-half * 0.8, half * 0.8) for x in (-0.3, 0.3)]
    lamp = [tube((0, y, 1.0), (0, y, 1.05), 0.07, (30, 170, 250)) for y in (-half * 0.9, half * 0.9)]
    lower = Face(loops=(board - (0, 0, 0.38),), colour=WHITE)
    return [(*legs, lower, Face(loops=(board,), colour=WHITE), *stripes, *lamp)]


def _bin(rng: Rng) -> list[Group]:
    paint, tall = tint(pick(rng, ((60, 92, 40), (90, 62, 40), (70, 70, 70), (40, 70, 120))), 1), rng.uniform(0.95, 1.25)
    hull = extrude(
        [(-0.28, 0.06), (-0.34, tall), (0.34, tall), (0.28, 0.06)],
        (0.27, 0.33, 0.33, 0.27),
        paint,
        [(rectangle((-0.2, 0.2), (0.4, 0.7)), tint(paint, 1.5))],
        {2: [(0.3, 0.3, 0.7, 0.6, WHITE)]},
    )
    lid = extrude([(-0.37, tall), (-0.36, tall + 0.1), (0.3, tall + 0.14), (0.38, tall)], 0.35, tint(paint, 0.6))
    return [(*hull, *lid)]


def _board(rng: Rng) -> list[Group]:
    """A sign of road works or of a shop on a stand."""
    paint = ((30, 190, 245), WHITE, (170, 90, 30), (40, 120, 40))[int(rng.integers(4))]
    half, low, high = rng.uniform(0.35, 0.5), 0.25, rng.uniform(1.1, 1.5)
    quad = np.array([[0, half, low], [0, -half, low], [0, -half, high], [0, half, high]], float)
    ink = BLACK if sum(paint) > 350 else WHITE
    lines = [patch(quad, (0.15, v, rng.uniform(0.5, 0.85), v + 0.1, ink), None) for v in (0.15, 0.35, 0.55)]
    legs = [tube((x, y, 0), (0, y, high), 0.025, POST) for y in (-half, half) for x in (-0.25, 0.25)]
    head = patch(quad, (0.1, 0.74, 0.9, 0.93, (40, 40, 205)), None)
    return [(*legs, patch(quad, (0, 0, 1, 1, paint), None), *lines, head)]


def _boxes(rng: Rng) -> list[Group]:
    found: list[Part] = []
    for index, half in enumerate(rng.uniform(0.25, 0.4, int(rng.integers(2, 4)))):
        low = index * 0.45
        brown = tint((92, 138, 176), rng.uniform(0.8, 1.15))
        shift = rng.uniform(-0.1, 0.1)
        found += extrude(
            rectangle((-half, half), (low, low + 0.44)),
            half + shift,
            brown,
            [(rectangle((-0.04, 0.04), (low, low + 0.44)), tint(brown, 1.25))],
            {0: [(0.44, 0, 0.56, 1, tint(brown, 1.25))]},
        )
    return [tuple(found)]


CLUTTER = (_cone, _cone, _barrier, _barrel, _bin, _board, _boxes)


def tree(rng: Rng) -> list[Group]:
    """A trunk with a crown of many leaves' clumps."""
    tall, green = rng.uniform(2.2, 3.4), pick(rng, LEAVES)
    bark = tint((58, 74, 92), rng.uniform(0.7, 1.1))
    trunk = (
        tube((0, 0, 0), (0, 0, tall + 0.5), (0.2, 0.11), bark),
        tube((0, 0, tall * 0.8), (0.5, 0.4, tall + 0.9), (0.08, 0.05), bark),
    )
    clumps: list[Tube] = []
    for _ in range(34):
        way = rng.normal(0, 1, 3)
        way *= rng.uniform(0.3, 1) / np.linalg.norm(way)
        at = np.array([0, 0, tall + 1.3]) + way * (1.7, 1.7, 1.3)
        light = 0.72 + 0.28 * way[2] + rng.uniform(-0.12, 0.12)
        clumps.append(
            tube(tuple(at), tuple(at + rng.normal(0, 0.2, 3)), float(rng.uniform(0.3, 0.6)), tint(green, light))
        )
    clumps.sort(key=lambda clump: float(clump.ends[0, 2]))
    return [trunk, tuple(clumps)]


def hedge(rng: Rng) -> list[Group]:
    """A bush beside the pavement."""
    green = pick(rng, LEAVES)
    clumps: list[Tube] = []
    for z in (0.25, 0.6, 0.95):
        for x, y in rng.uniform((-1.3, -0.3), (1.3, 0.3), (9, 2)):
            wide, light = float(rng.uniform(0.25, 0.42)), 0.6 + 0.35 * z + rng.uniform(-0.1, 0.1)
            clumps.append(tube((x, y, z), (x + 0.1, y, z), wide, tint(green, light)))
    return [tuple(clumps)]


def lamp(rng: Rng) -> list[Group]:
    """A street lamp with its arm over the road, which lies along -y."""
    tall = rng.uniform(5.5, 7)
    post = tint(POST, rng.uniform(0.5, 1))
    head = Face(
        loops=(np.array([[-0.15, -1.9, tall], [0.15, -1.9, tall], [0.15, -1.2, tall], [-0.15, -1.2, tall]]),),
        colour=(190, 225, 240),
        glow=True,
    )
    return [
        (tube((0, 0, 0), (0, 0, tall), (0.1, 0.06), post), tube((0, 0, tall), (0, -1.9, tall + 0.15), 0.05, post), head)
    ]


def sign(rng: Rng) -> list[Group]:
    """A traffic sign on a post; it looks along -x."""
    post = tube((0.05, 0, 0), (0.05, 0, 2.9), 0.04, POST)
    kind = int(rng.integers(4))
    normal = np.array([-1.0, 0, 0])
    angle = {
        0: np.linspace(0, 2 * np.pi, 16)[:-1],
        1: np.array([-0.5, 0.167, 0.833]) * np.pi + np.pi,
        2: np.pi * (np.arange(4) / 2 + 0.25),
        3: np.linspace(0, 2 * np.pi, 9)[:-1],
    }[kind]
    rim, field = (((40, 40, 200), WHITE), ((40, 40, 200), WHITE), (WHITE, (150, 70, 20)), (WHITE, (40, 40, 200)))[kind]
    faces = []
    for share, paint in ((1.0, rim), (0.76, field)):
        loop = np.stack([np.zeros(len(angle)), np.cos(angle), np.sin(angle)], 1) * 0.42 * share + (0, 0, 2.6)
        faces.append(Face(loops=(loop,), colour=paint, normal=normal))
    ink = WHITE if kind >= 2 else BLACK
    mark = np.array([[0, 0.05, 2.45], [0, -0.05, 2.45], [0, -0.05, 2.78], [0, 0.05, 2.78]])
    return [(post, *faces, Face(loops=(mark,), colour=ink, normal=normal))]


def house(rng: Rng, length: float, depth: float, height: float, *, dark: bool) -> list[Group]:
    """A house along x with its front towards -y, the front's middle at the origin."""
    wall, pane = pick(rng, WALLS), glass(rng)
    roof = tint(wall, 0.6)
    front = np.array([[length / 2, 0, 0], [-length / 2, 0, 0], [-length / 2, 0, height], [length / 2, 0, height]])
    parts: list[Part] = [Face(loops=(front,), colour=wall, normal=np.array([0, -1.0, 0]))]
    for x, sign in ((-length / 2, -1.0), (length / 2, 1.0)):
        quad = np.array([[x, 0, 0], [x, depth, 0], [x, depth, height], [x, 0, height]], float)
        normal = np.array([sign, 0, 0])
        parts.append(Face(loops=(quad,), colour=tint(wall, 0.9), normal=normal))
        parts += _windows(rng, quad, depth, height, (pane, tint(wall, 1.3)), normal=normal, dark=dark)
    normal = np.array([0, -1.0, 0])
    parts += _windows(rng, front, length, height, (pane, tint(wall, 1.3)), normal=normal, dark=dark)
    parts += _shop(rng, front, length, height, pane, dark=dark) if rng.random() < 0.6 else []
    parts.append(patch(front, (0, 0.97, 1, 1, roof), normal))
    parts.append(patch(front, (0, 0, 1, 0.5 / height, tint(wall, 0.7)), normal))
    return [tuple(parts)]


def _windows(
    rng: Rng, quad: Floats, length: float, height: float, colours: tuple[Colour, Colour], *, normal: Floats, dark: bool
) -> list[Part]:
    """Rows of windows from the first floor upwards; some are lit in the dark."""
    pane, frame = colours
    columns, floors = max(int(length / rng.uniform(2.2, 3.4)), 1), max(int((height - 3.6) / 3.0), 0)
    if not floors:
        return []
    share, edge = rng.uniform(0.4, 0.65) / columns, 0.07 / length
    u, v = np.meshgrid((np.arange(columns) + 0.5) / columns, (4.4 + 3.0 * np.arange(floors)) / height)
    kind = rng.integers(0, 3, u.shape) + np.where(rng.random(u.shape) < (0.35 if dark else 0), 3, 0)
    low, high = v, v + 1.55 / height
    found = [
        _panes(
            quad, (u - share / 2 - edge, low - 0.1 / height, u + share / 2 + edge, high + 0.06 / height), frame, normal
        )
    ]
    for index in np.unique(kind):
        lit = bool(index >= 3)
        shade = tint((110, 190, 235), rng.uniform(0.7, 1)) if lit else tint(pane, rng.uniform(0.6, 1.8))
        one = kind == index
        shares = (u[one] - share / 2, low[one], u[one] + share / 2, high[one])
        found.append(_panes(quad, shares, shade, normal, glow=lit))
    return [*found, _panes(quad, (u - edge / 2, low, u + edge / 2, high), frame, normal)]


def _panes(
    quad: Floats, shares: tuple[Floats, Floats, Floats, Floats], colour: Colour, normal: Floats, *, glow: bool = False
) -> Face:
    """Many parts of a four-cornered face as one, with corners as for `patch`."""
    x0, y0, x1, y1 = (share.ravel() for share in shares)
    u, v = np.stack([x0, x1, x1, x0], 1)[..., None], np.stack([y0, y0, y1, y1], 1)[..., None]
    corners = (1 - v) * ((1 - u) * quad[0] + u * quad[1]) + v * ((1 - u) * quad[3] + u * quad[2])
    return Face(loops=tuple(corners), colour=colour, normal=normal, glow=glow)


def _shop(rng: Rng, quad: Floats, length: float, height: float, pane: Colour, *, dark: bool) -> list[Part]:
    """Shop windows, a door and a name board."""
    normal, board = np.array([0, -1.0, 0]), pick(rng, PAINTS)
    count = max(int(length / 4), 1)
    found: list[Part] = [patch(quad, (0.03, 2.9 / height, 0.97, 3.5 / height, board), normal)]
    for index in range(count):
        u0, u1 = 0.04 + index * 0.92 / count, 0.02 + (index + 1) * 0.92 / count
        shade = tint((150, 205, 235), rng.uniform(0.6, 0.9)) if dark else tint(pane, rng.uniform(0.8, 1.5))
        low = 0.15 if rng.random() < 0.3 else 0.7
        found.append(patch(quad, (u0, low / height, u1, 2.7 / height, shade), normal, glow=dark))
        found.append(
            patch(quad, (u0, 1.6 / height, u0 + (u1 - u0) * 0.6, 2.7 / height, tint(shade, 1.2)), normal, glow=dark)
        )
    if rng.random() < 0.5:
        awning, u = pick(rng, CLOTHES), rng.uniform(0.1, 0.5)
        x0, x1 = length / 2 - u * length, length / 2 - (u + 0.35) * length
        corners = np.array([[x0, 0, 2.9], [x1, 0, 2.9], [x1, -1.1, 2.45], [x0, -1.1, 2.45]])
        found.append(Face(loops=(corners,), colour=awning))
        found.append(
            Face(
                loops=(np.stack([corners[3], corners[2], corners[2] - (0, 0, 0.2), corners[3] - (0, 0, 0.2)]),),
                colour=tint(awning, 1.3),
            )
        )
    return found
