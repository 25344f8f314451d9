"""The picture from above: what is where, in which colour, and that odd input is drawn or left out, never fatal."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from awml_deploy_core.errors import LoadError
from awml_deploy_core.tasks.canvas import WHITE, colour
from awml_deploy_core.tasks.detection3d import picture
from awml_deploy_core.tasks.detection3d.picture import GROUND, WIDTH, _rings
from awml_deploy_core.tasks.detection3d.points import shaded

NAMES = ("car", "truck", "bus")


def tree(*rows: Any, scores: Any = None, labels: Any = None) -> dict[str, Any]:
    found = {
        "boxes": np.array(rows, np.float64).reshape(-1, 7),
        "labels": np.array(labels or [0] * len(rows), np.int64),
    }
    return found if scores is None else {**found, "scores": np.array(scores, np.float64)}


def at(x: float, y: float, yaw: float = 0.0, length: float = 12.0, width: float = 6.0) -> Any:
    return (x, y, 0.0, length, width, 2.0, yaw)


def drawn(points: Any, truth: Any, predictions: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(Image.open(BytesIO(picture(points, truth, predictions, NAMES, reach=50.0).png)))
    assert pixels.dtype == np.uint8
    return pixels


def near(pixels: NDArray[np.uint8], hue: Any, limit: int = 40) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.abs(pixels.astype(int) - hue).max(axis=2) < limit
    return mask


def centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Row and column of the middle of the extent."""
    rows, columns = np.nonzero(mask)
    return (float(rows.min() + rows.max()) / 2, float(columns.min() + columns.max()) / 2)


def panel(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A single panel without its title and the legend: as high as wide."""
    top = next(row for row in range(len(pixels)) if (pixels[row, :50] == GROUND).all())
    return pixels[top : top + WIDTH]


@pytest.mark.parametrize(("x", "y"), [(25.0, 0.0), (0.0, 25.0), (-20.0, -30.0)])
def test_ahead_is_up_and_left_is_left(x: float, y: float) -> None:
    pixels = panel(drawn(None, None, {"trained": tree(at(x, y, length=6.0), scores=[1.0])}))
    row, column = centre(near(pixels, colour(0)))
    scale = WIDTH / 100
    # The heading mark reaches 30 % farther than the front, 0.9 m, so the extent ends later at the front.
    assert row == pytest.approx(500 - (x + 0.45) * scale, abs=3)
    assert column == pytest.approx(500 - y * scale, abs=3)


@pytest.mark.parametrize(("yaw", "row", "column"), [(0.0, -1, 0), (math.pi / 2, 0, -1), (math.pi, 1, 0)])
def test_the_mark_sticks_out_at_the_front(yaw: float, row: int, column: int) -> None:
    pixels = panel(drawn(None, None, {"trained": tree(at(20, 20, yaw), scores=[1.0])}))
    mask = near(pixels, colour(0))
    ahead = 7.2 * WIDTH / 100  # beyond the front, which is 6 m from the centre, and on the mark, which ends at 7.8 m
    place = round(300 + row * ahead), round(300 + column * ahead)
    back = round(300 - row * ahead), round(300 - column * ahead)
    assert mask[place[0] - 2 : place[0] + 3, place[1] - 2 : place[1] + 3].any()
    assert not mask[back[0] - 2 : back[0] + 3, back[1] - 2 : back[1] + 3].any()


def test_truths_are_white_beside_predictions_in_the_colour_of_their_class() -> None:
    pixels = panel(drawn(None, tree(at(20, 20)), {"trained": tree(at(-20, -20), scores=[1.0], labels=[2])}))
    assert near(pixels, WHITE)[200:400, 200:400].any()
    assert near(pixels, colour(2))[600:800, 600:800].any()
    assert not near(pixels, colour(2))[200:400, 200:400].any()
    alone = panel(drawn(None, tree(at(20, 20), labels=[1]), {}))
    assert near(alone, colour(1))[200:400, 200:400].any()


def test_a_prediction_fades_with_its_score() -> None:
    brightness = [
        int(panel(drawn(None, None, {"trained": tree(at(20, 20), scores=[score])}))[240, 270:330].max())
        for score in (0.1, 0.5, 1.0)
    ]
    assert brightness == sorted(set(brightness))


def test_every_variant_has_a_panel_and_no_picture_is_wide() -> None:
    found = tree(at(20, 0), scores=[0.9])
    shapes = {}
    for count in (1, 2, 3, 4, 5, 6):
        predictions = {f"variant {number}": found for number in range(count)}
        pixels = drawn(np.zeros((0, 4)), tree(at(20, 0)), predictions)
        shapes[count] = pixels.shape[:2]
        assert pixels.shape[1] <= WIDTH
        assert pixels.shape[0] <= 1.15 * WIDTH
    assert shapes[2][0] < shapes[3][0] == shapes[4][0]


def test_the_caption_says_how_many_boxes_there_are() -> None:
    one = picture(None, tree(at(1, 1)), {"onnx": tree(at(1, 1), at(2, 2), scores=[0.5, 0.4])}, NAMES, reach=30)
    assert one.caption == "truth: 1 box; onnx: 2 boxes (30 m to each side)"
    assert picture(None, None, {}, NAMES).caption == "truth: unknown (50 m to each side)"


def test_the_view_holds_all_boxes_and_nearly_all_points_if_no_reach_is_given() -> None:
    def reach(points: Any, boxes: Any) -> str:
        return picture(points, boxes, {}, NAMES).caption.split("(")[1]

    assert reach(None, tree(at(53, 0))) == "60 m to each side)"
    points = np.zeros((1000, 4))
    points[:, 0] = 22
    points[:5] = 900
    assert reach(points, tree()) == "25 m to each side)"
    assert reach(points, tree(at(53, 0))) == "60 m to each side)"
    assert reach(None, tree(at(777, 0))) == "250 m to each side)"


def test_points_are_where_they_are_and_brighter_where_they_are_higher() -> None:
    ground = np.tile([[-30.0, -30.0, -1.8, 5.0]], (50, 1))
    points = np.concatenate([ground, [[20.0, 10.0, -1.8, 5.0], [20.0, -10.0, 1.0, 5.0], [20.0, -10.0, -1.8, 5.0]]])
    pixels = shaded(points, 100, 50.0, GROUND, "height").astype(int).sum(axis=2)
    low, high = pixels[30, 40], pixels[30, 60]
    assert sum(GROUND) < low < high
    assert (pixels > sum(GROUND)).sum() == 3
    assert pixels[80, 80] > low  # as low, but dense
    assert (shaded(points[::-1], 100, 50.0, GROUND, "height").sum(axis=2) == pixels).all()


def test_intensity_can_be_what_is_shown() -> None:
    points = np.column_stack([np.linspace(-40, 40, 80), np.zeros(80), np.linspace(3, -3, 80), np.linspace(0, 255, 80)])
    heights, intensities = (shaded(points, 100, 50.0, GROUND, shade).sum(axis=2) for shade in ("height", "intensity"))
    assert heights[88, 50] > heights[12, 50]
    assert intensities[88, 50] < intensities[12, 50]


def test_odd_input_is_drawn_as_far_as_it_can_be() -> None:
    points = torch.tensor([[1.0, 1.0, 0.0], [float("nan"), 0, 0], [0, 0, float("inf")], [9e9, 0, 0]])
    wild = tree(
        at(math.nan, 0),
        at(math.inf, 0),
        at(400, 0),
        at(10, 0, length=0, width=0),
        at(0, 9, length=-3),
        scores=[math.nan, 0.5, 2, 0.9, -1],
        labels=[0, 1, 2, 7, -3],
    )
    image = picture(points, tree(), {"trained": {name: torch.from_numpy(value) for name, value in wild.items()}}, NAMES)
    assert Image.open(BytesIO(image.png)).size[0] == WIDTH
    tiny = panel(drawn(None, None, {"trained": tree(at(20, 20, length=0.01, width=0.01), scores=[1.0])}))
    assert near(tiny, colour(0)).sum() >= 16


@pytest.mark.parametrize("reach", [0.3, 5.0, 33.3, 51.2, 122.4, 1e7])
def test_rings_are_few_at_any_reach(reach: float) -> None:
    assert 1 <= len(_rings(reach)) <= 5
    assert max(_rings(reach)) < reach


def test_a_tree_that_is_none_is_an_error_that_names_the_variant() -> None:
    with pytest.raises(LoadError, match="the prediction of onnx has no scores"):
        picture(None, None, {"onnx": tree(at(1, 1))}, NAMES)


def test_equal_scenes_give_equal_bytes() -> None:
    rng = np.random.default_rng(0)
    points, found = rng.normal(0, 20, (5000, 4)), tree(at(5, 5), scores=[0.7])
    assert picture(points, None, {"a": found}, NAMES).png == picture(points.copy(), None, {"a": found}, NAMES).png


def test_weak_boxes_are_counted_and_not_drawn() -> None:
    weak, strong, none = (
        panel(drawn(None, None, {"onnx": found}))
        for found in (tree(at(25, 0), scores=[0.2]), tree(at(25, 0), scores=[0.25]), tree(scores=[]))
    )
    assert np.array_equal(weak, none)
    assert not np.array_equal(strong, none)
    assert picture(None, None, {"onnx": tree(at(25, 0), scores=[0.2])}, NAMES).caption.startswith(
        "truth: unknown; onnx: 1 box"
    )
