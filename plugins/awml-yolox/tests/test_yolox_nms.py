"""Suppression against a plain one, OpenCV's and the operator's definition."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from awml_yolox.nms import suppress

Array = np.ndarray[Any, np.dtype[Any]]


def in_one_class(boxes: Array) -> Array:
    """All boxes in one class."""
    return np.ones((1, len(boxes)), bool)


def overlap_of(a: Array, b: Array) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inter = max(width, 0) * max(height, 0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - inter
    return float(inter / union) if union > 0 else 0.0


def plainly(boxes: Array, scores: Array, members: Array, overlap: float, above: float) -> list[tuple[int, int]]:
    """(box, class) by the definition, one box after another."""
    found = []
    for label, row in enumerate(members):
        kept: list[int] = []
        for place in sorted(np.flatnonzero(row & (scores > above)), key=lambda place: (-scores[place], place)):
            if all(overlap_of(boxes[place], boxes[other]) <= overlap for other in kept):
                kept.append(int(place))
        found += [(float(-scores[place]), label, place) for place in kept]
    return [(place, label) for _, label, place in sorted(found)]


@st.composite
def scenes(draw: st.DrawFn, classes: int = 3) -> tuple[Array, Array, Array]:
    """Boxes on a coarse grid, scores out of a few and classes, so that overlaps and ties are common."""
    count = draw(st.integers(0, 20))
    numbers = st.lists(st.integers(0, 12), min_size=4, max_size=4)
    corners = np.array([draw(numbers) for _ in range(count)], np.float32).reshape(-1, 2, 2)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    levels = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
    scores = np.array([draw(levels) for _ in range(count)], np.float32)
    members = [[draw(st.booleans()) for _ in range(count)] for _ in range(classes)]
    return boxes, scores, np.array(members, bool).reshape(classes, count)


def apart(boxes: Array, overlap: float) -> bool:
    """Whether no overlap is so near the limit that rounding decides."""
    return all(abs(overlap_of(a, b) - overlap) > 1e-4 for a in boxes.astype(float) for b in boxes.astype(float))


@settings(max_examples=200, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.3, 0.65, 0.9]), st.sampled_from([0.0, 0.1, 0.3]))
def test_same_as_the_definition(scene: tuple[Array, Array, Array], overlap: float, above: float) -> None:
    boxes, scores, members = scene
    assume(apart(boxes, overlap) or overlap == 0)
    places, labels, found = suppress(boxes.T.copy(), scores, members, overlap=overlap, above=above)
    assert list(zip(places.tolist(), labels.tolist(), strict=True)) == plainly(
        boxes.astype(float), scores, members, overlap, np.float32(above)
    )
    np.testing.assert_array_equal(found, scores[places])
    assert list(found) == sorted(found, reverse=True)


@settings(max_examples=100, deadline=None)
@given(scenes(classes=1), st.sampled_from([0.3, 0.65]))
def test_same_as_opencv(scene: tuple[Array, Array, Array], overlap: float) -> None:
    boxes, scores, _ = scene
    boxes[:, 2:] += 1  # OpenCV calls two boxes without area the same
    assume(apart(boxes, overlap))
    given_boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    theirs = cv2.dnn.NMSBoxes(given_boxes.tolist(), scores.tolist(), 0.05, overlap)
    places, _, _ = suppress(boxes.T.copy(), scores, in_one_class(boxes), overlap=overlap, above=0.05)
    assert places.tolist() == np.asarray(theirs, int).ravel().tolist()


@settings(max_examples=50, deadline=None)
@given(scenes(), st.sampled_from([0.3, 0.65]))
def test_same_as_the_operator_s_reference(scene: tuple[Array, Array, Array], overlap: float) -> None:
    boxes, scores, members = scene
    assume(len(boxes) and apart(boxes, overlap))
    # Its order among equal scores is its own, so there are none here.
    scores = np.random.default_rng(len(boxes)).permutation(len(scores)).astype(np.float32)
    names = ["boxes", "scores", "most", "overlap", "above"]
    node = helper.make_node("NonMaxSuppression", names, ["kept"])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    kept = helper.make_tensor_value_info("kept", TensorProto.INT64, None)
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, [kept]), opset_imports=[helper.make_opsetid("", 11)]
    )
    limits = (np.array([1000]), np.array([overlap], np.float32), np.array([2], np.float32))
    feed = dict(zip(names, (boxes[None], (scores * members)[None], *limits), strict=True))
    answer: Any = ReferenceEvaluator(model).run(None, feed)
    places, labels, _ = suppress(boxes.T.copy(), scores, members, overlap=overlap, above=2)
    assert sorted(zip(labels.tolist(), places.tolist(), strict=True)) == sorted(map(tuple, answer[0][:, 1:].tolist()))


def test_overlap_that_is_reached_drops_nothing() -> None:
    # 13 of 20 squares are shared: exactly 0.65.
    boxes = np.array([[0, 0, 20, 1], [0, 0, 13, 1]], np.float32).T.copy()
    scores = np.array([0.9, 0.8], np.float32)
    assert len(suppress(boxes, scores, in_one_class(scores), overlap=0.65, above=0)[0]) == 2
    assert len(suppress(boxes, scores, in_one_class(scores), overlap=0.6499, above=0)[0]) == 1


def test_classes_do_not_disturb_one_another() -> None:
    boxes = np.array([[0, 0, 9, 9]] * 2, np.float32).T.copy()
    scores = np.array([0.9, 0.8], np.float32)
    places, labels, _ = suppress(boxes, scores, np.eye(2, dtype=bool), overlap=0.5, above=0)
    assert (places.tolist(), labels.tolist()) == ([0, 1], [0, 1])


def test_equal_scores_keep_the_earlier_box_and_come_by_class_then_place() -> None:
    boxes = np.array([[50, 0, 60, 9], [0, 0, 9, 9], [0, 0, 9, 9], [20, 0, 29, 9]], np.float32).T.copy()
    scores = np.full(4, 0.5, np.float32)
    members = np.array([[0, 1, 1, 1], [1, 0, 0, 1]], bool)
    places, labels, _ = suppress(boxes, scores, members, overlap=0.5, above=0)
    assert list(zip(labels.tolist(), places.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 0), (1, 3)]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("corner", range(4))
def test_box_that_is_not_finite_neither_drops_nor_is_dropped(odd: float, corner: int) -> None:
    boxes = np.array([[0, 0, 9, 9]] * 3, np.float32)
    boxes[0, corner] = odd
    for order in ([0, 1, 2], [1, 0, 2], [1, 2, 0]):
        scores = np.array([0.9, 0.8, 0.7], np.float32)
        places, _, _ = suppress(boxes[order].T.copy(), scores, in_one_class(scores), overlap=0.5, above=0)
        whole = [place for place in range(3) if order[place] != 0]
        assert places.tolist() == sorted([order.index(0), whole[0]])


def test_score_that_is_not_a_number_does_not_count() -> None:
    boxes = np.array([[0, 0, 9, 9]] * 2, np.float32).T.copy()
    scores = np.array([np.nan, 0.1], np.float32)
    places, _, _ = suppress(boxes, scores, in_one_class(scores), overlap=0.5, above=0)
    assert places.tolist() == [1]


@pytest.mark.parametrize("shape", [(3, 0), (0, 3)])
def test_nothing_to_suppress(shape: tuple[int, int]) -> None:
    boxes = np.zeros((4, shape[1]), np.float32)
    nothing = np.zeros(shape[1], np.float32)
    places, labels, scores = suppress(boxes, nothing, np.zeros(shape, bool), overlap=0.5, above=0)
    assert (len(places), len(labels), len(scores)) == (0, 0, 0)
    assert [str(each.dtype) for each in (places, labels, scores)] == ["int64", "int64", "float32"]
