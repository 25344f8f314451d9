from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn import metrics as sklearn_metrics  # type: ignore[import-untyped]

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Record
from awml_deploy_core.tasks import AVAILABLE, PLANNED, classification, task
from awml_deploy_core.tasks.classification import agree, metrics, picture
from awml_deploy_core.tasks.draw import encode_png, fit

NAMES = ("miscalibrated", "calibrated", "unknown", "never")


def record(index: int, truth: int | None, label: int) -> Record:
    prediction = {"label": label, "scores": np.eye(len(NAMES))[label % len(NAMES)]}
    return Record(
        id=f"s{index}", index=index, prediction=prediction, ground_truth=None if truth is None else {"label": truth}
    )


def records_of(pairs: Sequence[tuple[int | None, int]]) -> list[Record]:
    return [record(index, truth, label) for index, (truth, label) in enumerate(pairs)]


LABELS = st.integers(0, len(NAMES) - 2)  # the last class never occurs and is never predicted
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=60)


@given(PAIRS)
def test_figures_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truths, labels = zip(*pairs, strict=True)
    classes = range(len(NAMES))
    found = metrics(records_of(pairs), NAMES)
    expected = {"accuracy": sklearn_metrics.accuracy_score(truths, labels)}
    for average in ("macro", None):
        parts = sklearn_metrics.precision_recall_fscore_support(
            truths, labels, labels=classes, average=average, zero_division=0
        )
        for figure, values in zip(("precision", "recall", "f1"), parts, strict=False):
            if average:
                expected[f"macro_{figure}"] = values
            else:
                expected |= {f"{figure}/{name}": value for name, value in zip(NAMES, values, strict=True)}
    assert found.values.keys() == expected.keys()
    for name, value in found.values.items():
        assert value is not None
        assert math.isclose(value, expected[name], abs_tol=1e-12), name
    assert (found.primary, found.higher_is_better) == ("accuracy", True)


@given(PAIRS)
def test_the_confusion_matrix_has_truths_as_rows(pairs: list[tuple[int, int]]) -> None:
    truths, labels = zip(*pairs, strict=True)
    expected = sklearn_metrics.confusion_matrix(truths, labels, labels=range(len(NAMES)))
    per_class, confusion, samples = metrics(records_of(pairs), NAMES).tables
    assert confusion.columns == ("truth", *NAMES)
    assert confusion.rows == tuple((name, *map(int, row)) for name, row in zip(NAMES, expected, strict=True))
    assert [row[-1] for row in per_class.rows] == list(expected.sum(axis=1))
    assert samples.rows == ((len(pairs), 0),)


def test_figures_of_a_small_case_by_hand() -> None:
    # Truths 0 0 0 1, labels 0 0 1 1: the Jaccard form TP / (pred + truth - TP) would call this 3 / 5.
    found = metrics(records_of([(0, 0), (0, 0), (0, 1), (1, 1)]), ("a", "b"))
    assert found.values["accuracy"] == 0.75
    assert (found.values["precision/a"], found.values["recall/a"]) == (1, 2 / 3)
    assert (found.values["precision/b"], found.values["recall/b"]) == (0.5, 1)
    assert found.values["f1/a"] == pytest.approx(0.8)
    assert found.values["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)


@pytest.mark.parametrize("pairs", [[], [(None, 1), (None, 0)]])
def test_without_a_truth_no_figure_is_defined(pairs: list[tuple[int | None, int]]) -> None:
    found = metrics(records_of(pairs), NAMES)
    assert set(found.values.values()) == {None}
    assert {"accuracy", "macro_recall", "f1/calibrated"} <= found.values.keys()
    assert found.tables[-1].rows == ((0, len(pairs)),)


def test_records_without_a_truth_are_counted_and_left_out() -> None:
    found = metrics(records_of([(0, 0), (None, 1), (1, 0)]), NAMES)
    assert found.values["accuracy"] == 0.5
    assert found.tables[-1].rows == ((2, 1),)


def test_metrics_do_not_depend_on_the_order() -> None:
    some = records_of([(0, 0), (1, 0), (2, 1), (0, 2), (1, 1)])
    assert metrics(some, NAMES) == metrics(some[::-1], NAMES)


@pytest.mark.parametrize(("truth", "label", "fact"), [(4, 0, "truth is 4"), (0, -1, "predicted label is -1")])
def test_a_label_without_a_name_is_refused(truth: int, label: int, fact: str) -> None:
    with pytest.raises(LoadError, match=f"'s0': its {fact}, and there are 4 class names"):
        metrics([record(0, truth, label)], NAMES)


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="class_names must differ, got a, b, a"):
        metrics([], ("a", "b", "a"))


def prediction(label: int, *scores: float) -> dict[str, Any]:
    return {"label": label, "scores": np.array(scores, np.float32)}


def test_agreement_is_by_label_with_the_distance_of_scores() -> None:
    same = agree(prediction(1, 0.25, 0.75), prediction(1, 0.375, 0.625))
    assert (same.matched, same.unmatched, same.score, same.distances) == (1, 0, 1, {"scores": 0.125})
    other = agree(prediction(1, 0.25, 0.75), prediction(0, 0.75, 0.25))
    assert (other.matched, other.unmatched, other.score, other.distances) == (0, 1, 0, {"scores": 0.5})


def test_scores_that_cannot_be_compared_are_far_apart() -> None:
    assert agree(prediction(0, 1.0), prediction(0, 1.0, 0.0)).distances == {"scores": math.inf}
    assert math.isnan(agree(prediction(0, 1.0, 0.0), prediction(0, math.nan, 0.0)).distances["scores"])


def pixels_of(png: bytes) -> np.ndarray[Any, Any]:
    with Image.open(BytesIO(png)) as image:
        image.verify()
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image)


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])).flatmap(
            lambda shape: st.sampled_from([shape, shape[:2]])
        ),
    )
)
def test_pillow_reads_back_what_was_encoded(pixels: np.ndarray[Any, Any]) -> None:
    expected = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    np.testing.assert_array_equal(pixels_of(encode_png(pixels)), expected)
    assert encode_png(pixels) == encode_png(pixels.copy())


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 2), np.float32), np.zeros((0, 3), np.uint8), np.zeros((2, 2, 2), np.uint8)]
)
def test_what_is_no_image_is_not_encoded(pixels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match="a PNG"):
        encode_png(pixels)


def test_images_are_thinned_out_and_stretched() -> None:
    assert fit(np.zeros((1860, 2880), np.uint8)).shape == (620, 960, 3)
    ramp = np.array([[-1.0, 0.0], [np.nan, 1.0]])
    assert fit(ramp)[..., 0].tolist() == [[0, 127], [0, 255]]
    assert fit(np.full((2, 2), 7, np.uint8)).max() == 7
    assert fit(np.full((2, 2), 0.5)).max() == 0
    with pytest.raises(ValueError, match="a picture needs an image"):
        fit(np.zeros((3, 480, 640)))


def test_a_picture_shows_the_image_and_a_bar_per_variant() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    predictions = {"trained": prediction(1, 0.1, 0.9), "onnx:fp16": prediction(0, 0.5, 0.5)}
    found = picture(image, {"label": 1}, predictions, NAMES)
    assert found.caption == "truth: calibrated; trained: calibrated (0.900); onnx:fp16: miscalibrated (0.500)"
    pixels = pixels_of(found.png)
    assert pixels.shape == (44, 30, 3)
    np.testing.assert_array_equal(pixels[:20], image)
    right, wrong = pixels[25], pixels[37]
    assert (right[0][1] > right[0][0], wrong[0][0] > wrong[0][1]) == (True, True)
    assert [len(np.flatnonzero((row != (40, 40, 40)).any(axis=1))) for row in (right, wrong)] == [27, 15]


def test_a_picture_without_truth_or_with_odd_scores_is_still_drawn() -> None:
    image = np.zeros((4, 10), np.float32)
    found = picture(image, None, {"onnx": prediction(3, math.nan, 0.0), "engine": prediction(0, math.nan)}, ("a", "b"))
    assert found.caption == "truth: unknown; onnx: 3 (nan); engine: a (nan)"
    assert pixels_of(found.png).shape == (28, 10, 3)
    assert picture(image, {"label": 0}, {}, ("a", "b")).caption == "truth: a"


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_task_is_found_by_its_name(name: str) -> None:
    found: Any = task(name)
    assert isinstance(found, ModuleType)
    assert all(callable(getattr(found, part)) for part in ("metrics", "agree", "picture"))
    assert task("classification") is classification


@pytest.mark.parametrize("name", PLANNED)
def test_a_task_to_come_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is not available yet in this version") as caught:
        task(name)
    assert caught.value.hint is not None
    assert "classification" in caught.value.hint


def test_a_misspelt_task_names_the_nearest_and_what_there_is() -> None:
    with pytest.raises(ConfigError, match="'clasification' is unknown") as caught:
        task("clasification")
    assert caught.value.hint is not None
    assert "Did you mean 'classification'?" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        task("pose")
    assert "Available: classification" in (caught.value.hint or "")
