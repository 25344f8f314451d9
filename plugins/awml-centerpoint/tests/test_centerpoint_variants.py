"""Every kind of network from weights to a verdict: encoders, backbones, groups of heads, both forms of a config."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from attrs import field, frozen

from awml_centerpoint.architecture import architecture
from awml_centerpoint.config import CLASS_NAMES, Config
from awml_centerpoint.network import build
from awml_deploy_core import deploy
from awml_deploy_core.report import Report

SIDE = 8.0
NETWORK: dict[str, Any] = {
    "point_cloud_range": (-SIDE, -SIDE, -3.0, SIDE, SIDE, 5.0),
    "voxel_size": (0.5, 0.5, 8.0),
    "max_voxels": 500,
    "feat_channels": (32,),
    "layer_nums": (1, 1, 1),
    "layer_strides": (2, 2, 2),
    "out_channels": (8, 8, 8),
    "upsample_strides": (1.0, 2.0, 4.0),
    "upsample_channels": (8, 8, 8),
    "share_conv_channel": 8,
    "head_conv": 8,
    "rot_y_axis_reference": True,
}
CONVNEXT: dict[str, Any] = {
    "backbone": "convnext_pc",
    "layer_strides": (1, 2, 2),
    "out_channels": (32, 8, 8),
    "upsample_strides": (0.5, 1.0, 2.0),
}
TASKS = (("car", "truck", "bus"), ("bicycle", "pedestrian"))
OTHERS: dict[str, Any] = {
    "task_type": "detection3d",
    "checkpoint_path": "weights.pth",
    "score_thresholds": dict.fromkeys(CLASS_NAMES, (0.35,) * 4),
    "runtime_io": {"info_file": "infos.pkl", "data_root": "."},
    "export": {"mode": "onnx", "work_dir": "work"},
    "verification": {"enabled": True, "num_verify_samples": 1},
    "evaluation": {"enabled": True, "num_samples": -1, "num_warmup": 0, "num_pictures": 0},
}
FOLDED = {"opset_version": 13, "exporter": "torchscript", "simplify": False}
SEEDS = {"pts_voxel_encoder": "voxel_encoder.onnx", "pts_backbone_neck_head": "backbone_head.onnx"}
SIX = ("heatmap", "reg", "height", "dim", "rot", "vel")
CHANNELS = (2, 1, 3, 2, 2)


@frozen(kw_only=True)
class Variant:
    """A network, and what of it must be seen in its files.

    Args:
        changes: To the settings above.
        channels: Of a decorated point.
        groups: Classes of each group of heads.
        errors: Subjects of what the node would trip over.
        files: Names of the two files.
        form: How the config says that there are several.
    """

    changes: dict[str, Any]
    channels: int = 10
    groups: tuple[int, ...] = (5,)
    errors: tuple[str, ...] = ()
    files: tuple[str, str] = ("pts_voxel_encoder.onnx", "pts_backbone_neck_head.onnx")
    form: dict[str, Any] = field(factory=lambda: {"onnx_config": {**FOLDED, "multi_file": True}})


VARIANTS = {
    "ten": Variant(changes={}),
    "nine": Variant(changes={"encoder": "backward"}, channels=9),
    "eleven": Variant(changes={"point_columns": (0, 1, 2, 3, 4)}, channels=11),
    "distance": Variant(changes={"with_distance": True}, channels=11, errors=("point_feature_size",)),
    "three_layers": Variant(changes={"feat_channels": (16, 16, 32)}),
    "oblong": Variant(changes={"point_cloud_range": (-SIDE, -SIDE / 2, -3.0, SIDE, SIDE / 2, 5.0)}),
    "convnext": Variant(changes=CONVNEXT),
    "tasks": Variant(changes={"tasks": TASKS}, groups=(3, 2), errors=("pts_backbone_neck_head.onnx",)),
    "tasks_as_the_node": Variant(
        changes={"tasks": TASKS, "decoding": "autoware", "score_thresholds": {}},
        groups=(3, 2),
        errors=("pts_backbone_neck_head.onnx",),
    ),
    "components": Variant(
        changes={},
        files=("voxel_encoder.onnx", "backbone_head.onnx"),
        form={"onnx_config": FOLDED, "components": {name: {"onnx_file": file} for name, file in SEEDS.items()}},
    ),
}


def laid(folder: Path, variant: Variant) -> None:
    """Two frames of random points, a network from a seed that finds something everywhere, a config."""
    rng = np.random.default_rng(0)
    entries = []
    for name in ("first", "second"):
        points = rng.uniform((-SIDE, -SIDE, -2, 0, 0), (SIDE, SIDE, 2, 255, 40), (300, 5)).astype(np.float32)
        points.tofile(folder / f"{name}.bin")
        objects = [
            {"bbox_3d": [label, 2.0, 0.5, 4.0, 2.0, 1.5, 0.3], "bbox_label_3d": label, "num_lidar_pts": 4}
            for label in range(len(CLASS_NAMES))
        ]
        lidar = {"lidar_path": f"{name}.bin", "num_pts_feats": 5}
        entries.append({"token": name, "lidar_points": lidar, "instances": objects})
    content = {"metainfo": {"classes": list(CLASS_NAMES)}, "data_list": entries}
    (folder / "infos.pkl").write_bytes(pickle.dumps(content))
    torch.manual_seed(0)
    model = build(architecture(Config(**{**NETWORK, **network(variant)})))
    for name, value in model.named_parameters():
        if name.endswith(("heatmap.1.weight", "heatmap.1.bias")):
            torch.nn.init.normal_(value, std=2.0)
    torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, folder / "weights.pth")
    settings = {**OTHERS, **NETWORK, **variant.changes, **variant.form}
    (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))


def network(variant: Variant) -> dict[str, Any]:
    return {name: value for name, value in variant.changes.items() if name not in ("decoding", "score_thresholds")}


def maps(variant: Variant) -> list[tuple[str, int]]:
    """Names and channels of the second graph's outputs, in the order in which the contract lists them."""
    alone = len(variant.groups) == 1
    return [
        (name if alone else f"{name}_{task}", channels)
        for task, classes in enumerate(variant.groups)
        for name, channels in zip(SIX, (classes, *CHANNELS), strict=True)
    ]


def predicted(report: Report) -> dict[str, dict[str, int]]:
    """How many boxes of each class each variant gave."""
    tables = {one.variant: one.metrics.tables for one in report.evaluations if one.metrics}
    return {
        name: {str(row[0]): int(str(row[-1])) for row in next(t for t in found if "Per class" in t.title).rows}
        for name, found in tables.items()
    }


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_network_of_this_kind_is_proved_and_its_files_say_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = VARIANTS[name]
    laid(tmp_path, variant)
    monkeypatch.chdir(tmp_path)
    report = deploy("config.py", model="centerpoint")
    assert report.status == "passed"
    encoder, detector = (onnx.load(tmp_path / "work" / "onnx" / file).graph for file in variant.files)
    (points,) = encoder.input
    assert points.type.tensor_type.shape.dim[2].dim_value == variant.channels
    found = [(one.name, one.type.tensor_type.shape.dim[1].dim_value) for one in detector.output]
    assert found == maps(variant)
    (delivery,) = report.deliveries
    assert tuple(one.subject for one in delivery.findings if one.level == "error") == variant.errors
    boxes = predicted(report)
    assert boxes["trained"] == boxes["onnx"]
    # Where there are several groups, each finds its own classes and no others.
    assert set(boxes["onnx"]) == set(CLASS_NAMES)
    first = sum(boxes["onnx"][each] for each in CLASS_NAMES[: variant.groups[0]])
    assert first > 0
    assert len(variant.groups) == 1 or sum(boxes["onnx"].values()) > first
