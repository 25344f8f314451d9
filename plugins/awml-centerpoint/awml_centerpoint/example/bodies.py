"""The five kinds of road users, each built of a few columns; its length runs along x, its wheels stand at z = 0."""

from __future__ import annotations

from collections.abc import Callable

from awml_centerpoint.example.shapes import Rng, Shapes, column, gather

CLASSES = ("car", "truck", "bus", "bicycle", "pedestrian")

Size = tuple[float, float, float]
"""Length, width, height in metres; no part of a body stands out of it."""


def draw(kind: str, rng: Rng) -> tuple[Size, Shapes]:
    """A body of that kind, no two alike."""
    return _BODIES[kind](rng)


def _car(rng: Rng) -> tuple[Size, Shapes]:
    van = rng.random() < 0.3
    size = (rng.uniform(3.4, 4.9), rng.uniform(1.48, 1.9), rng.uniform(1.7, 2.0) if van else rng.uniform(1.4, 1.65))
    length, width, height = size
    paint = str(rng.choice(["paint", "paint", "metal", "dark"]))
    belt = height * rng.uniform(0.52, 0.6)
    rear, front = -length * (0.49 if van else rng.uniform(0.36, 0.49)), length * rng.uniform(0.12, 0.24)
    roof_front = front - rng.uniform(0.5, 0.9)
    parts = [
        column((0, 0, 0.2), (length, width, belt - 0.2), paint),
        column(((rear + front) / 2, 0, belt), (front - rear, width * 0.92, (height - belt) * 0.6), "glass"),
        column(((rear + roof_front) / 2, 0, belt), (roof_front - rear, width * 0.84, height - belt), paint),
    ]
    return size, gather(parts + _wheels(length, width, 0.62, 0.2))


def _wheels(length: float, width: float, diameter: float, breadth: float) -> list[Shapes]:
    size = (diameter * 0.8, breadth, diameter * 0.6)
    aside = (width - breadth) / 2
    return [column((x, y, 0), size, "tyre") for x in (-0.31 * length, 0.31 * length) for y in (-aside, aside)]


def _truck(rng: Rng) -> tuple[Size, Shapes]:
    size = (rng.uniform(5.8, 10.5), rng.uniform(2.0, 2.5), rng.uniform(2.6, 3.7))
    length, width, height = size
    cab = rng.uniform(1.5, 2.0)
    top = height * rng.uniform(0.72, 0.95)
    load = length - cab - rng.uniform(0.2, 0.5)
    open_bed = rng.random() < 0.25
    parts = [
        column((length / 2 - cab / 2, 0, 0.4), (cab, width * 0.96, top * 0.5 - 0.4), "paint"),
        column((length / 2 - cab / 2 - 0.1, 0, top * 0.5), (cab - 0.2, width * 0.92, top * 0.5), "glass"),
        column((-0.1, 0, 0.45), (length * 0.95, width * 0.5, 0.4), "dark"),
        column((load / 2 - length / 2, 0, 0.85), (load, width, 0.5 if open_bed else height - 0.85), "metal"),
    ]
    if open_bed:
        parts.append(column((-length * 0.18, 0, 1.35), (length * 0.35, width * 0.7, height - 1.35), "bark"))
    return size, gather(parts + _wheels(length, width, 0.95, 0.3))


def _bus(rng: Rng) -> tuple[Size, Shapes]:
    size = (rng.uniform(8.8, 12.0), rng.uniform(2.35, 2.55), rng.uniform(2.9, 3.3))
    length, width, height = size
    parts = [
        column((0, 0, 0.25), (length, width, 0.75), "paint"),
        column((0, 0, 1.0), (length * 0.992, width * 0.98, 1.2), "glass"),
        column((0, 0, 2.2), (length * 0.99, width * 0.97, height - 2.4), "paint"),
        column((-length * 0.15, 0, height - 0.2), (length * 0.4, width * 0.6, 0.2), "metal"),
    ]
    return size, gather(parts + _wheels(length, width, 0.95, 0.3))


def _bicycle(rng: Rng) -> tuple[Size, Shapes]:
    size = (rng.uniform(1.6, 1.85), rng.uniform(0.52, 0.65), rng.uniform(1.55, 1.8))
    length, width, height = size
    parts = [
        column((length / 2 - 0.33, 0, 0), (0.66, 0.06, 0.66), "tyre", gaps=0.45),
        column((0.33 - length / 2, 0, 0), (0.66, 0.06, 0.66), "tyre", gaps=0.45),
        column((0, 0, 0.45), (length * 0.5, 0.08, 0.4), "metal", gaps=0.3),
        column((length * 0.24, 0, 0.95), (0.08, width, 0.08), "metal"),
        column((0, 0, 0.35), (0.3, 0.34, 0.6), "cloth", ellipse=True),
        column((0.02, 0, 0.9), (0.42, 0.44, height - 1.18), "cloth", ellipse=True),
        column((0.12, 0, height - 0.28), (0.22, 0.2, 0.28), "cloth", ellipse=True),
    ]
    return size, gather(parts)


def _pedestrian(rng: Rng) -> tuple[Size, Shapes]:
    height, stride = rng.uniform(1.45, 1.85), rng.uniform(0.05, 0.3)
    size = (rng.uniform(0.5, 0.7), rng.uniform(0.55, 0.72), height)
    hip = height * 0.48
    parts = [
        column((stride / 2, 0.1, 0), (0.17, 0.16, hip), "cloth", ellipse=True),
        column((-stride / 2, -0.1, 0), (0.17, 0.16, hip), "cloth", ellipse=True),
        column((0, 0, hip - 0.05), (0.3, size[1] * 0.8, height * 0.4), "cloth", ellipse=True),
        column((0, 0, height - 0.26), (0.21, 0.18, 0.26), "cloth", ellipse=True),
    ]
    return size, gather(parts)


_BODIES: dict[str, Callable[[Rng], tuple[Size, Shapes]]] = {
    "car": _car,
    "truck": _truck,
    "bus": _bus,
    "bicycle": _bicycle,
    "pedestrian": _pedestrian,
}
