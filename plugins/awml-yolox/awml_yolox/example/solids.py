"""What things in a street are made of: flat faces and round tubes, in metres; x ahead, y left, z up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import evolve, frozen

Floats = np.ndarray[Any, np.dtype[np.float64]]
Colour = tuple[float, float, float]
"""Blue, green, red from 0 to 255."""
Outline = Sequence[tuple[float, float]]
Patch = tuple[float, float, float, float, Colour]
"""Left, lower, right, upper share of a face from 0 to 1, and a colour."""


@frozen(kw_only=True, eq=False)
class Face:
    """A flat polygon.

    Args:
        loops: Its outline (n, 3), then those of its holes.
        colour: Its paint.
        normal: The side from which it is seen; None: from both.
        glow: It shines by itself, in the dark as by day.
    """

    loops: tuple[Floats, ...]
    colour: Colour
    normal: Floats | None = None
    glow: bool = False


@frozen(kw_only=True, eq=False)
class Tube:
    """A limb, a bar, or, with both ends at one place, a ball.

    Args:
        ends: The middles of its two ends, (2, 3).
        radii: At both ends.
        colour: Its paint.
        flat: Cut off at its ends, not rounded.
    """

    ends: Floats
    radii: tuple[float, float]
    colour: Colour
    flat: bool = False


Part = Face | Tube
Group = tuple[Part, ...]
"""Parts in the order in which they are painted; groups of one thing are ordered by their distance."""


@frozen(kw_only=True, eq=False)
class Thing:
    """Something in the street.

    Args:
        groups: Its parts.
        kind: Its class, or None for what is not annotated.
    """

    groups: tuple[Group, ...]
    kind: str | None = None


def points(group: Group) -> Floats:
    """All corners and ends of a group."""
    return np.concatenate([loop for part in group for loop in _loops(part)])


def _loops(part: Part) -> tuple[Floats, ...]:
    return part.loops if isinstance(part, Face) else (part.ends,)


def place(groups: Iterable[Sequence[Part]], at: tuple[float, float, float], yaw: float) -> tuple[Group, ...]:
    """Turn the groups about z and put their origin at a place in the street."""
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return tuple(tuple(_moved(part, turn, np.array(at)) for part in group) for group in groups)


def _moved(part: Part, turn: Floats, at: Floats) -> Part:
    if isinstance(part, Tube):
        return evolve(part, ends=part.ends @ turn + at)
    normal = None if part.normal is None else part.normal @ turn
    return evolve(part, loops=tuple(loop @ turn + at for loop in part.loops), normal=normal)


def extrude(
    profile: Outline,
    widths: float | Sequence[float],
    colour: Colour,
    sides: Sequence[tuple[Outline, Colour]] = (),
    strips: Mapping[int, Sequence[Patch]] | None = None,
) -> list[Part]:
    """A body with the same outline (x, z) on both sides.

    Args:
        profile: Its convex outline, seen from its right side.
        widths: Half its width, one number or one per point of the outline.
        colour: Its paint.
        sides: What is painted on both sides: outlines (x, z) and their colours.
        strips: What is painted on the strip that follows the outline's point of that number.
    """
    edge = np.array(profile, float)
    half = np.broadcast_to(np.asarray(widths, float), (len(edge),))
    left = np.stack([edge[:, 0], half, edge[:, 1]], 1)
    right = left * (1, -1, 1)
    middle = left.mean(0) * (1, 0, 1)
    found: list[Part] = []
    for corners, sign in ((left, 1), (right, -1)):
        normal = _outward(corners, middle)
        found.append(Face(loops=(corners,), colour=colour, normal=normal))
        order = np.argsort(edge[:, 1])
        for outline, paint in sides:
            flat = np.array(outline, float)
            across = np.interp(flat[:, 1], edge[order, 1], half[order]) * sign
            found.append(Face(loops=(np.stack([flat[:, 0], across, flat[:, 1]], 1),), colour=paint, normal=normal))
    for index in range(len(edge)):
        after = (index + 1) % len(edge)
        quad = np.stack([left[index], right[index], right[after], left[after]])
        normal = _outward(quad, middle)
        found.append(Face(loops=(quad,), colour=colour, normal=normal))
        found += [patch(quad, one, normal) for one in (strips or {}).get(index, ())]
    return found


def rectangle(x: tuple[float, float], z: tuple[float, float]) -> list[tuple[float, float]]:
    """An upright rectangle as an outline: up at the first x, down at the second."""
    return [(x[0], z[0]), (x[0], z[1]), (x[1], z[1]), (x[1], z[0])]


def _outward(corners: Floats, middle: Floats) -> Floats:
    after = np.roll(corners, -1, 0)
    normal = np.cross(corners, after).sum(0)
    normal /= max(float(np.linalg.norm(normal)), 1e-9)
    return np.asarray(normal if normal @ (corners.mean(0) - middle) >= 0 else -normal)


def patch(quad: Floats, shares: Patch, normal: Floats | None, *, glow: bool = False) -> Face:
    """A part of a four-cornered face; corners are lower left, lower right, upper right, upper left."""
    x0, y0, x1, y1, colour = shares
    u, v = np.array([[x0], [x1], [x1], [x0]]), np.array([[y0], [y0], [y1], [y1]])
    corners = (1 - v) * ((1 - u) * quad[0] + u * quad[1]) + v * ((1 - u) * quad[3] + u * quad[2])
    return Face(loops=(corners,), colour=colour, normal=normal, glow=glow)


def block(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], colour: Colour) -> list[Part]:
    """A box along the axes."""
    middle = (y[0] + y[1]) / 2
    body = extrude([(x[0], z[0]), (x[0], z[1]), (x[1], z[1]), (x[1], z[0])], (y[1] - y[0]) / 2, colour)
    return [_moved(part, np.eye(3), np.array([0, middle, 0])) for part in body]


def circle(radius: float, middle: tuple[float, float, float], corners: int = 14) -> Floats:
    """A circle in the plane of x and z."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    flat = np.stack([np.cos(angle), np.zeros(corners), np.sin(angle)], 1)
    return np.asarray(radius * flat + np.array(middle))


def wheel(x: float, half: float, radius: float, colour: Colour = (22, 22, 24)) -> list[Part]:
    """A pair of wheels, seen from outside on both sides of a vehicle."""
    found: list[Part] = []
    for sign in (1, -1):
        normal = np.array([0.0, sign, 0.0])
        for share, paint in (
            (1.0, colour),
            (0.64, (150.0, 150.0, 150.0)),
            (0.5, (85.0, 85.0, 88.0)),
            (0.18, (170.0,) * 3),
        ):
            loop = circle(radius * share, (x, sign * half, radius))
            found.append(Face(loops=(loop,), colour=paint, normal=normal))
    return found


def tube(
    start: Sequence[float] | Floats,
    end: Sequence[float] | Floats,
    radii: float | tuple[float, float],
    colour: Colour,
    *,
    flat: bool = False,
) -> Tube:
    """A limb from start to end."""
    both = radii if isinstance(radii, tuple) else (radii, radii)
    return Tube(ends=np.array([start, end], float), radii=both, colour=colour, flat=flat)
