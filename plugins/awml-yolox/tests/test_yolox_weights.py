"""Checkpoints: AWML's, mmdet's, Megvii's and tier4's names load; everything else is refused with a reason."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from awml_deploy_core.errors import ExitCode, LoadError
from awml_yolox.hooks import CLASS_NAMES, Config, load_model
from awml_yolox.layouts import renamed, shape_of
from awml_yolox.network import build, named
from awml_yolox.network.description import Arch

SMALL: dict[str, Any] = {"deepen_factor": 1.0, "widen_factor": 0.125, "out_channels": 16}


def config(path: Path, **fields: Any) -> Config:
    return Config(checkpoint_path=path, **{**SMALL, **fields})


def state(arch: Arch = "opt-elan", **fields: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return build(named(arch, **{**SMALL, **fields})).state_dict()


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "epoch_24.pth"
    torch.save(content, path)
    return path


def assert_loaded(model: Any, weights: dict[str, Tensor]) -> None:
    assert not model.training
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


# ---------------------------------------------------------------- layouts


def test_mmengine_checkpoint_gives_its_averaged_weights(tmp_path: Path) -> None:
    averaged = state()
    raw = {f"module.{name}": value + 1 for name, value in averaged.items()} | {"steps": torch.tensor(7)}
    content = {"meta": {"epoch": 24}, "state_dict": averaged, "ema_state_dict": raw, "optimizer": {}}
    assert_loaded(load_model(config(saved(tmp_path, content))), averaged)


def test_other_layouts_load(tmp_path: Path) -> None:
    weights = state()
    assert_loaded(load_model(config(saved(tmp_path, weights))), weights)
    parallel = {f"module.{name}": value for name, value in weights.items()}
    assert_loaded(load_model(config(saved(tmp_path, {"state_dict": parallel}))), weights)
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    assert_loaded(load_model(config(path)), weights)


# What Megvii calls the parts, in the order of ours.
MEGVII = {
    r"^backbone\.stem\.": "backbone.backbone.stem.",
    r"^neck\.reduce_layers\.0\.": "backbone.lateral_conv0.",
    r"^neck\.reduce_layers\.1\.": "backbone.reduce_conv1.",
    r"^neck\.top_down_blocks\.0\.": "backbone.C3_p4.",
    r"^neck\.top_down_blocks\.1\.": "backbone.C3_p3.",
    r"^neck\.downsamples\.0\.": "backbone.bu_conv2.",
    r"^neck\.downsamples\.1\.": "backbone.bu_conv1.",
    r"^neck\.bottom_up_blocks\.0\.": "backbone.C3_n3.",
    r"^neck\.bottom_up_blocks\.1\.": "backbone.C3_n4.",
    r"^neck\.out_convs\.": "head.stems.",
    r"^bbox_head\.multi_level_(cls|reg)_convs\.": r"head.\1_convs.",
    r"^bbox_head\.multi_level_conv_(cls|reg|obj)\.": r"head.\1_preds.",
    r"^backbone\.stage1\.": "backbone.backbone.dark2.",
    r"^backbone\.stage2\.": "backbone.backbone.dark3.",
    r"^backbone\.stage3\.": "backbone.backbone.dark4.",
    r"^backbone\.stage4\.": "backbone.backbone.dark5.",
    r"\.main_conv\.": ".conv1.",
    r"\.short_conv\.": ".conv2.",
    r"\.final_conv\.": ".conv3.",
    r"\.blocks\.": ".m.",
    r"\.depthwise_conv\.": ".dconv.",
    r"\.pointwise_conv\.": ".pconv.",
}
TIER4 = {
    r"^backbone\.stem\.conv\.0\.": "backbone.backbone.stem.down1.",
    r"^backbone\.stem\.conv\.1\.": "backbone.backbone.stem.conv2.",
}


def theirs(weights: dict[str, Tensor], table: dict[str, str]) -> dict[str, Tensor]:
    found = {}
    for name, value in weights.items():
        for ours, other in table.items():
            name = re.sub(ours, other, name)  # noqa: PLW2901  one rule after another
        found[name] = value
    assert len(found) == len(weights)
    return found


@pytest.mark.parametrize(("arch", "table"), [("opt-elan", TIER4 | MEGVII), ("tiny", MEGVII), ("nano", MEGVII)])
def test_megviis_and_tier4s_names_load(tmp_path: Path, arch: Arch, table: dict[str, str]) -> None:
    weights = state(arch)
    there = theirs(weights, table)
    path = saved(tmp_path, {"start_epoch": 300, "model": there, "optimizer": {}})
    assert_loaded(load_model(config(path, arch=arch)), weights)
    assert list(renamed(there)) == list(weights)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.backbone.stem.conv.conv.weight", "backbone.stem.conv.conv.weight"),
        ("backbone.backbone.stem.down1.bn.bias", "backbone.stem.conv.0.bn.bias"),
        ("backbone.backbone.stem.conv2.conv.weight", "backbone.stem.conv.1.conv.weight"),
        ("backbone.backbone.dark2.0.conv.weight", "backbone.stage1.0.conv.weight"),
        ("backbone.backbone.dark2.0.dconv.conv.weight", "backbone.stage1.0.depthwise_conv.conv.weight"),
        ("backbone.backbone.dark3.1.conv2.bn.weight", "backbone.stage2.1.short_conv.bn.weight"),
        ("backbone.backbone.dark4.1.m.2.conv1.conv.weight", "backbone.stage3.1.blocks.2.conv1.conv.weight"),
        ("backbone.backbone.dark5.1.conv1.conv.weight", "backbone.stage4.1.conv1.conv.weight"),
        ("backbone.backbone.dark5.2.conv1.conv.weight", "backbone.stage4.2.main_conv.conv.weight"),
        ("backbone.C3_p4.conv3.conv.weight", "neck.top_down_blocks.0.final_conv.conv.weight"),
        ("backbone.C3_n3.m.0.conv2.pconv.bn.bias", "neck.bottom_up_blocks.0.blocks.0.conv2.pointwise_conv.bn.bias"),
        ("head.stems.2.conv.weight", "neck.out_convs.2.conv.weight"),
        ("head.cls_convs.1.0.conv.weight", "bbox_head.multi_level_cls_convs.1.0.conv.weight"),
        ("head.obj_preds.0.bias", "bbox_head.multi_level_conv_obj.0.bias"),
    ],
)
def test_single_names(theirs: str, ours: str) -> None:
    # Layers of blocks are told from spatial pooling by their third convolution.
    layers = [f"{name}.conv3.conv.weight" for name in ("backbone.backbone.dark3.1", "backbone.backbone.dark4.1")]
    layers += [
        f"{name}.conv3.conv.weight" for name in ("backbone.backbone.dark5.2", "backbone.C3_p4", "backbone.C3_n3")
    ]
    nothing = torch.zeros(1)
    assert ours in renamed(dict.fromkeys([*layers, theirs], nothing))


def test_names_that_are_ours_already_stay() -> None:
    weights = state()
    assert renamed(weights) is weights


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pts_voxel_encoder.pfn_layers.0.linear.weight", "holds a CenterPoint, not a YOLOX"),
        ("backbone.layer1.0.conv1.weight", "holds a ResNet under mmpretrain's"),
        ("layer1.0.conv1.weight", "holds a ResNet under torchvision's"),
        ("model.0.conv.weight", "holds a YOLO of Ultralytics"),
        ("strange.weight", r"an unknown network \(strange.weight, ...\)"),
    ],
)
def test_other_networks_are_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(LoadError, match=said) as error:
        load_model(config(saved(tmp_path, {name: torch.zeros(3)})))
    assert error.value.exit_code is ExitCode.EXPORT
    assert "epoch_24.pth" in error.value.message


def test_another_size_is_named_with_the_setting_that_gives_it(tmp_path: Path) -> None:
    with torch.device("meta"):
        tiny, elan = (build(named(arch)).state_dict() for arch in ("tiny", "opt-elan"))
    found, wanted = shape_of(tiny), shape_of(elan)
    assert found is not None
    assert wanted is not None
    assert (found.called(), found.keys()) == ("YOLOX-tiny", "arch to 'tiny'")
    assert (wanted.called(), wanted.keys()) == ("YOLOX_opt_ELAN", "arch to 'opt-elan'")


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        ({"arch": "nano"}, {"arch": "tiny"}, r"a stock YOLOX \(8 channels in the stem, 3, 9, 9, 3 blocks, depthwise\)"),
        ({"arch": "tiny"}, {}, r"a stock YOLOX .*, the config asks for an ELAN YOLOX \(4 channels in the stem, 1, 3"),
        ({"deepen_factor": 2.0}, {}, r"an ELAN YOLOX \(4 channels in the stem, 2, 6, 6, 2 blocks\)"),
        ({"widen_factor": 0.25}, {}, r"an ELAN YOLOX \(8 channels"),
    ],
)
def test_another_depth_or_width_is_named(
    tmp_path: Path, there: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    path = saved(tmp_path, state(**there))
    with pytest.raises(LoadError, match=said) as error:
        load_model(config(path, **asked))
    assert "widen_factor and deepen_factor" in (error.value.hint or "")


def test_class_count_is_held_against_class_names(tmp_path: Path) -> None:
    path = saved(tmp_path, state(classes=10))
    with pytest.raises(LoadError, match=r"was trained for 10 classes, class_names lists 8 \(unknown, car"):
        load_model(config(path))
    with pytest.raises(LoadError, match=r"was trained for 10 classes, class_names lists 2 \(a, b\)"):
        load_model(config(path, class_names=("a", "b")))


def test_another_order_of_classes_is_refused(tmp_path: Path) -> None:
    swapped = ("car", "unknown", *CLASS_NAMES[2:])
    content = {"meta": {"dataset_meta": {"classes": swapped}}, "state_dict": state()}
    with pytest.raises(LoadError, match="was trained with the classes car, unknown, truck"):
        load_model(config(saved(tmp_path, content)))
    load_model(config(saved(tmp_path, content), class_names=tuple(name.upper() for name in swapped)))


def test_other_names_of_classes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"meta": {"dataset_meta": {"CLASSES": tuple("abcdefgh")}}, "state_dict": state()}
    with caplog.at_level(logging.WARNING):
        load_model(config(saved(tmp_path, content)))
    assert "was trained with the classes ('a', 'b'" in caplog.text


def broken(name: str) -> dict[str, Tensor]:
    weights = dict(state())
    if name == "missing":
        del weights["neck.out_convs.1.conv.weight"]
    elif name == "unexpected":
        weights["segmentation_head.weight"] = torch.zeros(1)
    elif name == "shape":
        weights["bbox_head.multi_level_conv_reg.0.bias"] = torch.zeros(5)
    else:
        weights["backbone.stage1.0.bn.bias"] = torch.full((8,), float("nan"))
    return weights


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "neck.out_convs.1.conv.weight"),
        ("unexpected", "segmentation_head.weight"),
        ("shape", r"multi_level_conv_reg.0.bias is \(5,\) in the file"),
        ("nan", "backbone.stage1.0.bn.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        load_model(config(saved(tmp_path, broken(name))))


def test_no_checkpoint_is_a_load_error() -> None:
    with pytest.raises(LoadError, match="checkpoint_path"):
        load_model(Config())
