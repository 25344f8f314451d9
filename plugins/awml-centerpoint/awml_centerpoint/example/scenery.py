"""What stands about and is no object: houses, poles, signs, fences, trees, hedges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from awml_centerpoint.example import terrain as land
from awml_centerpoint.example.shapes import Rng, Shapes, column, gather
from awml_centerpoint.example.terrain import ROAD, SPAN, Terrain
from awml_centerpoint.example.tracks import LASTING, Tracks, meets


def scenery(rng: Rng, ground: Terrain, taken: Tracks) -> Shapes:
    """What stands in nobody's way."""
    parts = [*_houses(rng, ground), *_street(rng, ground), *_greens(rng, ground)]
    return gather([part for part in parts if not meets(_still(part), taken, 0.0).any()])


def _still(part: Shapes) -> Tracks:
    """The footprints of what one could run into; crowns of trees hang over one's head."""
    low = part.low < part.low.min() + 1.5
    begin, velocity = np.zeros(low.sum()), np.zeros((low.sum(), 2))
    centre, half, yaw = part.centre[low], part.half[low], part.yaw[low]
    return Tracks(start=centre, velocity=velocity, half=half, yaw=yaw, begin=begin, end=begin + LASTING)


def _stand(
    ground: Terrain,
    where: tuple[float, float],
    size: tuple[float, float, float],
    material: str,
    up: float = 0.0,
    **more: float,
) -> Shapes:
    level = float(land.height(ground, np.array(where[0]), np.array(where[1])))
    yaw, ellipse, gaps = more.get("yaw", 0.0), bool(more.get("ellipse")), more.get("gaps", 0.0)
    return column((*where, level + up), size, material, yaw=yaw, ellipse=ellipse, gaps=gaps)


def _houses(rng: Rng, ground: Terrain) -> Iterator[Shapes]:
    """Rows of fronts along both roads, with gaps, left out where the other road runs."""
    for main in (True, False):
        for side in (-1, 1):
            at = -SPAN
            while at < SPAN:
                long, deep, tall = rng.uniform(7, 20), rng.uniform(6, 12), rng.uniform(4, 14)
                back = side * (ROAD + rng.uniform(4.2, 7) + deep / 2)
                where = (at + long / 2, back) if main else (ground.crossing + back, at + long / 2)
                across = abs(where[0] - ground.crossing) if main else abs(where[1])
                if rng.random() < 0.75 and across > ROAD + 5 + long / 2 + deep * (not main):
                    size = (long, deep, tall) if main else (deep, long, tall)
                    yield _stand(ground, where, size, "wall", -0.5)
                at += long + (rng.uniform(0.5, 8) if rng.random() < 0.5 else 0)


def _spot(rng: Rng, ground: Terrain, low: float, high: float) -> tuple[float, float] | None:
    """A place so far from the kerb of one road, and not on the other."""
    beside, far = rng.choice([-1, 1]) * (ROAD + rng.uniform(low, high)), rng.uniform(-60, 60)
    where = (far, beside) if rng.random() < 0.6 else (ground.crossing + beside, far)
    clear = min(abs(where[1]), abs(where[0] - ground.crossing)) > ROAD + low - 0.05
    return (float(where[0]), float(where[1])) if clear else None


def _street(rng: Rng, ground: Terrain) -> Iterator[Shapes]:
    """Poles, signs, bins, bollards, boxes, fences."""
    for _ in range(int(rng.integers(28, 50))):
        where = _spot(rng, ground, 0.3, 0.8)
        if where is None:
            continue
        kind = str(rng.choice(["pole", "sign", "bollard", "bin", "box", "fence"], p=[0.25, 0.2, 0.2, 0.1, 0.1, 0.15]))
        if kind == "pole":
            yield _stand(ground, where, (0.24, 0.24, rng.uniform(2.6, 7)), "metal", ellipse=1)
        if kind == "sign":
            post = _stand(ground, where, (0.09, 0.09, rng.uniform(2.6, 7)), "metal", ellipse=1)
            plate = (0.06, rng.uniform(0.5, 0.9), 0.7)
            yield gather([post, _stand(ground, where, plate, "sign", 2.0, yaw=rng.uniform(0, np.pi))])
        if kind == "bollard":
            yield _stand(ground, where, (0.16, 0.16, rng.uniform(0.7, 1.0)), "metal", ellipse=1)
        if kind == "bin":
            yield _stand(ground, where, (0.5, 0.5, rng.uniform(0.8, 1.2)), "dark", ellipse=1)
        if kind == "box":
            yield _stand(ground, where, (0.8, 0.45, rng.uniform(1.0, 1.9)), "paint", yaw=rng.integers(2) * np.pi / 2)
        if kind == "fence":
            along = 0.0 if abs(abs(where[1]) - ROAD) < 1 else np.pi / 2
            yield _stand(ground, where, (rng.uniform(3, 9), 0.08, 0.9), "metal", yaw=along, gaps=0.5)


def _greens(rng: Rng, ground: Terrain) -> Iterator[Shapes]:
    """Trees of a trunk and three layers of leaves; bushes; hedges."""
    for _ in range(int(rng.integers(12, 30))):
        where = _spot(rng, ground, 0.7, 4)
        if where is None:
            continue
        if rng.random() < 0.6:
            trunk, wide = rng.uniform(1.9, 3.2), rng.uniform(2.2, 4.5)
            tree = [_stand(ground, where, (0.3, 0.3, trunk + 0.5), "bark", ellipse=1)]
            for up, share in ((0, 0.7), (0.3, 1.0), (0.62, 0.75)):
                size = (wide * share, wide * share * rng.uniform(0.8, 1.1), wide * 0.38)
                shift = (where[0] + rng.normal(0, 0.2), where[1] + rng.normal(0, 0.2))
                tree.append(_stand(ground, shift, size, "leaf", trunk + up * wide, ellipse=1, gaps=0.35))
            yield gather(tree)
        else:
            size = (rng.uniform(0.8, 3.0), rng.uniform(0.7, 1.2), rng.uniform(0.6, 1.7))
            yield _stand(ground, where, size, "leaf", ellipse=1, gaps=0.25, yaw=rng.integers(2) * np.pi / 2)
