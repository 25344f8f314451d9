"""The simulated LiDAR: what comes back lies where the nearest thing is, and the truth says where road users are."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_centerpoint.example import bodies, terrain, town
from awml_centerpoint.example.lidar import BEAMS, ERROR, GROUND, MOUNT, REACH, STEPS, Pose, Scan, scan
from awml_centerpoint.example.ride import Moment, inside, merge, moments
from awml_centerpoint.example.shapes import Floats, Shapes, column, gather, place
from awml_centerpoint.example.terrain import Terrain
from awml_centerpoint.example.tracks import LASTING

LEVEL = Terrain(waves=np.zeros((0, 4)), crossing=1000.0)
HERE = Pose(x=0.0, y=0.0, z=0.0, yaw=0.0)
NOISE = 6 * ERROR


@pytest.fixture(scope="module")
def ride() -> list[Moment]:
    return moments(4, (0.3, 0.5))


def look(shapes: Shapes, pose: Pose = HERE, ground: Terrain = LEVEL, seed: int = 0) -> Scan:
    return scan(shapes, ground, pose, np.random.default_rng(seed))


# ---------------------------------------------------------------- one ray, worked out by itself


def near(shapes: Shapes, index: int, start: Floats, way: Floats) -> float:
    """Distance along a ray in space to one column, in float64: slabs for a rectangle, a quadratic for an ellipse."""
    turn = complex(math.cos(shapes.yaw[index]), -math.sin(shapes.yaw[index]))
    at = complex(*(start[:2] - shapes.centre[index])) * turn
    go = complex(*way[:2]) * turn
    a, b = shapes.half[index]
    spans = [_slab(start[2], way[2], shapes.low[index], shapes.high[index])]
    if shapes.round[index]:
        p, q = complex(at.real / a, at.imag / b), complex(go.real / a, go.imag / b)
        square, slope = abs(q) ** 2, p.real * q.real + p.imag * q.imag
        under = slope**2 - square * (abs(p) ** 2 - 1)
        if under < 0:
            return math.inf
        spans.append(((-slope - math.sqrt(under)) / square, (-slope + math.sqrt(under)) / square))
    else:
        spans += [_slab(at.real, go.real, -a, a), _slab(at.imag, go.imag, -b, b)]
    first, last = max(span[0] for span in spans), min(span[1] for span in spans)
    return first if 0 < first <= last else math.inf


def _slab(at: float, go: float, low: float, high: float) -> tuple[float, float]:
    if go == 0:
        return (-math.inf, math.inf) if low <= at <= high else (math.inf, -math.inf)
    one, two = (low - at) / go, (high - at) / go
    return min(one, two), max(one, two)


def floor(ground: Terrain, start: Floats, way: Floats) -> float:
    """Distance along a ray to the ground: the first of many small steps that is below it."""
    away = np.arange(0.5, REACH + 5, 0.01)
    path = start + away[:, None] * way
    below = path[:, 2] <= terrain.height(ground, path[:, 0], path[:, 1])
    return float(away[below.argmax()]) if below.any() else math.inf


def rays(found: Scan, pose: Pose) -> tuple[Floats, Floats]:
    """Where the LiDAR is and the direction of every returned point's beam, in the town's axes."""
    beam = BEAMS[found.points[:, 4].astype(int)]
    step = np.round((np.arctan2(found.points[:, 1], found.points[:, 0]) + np.pi) / (2 * np.pi / STEPS))
    heading = step * 2 * np.pi / STEPS - np.pi + pose.yaw
    ways = np.stack([np.cos(beam) * np.cos(heading), np.cos(beam) * np.sin(heading), np.sin(beam)], 1)
    return np.array([pose.x, pose.y, pose.z + MOUNT]), ways


def scattered(seed: int) -> Shapes:
    """Columns of all kinds around the vehicle, none of which lets rays through."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(25):
        away, where = rng.uniform(4, 45), rng.uniform(-np.pi, np.pi)
        size = rng.uniform((0.2, 0.2, 0.3), (6, 3, 4))
        spot = (away * np.cos(where), away * np.sin(where), rng.choice([0.0, rng.uniform(0, 2)]))
        made.append(column(spot, tuple(size), "wall", yaw=rng.uniform(-4, 4), ellipse=bool(rng.random() < 0.4)))
    return gather(made)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_return_is_the_nearest_thing_on_its_ray(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = scattered(seed)
    pose = Pose(x=1.0, y=-2.0, z=0.1, yaw=0.7)
    ground = terrain.shape(rng, 20.0)
    found = look(shapes, pose, ground, seed)
    start, ways = rays(found, pose)
    reach = np.linalg.norm(found.points[:, :3].astype(np.float64) - (0, 0, MOUNT), axis=1)
    solid = 0
    for row in rng.choice(len(reach), 400, replace=False):
        solids = [near(shapes, index, start, ways[row]) for index in range(len(shapes))]
        below = floor(ground, start, ways[row])
        wanted = min(*solids, below)
        # The ground is taken as straight for some decimetres; at a kerb that may be wrong by its height.
        slack = terrain.KERB / max(abs(ways[row, 2]), 0.02) if wanted == below else 0.0
        assert reach[row] == pytest.approx(wanted, abs=NOISE + slack), row
        if below > min(solids) + 0.3:
            assert found.column[row] == int(np.argmin(solids))
            solid += 1
    assert solid > 60
    path = start + reach[:, None] * ways
    above = (path[:, 2] - terrain.height(ground, path[:, 0], path[:, 1]))[found.column == GROUND]
    assert np.abs(above).max() < terrain.KERB
    assert np.quantile(np.abs(above), 0.95) < 0.02


def test_what_stands_near_is_not_missed() -> None:
    shapes = scattered(4)
    found = look(shapes)
    seen = {(round(float(np.degrees(np.arctan2(y, x))) * 2), int(beam)) for x, y, _, _, beam in found.points}
    start, hits, missed = np.array([0, 0, MOUNT]), 0, 0
    for step, beam in itertools.product(range(0, STEPS, 7), range(len(BEAMS))):
        heading, up = step * 2 * np.pi / STEPS - np.pi, BEAMS[beam]
        way = np.array([np.cos(up) * np.cos(heading), np.cos(up) * np.sin(heading), np.sin(up)])
        if min(near(shapes, index, start, way) for index in range(len(shapes))) < 30:
            hits += 1
            missed += (round(float(np.degrees(heading)) * 2), beam) not in seen
    assert hits > 200
    assert missed / hits < 0.06  # walls lose 2 in 100 returns, and far or slanting ones some more


def test_a_wall_hides_what_is_behind_it() -> None:
    wall = column((10, 0, 0), (0.4, 8, 6), "wall")
    box = column((15, 0, 0), (2, 2, 2), "paint")
    hidden, beside = look(gather([wall, box])), look(gather([wall, place(box, (0, 14, 0), 0.0)]))
    assert (hidden.column == 0).sum() > 100
    assert (hidden.column == 1).sum() == 0
    assert (beside.column == 1).sum() > 20


def test_some_rays_go_through_leaves() -> None:
    bush = column((8, 0, 0), (1, 4, 4), "wall", gaps=0.4)
    wall = column((12, 0, 0), (0.4, 12, 12), "wall")
    found = look(gather([bush, wall]))
    # What would be seen of the wall if the bush were not, and is not below it.
    level = (np.abs(found.points[:, 1] / found.points[:, 0]) < 0.2) & (found.points[:, 4] > 12)
    leaves, behind = (int(((found.column == index) & level).sum()) for index in (0, 1))
    assert 0.3 < behind / (leaves + behind) < 0.5
    inside_bush = found.points[found.column == 0, 0]
    assert inside_bush.min() > 7.5 - NOISE
    assert inside_bush.max() < 8.5 + NOISE
    assert inside_bush.std() > 0.1


def test_level_ground_gives_one_ring_a_beam() -> None:
    found = look(column((0, 300, 0), (1, 1, 1), "wall"))
    away = np.hypot(*found.points[:, :2].T)
    for beam in range(len(BEAMS)):
        ring = away[(found.points[:, 4] == beam) & (np.abs(found.points[:, 1]) < terrain.ROAD - 1)]
        wanted = MOUNT / math.tan(-BEAMS[beam]) if BEAMS[beam] < 0 else math.inf
        if wanted < REACH - 10:
            assert len(ring) > 5
            np.testing.assert_allclose(ring, wanted, atol=NOISE + 1e-3 * wanted)


# ---------------------------------------------------------------- bodies, towns, truth


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(bodies.CLASSES))
@settings(max_examples=60, deadline=None)
def test_no_part_of_a_body_stands_out_of_its_box(seed: int, kind: str) -> None:
    size, body = bodies.draw(kind, np.random.default_rng(seed))
    c, s = np.abs(np.cos(body.yaw)), np.abs(np.sin(body.yaw))
    along, across = body.half[:, 0] * c + body.half[:, 1] * s, body.half[:, 0] * s + body.half[:, 1] * c
    assert (np.abs(body.centre[:, 0]) + along).max() <= size[0] / 2 + 1e-9
    assert (np.abs(body.centre[:, 1]) + across).max() <= size[1] / 2 + 1e-9
    assert body.low.min() >= 0
    assert body.high.max() == pytest.approx(size[2], abs=1e-6)
    assert (body.high > body.low).all()
    assert (body.half > 0).all()


def test_same_seed_same_bytes(ride: list[Moment]) -> None:
    again, other = moments(4, (0.3, 0.5)), moments(5, (0.3, 0.5))
    for one, two in zip(ride, again, strict=True):
        assert one.points.tobytes() == two.points.tobytes()
        assert one.truth.boxes.tobytes() == two.truth.boxes.tobytes()
        assert one.pose.tobytes() == two.pose.tobytes()
    assert ride[0].points.tobytes() != other[0].points.tobytes()
    assert ride[0].points.tobytes() != ride[1].points.tobytes()


@pytest.mark.parametrize("seed", [3, 8])
def test_points_of_a_road_user_lie_in_its_box_and_are_counted(seed: int) -> None:
    place_, time = town.found(seed), 1.0
    pose, shapes, truth = town.pose(place_, time), town.standing(place_, time), town.truth(place_, time)
    found = scan(shapes, place_.ground, pose, np.random.default_rng(0))
    counts = inside(found.points, truth.boxes)
    owner = np.where(found.column == GROUND, -1, shapes.owner[found.column])
    seen = 0
    for index, box in enumerate(truth.boxes):
        offset = found.points[:, :3].astype(np.float64) - box[:3]
        flat = (offset[:, 0] + 1j * offset[:, 1]) * np.exp(-1j * box[6])
        out = np.stack([np.abs(flat.real), np.abs(flat.imag), np.abs(offset[:, 2])], 1) - box[3:6] / 2
        mine = owner == index
        assert (out[mine] < NOISE).all()
        assert (out < -1e-9).all(1).sum() <= counts[index] <= (out < 1e-9).all(1).sum()
        seen += int(mine.sum())
        # What else lies in the box is the ground below it.
        others = (owner != index) & (out < 0).all(1)
        assert (found.column[others] == GROUND).all()
    assert seen > 1000


def test_counting_by_hand() -> None:
    boxes = np.array([[5, 0, 1, 4, 2, 2, 0], [5, 0, 1, 4, 2, 2, np.pi / 2], [50, 0, 1, 4, 2, 2, 0]])
    points = np.array([[5, 0, 1], [7, 1, 2], [7.1, 0, 1], [5, 1.5, 1], [5, 1.5, 2.1], [3, -1, 0]], np.float32)
    assert inside(points, boxes).tolist() == [3, 2, 0]
    assert inside(points[:0], boxes).tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", [1, 6])
def test_truth_moves_as_its_velocities_say(seed: int) -> None:
    place_, step = town.found(seed), 1e-4
    before, after = town.truth(place_, 1.0), town.truth(place_, 1.0 + step)
    one, two = _world(place_, 1.0, before.boxes), _world(place_, 1.0 + step, after.boxes)
    own = town.pose(place_, 1.0)
    turn = np.array([[np.cos(own.yaw), -np.sin(own.yaw)], [np.sin(own.yaw), np.cos(own.yaw)]])
    np.testing.assert_allclose((two - one)[:, :2] / step, before.velocities @ turn.T, atol=1e-6)
    assert np.linalg.norm(before.velocities, axis=1).max() > 3
    # Wheels stand on the ground.
    np.testing.assert_allclose(
        one[:, 2] - before.boxes[:, 5] / 2, terrain.height(place_.ground, one[:, 0], one[:, 1]), atol=1e-9
    )
    assert (np.abs(before.boxes[:, 6]) <= np.pi).all()


def _world(place_: town.Town, time: float, boxes: Floats) -> Floats:
    own = town.pose(place_, time)
    flat = (boxes[:, 0] + 1j * boxes[:, 1]) * np.exp(1j * own.yaw) + complex(own.x, own.y)
    return np.stack([flat.real, flat.imag, boxes[:, 2] + own.z], 1)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 100_000])
def test_nobody_runs_into_anybody(seed: int) -> None:
    place_ = town.found(seed)
    carrier = np.array([0, 0, 0, *town.CARRIER, 2, 0])
    for time in np.arange(0, LASTING + 0.01, 0.5):
        boxes = np.vstack([town.truth(place_, time).boxes, carrier])
        for one, two in itertools.combinations(boxes, 2):
            if np.hypot(*(one[:2] - two[:2])) < np.hypot(*one[3:5]) / 2 + np.hypot(*two[3:5]) / 2:
                kind, _ = cv2.rotatedRectangleIntersection(_rectangle(one), _rectangle(two))
                assert kind == cv2.INTERSECT_NONE, (time, one, two)


def _rectangle(box: Floats) -> tuple[tuple[float, float], tuple[float, float], float]:
    return (float(box[0]), float(box[1])), (float(box[3]), float(box[4])), float(np.degrees(box[6]))


def test_two_turns_are_merged_where_they_were_measured(ride: list[Moment]) -> None:
    earlier, key = ride
    merged = merge(key, earlier)
    count = len(key.points)
    assert merged.dtype == np.float32
    np.testing.assert_array_equal(merged[:count, :4], key.points[:, :4])
    assert (merged[:count, 4] == 0).all()
    np.testing.assert_allclose(merged[count:, 4], 0.2, atol=1e-6)
    np.testing.assert_array_equal(merged[count:, 3], earlier.points[:, 3])
    there = earlier.points[:, :3] @ earlier.pose[:3, :3].T + earlier.pose[:3, 3]
    here = merged[count:, :3] @ key.pose[:3, :3].T + key.pose[:3, 3]
    np.testing.assert_allclose(here, there, atol=1e-4)
    assert np.abs(merged[count:, :2] - earlier.points[:, :2]).max() > 0.5  # the vehicle moves
