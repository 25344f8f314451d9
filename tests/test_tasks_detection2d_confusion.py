"""What was taken for what, held against a loop and cases worked by hand; and the pairs that it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.records import Record
from awml_deploy_core.tasks.detection2d import metrics
from awml_deploy_core.tasks.detection2d.matching import one_to_one, pairs, pairs_above

NAMES = ("car", "truck")


def matrix(truths: Sequence[Any], found: Sequence[Any], *, truth: Any = None, **more: Any) -> list[list[Any]]:
    """The confusion matrix of one image with rows `(label, box)` and `(label, score, box)`."""
    record = Record(
        id="s",
        index=0,
        prediction={
            "boxes": np.array([row[2] for row in found], np.float32),
            "labels": np.array([row[0] for row in found]),
            "scores": np.array([row[1] for row in found]),
        },
        ground_truth={
            "boxes": np.array([row[1] for row in truths], np.float32),
            "labels": np.array([row[0] for row in truths]),
            **(truth or {}),
        },
    )
    (table,) = [one for one in metrics([record], NAMES, style="voc", **more).tables if one.title.startswith("Conf")]
    assert table.columns == ("truth", *NAMES, "background")
    assert [row[0] for row in table.rows] == [*NAMES, "background"]
    return [list(row[1:]) for row in table.rows]


HERE, THERE, ELSEWHERE = (0, 0, 100, 100), (200, 0, 300, 100), (500, 500, 600, 600)


def test_truths_are_rows_and_what_has_no_partner_is_background() -> None:
    truths = [(0, HERE), (1, THERE)]
    assert matrix(truths, [(0, 0.9, HERE), (0, 0.8, THERE)]) == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix(truths, [(1, 0.9, ELSEWHERE)]) == [[0, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert matrix([], [(0, 0.9, HERE)]) == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert matrix(truths, []) == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_score_and_overlap_decide_and_stand_in_the_title() -> None:
    truths, found = [(0, HERE)], [(0, 0.25, (0, 0, 100, 60))]
    assert matrix(truths, found) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert matrix(truths, found, confusion_score=0.3) == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert matrix(truths, found, confusion_iou=0.7) == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    titles = [one.title for one in metrics([], NAMES, confusion_score=0.3, confusion_iou=0.7).tables]
    assert "Confusion at score 0.3 and overlap 0.7 (rows: truth, columns: prediction)" in titles


def test_the_right_class_goes_before_the_larger_overlap() -> None:
    found = [(1, 0.9, HERE), (0, 0.5, (0, 0, 100, 80))]
    assert matrix([(0, HERE)], found) == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert matrix([(0, HERE)], found[:1]) == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_a_second_box_on_an_object_is_made_up() -> None:
    assert matrix([(0, HERE)], [(0, 0.9, HERE), (0, 0.9, HERE)]) == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_ignored_objects_and_crowds_swallow_what_lies_on_them() -> None:
    aside = np.array([True])
    assert matrix([(0, HERE)], [(0, 0.9, HERE), (1, 0.9, HERE)], truth={"ignore": aside}) == [[0] * 3] * 3
    small = [(0, 0.9, (10, 10, 20, 20)), (0, 0.9, (30, 30, 40, 40))]
    assert matrix([(0, HERE)], small, truth={"crowd": aside}) == [[0] * 3] * 3
    assert matrix([(0, HERE)], small, truth={"ignore": aside}) == [[0] * 3, [0] * 3, [2, 0, 0]]


def test_a_box_on_an_object_and_in_a_crowd_finds_the_object() -> None:
    truths = [(0, (0, 0, 400, 400)), (0, HERE)]
    crowd = np.array([True, False])
    assert matrix(truths, [(0, 0.9, HERE)], truth={"crowd": crowd}) == [[1, 0, 0], [0] * 3, [0] * 3]


# ---------------------------------------------------------------- pairs

GROUPS = st.lists(st.integers(0, 5), max_size=12).map(lambda rows: np.array(rows, np.int64))


@given(GROUPS, GROUPS, st.integers(1, 9))
def test_pairs_are_those_of_two_loops(left: Any, right: Any, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("awml_deploy_core.tasks.detection2d.matching.CHUNK", chunk)
        found = [pair for portion in pairs(left, right) for pair in zip(*map(np.ndarray.tolist, portion), strict=True)]
    assert found == [(i, j) for i in range(len(left)) for j in range(len(right)) if left[i] == right[j]]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True), st.randoms())
def test_one_to_one_is_a_loop_from_the_best_downward(links: list[tuple[int, int]], shuffler: Any) -> None:
    order = list(range(len(links)))
    shuffler.shuffle(order)
    taken: tuple[set[int], set[int]] = set(), set()
    expected = []
    for pair in order:
        left, right = links[pair]
        if left not in taken[0] and right not in taken[1]:
            expected.append(pair)
            taken[0].add(left)
            taken[1].add(right)
    lefts, rights = (np.array([link[side] for link in links], np.int64) for side in (0, 1))
    assert one_to_one(lefts, rights, np.array(order, np.int64)).tolist() == sorted(expected)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_each_box_counts_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.random((12, 2)) * 40
    boxes = np.concatenate([corner, corner + 20 + rng.random((12, 2)) * 20], 1)
    labels = rng.integers(0, 2, 12)
    truths = [(int(label), box) for label, box in zip(labels[:5], boxes[:5], strict=True)]
    found = [(int(label), 0.5, box) for label, box in zip(labels[5:], boxes[5:], strict=True)]
    counts = np.array(matrix(truths, found))
    assert counts[:2].sum(axis=1).tolist() == np.bincount(labels[:5], minlength=2).tolist()
    assert counts[:, :2].sum(axis=0).tolist() == np.bincount(labels[5:], minlength=2).tolist()


def test_pairs_of_nothing_are_none() -> None:
    none = np.zeros((0, 4)), np.zeros((3, 4)), (np.zeros(0, np.int64), np.zeros(3, np.int64))
    assert [len(part) for part in pairs_above(*none, 0.5)] == [0, 0, 0]
