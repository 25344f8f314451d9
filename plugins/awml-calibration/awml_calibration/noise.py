"""How a calibration goes wrong: a small wrong turn and a small wrong shift, the same in every run."""

from __future__ import annotations

import hashlib
from statistics import NormalDist
from typing import Any

import numpy as np
from attrs import frozen

Doubles = np.ndarray[Any, np.dtype[np.float64]]


@frozen(kw_only=True)
class Spread:
    """A normal distribution cut at both ends.

    Args:
        mean: Mean before the cut.
        std: Standard deviation before the cut.
        low: Smallest value.
        high: Largest value.
    """

    mean: float
    std: float
    low: float
    high: float

    def at(self, share: float) -> float:
        """The value below which that share of the draws lies."""
        normal = NormalDist(self.mean, self.std)
        low, high = normal.cdf(self.low), normal.cdf(self.high)
        return min(max(normal.inv_cdf(low + share * (high - low)), self.low), self.high)


DEGREES = Spread(mean=1.0, std=6.0, low=1.0, high=10.0)
METRES = Spread(mean=0.05, std=0.1, low=0.05, high=0.2)


def seed_of(name: str, seed: int) -> int:
    """A seed that depends on the name and on the run's seed, and on neither the process nor the platform."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


def disturbance(rng: np.random.Generator) -> Doubles:
    """A wrong rigid motion, 4x4: 1 to 10 degrees about any axis and 5 to 20 centimetres in any direction."""
    motion = np.eye(4)
    angle = np.radians(DEGREES.at(rng.random())) * rng.choice((-1, 1))
    motion[:3, :3] = rotation(_direction(rng), angle)
    motion[:3, 3] = _direction(rng) * METRES.at(rng.random()) * rng.choice((-1, 1))
    return motion


def rotation(axis: Doubles, angle: float) -> Doubles:
    """Rodrigues' formula; the axis has length 1."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _direction(rng: np.random.Generator) -> Doubles:
    """Uniform on the sphere."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))
