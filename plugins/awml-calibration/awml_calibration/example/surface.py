"""What surfaces look like: to the camera a colour, to the LiDAR how much comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from awml_calibration.example.street import ROAD, Street

if TYPE_CHECKING:
    from awml_calibration.example.rays import Mask
    from awml_calibration.example.solids import Floats, Solid

GLASS: tuple[float, float, float] = (0.06, 0.08, 0.10)
PAINTED = (0.80, 0.80, 0.78)


def grain(x: Floats, y: Floats, seed: int) -> Floats:
    """Smooth noise between 0 and 1 with one knot per unit."""
    knots = np.random.default_rng(seed).random((64, 64), np.float32)
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - column).astype(np.float32), (y - row).astype(np.float32)
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    column, row, right, below = column % 64, row % 64, (column + 1) % 64, (row + 1) % 64
    upper = knots[column, row] * (1 - fx) + knots[right, row] * fx
    lower = knots[column, below] * (1 - fx) + knots[right, below] * fx
    return np.asarray(upper * (1 - fy) + lower * fy)


def ground(points: Floats, street: Street) -> tuple[Floats, Floats]:
    """Asphalt with its markings; what lies behind the houses is earth. Answers colour and LiDAR reflectivity."""
    x, y = points[:, 0], points[:, 1]
    rough = 0.5 * grain(x * 0.7, y * 0.7, street.seed) + 0.3 * grain(x * 4, y * 4, street.seed + 1)
    colour = (0.14 + 0.10 * rough)[:, None] * np.array([1, 1, 1.04], np.float32)
    marked = markings(x, y, street.crossings) & (grain(x * 3, y * 3, street.seed + 2) > 0.12)
    colour[marked] = PAINTED
    colour[np.abs(y) > ROAD + 5] *= np.array([0.9, 1.1, 0.7], np.float32)
    return colour, np.where(marked, np.float32(0.85), 0.08 + 0.12 * rough)


def markings(x: Floats, y: Floats, crossings: tuple[float, ...]) -> Mask:
    """Where the road is painted: edge lines, a dashed middle line, parking lines, crossings and stop lines."""
    beside = np.abs(y)
    painted = (np.abs(beside - 0.16) < 0.07) | ((np.abs(beside - 3.6) < 0.08) & (x % 6 < 3))
    painted |= (np.abs(beside - (ROAD - 2.4)) < 0.06) | ((beside > ROAD - 2.4) & (beside < ROAD) & (x % 6.5 < 0.12))
    for middle in crossings:
        off = np.abs(x - middle)
        painted &= off > 2.6
        painted |= (off < 1.7) & (y % 1.1 < 0.5) & (beside < ROAD - 0.3)
        painted |= (np.abs(off - 2.9) < 0.18) & (beside < ROAD - 2.4) & ((x < middle) == (y < 0))
    return np.asarray(painted & (beside < ROAD))


def _plain(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    del normal
    rough = grain(local[:, 0] * 5 + local[:, 1] * 3, local[:, 2] * 5, solid.seed)
    colour = (0.92 + 0.16 * rough)[:, None] * np.array(solid.colour, np.float32)
    return colour, colour.mean(1)


def _kerb(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    colour, back = _plain(local, normal, solid)
    seam = (local[:, 0] % 0.9 < 0.03) | ((local[:, 1] + 20) % 0.6 < 0.03)
    colour[seam] *= 0.8
    colour[normal[:, 2] < 0.5] = (0.62, 0.62, 0.60)
    return colour, back


def _facade(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    colour, _ = _plain(local, normal, solid)
    style = np.random.default_rng(solid.seed)
    wide, tall, share = style.uniform(2.0, 3.6), style.uniform(2.9, 3.5), style.uniform(0.35, 0.6)
    along = np.where(np.abs(normal[:, 0]) > 0.5, local[:, 1], local[:, 0]) + 40
    up = local[:, 2] - 3.9
    wall = normal[:, 2] < 0.5
    column, floor = np.floor(along / wide), np.floor(up / tall)
    in_column, in_floor = along / wide - column, up / tall - floor
    pane = wall & (up > 0) & (np.abs(in_column - 0.5) < share / 2) & (in_floor > 0.25) & (in_floor < 0.8)
    frame = wall & (up > 0) & (np.abs(in_column - 0.5) < share / 2 + 0.04) & (in_floor > 0.2) & (in_floor < 0.84)
    shop = wall & (up < -0.9) & (local[:, 2] > 0.6) & (along % 4.2 > 0.5)
    board = wall & (up > -0.75) & (up < -0.15) & (along % 8.4 > 0.6)
    colour[frame] = np.minimum(np.array(solid.colour, np.float32) * 1.35, 0.95)
    tone = grain(column * 7.3 + 0.5, floor * 5.1 + 0.5, solid.seed)[pane, None]
    colour[pane] = np.array(GLASS, np.float32) * (0.6 + 2.2 * tone)
    colour[shop] = np.array(GLASS, np.float32) * 1.4
    colour[board] = style.uniform(0.1, 0.75, 3)
    colour[wall & (up > 0) & (in_floor < 0.04)] *= 0.75
    colour[~wall] = (0.35, 0.34, 0.33)
    return colour, np.where(pane | shop, np.float32(0.06), colour.mean(1))


def _body(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    colour = np.tile(np.array(solid.colour, np.float32), (len(local), 1))
    half, height = solid.radii, 2 * solid.radii[2]
    level = local[:, 2] / height
    colour[level < 0.22] = (0.05, 0.05, 0.05)
    seam = (np.abs(normal[:, 1]) > 0.7) & (np.abs(np.abs(local[:, 0] + 0.1) - 0.62) < 0.012)
    colour[seam] *= 0.35
    outer = (np.abs(local[:, 1]) > 0.58 * half[1]) & (level > 0.5) & (level < 0.85)
    rear, front = outer & (local[:, 0] < 0.1 - half[0]), outer & (local[:, 0] > half[0] - 0.1)
    colour[rear], colour[front] = (0.65, 0.03, 0.03), (0.88, 0.88, 0.84)
    plate = (np.abs(local[:, 1]) < 0.26) & (np.abs(local[:, 0]) > half[0] - 0.06) & (np.abs(level - 0.45) < 0.1)
    colour[plate] = (0.86, 0.86, 0.80)
    return colour, np.where(plate | rear, np.float32(1), 0.15 + 0.6 * colour.mean(1))


def _glass(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    """A cabin: panes between pillars, a painted roof."""
    colour = np.tile(np.array(GLASS, np.float32), (len(local), 1))
    half, level = solid.radii, local[:, 2] / (2 * solid.radii[2])
    side = np.abs(normal[:, 1]) > 0.6
    pillar = side & ((np.abs(local[:, 0] + 0.05) % 1.15) > 1.07)
    frame = (normal[:, 2] > 0.8) | (level > 0.9) | (level < 0.06) | pillar
    frame |= ~side & (np.abs(local[:, 1]) > half[1] * (0.96 - 0.18 * level))
    colour[frame] = solid.colour
    return colour, np.where(frame, 0.15 + 0.6 * colour.mean(1), np.float32(0.05))


def _wheel(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    del normal
    radius = np.hypot(local[:, 0], local[:, 1]) / solid.radii[0]
    spoke = np.abs(np.sin(2.5 * np.arctan2(local[:, 1], local[:, 0]))) > 0.35
    hub = (radius < 0.62) & (spoke | (radius < 0.2))
    colour = np.where(hub[:, None], np.float32(0.5), np.array(solid.colour, np.float32))
    return colour, np.where(hub, np.float32(0.5), np.float32(0.05))


def _leaf(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    del normal
    rough = grain(local[:, 0] * 7 + local[:, 1] * 5, local[:, 2] * 7 - local[:, 1] * 3, solid.seed)
    colour = (0.55 + 0.9 * rough)[:, None] * np.array(solid.colour, np.float32)
    return colour, 0.25 + 0.3 * rough


def _sign(local: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    del normal
    rim = np.abs(np.abs(local[:, 1]) - solid.radii[1]) < 0.06
    rim |= np.abs(np.abs(local[:, 2] - solid.radii[2]) - solid.radii[2]) < 0.06
    arrow = np.abs(local[:, 2] - solid.radii[2]) + np.abs(local[:, 1]) < 0.5 * solid.radii[2]
    colour = np.where((rim | arrow)[:, None], np.float32(0.85), np.array(solid.colour, np.float32))
    return colour, np.ones(len(local), np.float32)


SURFACES: dict[str, Callable[[Floats, Floats, Solid], tuple[Floats, Floats]]] = {
    "plain": _plain, "cloth": _plain, "kerb": _kerb, "facade": _facade, "body": _body, "glass": _glass, "wheel": _wheel,
    "leaf": _leaf, "sign": _sign,
}  # fmt: skip


def material(points: Floats, normal: Floats, solid: Solid) -> tuple[Floats, Floats]:
    """Colour and LiDAR reflectivity of a solid at points of its surface, in the street's axes."""
    return SURFACES[solid.surface]((points - solid.origin) @ solid.rotation, normal @ solid.rotation, solid)
