"""What stands in a street: houses, parked and moving vehicles, people, lamps, signs, trees."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from awml_calibration.example.colours import CLOTHES, HAZES, LEAVES, SIGNS, WALLS, Colour, Rng, pick
from awml_calibration.example.solids import Floats, Solid, circle, ellipsoid, outline, prism, turn
from awml_calibration.example.vehicles import vehicle

ROAD = 7.0  # half the width between the kerbs
WALK = 3.4  # width of a pavement
KERB = 0.14  # its height


@frozen(kw_only=True, eq=False)
class Street:
    """A street along x, its middle line at y = 0, with its light.

    Args:
        solids: Everything that stands in it.
        crossings: Where pedestrians cross.
        sun: Direction to the sun.
        daylight: Strength of the sun and of the sky, and the colour of the haze.
        seed: Varies the asphalt and the clouds.
    """

    solids: tuple[Solid, ...]
    crossings: tuple[float, ...]
    sun: Floats
    daylight: tuple[float, float, Colour]
    seed: int


def lay_out(seed: int) -> Street:
    """A street of its own for every seed."""
    rng = np.random.default_rng(seed)
    crossings = tuple(float(x) for x in rng.uniform((8, 42), (30, 75)))
    solids = [
        *_pavements(), *_houses(rng), *_parked(rng), *_moving(rng), *_trees(rng), *_lamps(rng), *_signs(rng),
        *_people(rng, crossings),
    ]  # fmt: skip
    elevation, azimuth = rng.uniform(0.45, 1.1), rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    strength = float(rng.choice([0.25, 0.8, 1.1]))
    haze = pick(rng, HAZES)
    return Street(
        solids=tuple(solids),
        crossings=crossings,
        sun=sun.astype(np.float32),
        daylight=(strength, float(1.05 - 0.45 * strength), haze),
        seed=seed,
    )


def _pavements() -> list[Solid]:
    return [
        prism(outline(400, WALK), KERB, (0, side * (ROAD + WALK / 2), 0), "kerb", (0.52, 0.51, 0.49))
        for side in (-1, 1)
    ]


def _houses(rng: Rng) -> list[Solid]:
    found = []
    for side in (-1, 1):
        x = -70.0
        while x < 130:
            length, depth, height = rng.uniform((9, 8, 6), (24, 14, 21))
            setback = ROAD + WALK + float(rng.choice([0, 0, 1.5, 4]))
            at = (x + length / 2, side * (setback + depth / 2), 0)
            found.append(
                prism(outline(length, depth), height, at, "facade", pick(rng, WALLS), seed=int(rng.integers(99)))
            )
            if rng.random() < 0.4:
                on_roof = (at[0] + rng.uniform(-2, 2), at[1], height)
                found.append(prism(outline(3, 3), 2.2, on_roof, "plain", (0.4, 0.4, 0.4)))
            x += length + float(rng.choice([0, 0, 3, 7]))
    return found


def _parked(rng: Rng) -> list[Solid]:
    found = []
    for side in (-1, 1):
        x = rng.uniform(-20, -8)
        while x < 80:
            if rng.random() < 0.6:
                yaw = (0 if side < 0 else np.pi) + rng.normal(0, 0.03)
                found += vehicle(rng, x, side * (ROAD - 1.25), yaw)
            x += rng.uniform(9, 16)
    return found


def _moving(rng: Rng) -> list[Solid]:
    found = []
    for lane in (-1.75, 1.75):
        x = rng.uniform(9, 30)
        while x < 100:
            found += vehicle(rng, x, lane + rng.normal(0, 0.25), (0 if lane < 0 else np.pi) + rng.normal(0, 0.06))
            x += rng.uniform(16, 45)
    return found


def _trees(rng: Rng) -> list[Solid]:
    found = []
    for side in (-1, 1):
        for x in np.arange(-20, 90, rng.uniform(11, 19)):
            if rng.random() < 0.3:
                continue
            x0, y0, tall = x + rng.uniform(-2, 2), side * (ROAD + 0.9), rng.uniform(2.4, 3.6)
            found.append(prism(circle(0.16, 8), tall, (x0, y0, 0), "plain", (0.20, 0.14, 0.09), top=(0.7, 0.7, 0)))
            green = pick(rng, LEAVES)
            for _ in range(4):
                at = np.array([x0, y0, tall + 0.8]) + rng.uniform((-0.8, -0.8, -0.4), (0.8, 0.8, 1.2))
                radius = rng.uniform(0.8, 1.4)
                found.append(
                    ellipsoid((radius, radius, radius * 0.9), tuple(at), "leaf", green, seed=int(rng.integers(99)))
                )
    return found


def _lamps(rng: Rng) -> list[Solid]:
    found = []
    for side in (-1, 1):
        for x in np.arange(rng.uniform(-15, 0), 90, 25):
            y = side * (ROAD + 0.45)
            found.append(prism(circle(0.09, 8), 6.5, (x, y, 0), "plain", (0.30, 0.32, 0.33), top=(0.6, 0.6, 0)))
            found.append(prism(outline(0.25, 1.6), 0.12, (x, y - side * 0.7, 6.4), "plain", (0.45, 0.46, 0.47)))
    return found


def _signs(rng: Rng) -> list[Solid]:
    found = []
    for _ in range(5):
        x, side = rng.uniform(4, 60), int(rng.choice([-1, 1]))
        y = side * (ROAD + 0.6)
        colour = pick(rng, SIGNS)
        found.append(prism(circle(0.04, 6), 2.4, (x, y, 0), "plain", (0.55, 0.55, 0.55)))
        found.append(
            prism(outline(0.05, rng.uniform(0.6, 1.1)), rng.uniform(0.6, 0.9), (x - 0.06, y, 2.0), "sign", colour)
        )
    return found


def _people(rng: Rng, crossings: tuple[float, ...]) -> list[Solid]:
    found = []
    spots = [(rng.uniform(3, 45), float(rng.choice([-1, 1])) * (ROAD + rng.uniform(0.6, 3))) for _ in range(7)]
    spots += [(crossing + rng.uniform(-1, 1), rng.uniform(-5, 5)) for crossing in crossings for _ in range(2)]
    for x, y in spots:
        size, floor = rng.uniform(0.92, 1.08), KERB if abs(y) > ROAD else 0.0
        legs, coat, yaw = pick(rng, CLOTHES), pick(rng, CLOTHES), turn(rng.uniform(0, 6.3))
        for foot in (-0.1, 0.1):
            step = yaw @ np.array([foot * 1.3, foot, 0])
            found.append(prism(circle(0.075, 6), 0.85 * size, (x + step[0], y + step[1], floor), "cloth", legs))
        found.append(
            prism(
                outline(0.28, 0.46, 0.08),
                0.62 * size,
                (x, y, floor + 0.8 * size),
                "cloth",
                coat,
                rotation=yaw,
                top=(0.8, 1, 0),
            )
        )
        found.append(ellipsoid((0.11, 0.1, 0.14), (x, y, floor + 1.58 * size), "cloth", (0.55, 0.38, 0.29)))
    return found
