"""Which network a config means, from its own keys and from AWML's and mmdet's configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from awml_deploy_core.errors import ConfigError
from awml_yolox.architecture import architecture, read
from awml_yolox.hooks import Config
from awml_yolox.network import Stage, named
from awml_yolox.network.description import Arch

AWML = """
activation = "ReLU6"
model = dict(
    type="YOLOX",
    data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
    backbone=dict(
        type="ELANDarknet", deepen_factor=2, widen_factor=1, out_indices=(2, 3, 4), act_cfg=dict(type=activation)
    ),
    neck=dict(
        type="YOLOXPAFPN_ELAN",
        in_channels=[128, 256, 512],
        out_channels=128,
        num_elan_blocks=2,
        act_cfg=dict(type=activation),
    ),
    bbox_head=dict(
        type="YOLOXHead", num_classes=8, in_channels=128, feat_channels=128, act_cfg=dict(type=activation)
    ),
    train_cfg=dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65)),
)
"""

STOCK = """
model = dict(
    type="mmdet.YOLOX",
    data_preprocessor=dict(type="mmdet.DetDataPreprocessor", pad_size_divisor=32),
    backbone=dict(
        type="mmdet.CSPDarknet",
        deepen_factor=0.33,
        widen_factor=0.5,
        out_indices=(2, 3, 4),
        use_depthwise=False,
        spp_kernal_sizes=(5, 9, 13),
        norm_cfg=dict(type="BN", momentum=0.03, eps=0.001),
        act_cfg=dict(type="Swish"),
    ),
    neck=dict(
        type="YOLOXPAFPN",
        in_channels=[128, 256, 512],
        out_channels=128,
        num_csp_blocks=1,
        use_depthwise=False,
        upsample_cfg=dict(scale_factor=2, mode="nearest"),
        norm_cfg=dict(type="BN", momentum=0.03, eps=0.001),
        act_cfg=dict(type="Swish"),
    ),
    bbox_head=dict(
        type="YOLOXHead",
        num_classes=80,
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
        strides=(8, 16, 32),
        use_depthwise=False,
        norm_cfg=dict(type="BN", momentum=0.03, eps=0.001),
        act_cfg=dict(type="Swish"),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, reduction="sum", loss_weight=1.0),
    ),
)
"""


def written(tmp_path: Path, text: str, *changes: tuple[str, str]) -> Path:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "model.py"
    path.write_text(text)
    return path


def test_awmls_own_config_is_the_published_network(tmp_path: Path) -> None:
    assert read(written(tmp_path, AWML)) == named("opt-elan")


def test_mmdets_own_config_is_the_published_network(tmp_path: Path) -> None:
    assert read(written(tmp_path, STOCK)) == named("s", classes=80)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((("deepen_factor=2", "deepen_factor=1"), ("num_elan_blocks=2", "num_elan_blocks=3")),
         named("opt-elan", deepen_factor=1, num_elan_blocks=3)),
        ((("activation =", "unused ="), ("act_cfg=dict(type=activation)", "act_cfg=dict(type='SiLU')")),
         named("opt-elan", activation="Swish")),
        ((('"ELANDarknet",', '"ELANDarknet", arch="P5_ASPP",'),), named("opt-elan", aspp=True)),
        ((("num_classes=8", "num_classes=10, stacked_convs=3"),), named("opt-elan", classes=10, stacked_convs=3)),
    ],
)  # fmt: skip
def test_fields_of_awmls_config(tmp_path: Path, changes: tuple[tuple[str, str], ...], expected: Any) -> None:
    assert read(written(tmp_path, AWML, *changes)) == expected


def test_what_a_section_leaves_out_is_what_its_class_has_by_default(tmp_path: Path) -> None:
    bare = """
model = dict(
    backbone=dict(type="ELANDarknet"),
    neck=dict(type="YOLOXPAFPN_ELAN", in_channels=[128, 256, 512], out_channels=256),
    bbox_head=dict(type="YOLOXHead", num_classes=8, in_channels=256),
)
"""
    found = read(written(tmp_path, bare))
    assert found.backbone == attrs.evolve(named("opt-elan").backbone, activation="ReLU")
    assert (found.neck.activation, found.neck.blocks) == ("Swish", 2)
    assert (found.head.features, found.head.convs, found.head.activation) == (256, 2, "Swish")


def test_batch_norms_without_a_constant_have_torchs(tmp_path: Path) -> None:
    found = read(
        written(tmp_path, STOCK, ('norm_cfg=dict(type="BN", momentum=0.03, eps=0.001)', "norm_cfg=dict(type='BN')"))
    )
    assert (found.backbone.eps, found.neck.eps, found.head.eps) == (1e-5, 1e-5, 1e-5)


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    rows = [[16, 32, 1, 0.5, True, False], [32, 64, 2, 0.25, False, True], [64, 128, 1, 0.5, True, False]]
    rows.append([128, 256, 1, 0.5, False, False])
    changes = (('"ELANDarknet",', f'"ELANDarknet", arch_overwrite={rows},'), ("[128, 256, 512]", "[64, 128, 256]"))
    found = read(written(tmp_path, AWML, *changes)).backbone
    assert found.stem == 16
    assert found.stages[1] == Stage(channels=64, blocks=4, expand_ratio=0.25, add_identity=False, pooling="aspp")
    assert [stage.channels for stage in found.stages] == [32, 64, 128, 256]


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        (AWML, (('"ELANDarknet"', '"ResNet"'),), "model.backbone is a ResNet"),
        (AWML, (('type="YOLOX",', 'type="CenterPoint",'),), "model is a CenterPoint"),
        (AWML, (('"YOLOXPAFPN_ELAN"', '"FPN"'),), "model.neck is a FPN"),
        (AWML, (('"YOLOXHead"', '"RetinaHead"'),), "model.bbox_head is a RetinaHead"),
        (AWML, (('"ReLU6"', '"Mish"'),), "act_cfg is {'type': 'Mish'}"),
        (AWML, (("out_indices=(2, 3, 4)", "out_indices=(1, 2, 3)"),), r"stages \(1, 2, 3\)"),
        (AWML, (("deepen_factor=2", "deepen_factor=0"),), "deepen_factor is 0"),
        (AWML, (("deepen_factor=2", "deepen_factor=True"),), "deepen_factor is True"),
        (AWML, (("num_classes=8", "num_classes='8'"),), "num_classes is '8'"),
        (AWML, (("num_elan_blocks=2", "num_blocks=2"),), "num_blocks is not known"),
        (AWML, (('"ELANDarknet",', '"ELANDarknet", attention="SE",'),), "model.backbone: attention is not known"),
        (AWML, (("num_classes=8", "num_classes=8, dilated=True"),), "model.bbox_head: dilated is not known"),
        (AWML, (("in_channels=[128, 256, 512]", "in_channels=[64, 128, 256]"),), "the neck takes"),
        (AWML, (("pad_size_divisor=32", "mean=[1, 2, 3], std=[1, 1, 1]"),), "mean, std"),
        (AWML, (('"ELANDarknet",', '"ELANDarknet", arch="P6",'),), "arch is 'P6'"),
        (STOCK, (("strides=(8, 16, 32)", "strides=(4, 8, 16)"),), r"strides is \(4, 8, 16\)"),
        (STOCK, (('mode="nearest"', 'mode="bilinear"'),), "upsample_cfg"),
        (STOCK, (("stacked_convs=2", "dcn_on_last_conv=True"),), "dcn_on_last_conv is True"),
        (STOCK, (('type="BN"', 'type="GN"'),), "'GN'"),
        ("model = dict(neck=dict())", (), "has no section model.backbone"),
        ("x = 1", (), "has no section model"),
    ],
)
def test_another_network_is_refused_by_name(
    tmp_path: Path, text: str, changes: tuple[tuple[str, str], ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read(written(tmp_path, text, *changes))


def test_normalised_images_are_allowed_where_the_model_config_prepares_them(tmp_path: Path) -> None:
    path = written(tmp_path, AWML, ("pad_size_divisor=32", "mean=[1, 2, 3], std=[1, 1, 1]"))
    assert architecture(Config(model_config=path, preprocessing="model_config")) == named("opt-elan")


@pytest.mark.parametrize(
    ("fields", "arch", "said"),
    [
        ({}, "opt-elan", {}),
        ({"class_names": ("a", "b")}, "tiny", {"classes": 2}),
        ({"deepen_factor": 1.0, "widen_factor": 0.5, "activation": "ReLU", "aspp": True}, "opt-elan", {}),
        ({"out_channels": 64, "feat_channels": 32, "stacked_convs": 1, "depthwise": True}, "s", {}),
        (
            {
                "num_elan_blocks": 1,
                "stage_blocks": (1, 1, 2, 1),
                "add_identity": (True, False, True, False),
                "expand_ratio": 0.25,
            },
            "opt-elan",
            {},
        ),
    ],
)
def test_keys_of_the_config_reach_the_network(fields: dict[str, Any], arch: Arch, said: dict[str, Any]) -> None:
    own = {key: value for key, value in fields.items() if key != "class_names"}
    assert architecture(Config(arch=arch, **fields)) == named(arch, **own, **said)


def test_class_names_must_be_as_many_as_the_model_config_has_classes(tmp_path: Path) -> None:
    path = written(tmp_path, AWML, ("num_classes=8", "num_classes=10"))
    with pytest.raises(ConfigError, match=r"num_classes is 10, class_names lists 8 \(unknown, car"):
        architecture(Config(model_config=path))
    assert architecture(Config(model_config=path, class_names=tuple("abcdefghij"))).head.classes == 10
