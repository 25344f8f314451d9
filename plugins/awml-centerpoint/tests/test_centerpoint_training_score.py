"""The quick look during training says what the report will say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attrs import evolve

from awml_centerpoint.example.bodies import CLASSES
from awml_centerpoint.example.frames import Drawn, draw
from awml_centerpoint.example.score import THRESHOLDS, Found, detect, table
from awml_centerpoint.example.targets import assign
from awml_centerpoint.example.train import GEOMETRY
from awml_deploy_core.records import Record
from awml_deploy_core.tasks.detection3d import metrics


@pytest.fixture(scope="module")
def drawn() -> list[Drawn]:
    return [draw(seed) for seed in (0, 1, 2)]


def guesses(drawn: list[Drawn], seed: int) -> list[Found]:
    """Truth with errors, some of it missing, and things that are not there."""
    rng = np.random.default_rng(seed)
    found = []
    for frame in drawn:
        kept = rng.random(len(frame.labels)) < 0.8
        centres = np.concatenate(
            [frame.boxes[kept, :2] + rng.normal(0, 0.7, (kept.sum(), 2)), rng.uniform(-60, 60, (30, 2))]
        )
        labels = np.concatenate([frame.labels[kept], rng.integers(0, len(CLASSES), 30)])
        order = np.argsort(-(scores := rng.random(len(labels))), kind="stable")
        found.append(Found(centres=centres[order], scores=scores[order], labels=labels[order]))
    return found


def record(index: int, answer_: Found, frame: Drawn) -> Record:
    shape = np.tile([0.0, 1, 1, 1, 0], (len(answer_.scores), 1))
    prediction = {
        "boxes": np.column_stack([answer_.centres, shape]),
        "scores": answer_.scores,
        "labels": answer_.labels,
    }
    truth = {"boxes": frame.boxes, "labels": frame.labels, "points": frame.counts}
    return Record(id=str(index), index=index, prediction=prediction, ground_truth=truth)


@pytest.mark.parametrize("least", [1, 5])
def test_the_quick_score_is_that_of_the_report(drawn: list[Drawn], least: int) -> None:
    found = guesses(drawn, least)
    mine = table(found, drawn, len(CLASSES), 51.2, least)
    records = [record(index, *pair) for index, pair in enumerate(zip(found, drawn, strict=True))]
    theirs = metrics(records, CLASSES, ranges=((0, 51.2),), min_points=least)
    assert 0.1 < mine.mean() < 0.9
    assert mine.shape == (len(CLASSES), len(THRESHOLDS))
    for label, name in enumerate(CLASSES):
        assert mine[label].mean() == pytest.approx(theirs.values[f"AP/{name}"], abs=1e-9)


def test_targets_taken_for_an_answer_score_in_full(drawn: list[Drawn]) -> None:
    """A network that says just what it should is found to be right, and every centre is where it was."""
    near = [evolve(frame, counts=np.full(len(frame.labels), 9)) for frame in drawn]
    found = []
    for frame in near:
        made = assign(frame.boxes, frame.velocities, frame.labels, GEOMETRY, len(CLASSES))
        maps = {"heatmap": torch.logit(torch.from_numpy(made.heatmap).clamp(1e-6, 1 - 1e-6))[None]}
        reg = torch.zeros(1, 2, made.heatmap[0].size)
        reg[0, :, made.cells] = torch.from_numpy(made.values[:, :2]).T
        maps["heatmap"] = torch.where(maps["heatmap"] > 13, maps["heatmap"], -9.0)
        found += detect({**maps, "reg": reg.view(1, 2, *made.heatmap.shape[1:])}, GEOMETRY)
    scored = table(found, near, len(CLASSES), 51.2, 1)
    assert scored.min() > 0.9  # two who stand closer than a metre are taken for one
