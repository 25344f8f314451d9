"""The drawn streets: the same for the same seed, and every box lies around what is seen of its thing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from attrs import evolve

from awml_yolox.example.camera import aim, apart, back_to_front, footprint, pixels
from awml_yolox.example.scene import SEEN, SMALLEST, Scene, draw, photograph
from awml_yolox.example.solids import Part, Thing, block, place
from awml_yolox.example.street import CLASSES, SIZE, Street, lay_out
from awml_yolox.example.views import GREY, INPUT, MOST, Views, letterboxed, scenes, view
from awml_yolox.hooks import CLASS_NAMES
from awml_yolox.letterbox import letterbox

Array = np.ndarray[Any, Any]
SEEDS = (1, 5, 9)


@pytest.fixture(scope="module")
def drawn() -> dict[int, tuple[Street, Scene]]:
    return {seed: (lay_out(seed), draw(seed)) for seed in SEEDS}


def test_same_seed_same_bytes(drawn: dict[int, tuple[Street, Scene]]) -> None:
    again = draw(5)
    np.testing.assert_array_equal(again.image, drawn[5][1].image)
    np.testing.assert_array_equal(again.boxes, drawn[5][1].boxes)
    np.testing.assert_array_equal(again.labels, drawn[5][1].labels)
    assert (again.image != drawn[9][1].image).mean() > 0.5


def test_all_classes_come_in_the_models_order() -> None:
    assert CLASSES == CLASS_NAMES
    kinds = {thing.kind for seed in range(12) for thing in lay_out(seed).things}
    assert kinds == {*CLASSES, None}


def test_pictures_are_well_exposed(drawn: dict[int, tuple[Street, Scene]]) -> None:
    for _, scene in drawn.values():
        assert scene.image.shape == (SIZE[1], SIZE[0], 3)
        assert 40 < scene.image.mean() < 210
        assert scene.image.std() > 25


def bounds(mask: Array) -> tuple[float, ...]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height


def wanted(street: Street, scene: Scene) -> dict[int, tuple[float, ...]]:
    """The bounds of what is seen of each annotated thing, where anything is."""
    masks = {index: scene.owners == index for index, thing in enumerate(street.things) if thing.kind}
    return {index: bounds(mask) for index, mask in masks.items() if mask.any()}


@pytest.mark.parametrize("seed", SEEDS)
def test_each_box_is_the_bounds_of_what_is_seen_of_one_thing(drawn: dict[int, tuple[Street, Scene]], seed: int) -> None:
    street, scene = drawn[seed]
    around = wanted(street, scene)
    found = {index: street.things[index].kind for index in around}
    left = sorted((*around[index], CLASSES.index(kind or "")) for index, kind in found.items())
    for row in zip(*scene.boxes.T.tolist(), scene.labels.tolist(), strict=True):
        assert row in left
        left.remove(row)
    assert len(scene.boxes) >= 2
    assert scene.boxes.dtype == np.float32
    assert scene.labels.dtype == np.int64


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_hidden_or_tiny_is_not_annotated_and_nothing_else(
    drawn: dict[int, tuple[Street, Scene]], seed: int
) -> None:
    street, scene = drawn[seed]
    boxes = {tuple(box) for box in scene.boxes.tolist()}
    for index, box in wanted(street, scene).items():
        alone = photograph(evolve(street, things=(street.things[index],), backdrop=()), develops=False)
        share = (scene.owners == index).sum() / (alone.owners == 0).sum()
        large = box[2] - box[0] >= SMALLEST[0] and box[3] - box[1] >= SMALLEST[1]
        assert share > SEEN - 0.01 or box not in boxes
        # What the frame cuts off counts as hidden, too; no more than about half of anything is cut off.
        assert share < 2.5 * SEEN or (box in boxes) == large


def test_a_thing_of_another_colour_changes_the_pixels_that_it_owns() -> None:
    street = lay_out(5)
    before = photograph(street, develops=False)
    sizes = [(before.owners == index).sum() if thing.kind else 0 for index, thing in enumerate(street.things)]
    chosen = int(np.argmax(sizes))

    def other(part: Part) -> Part:
        blue, green, red = part.colour
        return evolve(part, colour=((blue + 128) % 256, (green + 128) % 256, (red + 128) % 256))

    thing = street.things[chosen]
    changed = evolve(thing, groups=tuple(tuple(map(other, group)) for group in thing.groups))
    things = (*street.things[:chosen], changed, *street.things[chosen + 1 :])
    after = photograph(evolve(street, things=things), develops=False)
    np.testing.assert_array_equal(after.owners, before.owners)
    differs, mine = (after.image != before.image).any(2), before.owners == chosen
    assert differs[mine].mean() > 0.97
    # Edges are smoothed, so the colour reaches a pixel beyond, and shines through the smoothed edges of what hides it.
    beyond = cv2.dilate(mine.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert differs[beyond].sum() < 0.01 * mine.sum()


def wall(x: float, y: float, wide: float, high: float) -> Thing:
    return Thing(
        groups=place([block((-0.2, 0.2), (-wide / 2, wide / 2), (0, high), (10, 90, 200))], (x, y, 0), 0), kind="bus"
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_of_two_hides_the_farther(order: tuple[int, int]) -> None:
    street = lay_out(2)
    camera = aim((0, 0, 1.5), 0, 0, 400, SIZE)
    both = (wall(10, 0, 2, 2), wall(20, 0, 8, 6))
    scene = photograph(evolve(street, camera=camera, backdrop=(), things=tuple(both[index] for index in order)))
    near = order.index(0)
    # The face at 9.8 m: 2 m wide and high, the eye at 1.5 m.
    np.testing.assert_allclose(bounds(scene.owners == near), (199, 129.5, 281, 211), atol=1.5)
    assert (scene.owners[135:205, 205:275] == near).all()
    assert (scene.owners == 1 - near).any()
    assert back_to_front(camera, list(both)) == [1, 0]


def test_the_camera_by_hand() -> None:
    """A point 10 m ahead, 1 m to the left, at the eye's height less 1 m; and the same seen by a turned camera."""
    camera = aim((2, 0, 1.5), 0, 0, 400, (480, 300))
    seen = (np.array([[12, 1, 0.5]]) - camera.at) @ camera.turn.T
    np.testing.assert_allclose(pixels(camera, seen), [[239.5 - 40, 149.5 + 40]])
    turned = aim((2, 0, 1.5), np.arctan2(1, 10), 0, 400, (480, 300))
    seen = (np.array([[12, 1, 1.5]]) - turned.at) @ turned.turn.T
    np.testing.assert_allclose(pixels(turned, seen), [[239.5, 149.5]], atol=1e-9)


def test_rectangles_on_the_ground() -> None:
    one, two, three = (footprint(wall(x, y, 2, 1)) for x, y in ((5, 0), (5, 1.5), (6, 0)))
    np.testing.assert_allclose(sorted(np.ptp(one, 0)), [0.4, 2], atol=0.01)
    assert not apart(one, two)
    assert apart(one, three)


# ---------------------------------------------------------------- views for the training


def test_a_box_moves_with_its_pixels() -> None:
    """The bounds of a white patch in a view are the box that the view says."""
    image = np.full((SIZE[1], SIZE[0], 3), GREY, np.uint8)
    image[100:180, 150:330] = 255
    truths = np.full((MOST, 5), -1, np.float32)
    truths[0] = (150, 100, 330, 180, 3)
    seen = 0
    for number in range(40):
        picture, rows = view(image, truths, np.random.default_rng(number))
        assert picture.shape == (3, *INPUT)
        if rows[0, 4] < 0:
            continue
        seen += 1
        grey = picture.astype(float).mean(0)
        mask = grey > (grey.max() + np.median(grey)) / 2
        np.testing.assert_allclose(bounds(mask), rows[0, :4], atol=1.1)
        assert rows[0, 4] == 3
        assert (rows[1:] == -1).all()
    assert seen > 25


def test_what_leaves_the_view_is_no_truth() -> None:
    truths = np.full((MOST, 5), -1, np.float32)
    truths[0], truths[1] = (0, 0, 2, 2, 1), (200, 100, 300, 200, 2)
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    labels = {float(row[4]) for seed in range(20) for row in view(image, truths, np.random.default_rng(seed))[1]}
    assert labels == {-1.0, 2.0}


def test_views_follow_from_their_number_and_the_scenes_from_their_seeds() -> None:
    held = scenes(range(40, 42), 1)
    np.testing.assert_array_equal(held.images[1], draw(41).image)
    count = len(draw(41).boxes)
    np.testing.assert_array_equal(held.truths[1, :count, :4], draw(41).boxes)
    assert (held.truths[1, count:] == -1).all()
    views = Views(held, 4, 7)
    for index in range(len(views)):
        np.testing.assert_array_equal(views[index][0], views[index][0])
    assert (views[0][0] != views[2][0]).any()


def test_training_is_measured_on_what_the_deployment_shows_the_network() -> None:
    pictures = [draw(seed).image for seed in (0, 1)]
    batch, _ = letterbox(pictures, INPUT)
    np.testing.assert_array_equal(letterboxed(pictures).numpy(), batch)
