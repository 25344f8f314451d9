"""Checkpoints: the published names load strictly, everything else is refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from awml_centerpoint.architecture import architecture
from awml_centerpoint.hooks import Config, load_model
from awml_centerpoint.network import CenterPoint, build
from awml_deploy_core.errors import ExitCode, LoadError

SMALL: dict[str, Any] = {
    "point_cloud_range": (-3.2, -3.2, -3.0, 3.2, 3.2, 5.0),
    "voxel_size": (0.2, 0.2, 8.0),
    "feat_channels": (4, 4),
    "layer_nums": (1, 1),
    "layer_strides": (1, 2),
    "out_channels": (4, 6),
    "upsample_strides": (0.5, 1.0),
    "upsample_channels": (4, 4),
    "share_conv_channel": 4,
    "head_conv": 4,
}
CONVNEXT = {
    **SMALL,
    "backbone": "convnext_pc",
    "layer_nums": (1, 1),
    "upsample_strides": (1.0, 2.0),
    "out_size_factor": 1,
}


def config(path: Path | None = None, **fields: Any) -> Config:
    return Config(checkpoint_path=path, **{**SMALL, **fields})


def state(**fields: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return build(architecture(Config(**{**SMALL, **fields}))).state_dict()


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "epoch_49.pth"
    torch.save(content, path)
    return path


def same(model: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("fields", [{}, CONVNEXT, {"tasks": (("car", "truck", "bus"), ("bicycle", "pedestrian"))}])
def test_an_mmengine_checkpoint_loads_in_eval_mode(tmp_path: Path, fields: dict[str, Any]) -> None:
    weights = state(**fields)
    content = {"meta": {"epoch": 3}, "state_dict": weights, "optimizer": {}, "message_hub": {}}
    model = load_model(config(saved(tmp_path, content), **fields))
    assert isinstance(model, CenterPoint)
    assert not any(part.training for part in model.modules())
    assert same(model, weights)


SWAPPED = ("pedestrian", "truck", "bus", "bicycle", "car")


@pytest.mark.parametrize("key", ["classes", "CLASSES"])
def test_classes_in_another_order_than_the_training_s_are_refused(tmp_path: Path, key: str) -> None:
    meta = {"epoch": 3, "dataset_meta": {key: ["car", "truck", "bus", "bicycle", "pedestrian"], "version": "base"}}
    path = saved(tmp_path, {"meta": meta, "state_dict": state()})
    load_model(config(path))
    with pytest.raises(LoadError, match="classes car, truck, bus, bicycle, pedestrian, this config says ped") as error:
        load_model(config(path, class_names=SWAPPED))
    assert "class_names" in str(error.value.hint)
    assert error.value.exit_code is ExitCode.EXPORT


def test_a_class_may_be_renamed_where_it_stands(tmp_path: Path) -> None:
    meta = {"dataset_meta": {"classes": ["car", "truck", "bus", "bike", "walker"]}}
    load_model(config(saved(tmp_path, {"meta": meta, "state_dict": state()})))


def test_a_checkpoint_that_names_no_classes_is_taken_at_the_config_s_word(tmp_path: Path) -> None:
    for number, meta in enumerate(({}, {"dataset_meta": {}}, {"dataset_meta": {"classes": None}})):
        path = tmp_path / f"{number}.pth"
        torch.save({"meta": meta, "state_dict": state()}, path)
        load_model(config(path, class_names=SWAPPED))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_and_parallel_names_load(tmp_path: Path, prefix: str) -> None:
    weights = state()
    path = saved(tmp_path, {prefix + name: value for name, value in weights.items()})
    assert same(load_model(config(path)), weights)


def test_safetensors_load(tmp_path: Path) -> None:
    weights, path = state(), tmp_path / "weights.safetensors"
    save_file(weights, path)
    assert same(load_model(config(path)), weights)


def test_old_checkpoints_lack_the_number_of_batches(tmp_path: Path) -> None:
    weights = state()
    kept = {name: value for name, value in weights.items() if "num_batches_tracked" not in name}
    assert len(kept) < len(weights)
    assert same(load_model(config(saved(tmp_path, {"state_dict": kept}))), weights)


@pytest.mark.parametrize(
    ("trained", "asked", "said"),
    [
        (
            {"point_columns": (0, 1, 2, 3, 4)},
            {},
            r"of 11 channels, this config makes 10 .* names 4, encoder is 'pillar'",
        ),
        ({}, {"point_columns": (0, 1, 2, 3, 4)}, "of 10 channels, this config makes 11"),
        ({"encoder": "backward"}, {}, "of 9 channels, this config makes 10"),
    ],
)
def test_another_number_of_channels_is_said_in_channels(
    tmp_path: Path, trained: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    path = saved(tmp_path, {"state_dict": state(**trained)})
    with pytest.raises(LoadError, match=said) as caught:
        load_model(config(path, **asked))
    assert caught.value.exit_code is ExitCode.EXPORT
    number = said.removeprefix("of ").split()[0]
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"{number} channels are point_columns = ")


@pytest.mark.parametrize(
    ("names", "looks"),
    [
        (("pts_middle_encoder.conv_input.0.weight", "pts_backbone.blocks.0.0.weight"), "a CenterPoint on voxels"),
        (("img_backbone.conv1.weight", "pts_backbone.blocks.0.0.weight"), "a network with cameras"),
        (("pts_backbone.blocks.0.0.weight", "pts_bbox_head.decoder.0.linear1.weight"), "TransFusion"),
        (("backbone.stem.conv.conv.weight", "bbox_head.multi_level_conv_cls.0.weight"), "YOLOX"),
        (("backbone.conv1.weight", "backbone.layer1.0.conv1.weight"), "a ResNet"),
        (("encoder.w",), r"another network \(its first weight is encoder.w\)"),
        (("pts_backbone.stages.0.0.gamma",), "a CenterPoint on convnext_pc"),
    ],
)
def test_another_network_is_called_what_it_looks_like(tmp_path: Path, names: tuple[str, ...], looks: str) -> None:
    path = saved(tmp_path, {"state_dict": {name: torch.zeros(1) for name in names}})
    with pytest.raises(LoadError, match=f"looks like {looks}.*, this config describes a CenterPoint on second"):
        load_model(config(path))


@pytest.mark.parametrize(
    "name",
    [
        "pts_backbone.blocks.1.0.input_quantizer._amax",
        "pts_backbone.blocks.1.0._weight_quantizer._amax",
        "pts_neck.deblocks.0.0.weight_fake_quant.scale",
        "pts_backbone.blocks.1.0.zero_point",
    ],
)
def test_a_quantised_checkpoint_is_called_so(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, {"state_dict": {**state(), name: torch.ones(1)}})
    with pytest.raises(LoadError, match=r"state of a quantiser .*1 entries, such as pts_.*post-training") as caught:
        load_model(config(path))
    assert caught.value.hint is not None
    assert "precision_policy" in caught.value.hint


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        ({"out_channels": (4, 8)}, r"stages of channels \(4, 8\) in the file, \(4, 6\) here"),
        ({"layer_nums": (1, 3)}, r"layers of each stage \(2, 4\) in the file, \(2, 2\) here"),
        ({"feat_channels": (4,)}, r"encoder layers of units \(4,\) in the file, \(2, 4\) here"),
        ({"upsample_channels": (4, 8)}, r"neck of channels \(4, 8\)"),
        (
            {"upsample_strides": (1.0, 2.0), "out_size_factor": 1},
            r"neck of kernels \(1, 2\) in the file, \(2, 1\) here",
        ),
        ({"class_names": ("car", "bus")}, r"classes of each task \(2,\) in the file, \(5,\) here"),
        ({"tasks": (("car", "truck"), ("bus", "bicycle", "pedestrian"))}, r"classes of each task \(2, 3\)"),
        ({"common_heads": {"reg": (2, 2), "height": (1, 2), "dim": (3, 2), "rot": (2, 2)}}, "maps .*'rot'.*'vel'"),
    ],
)
def test_another_size_is_said_in_the_networks_terms(tmp_path: Path, trained: dict[str, Any], said: str) -> None:
    path = saved(tmp_path, {"state_dict": state(**trained)})
    with pytest.raises(LoadError, match=f"is a CenterPoint of another size: .*{said}"):
        load_model(config(path))


def test_sizes_of_the_other_backbone_are_compared_too(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": state(**{**CONVNEXT, "layer_nums": (2, 1)})})
    with pytest.raises(LoadError, match=r"layers of each stage \(2, 1\) in the file, \(1, 1\) here"):
        load_model(config(path, **CONVNEXT))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "1 missing: pts_backbone.blocks.1.1.bias"),
        ("unexpected", "1 unexpected: pts_extra.weight"),
        ("shape", "of another shape: pts_bbox_head.shared_conv.conv.weight"),
        ("nan", "NaN or infinite values: pts_bbox_head.task_heads.0.rot.1.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: str, said: str) -> None:
    weights = dict(state())
    if change == "missing":
        del weights["pts_backbone.blocks.1.1.bias"]
    elif change == "unexpected":
        weights["pts_extra.weight"] = torch.zeros(1)
    elif change == "shape":
        weights["pts_bbox_head.shared_conv.conv.weight"] = torch.zeros(8, 8, 3, 3)
    else:
        weights["pts_bbox_head.task_heads.0.rot.1.bias"].fill_(float("nan"))
    with pytest.raises(LoadError, match=said):
        load_model(config(saved(tmp_path, {"state_dict": weights})))


class Runs:
    """What it becomes when unpickled is a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_of_a_checkpoint_is_executed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = saved(tmp_path, {"state_dict": state(), "message_hub": Runs(made)})
    with pytest.raises(LoadError, match="mkdir"):
        load_model(config(path))
    assert not made.exists()


def test_no_checkpoint_is_a_load_error() -> None:
    with pytest.raises(LoadError, match="checkpoint_path"):
        load_model(config())


def test_a_model_config_decides_what_the_weights_must_be(tmp_path: Path) -> None:
    mine = tmp_path / "model.py"
    mine.write_text(
        "lidar_sweep_dims = [0, 1, 2, 4]\n"
        "model = dict(\n"
        " data_preprocessor=dict(voxel_layer=dict(voxel_size=[0.2, 0.2, 8.0],"
        " point_cloud_range=[-3.2, -3.2, -3.0, 3.2, 3.2, 5.0])),\n"
        " pts_voxel_encoder=dict(type='PillarFeatureNet', in_channels=4, feat_channels=[6], legacy=False),\n"
        " pts_middle_encoder=dict(type='PointPillarsScatter', in_channels=6),\n"
        " pts_backbone=dict(type='SECOND', in_channels=6, out_channels=[8], layer_nums=[2], layer_strides=[2]),\n"
        " pts_neck=dict(type='SECONDFPN', in_channels=[8], out_channels=[8], upsample_strides=[1]),\n"
        " pts_bbox_head=dict(type='CenterHead', in_channels=8, tasks=[dict(class_names=['a', 'b'])],\n"
        "  common_heads=dict(reg=(2, 1), height=(1, 1), dim=(3, 1), rot=(2, 1)), share_conv_channel=4,\n"
        "  bbox_coder=dict(out_size_factor=2)),\n"
        ")\n"
    )
    named = Config(model_config=mine)
    torch.manual_seed(2)
    weights = build(architecture(named)).state_dict()
    path = saved(tmp_path, {"state_dict": weights})
    assert same(load_model(attrs.evolve(named, checkpoint_path=path)), weights)
    assert weights["pts_bbox_head.task_heads.0.heatmap.1.bias"].shape == (2,)
