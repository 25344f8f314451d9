"""Pictures of a few samples: which are taken, what the plugin is given, and that no run fails for want of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core import deploy
from awml_deploy_core.report import Report
from awml_deploy_core.stages.pictures import chosen

DRAW = """
from awml_deploy_core.records import Picture
from awml_deploy_core.tasks.draw import encode_png

@hookimpl
def draw_sample(frame, predictions, config):
    said = {name: int(found["label"]) for name, found in predictions.items()}
    if BREAK == "no picture":
        raise ValueError("the ink is dry")
    if BREAK == "no answer":
        return "a picture"
    pixels = np.full((2, 2), 10 * frame.ground_truth["label"], np.uint8)
    return Picture(png=encode_png(pixels), caption=f"truth {frame.ground_truth['label']}, found {said}")
"""
REDUCE = """
class Small(Pipeline):
    def reduce(self, prediction, ground_truth):
        return {"right": prediction["label"] == ground_truth["label"]}

@hookimpl
def build_pipeline(device, config):
    return Small()

@hookimpl
def compute_metrics(records, config):
    from awml_deploy_core.records import Metrics
    return Metrics(primary="right", values={"right": sum(r.prediction["right"] for r in records) / len(records)})
"""


@pytest.fixture
def drawn(toy_files: Callable[..., tuple[Path, str]]) -> Callable[..., Report]:
    def run(broken: str = "", more: str = "", **evaluation: Any) -> Report:
        settings = {"enabled": True, "num_samples": -1, **evaluation}
        path, name = toy_files({"evaluation": settings}, broken=broken, more=DRAW + more)
        return deploy(path, model=name)

    return run


def test_some_samples_are_drawn_with_what_every_variant_said(drawn: Callable[..., Report], tmp_path: Path) -> None:
    report = drawn()
    assert [one.sample for one in report.pictures] == ["s0", "s4", "s7", "s11"]
    assert [one.path.read_bytes()[:4] for one in report.pictures] == [b"\x89PNG"] * 4
    assert report.pictures[0].path == tmp_path / "work/pictures/000000-s0.png"
    assert report.pictures[0].caption.startswith("truth 0, found {'trained': ")
    assert "'onnx': " in report.pictures[0].caption
    text = (tmp_path / "work/report.md").read_text()
    assert "![s0](<pictures/000000-s0.png>)" in text
    written = json.loads((tmp_path / "work/report.json").read_text())
    assert [one["sample"] for one in written["pictures"]] == ["s0", "s4", "s7", "s11"]


def test_workers_keep_the_same_predictions(drawn: Callable[..., Report]) -> None:
    alone, together = drawn(), drawn(workers=2)
    assert together.pictures == alone.pictures
    assert len(alone.pictures) == 4


def test_a_pipeline_that_reduces_still_shows_whole_predictions(drawn: Callable[..., Report]) -> None:
    report = drawn(more=REDUCE)
    assert "found {'trained': " in report.pictures[0].caption
    assert report.notes == ()


def test_no_picture_is_drawn_where_none_is_wanted(drawn: Callable[..., Report], tmp_path: Path) -> None:
    drawn()
    assert drawn(num_pictures=0).pictures == ()
    assert list((tmp_path / "work/pictures").iterdir()) == [], "those of the earlier run have gone"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [("no picture", "failed"), ("no answer", "TypeError: draw_sample answered str instead of a Picture")],
)
def test_a_picture_that_cannot_be_drawn_is_noted(drawn: Callable[..., Report], broken: str, reason: str) -> None:
    report = drawn(broken, num_pictures=1)
    assert report.exit_code == 0
    assert report.pictures == ()
    (note,) = report.notes
    assert note.startswith("There is no picture of s0: ")
    assert reason in note


def test_a_plugin_that_draws_nothing_needs_no_pictures(toy_files: Callable[..., tuple[Path, str]]) -> None:
    path, name = toy_files({"evaluation": {"enabled": True}})
    assert deploy(path, model=name).pictures == ()


@given(count=st.integers(0, 300), wanted=st.integers(0, 20))
def test_the_chosen_are_spread_from_the_first_to_the_last(count: int, wanted: int) -> None:
    indices = chosen(count, wanted)
    assert len(indices) == min(count, wanted)
    assert list(indices) == sorted(set(indices))
    assert all(0 <= index < count for index in indices)
    if len(indices) > 1:
        assert (indices[0], indices[-1]) == (0, count - 1)
