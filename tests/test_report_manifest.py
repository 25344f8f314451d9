"""The chain of hashes, and which links of it are proved."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.judge import Check, Verification, judge
from awml_deploy_core.records import Artifact, Comparison, Skip, Stats, Variant
from awml_deploy_core.report import ExportNote, Report, contract, document, manifest, proof
from awml_deploy_core.report.provenance import git_state

Ending = Literal["passed", "failed", "skipped", "unverified"]


def check(reference: str, candidate: str, ending: Ending, *, required: bool = False) -> Check:
    stats = Stats(count=1, max_abs=0.25, mean_abs=0.2, max_rel=0.1, mean_rel=0.1, cosine=None, snr_db=None)
    comparison = Comparison(
        reference=reference,
        candidate=candidate,
        scope="component",
        sample="s",
        component="head",
        output="boxes",
        shape=(1,),
        dtypes=("float32", "float32"),
        stats=stats,
    )
    verdicts = {"passed": (judge(comparison, 0.5),), "failed": (judge(comparison, 0.125),)}.get(ending, ())
    skipped = Skip(reason="no device") if ending == "skipped" else None
    made = Check(reference=reference, candidate=candidate, required=required, verdicts=verdicts, skipped=skipped)
    assert made.status == ending
    return made


@pytest.mark.parametrize(
    ("checks", "proved"),
    [
        ([], set()),
        ([("trained", "onnx", "passed")], {"onnx"}),
        ([("trained", "exported", "passed"), ("exported", "onnx", "passed")], {"exported", "onnx"}),
        ([("exported", "onnx", "passed")], set()),
        ([("trained", "onnx", "failed")], set()),
        ([("trained", "onnx", "unverified")], set()),
        ([("trained", "onnx", "skipped")], set()),
        ([("trained", "onnx", "passed"), ("exported", "onnx", "failed")], set()),
        ([("trained", "onnx", "passed"), ("exported", "onnx", "unverified")], set()),
        ([("trained", "onnx", "passed"), ("onnx", "onnx", "skipped")], {"onnx"}),
        ([("trained", "exported", "failed"), ("exported", "onnx", "passed")], set()),
        ([("onnx", "engine", "passed"), ("engine", "onnx", "passed")], set()),
    ],
)
def test_a_variant_is_verified_if_passed_checks_lead_to_it_from_the_trained_network(
    checks: list[tuple[str, str, Ending]], proved: set[str]
) -> None:
    made = tuple(check(*one) for one in checks)
    assert proof.verified(Verification(checks=made)) == proved | {"trained"}


def test_what_is_required_and_was_skipped_is_lacking() -> None:
    passed, skipped = check("trained", "onnx", "passed"), check("exported", "onnx", "skipped", required=True)
    assert "onnx" not in proof.verified(Verification(checks=(passed, skipped)))
    optional = check("exported", "onnx", "skipped")
    assert "onnx" not in proof.verified(Verification(checks=(passed, optional), required=True))


names = st.sampled_from(["trained", "exported", "onnx", "engine"])
endings: st.SearchStrategy[Ending] = st.sampled_from(["passed", "failed", "skipped", "unverified"])


@given(st.lists(st.tuples(names, names, endings), max_size=8), st.randoms())
def test_the_order_of_checks_changes_nothing_and_no_failure_is_verified(
    checks: list[tuple[str, str, Ending]], random: Any
) -> None:
    proved = proof.verified(Verification(checks=tuple(check(*one) for one in checks)))
    assert not {candidate for _, candidate, ending in checks if ending == "failed"} & (proved - {"trained"})
    random.shuffle(checks)
    assert proof.verified(Verification(checks=tuple(check(*one) for one in checks))) == proved


def run(tmp_path: Path, *checks: Check, **more: Any) -> Report:
    """A run that exported an ONNX file and built an engine from it."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"weights")
    source = hashlib.sha256(b"weights").hexdigest()
    onnx = Artifact(component="head", format="onnx", path=Path("head.onnx"), sha256="aa", size=9, made_from=source)
    engine = Artifact(component="head", format="engine", path=Path("head.engine"), sha256="bb", size=8, made_from="aa")
    said: dict[str, Any] = {
        "model": "toy",
        "plugin": "awml-toy 1",
        "status": "passed",
        "started": "now",
        "work_dir": tmp_path,
        "variants": (
            Variant(name="trained", backend="pytorch"),
            Variant(name="onnx", backend="onnx", artifacts=(onnx,)),
            Variant(name="engine", backend="tensorrt", device="cuda:0", artifacts=(engine,)),
        ),
        "exports": (ExportNote(component="head", exporter="dynamo", opset=17, ir_version=8, seconds=1),),
        "artifacts": (onnx, engine),
        "verification": Verification(checks=checks, samples=("s",)),
        "config": {"checkpoint_path": str(weights)},
    }
    return Report(**{**said, **more})


def fits(made: manifest.Manifest) -> dict[str, Any]:
    read = document.document("manifest", manifest.MANIFEST_VERSION, made)
    jsonschema.validate(read, contract.shipped("manifest"), jsonschema.Draft202012Validator)
    return read


def test_the_chain_leads_from_the_checkpoint_to_the_engine(tmp_path: Path) -> None:
    read = fits(manifest.describe(run(tmp_path)))
    onnx, engine = read["artifacts"]
    assert read["checkpoint"]["sha256"] == onnx["made_from"]
    assert read["checkpoint"]["size"] == 7
    assert (onnx["parent"], engine["parent"]) == (read["checkpoint"]["path"], "head.onnx")
    assert (onnx["opset"], onnx["ir_version"], engine["opset"]) == (17, 8, None)


def test_a_file_of_unknown_origin_has_no_parent(tmp_path: Path) -> None:
    report = run(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"others")
    read = fits(manifest.describe(report))
    assert read["artifacts"][0]["parent"] is None
    (tmp_path / "weights.pth").unlink()
    assert fits(manifest.describe(report))["checkpoint"] is None


def test_every_file_says_whether_it_is_verified_and_by_what(tmp_path: Path) -> None:
    made = manifest.describe(run(tmp_path, check("trained", "onnx", "passed"), check("onnx", "engine", "failed")))
    read = fits(made)
    assert [entry["verified"] for entry in read["artifacts"]] == [True, False]
    assert read["verified"] is False
    assert read["artifacts"][1]["proofs"] == [
        {
            "reference": "onnx",
            "candidate": "engine",
            "devices": ["cpu", "cpu"],
            "status": "failed",
            "output": "head.boxes",
            "error": 0.25,
            "tolerance": 0.125,
        }
    ]
    assert read["verification"]["status"] == "failed"


def test_nothing_is_verified_where_nothing_was_compared_or_made(tmp_path: Path) -> None:
    read = fits(manifest.describe(run(tmp_path)))
    assert [entry["verified"] for entry in read["artifacts"]] == [False, False]
    assert fits(manifest.describe(run(tmp_path, artifacts=(), variants=())))["verified"] is False


def test_the_state_of_the_repository_is_kept(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert fits(manifest.describe(run(tmp_path), None))["git"] is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = fits(manifest.describe(run(tmp_path), git_state(tmp_path)))["git"]
    (tmp_path / "other.txt").write_bytes(b"new")
    dirty = fits(manifest.describe(run(tmp_path), git_state(tmp_path)))["git"]
    assert clean["commit"] == dirty["commit"]
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], dirty["dirty"]) == (False, True)
