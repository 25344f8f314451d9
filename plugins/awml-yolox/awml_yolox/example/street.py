"""What stands in a street, in which light, and from where it is seen: everything follows from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from attrs import frozen

from awml_yolox.example.camera import Camera, aim, apart, footprint, pixels
from awml_yolox.example.colours import Rng
from awml_yolox.example.furniture import clutter, hedge, house, lamp, sign, tree
from awml_yolox.example.people import bicycle, motorcycle, pedestrian
from awml_yolox.example.solids import Floats, Group, Thing, place, points
from awml_yolox.example.vehicles import bus, car, trailer, truck

CLASSES = ("unknown", "car", "truck", "bus", "trailer", "motorcycle", "pedestrian", "bicycle")
"""AWML's order."""
SIZE = (480, 300)
ROAD = 6.4  # half the width between the kerbs
WALK = 3.2  # width of a pavement
SIDE = 4.5  # half the width of a side street
Weather = Literal["sun", "cloud", "haze", "dusk", "rain"]


@frozen(kw_only=True)
class Kind:
    """How a class is drawn.

    Args:
        make: Draws one.
        share: How often, relative to the others.
        reach: Nearest and farthest, in metres.
        lanes: Where across the street, as distances from its middle.
        parallel: It keeps to the direction of its lane, as far as it does not cross the street.
    """

    make: Callable[[Rng], list[Group]]
    share: float
    reach: tuple[float, float]
    lanes: tuple[float, ...]
    parallel: bool = True


KINDS: dict[str, Kind] = {
    "unknown": Kind(make=clutter, share=0.15, reach=(4, 17), lanes=(3.4, 5.8, 7.0, 0.3), parallel=False),
    "car": Kind(make=car, share=0.2, reach=(7, 40), lanes=(1.7, 1.7, 5.2)),
    "truck": Kind(make=truck, share=0.12, reach=(9, 45), lanes=(1.7, 1.7, 5.0)),
    "bus": Kind(make=bus, share=0.11, reach=(11, 48), lanes=(1.7, 1.7, 4.9)),
    "trailer": Kind(make=trailer, share=0.1, reach=(11, 45), lanes=(1.8, 4.9, 4.9)),
    "motorcycle": Kind(make=motorcycle, share=0.12, reach=(5, 24), lanes=(0.8, 2.4, 3.5, 5.6)),
    "pedestrian": Kind(make=pedestrian, share=0.14, reach=(4.5, 24), lanes=(7.2, 8.6, 8.6, 6.8), parallel=False),
    "bicycle": Kind(make=bicycle, share=0.12, reach=(4.5, 22), lanes=(5.6, 3.6, 7.4, 2.6)),
}


@frozen(kw_only=True, eq=False)
class Street:
    """A street along x, its middle line at y = 0.

    Args:
        things: What stands in it, the annotated and the others.
        backdrop: Houses, which never hide anything else.
        camera: From where it is seen.
        weather: Its light.
        sun: Direction to the sun.
        crossing: Where pedestrians cross, in metres ahead.
        corner: Where a side street comes in, or None.
        seed: Of the asphalt, the clouds and the sensor's noise.
    """

    things: tuple[Thing, ...]
    backdrop: tuple[Thing, ...]
    camera: Camera
    weather: Weather
    sun: Floats
    crossing: float
    corner: float | None
    seed: int


def lay_out(seed: int) -> Street:
    """A street of its own for every seed."""
    rng = np.random.default_rng(seed)
    weathers: tuple[Weather, ...] = ("sun", "cloud", "haze", "dusk", "rain")
    weather = weathers[int(rng.choice(5, p=(0.4, 0.25, 0.12, 0.13, 0.1)))]
    camera = aim(
        (0, rng.uniform(-3.4, 0.6), rng.uniform(1.35, 2.1)), rng.normal(0, 0.09), rng.normal(-0.03, 0.025),
        rng.uniform(380, 470), SIZE,
    )  # fmt: skip
    corner = float(rng.uniform(14, 45)) if rng.random() < 0.45 else None
    crossing = float(rng.uniform(9, 30)) if corner is None else corner - SIDE - 3
    height, azimuth = rng.uniform(0.65, 1.2), rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    things = _traffic(rng, camera, crossing, corner)
    things += _verge(rng, camera, things, corner)
    return Street(
        things=tuple(things), backdrop=tuple(_houses(rng, corner, dark=weather == "dusk")), camera=camera,
        weather=weather, sun=sun, crossing=crossing, corner=corner, seed=seed,
    )  # fmt: skip


def _traffic(rng: Rng, camera: Camera, crossing: float, corner: float | None) -> list[Thing]:
    """The annotated things, none inside another."""
    names = list(KINDS)
    shares = np.array([KINDS[name].share for name in names])
    found: list[Thing] = []
    taken: list[Floats] = []
    for index in rng.choice(len(names), int(rng.integers(5, 11)), p=shares / shares.sum()):
        for _ in range(8):
            thing = Thing(groups=_somewhere(rng, KINDS[names[index]], crossing, corner), kind=names[index])
            foot = footprint(thing)
            foot += 0.25 * (foot - foot.mean(0)) / max(float(np.linalg.norm(foot - foot.mean(0), axis=1).max()), 0.1)
            if _shown(camera, thing) and all(apart(foot, other) for other in taken):
                found.append(thing)
                taken.append(foot)
                break
    return found


def _somewhere(rng: Rng, kind: Kind, crossing: float, corner: float | None) -> tuple[Group, ...]:
    """One of a kind, in its lane, turning at the corner, or crossing."""
    near, far = kind.reach
    x, side = near + (far - near) * rng.random() ** 1.3, float(rng.choice([-1, 1]))
    y = side * float(rng.choice(kind.lanes)) + rng.normal(0, 0.2)
    yaw = (0.0 if side < 0 else np.pi) + rng.normal(0, 0.06)
    if corner is not None and kind.parallel and rng.random() < 0.3:
        x, y, yaw = (
            corner + rng.normal(0, 1.5),
            rng.uniform(-9, 9),
            rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.35),
        )
    elif kind.make is pedestrian and rng.random() < 0.35:
        x, y, yaw = (
            crossing + rng.normal(0, 1.2),
            rng.uniform(-5.5, 5.5),
            rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.3),
        )
    elif not kind.parallel:
        yaw = rng.uniform(-0.5, 0.5) + rng.choice([0, np.pi]) if kind.make is clutter else rng.uniform(0, 2 * np.pi)
    return place(kind.make(rng), (float(x), float(y), 0.0), float(yaw))


def _shown(camera: Camera, thing: Thing) -> bool:
    """Whether most of it is in the picture."""
    seen = (np.concatenate([points(group) for group in thing.groups]) - camera.at) @ camera.turn.T
    if seen[:, 2].min() < 2.5:
        return False
    flat = pixels(camera, seen)
    low, high = flat.min(0), flat.max(0)
    inside = np.clip(high, 0, camera.size) - np.clip(low, 0, camera.size)
    return bool(inside.prod() > 0.55 * (high - low).prod())


def _verge(rng: Rng, camera: Camera, things: list[Thing], corner: float | None) -> list[Thing]:
    """Trees, hedges, lamps and signs along the kerbs."""
    found = []
    green = rng.random() < 0.75
    for side in (-1.0, 1.0):
        turn = 0.0 if side > 0 else np.pi
        for x, y, groups, yaw in list(_spots(rng, turn, green=green)):
            if corner is None or abs(x - corner) > SIDE + 1.5:
                thing = Thing(groups=place(groups, (float(x), side * y, 0.0), float(yaw)))
                if _clear(camera, thing, things):
                    found.append(thing)
    return found


def _spots(rng: Rng, turn: float, *, green: bool) -> Iterator[tuple[float, float, list[Group], float]]:
    """What stands along one kerb: how far ahead, how far from the middle, what, and how it is turned."""
    for x in np.arange(rng.uniform(4, 12), 75, rng.uniform(9, 16)) if green else ():
        yield x, ROAD + 0.9, tree(rng), rng.uniform(0, 6)
    for x in rng.uniform(5, 50, int(rng.integers(0, 4))):
        yield x, ROAD + WALK + 0.3, hedge(rng), 0.0
    for x in np.arange(rng.uniform(6, 20), 80, 22):
        yield x, ROAD + 0.5, lamp(rng), turn
    for x in rng.uniform(7, 40, int(rng.integers(0, 3))):
        yield x, ROAD + 0.6, sign(rng), rng.normal(0, 0.15)


def _clear(camera: Camera, thing: Thing, things: list[Thing]) -> bool:
    """Whether it stands ahead of the camera, and nothing else at the same place."""
    at = points(thing.groups[0])[:, :2].mean(0)
    return bool(
        (at - camera.at[:2])[0] > 4 and all(np.hypot(*(footprint(other).mean(0) - at)) > 1.2 for other in things)
    )


def _houses(rng: Rng, corner: float | None, *, dark: bool) -> list[Thing]:
    """Two rows of houses, the farthest first."""
    found: list[tuple[float, Thing]] = []
    for side in (-1.0, 1.0):
        x = -12.0
        while x < 130:
            length, depth, height = rng.uniform((9, 9, 7), (20, 14, 20))
            setback = ROAD + WALK + float(rng.choice([0, 0, 1.5, 4]))
            if corner is not None and x - SIDE - WALK < corner < x + length + SIDE + WALK:
                room = corner - SIDE - WALK - x
                x, length = (x, room) if room > 5 else (corner + SIDE + WALK, length)
            made = house(rng, length, depth, height, dark=dark)
            at = (x + length / 2, side * setback, 0.0)
            found.append((x, Thing(groups=place(made, at, 0.0 if side > 0 else np.pi))))
            x += length + float(rng.choice([0, 0, 0, 2.5, 6]))
    return [thing for _, thing in sorted(found, key=lambda one: -one[0])]
