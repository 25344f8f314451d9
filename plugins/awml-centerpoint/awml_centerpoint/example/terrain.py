"""The ground: gently uneven, with a kerb beside both roads."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from awml_centerpoint.example.shapes import Floats, Rng

KERB = 0.14
ROAD = 9.3
"""Half the width of a road, parking strip included."""
LANES = (1.75, 5.25)
"""Metres from the middle of a road to the middle of its lanes."""
SPAN = 75.0
"""Metres along the roads, before and behind, in which there is a town."""


@frozen(kw_only=True, eq=False)
class Terrain:
    """Where the ground lies.

    Args:
        waves: Rows (height, turns per metre along x and along y in radians, phase), all added up.
        crossing: x of the middle of the road that runs along y.
    """

    waves: Floats
    crossing: float


def shape(rng: Rng, crossing: float) -> Terrain:
    """A ground whose slope is at most some two per cent."""
    length = rng.uniform((60, 60, 25, 25), (140, 140, 50, 50))
    heading, phase = rng.uniform(0, 2 * np.pi, (2, 4))
    height = rng.uniform(0.2, 1.0, 4) * (0.12, 0.12, 0.03, 0.03)
    turns = 2 * np.pi / length
    waves = np.stack([height, turns * np.cos(heading), turns * np.sin(heading), phase], 1)
    return Terrain(waves=waves, crossing=crossing)


def height(terrain: Terrain, x: Floats, y: Floats) -> Floats:
    """Metres above zero at each place."""
    found = KERB * np.clip((aside(terrain, x, y) - ROAD) / 0.2, 0, 1)
    for size, along, across, phase in terrain.waves:
        found = found + size * np.sin(along * x + across * y + phase)
    return np.asarray(found)


def aside(terrain: Terrain, x: Floats, y: Floats) -> Floats:
    """Metres from the middle of the nearer road."""
    return np.asarray(np.minimum(np.abs(y), np.abs(x - terrain.crossing)))
