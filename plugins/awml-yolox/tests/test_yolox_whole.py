"""The whole way from files to figures, held against OpenCV, ONNX Runtime and pycocotools alone."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file

from awml_deploy_core import deploy
from awml_deploy_core.errors import ExitCode
from awml_deploy_core.records import Evaluation
from awml_deploy_core.report import Report
from awml_yolox.hooks import CLASS_NAMES, write_example

pytestmark = pytest.mark.slow

MANY = 6
MODEL_CONFIG = """
act = dict(type="ReLU6")
model = dict(
    type="YOLOX",
    data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
    backbone=dict(type="ELANDarknet", deepen_factor=2, widen_factor=0.1875, out_indices=(2, 3, 4), act_cfg=act),
    neck=dict(
        type="YOLOXPAFPN_ELAN", in_channels=[24, 48, 96], out_channels=24, num_elan_blocks=1, act_cfg=act
    ),
    bbox_head=dict(type="YOLOXHead", num_classes=8, in_channels=24, feat_channels=24, act_cfg=act),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(384, 256), keep_ratio=True),
    dict(type="Pad", size=(384, 256), pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "ori_shape", "scale_factor")),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""

# From mmdet's names to those of tier4's fork, whose checkpoints AWML converts.
TIER4 = (
    (r"^backbone\.stem\.conv\.0\.", "backbone.backbone.stem.down1."),
    (r"^backbone\.stem\.conv\.1\.", "backbone.backbone.stem.conv2."),
    (r"^backbone\.stage(\d)\.", lambda found: f"backbone.backbone.dark{int(found[1]) + 1}."),
    (r"^neck\.reduce_layers\.0\.", "backbone.lateral_conv0."),
    (r"^neck\.reduce_layers\.1\.", "backbone.reduce_conv1."),
    (r"^neck\.top_down_blocks\.0\.", "backbone.C3_p4."),
    (r"^neck\.top_down_blocks\.1\.", "backbone.C3_p3."),
    (r"^neck\.downsamples\.0\.", "backbone.bu_conv2."),
    (r"^neck\.downsamples\.1\.", "backbone.bu_conv1."),
    (r"^neck\.bottom_up_blocks\.0\.", "backbone.C3_n3."),
    (r"^neck\.bottom_up_blocks\.1\.", "backbone.C3_n4."),
    (r"^neck\.out_convs\.", "head.stems."),
    (r"^bbox_head\.multi_level_(cls|reg)_convs\.", r"head.\1_convs."),
    (r"^bbox_head\.multi_level_conv_(cls|reg|obj)\.", r"head.\1_preds."),
    (r"\.main_conv\.", ".conv1."),
    (r"\.short_conv\.", ".conv2."),
    (r"\.final_conv\.", ".conv3."),
    (r"\.blocks\.", ".m."),
)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its graph exported once."""
    folder = tmp_path_factory.mktemp("whole")
    write_example(folder)
    with _inside(folder):
        assert deploy("config.py", stages="export", work_dir="made").exit_code == 0
    return folder


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def run(folder: Path, *sets: str, stages: str = "evaluate", **more: Any) -> Report:
    """Evaluate the exported graph, or what else is asked for."""
    words = [
        "export.mode=none",
        "evaluation.models.onnx=made/onnx/yolox_street.onnx",
        f"evaluation.num_samples={MANY}",
        "evaluation.num_warmup=0",
        "evaluation.num_pictures=1",
        "evaluation.gates={}",
    ]
    with _inside(folder):
        return deploy("config.py", sets=[*words, *sets], stages=stages, work_dir="out", **more)


def evaluated(report: Report, variant: str = "onnx") -> Evaluation:
    (found,) = (each for each in report.evaluations if each.variant == variant)
    return found


def figures(report: Report, variant: str = "onnx") -> Mapping[str, float | None]:
    metrics = evaluated(report, variant).metrics
    assert metrics is not None
    return metrics.values


def info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "data/street_infos_test.json").read_text())
    return found


def as_coco(content: dict[str, Any]) -> dict[str, Any]:
    """The same as a COCO file, whose ids are of another order than the classes."""
    listed = content["data_list"]
    boxes = [(place, each) for place, item in enumerate(listed) for each in item["instances"]]
    return {
        "images": [
            {"id": 7 + i, "file_name": each["img_path"], "width": each["width"], "height": each["height"]}
            for i, each in enumerate(listed)
        ],
        "categories": [{"id": 90 - i, "name": name} for i, name in reversed(list(enumerate(CLASS_NAMES)))],
        "annotations": [
            {"id": i, "image_id": 7 + place, "category_id": 90 - each["bbox_label"], "iscrowd": 0}
            | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            for i, (place, each) in enumerate(boxes, start=1)
            for x1, y1, x2, y2 in (each["bbox"],)
        ],
    }


def found_by_opencv(path: Path, session: Any) -> list[tuple[list[float], float, int]]:
    """Boxes of one image by OpenCV and a loop over rows: x, y, width, height, score, label."""
    image = np.asarray(cv2.imread(str(path)))
    scale = min(256 / image.shape[0], 384 / image.shape[1])
    size = int(image.shape[1] * scale + 0.5), int(image.shape[0] * scale + 0.5)
    canvas = np.full((256, 384, 3), 114, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    (rows,) = session.run(None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32)})
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(256 // s) for x in range(384 // s)]
    boxes, scores, labels = [], [], []
    for (x, y, stride), row in zip(cells, rows[0], strict=True):
        label = int(row[5:].argmax())
        wide, high = np.exp(row[2:4]) * stride
        left, top = (row[0] + x) * stride - wide / 2, (row[1] + y) * stride - high / 2
        boxes.append([float(each) / scale for each in (left, top, wide, high)])
        scores.append(float(row[5 + label] * row[4]))
        labels.append(label)
    kept = cv2.dnn.NMSBoxesBatched(boxes, scores, labels, 0.01, 0.65)
    return [(boxes[i], scores[i], labels[i]) for i in np.asarray(kept, int)]


def test_figures_are_those_of_opencv_and_pycocotools(street: Path) -> None:
    content = info(street)
    content["data_list"] = content["data_list"][:MANY]
    truth = as_coco(content)
    session = onnxruntime.InferenceSession(street / "made/onnx/yolox_street.onnx", providers=["CPUExecutionProvider"])
    said = [
        {"image_id": image["id"], "category_id": 90 - label, "bbox": box, "score": score}
        for image in truth["images"]
        for box, score, label in found_by_opencv(street / "data" / image["file_name"], session)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        oracle = COCOeval(coco, coco.loadRes(said), "bbox")
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    report = run(street)
    for variant in ("trained", "onnx"):
        names = ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")
        found = figures(report, variant)
        assert [found[name] for name in names] == pytest.approx(oracle.stats[:9].tolist(), abs=1e-6)


def test_coco_and_info_file_say_the_same(street: Path) -> None:
    (street / "coco.json").write_text(json.dumps(as_coco(info(street))))
    there = run(street, 'runtime_io={"ann_file": "coco.json", "img_prefix": "data"}')
    assert figures(there) == figures(run(street))


def test_a_folder_of_images_needs_no_truth(street: Path) -> None:
    report = run(street, 'runtime_io={"img_prefix": "data/images"}', stages="verify,evaluate")
    assert report.exit_code == 0
    assert report.verification.status == "passed"
    assert figures(report)["mAP"] is None
    assert evaluated(report).records == MANY
    assert len(list((street / "out/pictures").glob("*.png"))) == 1


def test_every_kind_of_image_goes_through_and_a_broken_one_is_counted(street: Path) -> None:
    content = info(street)
    mixed = street / "mixed"
    mixed.mkdir()
    paths = [street / "data" / each["img_path"] for each in content["data_list"][:5]]
    pixels = [np.asarray(cv2.imread(str(path))) for path in paths]
    cv2.imwrite(str(mixed / "alpha.png"), np.dstack([pixels[0], np.full(pixels[0].shape[:2], 9, np.uint8)]))
    cv2.imwrite(str(mixed / "deep.png"), pixels[1].astype(np.uint16) * 257)
    cv2.imwrite(str(mixed / "grey.png"), pixels[2][..., 1])
    turned = Image.fromarray(np.rot90(pixels[3][..., ::-1]).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(mixed / "turned.png", exif=exif)
    cv2.imwrite(str(mixed / "broken.png"), pixels[4])
    (mixed / "broken.png").write_bytes((mixed / "broken.png").read_bytes()[:9000])
    names = ("alpha", "deep", "grey", "turned", "broken")
    content["data_list"] = [
        {**each, "img_path": f"{name}.png", "img_id": name}
        for each, name in zip(content["data_list"], names, strict=False)
    ]
    (street / "mixed.json").write_text(json.dumps(content))
    data = 'runtime_io={"ann_file": "mixed.json", "img_prefix": "mixed"}'
    allowed = run(street, data, "evaluation.max_failed_samples=1")
    assert allowed.exit_code == 0
    (failure,) = evaluated(allowed).failures
    assert (failure.id, failure.step, evaluated(allowed).records) == ("broken", "load", 4)
    refused = run(street, data)
    assert refused.exit_code == ExitCode.EXPORT
    (said,) = (stage.detail for stage in refused.stages if stage.name == "evaluate")
    assert "sample 'broken' failed at load (mixed/broken.png: is not a complete image)" in said


@pytest.mark.parametrize("layout", ["mmengine", "tier4", "model_config"])
def test_each_layout_gives_the_same_graph(street: Path, layout: str) -> None:
    weights, sets = load_file(street / "weights.safetensors"), []
    more: dict[str, Any] = {}
    if layout == "mmengine":
        raw = {f"module.{name}": value * 0 for name, value in weights.items()} | {"steps": torch.tensor(9)}
        torch.save({"meta": {"epoch": 24}, "state_dict": weights, "ema_state_dict": raw}, street / "epoch_24.pth")
        more = {"checkpoint": "epoch_24.pth"}
    elif layout == "tier4":
        theirs = {}
        for name, value in weights.items():
            for ours, other in TIER4:
                name = re.sub(ours, other, name)  # noqa: PLW2901  one rule after another
            theirs[name] = value
        torch.save({"start_epoch": 300, "model": theirs, "optimizer": {}}, street / "tier4.pth")
        more = {"checkpoint": "tier4.pth"}
    else:
        (street / "theirs.py").write_text(MODEL_CONFIG)
        more = {"model_config": "theirs.py"}
        sets = ["preprocessing=model_config", "widen_factor=null", "out_channels=null", "num_elan_blocks=null"]
    with _inside(street):
        assert deploy("config.py", sets=sets, stages="export", work_dir=layout, **more).exit_code == 0
    one, other = (onnx.load(street / name / "onnx/yolox_street.onnx").graph for name in ("made", layout))
    assert list(one.initializer) == list(other.initializer)
    assert [node.op_type for node in one.node] == [node.op_type for node in other.node]


def test_boxes_out_of_the_graph_have_the_same_figures(street: Path) -> None:
    sets = ["postprocessing=nms", f"evaluation.num_samples={MANY}", "evaluation.gates={}", "evaluation.num_warmup=0"]
    with _inside(street):
        report = deploy("config.py", sets=sets, work_dir="suppressed")
    assert report.exit_code == 0
    assert report.verification.status == "passed"
    outside = run(street)
    for variant in ("trained", "onnx"):
        # A hundred boxes at most leave the graph; the example has fewer on every image.
        assert figures(report, variant) == pytest.approx(figures(outside), abs=1e-6)
