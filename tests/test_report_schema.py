"""The JSON schemas in the wheel are those of the classes, and the documents keep them.

`AWML_UPDATE_GOLDEN=1 pytest tests/test_report_schema.py` writes the schemas anew. A property that disappears or gets
another meaning needs a new `schema_version`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import numpy as np
import pytest

from awml_deploy_core.judge import Check, Verification
from awml_deploy_core.records import Comparison, Evaluation, Metrics, Stats, Verdict
from awml_deploy_core.report import Report, contract, document

FOLDER = Path(contract.__file__).parent / "schema"


def report(**more: Any) -> Report:
    said: dict[str, Any] = {"model": "toy", "plugin": "awml-toy 1", "status": "passed", "started": "now"}
    return Report(**{**said, "work_dir": Path("out"), **more})


def fits(done: Report) -> dict[str, Any]:
    """The document as a reader gets it, once it is known to fit."""
    read = json.loads(json.dumps(document.report(done), allow_nan=False))
    jsonschema.validate(read, contract.shipped("report"), jsonschema.Draft202012Validator)
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize("name", ["manifest", "report"])
def test_the_shipped_schema_is_that_of_the_classes(name: Literal["manifest", "report"]) -> None:
    made = contract.make(name)
    if os.environ.get("AWML_UPDATE_GOLDEN"):
        (FOLDER / f"{name}.schema.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(made)
    assert contract.shipped(name) == made


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield node
        for child in node.values():
            yield from objects(child)
    elif isinstance(node, list):
        for child in node:
            yield from objects(child)


@pytest.mark.parametrize("name", ["manifest", "report"])
def test_every_object_has_all_its_properties_and_no_others(name: Literal["manifest", "report"]) -> None:
    for node in objects(contract.shipped(name)):
        assert set(node["required"]) == set(node["properties"])
        assert node["additionalProperties"] is False


def test_a_property_that_is_missing_or_unknown_does_not_fit() -> None:
    good = fits(report())
    schema = contract.shipped("report")
    for wrong in ({**good, "more": 1}, {k: v for k, v in good.items() if k != "stages"}, {**good, "status": "fine"}):
        assert not jsonschema.Draft202012Validator(schema).is_valid(wrong)


def test_a_figure_that_is_no_finite_number_is_null_and_its_place_is_noted() -> None:
    stats = Stats(count=1, max_abs=float("inf"), mean_abs=0.0, max_rel=0.0, mean_rel=0.0, cosine=None, snr_db=None)
    comparison = Comparison(
        reference="a",
        candidate="b",
        scope="component",
        sample="s",
        component="c",
        output="o",
        shape=(1,),
        dtypes=("float32", "float32"),
        stats=stats,
    )
    verdict = Verdict(comparison=comparison, tolerance=1.0, passed=False, would_pass=None)
    metrics = Metrics(primary="car AP", values={"car AP": float("nan"), "speed": float("-inf"), "none": None})
    read = fits(
        report(
            verification=Verification(checks=(Check(reference="a", candidate="b", verdicts=(verdict,)),)),
            evaluations=(Evaluation(variant="b", records=1, metrics=metrics),),
        )
    )
    assert read["evaluations"][0]["metrics"]["values"] == {"car AP": None, "speed": None, "none": None}
    assert read["not_finite"] == {
        "$.verification.checks[0].verdicts[0].comparison.stats.max_abs": "inf",
        "$.evaluations[0].metrics.values['car AP']": "nan",
        "$.evaluations[0].metrics.values.speed": "-inf",
    }


def test_what_the_checks_come_to_is_written() -> None:
    read = fits(report(verification=Verification(checks=(Check(reference="a", candidate="b"),))))
    assert read["verification"]["status"] == "unverified"
    assert read["verification"]["counts"] == {"passed": 0, "failed": 0, "skipped": 0, "unverified": 1}
    assert read["verification"]["checks"][0]["status"] == "unverified"


def test_a_config_with_odd_values_does_not_lose_the_report() -> None:
    class Mode(str, Enum):
        ONNX = "onnx"

    odd = {
        Mode.ONNX: Mode.ONNX,
        3: np.float32(0.5),
        "path": Path("a/b"),
        "set": {1},
        "array": np.zeros(2),
        "nan": np.float64("nan"),
    }
    read = fits(report(config={"extensions": odd}))
    assert read["config"]["extensions"] == {
        "onnx": "onnx",
        "3": 0.5,
        "path": "a/b",
        "set": "{1}",
        "array": "array([0., 0.])",
        "nan": None,
    }
    assert read["not_finite"] == {"$.config.extensions.nan": "nan"}


def test_a_document_says_what_it_is() -> None:
    read = fits(report())
    assert (read["schema"], read["schema_version"]) == ("awml-deploy/report", 1)
    assert read["work_dir"] == "out"
