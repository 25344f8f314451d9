"""Whether things that stand or move would run into each other, worked out exactly and for all moments at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attrs import fields_dict, frozen

from awml_centerpoint.example.shapes import Floats, Mask

LASTING = 3.0
"""Seconds from time zero in which nobody runs into anything."""


@frozen(kw_only=True, eq=False)
class Tracks:
    """Rectangles that slide along straight lines, one row each.

    Args:
        start: x, y of the middle at time zero, (N, 2).
        velocity: Metres per second along x and y, (N, 2).
        half: Half the length and width, (N, 2).
        yaw: Direction of the length, (N,).
        begin: First moment at which it is there, (N,).
        end: Last moment, (N,).
    """

    start: Floats
    velocity: Floats
    half: Floats
    yaw: Floats
    begin: Floats
    end: Floats


def join(parts: Sequence[Tracks]) -> Tracks:
    """Several tables as one."""
    return Tracks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields_dict(Tracks)})


def meets(some: Tracks, others: Tracks, margin: float) -> Mask:
    """Which of some come closer than the margin to any of the others, at a moment at which both are there.

    Two rectangles overlap while their shadows overlap on the sides' directions of both. On a fixed direction the
    shadows of sliding rectangles overlap during one span of time; the rectangles do while all four spans last.
    """
    begin = np.maximum(some.begin[:, None], others.begin)
    end = np.minimum(some.end[:, None], others.end)
    gap = others.start - some.start[:, None]
    drift = others.velocity - some.velocity[:, None]
    mine, theirs = some.yaw[:, None], others.yaw[None]
    for yaw in (mine, mine + np.pi / 2, theirs, theirs + np.pi / 2):
        axis = np.stack([np.cos(yaw), np.sin(yaw)], -1)
        reach = _shadow(some.half[:, None], mine - yaw) + _shadow(others.half[None], theirs - yaw) + margin
        first, last = _span((gap * axis).sum(-1), (drift * axis).sum(-1), reach)
        begin, end = np.maximum(begin, first), np.minimum(end, last)
    return np.asarray((begin <= end).any(1))


def _shadow(half: Floats, turn: Floats) -> Floats:
    """Half the length of a rectangle's shadow on a direction that its own is turned against."""
    return np.asarray(half[..., 0] * np.abs(np.cos(turn)) + half[..., 1] * np.abs(np.sin(turn)))


def _span(gap: Floats, drift: Floats, reach: Floats) -> tuple[Floats, Floats]:
    """When `abs(gap + drift * time) <= reach` holds, from and until."""
    still = np.abs(drift) < 1e-9
    moving = np.where(still, 1.0, drift)
    one, two = (-reach - gap) / moving, (reach - gap) / moving
    within = np.where(np.abs(gap) <= reach, np.inf, -np.inf)
    return np.where(still, -within, np.minimum(one, two)), np.where(still, within, np.maximum(one, two))
