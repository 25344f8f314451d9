"""Wrong calibrations: their bounds, their distribution, their seeds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_calibration.noise import DEGREES, METRES, Doubles, Spread, disturbance, rotation, seed_of


def drawn(count: int) -> Doubles:
    rng = np.random.default_rng(0)
    return np.stack([disturbance(rng) for _ in range(count)])


MOTIONS = drawn(4000)
ANGLES = np.degrees(np.arccos(np.clip((np.trace(MOTIONS[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
SHIFTS = np.linalg.norm(MOTIONS[:, :3, 3], axis=1)


def rejected(mean: float, std: float, low: float, high: float) -> Doubles:
    """The cut normal distribution, by throwing away what falls outside."""
    values = np.random.default_rng(1).normal(mean, std, 200_000)
    return values[(values >= low) & (values <= high)]


def test_motions_are_rigid() -> None:
    turns = MOTIONS[:, :3, :3]
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1, atol=1e-12)
    assert (MOTIONS[:, 3] == [0, 0, 0, 1]).all()


@pytest.mark.parametrize(
    ("seen", "spread", "drawn"),
    [(ANGLES, DEGREES, rejected(1, 6, 1, 10)), (SHIFTS, METRES, rejected(0.05, 0.1, 0.05, 0.2))],
    ids=["degrees", "metres"],
)
def test_size_is_a_cut_normal_distribution(seen: Doubles, spread: Spread, drawn: Doubles) -> None:
    assert seen.min() >= spread.low - 1e-9
    assert seen.max() <= spread.high + 1e-9
    shares = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(
        np.quantile(seen, shares), np.quantile(drawn, shares), atol=0.05 * (spread.high - spread.low)
    )


@pytest.mark.parametrize(
    "vectors", [MOTIONS[:, :3, 3] / SHIFTS[:, None], MOTIONS[:, [2, 0, 1], [1, 2, 0]]], ids=["shift", "axis"]
)
def test_directions_are_even(vectors: Doubles) -> None:
    # No direction is preferred: the mean vanishes, all axes vary alike and none goes with another.
    spread = vectors.std(0)
    assert np.abs(vectors.mean(0)).max() < 0.06 * np.abs(vectors).max()
    np.testing.assert_allclose(spread, spread.mean(), rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(vectors.T), np.eye(3), atol=0.07)


@given(st.floats(-3, 3), st.integers(0, 2**32 - 1))
def test_rotation_turns_about_its_axis(angle: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    across = np.cross(axis, rng.normal(size=3))
    across /= np.linalg.norm(across)
    turn = rotation(axis, angle)
    np.testing.assert_allclose(turn @ axis, axis, atol=1e-12)
    np.testing.assert_allclose(
        turn @ across, np.cos(angle) * across + np.sin(angle) * np.cross(axis, across), atol=1e-9
    )


def test_a_quarter_turn_about_z_brings_x_to_y() -> None:
    np.testing.assert_allclose(rotation(np.array([0, 0, 1.0]), np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_seed_depends_on_name_and_run_and_on_nothing_else() -> None:
    assert len({seed_of(name, seed) for name in ("a", "b") for seed in (0, 1)}) == 4
    code = "from awml_calibration.noise import seed_of; print(seed_of('street-0-CAM_FRONT', 7))"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(there.stdout) == seed_of("street-0-CAM_FRONT", 7)
