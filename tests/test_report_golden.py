"""What people read, held against committed files: five made-up runs as Markdown and on the terminal.

`AWML_UPDATE_GOLDEN=1 pytest tests/test_report_golden.py` writes the files anew; look at the difference before you
commit it.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import pytest
from rich.console import Console

from awml_deploy_core.judge import Check, Verification, judge
from awml_deploy_core.records import (
    Artifact,
    Comparison,
    Evaluation,
    Failure,
    Finding,
    Metrics,
    Skip,
    Stats,
    Table,
    Timing,
    Variant,
    Verdict,
)
from awml_deploy_core.report import (
    Crossing,
    Delivery,
    ExportNote,
    Report,
    Shown,
    Stage,
    contract,
    markdown,
    terminal,
    writing,
)

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = ("street-000", "street-001", "street-002")


# ---------------------------------------------------------------- made-up runs


def compared(
    pair: tuple[str, str],
    output: str,
    error: float,
    allowed: float,
    *,
    component: str | None = "classifier",
    **more: Any,
) -> list[Verdict]:
    """One verdict per sample; the last one has the error, the others have less."""
    verdicts = []
    for index, sample in enumerate(SAMPLES):
        worst = error * (index + 1) / len(SAMPLES)
        stats = Stats(
            count=2,
            max_abs=worst,
            mean_abs=worst / 3,
            max_rel=worst / 10,
            mean_rel=worst / 20,
            cosine=1 / (1 + worst**2),
            snr_db=112.4 - index,
            quantiles=((0.5, worst / 3), (0.99, worst * 0.98)),
            worst_index=(0, 1),
            scale=8.25,
        )
        comparison = Comparison(
            reference=pair[0],
            candidate=pair[1],
            scope=more.get("scope", "component"),
            sample=sample,
            component=component,
            output=output,
            shape=(1, 2),
            dtypes=("float32", "float32"),
            finding=more.get("finding", "ok"),
            detail=more.get("detail", ""),
            stats=None if "finding" in more else stats,
        )
        verdicts.append(judge(comparison, allowed))
    return verdicts


def check(reference: str, candidate: str, error: float, allowed: float = 4.125e-4) -> Check:
    pair = (reference, candidate)
    verdicts = [
        *compared(pair, "logits", error, allowed),
        *compared(pair, "logits", error * 1.1, allowed, scope="chained"),
        *compared(pair, "prediction", 0.0, 0.02, component=None, scope="prediction", detail="1 matched, 0 not"),
    ]
    return Check(reference=reference, candidate=candidate, verdicts=tuple(verdicts))


def timing(p50: float) -> Timing:
    figures = (p50 * 1.02, p50 * 0.1, p50 * 0.9, p50 * 2.1, p50, p50 * 1.1, p50 * 1.2, p50 * 1.6)
    mean, std, least, most, p50, p90, p95, p99 = figures
    return Timing(count=200, mean=mean, std=std, min=least, max=most, p50=p50, p90=p90, p95=p95, p99=p99)


def evaluation(variant: str, accuracy: float, p50: float, **more: Any) -> Evaluation:
    values = {"accuracy": accuracy, "macro_precision": accuracy - 0.0021, "macro_recall": accuracy, "macro_f1": 0.9641}
    right = round(accuracy * 100)
    return Evaluation(
        variant=variant,
        records=200,
        timings={
            "preprocess": timing(2.4),
            "run": timing(p50 - 2.61),
            "run:classifier": timing(p50 - 2.61),
            "middle": timing(0.0),
            "postprocess": timing(0.21),
            "total": timing(p50),
        },
        protocol={"device": "cpu", "warmup": 3, "batch_size": 1, "torch_threads": 2, "workers": 1},
        metrics=Metrics(
            primary="accuracy",
            values={**values, "f1/miscalibrated": 0.9634, "f1/calibrated": 0.9648},
            tables=(
                Table(
                    title="Per class",
                    columns=("class", "precision", "recall", "f1", "support"),
                    rows=[("miscalibrated", 0.9612, 0.9656, 0.9634, 100), ("calibrated", 0.9670, 0.9626, 0.9648, 100)],
                ),
                Table(
                    title="Confusion (rows: truth, columns: prediction)",
                    columns=("truth", "miscalibrated", "calibrated"),
                    rows=[("miscalibrated", right, 100 - right), ("calibrated", 100 - right, right)],
                ),
            ),
        ),
        **more,
    )


ONNX = Artifact(
    component="classifier",
    format="onnx",
    path=Path("work_dirs/calibration/onnx/end2end.onnx"),
    sha256="7f4c3e" + 29 * "a1",
    size=44_820_113,
    made_from="12ab" + 30 * "cd",
    tool="torch 2.13.0 dynamo",
)
TRAINED = Variant(name="trained", backend="pytorch")
EXPORTED = Variant(name="exported", backend="pytorch", parent="trained")
ON_ONNX = Variant(name="onnx", backend="onnx", artifacts=(ONNX,), parent="exported")
NO_TENSORRT = "not available: this version does not build TensorRT engines yet"


def passed() -> Report:
    return Report(
        model="calibration",
        plugin="awml-calibration 0.1.0",
        status="passed",
        started="2026-03-02T09:15:04+00:00",
        seconds=74.31,
        command=("/usr/bin/awml-deploy", "--model", "calibration", "config.py"),
        work_dir=Path("work_dirs/calibration"),
        stages=(
            Stage(name="load", status="passed", seconds=1.82, detail="200 samples, 1 component; 11,183,042 weights "
                  "from resnet18_5ch.pth"),
            Stage(name="record", status="passed", seconds=0.41, detail=f"3 calls on 3 samples ({', '.join(SAMPLES)})"),
            Stage(name="export", status="passed", seconds=9.03, detail="work_dirs/calibration/onnx/end2end.onnx (44.82 "
                  "MB, opset 17, dynamo)"),
            Stage(name="verify", status="passed", seconds=3.2, detail="3 passed"),
            Stage(name="build", status="skipped", detail=f"not supported: {NO_TENSORRT}",
                  skipped=Skip(reason="not supported", detail=NO_TENSORRT)),
            Stage(name="evaluate", status="passed", seconds=58.9, detail="trained: accuracy 0.9650; onnx: accuracy "
                  "0.9650"),
        ),
        variants=(TRAINED, EXPORTED, ON_ONNX),
        exports=(ExportNote(component="classifier", exporter="dynamo", opset=17, ir_version=8, seconds=8.9),),
        artifacts=(ONNX,),
        verification=Verification(
            checks=(check("trained", "exported", 0.0), check("exported", "onnx", 1.907e-6),
                    check("trained", "onnx", 1.907e-6)),
            samples=SAMPLES,
        ),
        evaluations=(evaluation("trained", 0.965, 41.2), evaluation("onnx", 0.965, 28.73)),
        environment={"awml-deploy-core": "0.1.0", "torch": "2.13.0+cpu", "onnxruntime": "1.31.0", "cores": "8"},
        config={"model": "calibration", "checkpoint_path": "resnet18_5ch.pth", "export": {"mode": "onnx"}},
    )  # fmt: skip


def failed() -> Report:
    """Another network behind the same names: the export is wrong, and the evaluation shows it too."""
    pair = ("trained", "exported")
    wrong = Check(
        reference="trained",
        candidate="exported",
        verdicts=(
            *compared(pair, "logits", 3.40281, 4.125e-4),
            *compared(pair, "features", 0.0, 0.0, finding="shape", detail="(1, 512) against (1, 512, 1, 1)"),
            *compared(pair, "logits", 3.4, 4.125e-4, scope="chained"),
            *compared(pair, "prediction", 1.0, 0.02, component=None, scope="prediction", detail="0 matched, 1 not"),
        ),
    )
    base = passed()
    return attrs.evolve(
        base,
        status="failed",
        exit_code=6,
        stages=(
            *base.stages[:3],
            attrs.evolve(
                base.stages[3],
                status="failed",
                exit_code=6,
                detail="2 failed, 1 passed; trained -> exported: classifier.features: shape on street-000",
            ),
            *base.stages[4:],
        ),
        verification=Verification(
            checks=(wrong, check("exported", "onnx", 1.907e-6), attrs.evolve(wrong, candidate="onnx")), samples=SAMPLES
        ),
        evaluations=(base.evaluations[0], evaluation("onnx", 0.51, 28.73)),
    )


def unverified() -> Report:
    """Verification is switched off."""
    base = passed()
    off = Stage(name="verify", status="skipped", detail="disabled", skipped=Skip(reason="disabled"))
    return attrs.evolve(
        base,
        status="unverified",
        stages=(*base.stages[:3], off, *base.stages[4:]),
        verification=Verification(),
        evaluations=(),
    )


def troubled() -> Report:
    """Two components on a GPU; samples that fail, a variant that is skipped, gates that are crossed, odd names."""
    parts = tuple(
        attrs.evolve(
            ONNX, component=name, path=Path(f"work dirs/centerpoint/onnx/{name}.onnx"), sha256=name * 4, size=size
        )
        for name, size in (("pts_voxel_encoder", 1_834), ("pts_backbone_neck_head", 23_400_772))
    )
    trained, onnx = attrs.evolve(TRAINED, device="cuda:0"), attrs.evolve(ON_ONNX, artifacts=parts)
    reason = "ONNX Runtime has no CUDAExecutionProvider | CPUExecutionProvider is there"
    verdicts = compared(("trained", "onnx"), "heatmap", 0.0, 5e-4, component="pts_backbone_neck_head")
    empty = attrs.evolve(
        verdicts[0],
        comparison=attrs.evolve(
            verdicts[0].comparison,
            component="pts_voxel_encoder",
            output="pillar_features",
            stats=Stats(count=0, max_abs=0, mean_abs=0, max_rel=0, mean_rel=0, cosine=None, snr_db=None),
        ),
    )
    lost = tuple(
        Failure(id=f"scene-{index:03}", index=index, step="load", reason=f"lidar/{index}.bin: 17 bytes is no cloud")
        for index in (4, 19, 20, 33, 61, 62)
    )
    figures = Metrics(
        primary="mATE",
        higher_is_better=False,
        values={"mATE": 0.31207, "mAP": 0.5412, "NDS": float("nan"), "mAVE": None},
    )
    base = passed()
    return attrs.evolve(
        base,
        pictures=(
            Shown(
                sample="scene-000",
                path=Path("work dirs/centerpoint/pictures/000000-scene-000.png"),
                caption="4 | 5 boxes",
            ),
            Shown(sample="scene-062", path=Path("work dirs/centerpoint/pictures/000062-scene-062.png")),
        ),
        deliveries=(
            Delivery(
                target="autoware",
                files=(Path("work dirs/centerpoint/handover/autoware/deploy_metadata.yaml"),),
                findings=(
                    Finding(
                        level="note", subject="class_names", fact="are written in capitals", rule="CAR, TRUCK, ..."
                    ),
                    Finding(
                        level="error",
                        subject="pts_backbone_neck_head.onnx",
                        fact="gives 5 outputs",
                        rule="the node binds six by position: heatmap, reg, height, dim, rot, vel",
                    ),
                ),
            ),
        ),
        model="centerpoint",
        plugin="awml-centerpoint 0.1.0",
        status="failed",
        exit_code=7,
        seconds=4021.0,
        command=("/opt/awml/run.py",),
        work_dir=Path("work dirs/centerpoint"),
        stages=(
            *base.stages[:3],
            Stage(name="verify", status="unverified", seconds=61.0, detail="1 skipped, 1 unverified"),
            attrs.evolve(base.stages[5], status="failed", seconds=3_901.2, exit_code=7, detail="onnx: mATE is 0.4012"),
        ),
        variants=(trained, onnx),
        exports=(
            ExportNote(
                component="pts_voxel_encoder",
                exporter="torchscript",
                opset=17,
                ir_version=8,
                seconds=8.9,
                notes=("dynamo does not export it: torch.nonzero has no static size; TorchScript was taken",),
            ),
        ),
        artifacts=parts,
        verification=Verification(
            checks=(
                Check(reference="trained", candidate="onnx", devices=("cuda:0", "cpu"), verdicts=(*verdicts, empty)),
                Check(
                    reference="onnx",
                    candidate="onnx",
                    devices=("cpu", "cuda:0"),
                    skipped=Skip(reason="no device", detail=reason),
                ),
            ),
            samples=SAMPLES,
        ),
        evaluations=(
            Evaluation(
                variant="trained",
                records=1_994,
                failures=lost,
                notes={"capped boxes": 17.0},
                timings={"total": timing(8.413)},
                protocol={"device": "cuda:0", "warmup": 3, "batch_size": 4, "workers": 1},
                metrics=figures,
            ),
            Evaluation(
                variant="onnx",
                records=2_000,
                timings={"total": timing(6_512.0)},
                protocol={"device": "cpu", "warmup": 3, "batch_size": 1, "workers": 1},
                metrics=attrs.evolve(figures, values={**figures.values, "mATE": 0.4012}),
            ),
            Evaluation(variant="engine", records=0, skipped=Skip(reason="not supported", detail=NO_TENSORRT)),
        ),
        crossings=(
            Crossing(
                variant="onnx", metric="mATE", value=0.4012, limit="worse than trained (0.31207) by more than 0.01"
            ),
        ),
        unequal=(("onnx", ("scene-000", "scene-001")),),
        notes=("`export.device` was ignored: *nothing* in <this> run uses it.",),
    )


def empty() -> Report:
    return Report(
        model="yolox",
        plugin="awml-yolox 0.1.0",
        status="failed",
        exit_code=4,
        started="2026-03-02T09:15:04+00:00",
        seconds=0.04,
        work_dir=Path("work_dirs/yolox"),
        stages=(
            Stage(
                name="load",
                status="failed",
                exit_code=4,
                detail="last.pth: no such checkpoint (Did you mean latest.pth?)",
            ),
        ),
    )


RUNS = {run.__name__: run for run in (passed, failed, unverified, troubled, empty)}


# ---------------------------------------------------------------- held against the committed files


def hold(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("AWML_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def printed(report: Report, width: int, *, colours: bool = False) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(
        file=file, width=width, force_terminal=colours, color_system="truecolor" if colours else None, _environ={}
    )
    terminal.show(report, console)
    file.flush()
    file.seek(0)
    return file.read()


@pytest.mark.parametrize("name", RUNS)
def test_the_markdown_of_a_run(name: str) -> None:
    hold(f"report_{name}.md", markdown.render(RUNS[name]()))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", RUNS)
def test_the_terminal_at_the_end_of_a_run(
    name: str, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = RUNS[name]()
    writing.write(report)
    text = printed(report, width)
    assert text.isascii()
    hold(f"terminal_{name}_{width}.txt", text)


@pytest.mark.parametrize("name", RUNS)
def test_what_is_written_fits_the_shipped_schemas(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = writing.write(RUNS[name]())
    assert [path.name for path in paths] == ["report.json", "report.md", "manifest.json"]
    for kind, path in (("report", paths[0]), ("manifest", paths[2])):
        schema = contract.shipped(kind)  # type: ignore[arg-type]  # one of the two
        jsonschema.validate(json.loads(path.read_text()), schema, jsonschema.Draft202012Validator)
