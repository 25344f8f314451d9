"""Which network and which grid a config means, from our keys and from AWML's model config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from awml_centerpoint.architecture import Norm, architecture, class_names, geometry, settled
from awml_centerpoint.hooks import CLASS_NAMES, Config
from awml_deploy_core.errors import ConfigError, ExitCode

BASE = """
point_cloud_range = [-122.4, -122.4, -3.0, 122.4, 122.4, 5.0]
voxel_size = [0.24, 0.24, 8.0]
out_size_factor = 2
sweeps_num = 1
point_load_dim = 5
lidar_sweep_dims = [0, 1, 2, 3, 4]
class_names = ["car", "truck", "bus", "bicycle", "pedestrian"]
model = dict(
    type="CenterPoint",
    data_preprocessor=dict(
        type="Det3DDataPreprocessor",
        voxel=True,
        voxel_layer=dict(
            max_num_points=32, voxel_size=voxel_size, point_cloud_range=point_cloud_range, max_voxels=(64000, 96000)
        ),
    ),
    pts_voxel_encoder=dict(
        type="PillarFeatureNet", in_channels=5, feat_channels=[32, 32], with_distance=False, with_cluster_center=True,
        with_voxel_center=True, norm_cfg=dict(type="BN1d", eps=1e-3, momentum=0.01), legacy=False,
    ),
    pts_middle_encoder=dict(type="PointPillarsScatter", in_channels=32, output_shape=(1020, 1020)),
    pts_backbone=dict(
        type="SECOND", in_channels=32, out_channels=[64, 128, 256], layer_nums=[3, 5, 5], layer_strides=[1, 2, 2],
        norm_cfg=dict(type="BN", eps=1e-3, momentum=0.01), conv_cfg=dict(type="Conv2d", bias=False),
    ),
    pts_neck=dict(
        type="SECONDFPN", in_channels=[64, 128, 256], out_channels=[128, 128, 128], upsample_strides=[0.5, 1, 2],
        norm_cfg=dict(type="BN", eps=0.001, momentum=0.01), use_conv_for_no_stride=True,
    ),
    pts_bbox_head=dict(
        type="CenterHead", in_channels=384, share_conv_channel=64,
        tasks=[dict(num_class=5, class_names=["car", "truck", "bus", "bicycle", "pedestrian"])],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        bbox_coder=dict(
            type="CenterPointBBoxCoder", max_num=400, score_threshold=0.2, out_size_factor=out_size_factor,
            post_center_range=[-150.0, -150.0, -10.0, 150.0, 150.0, 10.0],
        ),
        separate_head=dict(type="CustomSeparateHead", init_bias=-4.595, final_kernel=1), norm_bbox=True,
    ),
    test_cfg=dict(
        pts=dict(nms_type="circle", min_radius=[0.7], post_max_size=90, out_size_factor=out_size_factor)
    ),
)
"""

SHORT = """
_base_ = "base.py"
point_cloud_range = [-51.2, -51.2, -3.0, 51.2, 51.2, 5.0]
lidar_sweep_dims = [0, 1, 2, 4]
model = dict(
    data_preprocessor=dict(voxel_layer=dict(
        voxel_size=[0.16, 0.16, 8.0], point_cloud_range=point_cloud_range, max_voxels=(64000, 64000)
    )),
    pts_voxel_encoder=dict(in_channels=4),
    pts_middle_encoder=dict(output_shape=(640, 640)),
    pts_backbone=dict(
        _delete_=True, type="ConvNeXt_PC", in_channels=32, out_channels=[32, 192, 192, 192, 192],
        depths=[3, 3, 2, 1, 1], out_indices=[2, 3, 4], drop_path_rate=0.4, layer_scale_init_value=1.0,
        gap_before_final_norm=False, with_cp=False,
    ),
    pts_neck=dict(in_channels=[192, 192, 192], upsample_strides=[1, 2, 4]),
    pts_bbox_head=dict(bbox_coder=dict(out_size_factor=4)),
    test_cfg=dict(pts=dict(out_size_factor=4)),
)
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.py"
    path.write_text(BASE)
    return path


def changed(base: Path, text: str) -> Config:
    """A config whose model config is the base with something on top."""
    path = base.with_name("mine.py")
    path.write_text(f"_base_ = 'base.py'\n{text}\n")
    return Config(model_config=path)


# ---------------------------------------------------------------- our keys


def test_the_keys_are_the_base_model_at_first() -> None:
    config = Config()
    made, grid = architecture(config), geometry(config)
    assert (made.channels, made.features, made.tasks, made.strides) == (10, 32, (5,), (2, 2, 2))
    assert (grid.grid, grid.columns, grid.max_num_points, grid.max_voxels) == ((1020, 1020, 1), (0, 1, 2, 4), 32, 96000)
    assert settled(config) is config
    assert class_names(config) == CLASS_NAMES


@pytest.mark.parametrize(
    ("reach", "size", "factor", "cells"),
    [(122.4, 0.24, 2, 1020), (121.6, 0.32, 2, 760), (121.6, 0.2, 2, 1216), (51.2, 0.16, 2, 640)],
)
def test_released_ranges_are_whole_grids(reach: float, size: float, factor: int, cells: int) -> None:
    low_high = (-reach, -reach, -3.0, reach, reach, 5.0)
    config = Config(point_cloud_range=low_high, voxel_size=(size, size, 8.0), out_size_factor=factor)
    assert geometry(config).grid == (cells, cells, 1)


def test_convnext_has_sizes_of_its_own() -> None:
    made = architecture(Config(backbone="convnext_pc", out_size_factor=4, voxel_size=(0.3, 0.3, 8.0)))
    assert made.out_channels == (32, 192, 192, 192, 192)
    assert made.layer_nums == (3, 3, 2, 1, 1)
    assert made.levels == (2, 3, 4)
    assert made.upsample_strides == (1.0, 2.0, 4.0)
    assert made.coarsest == 16


def test_tasks_share_the_classes() -> None:
    config = Config(tasks=(("car", "truck", "bus"), ("bicycle", "pedestrian")))
    assert architecture(config).tasks == (3, 2)
    assert class_names(config) == CLASS_NAMES


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layer_nums": (3, 5)}, "layer_nums has 2, layer_strides has 3, out_channels has 3"),
        ({"upsample_channels": (128, 128)}, "takes 3 maps, upsample_strides has 3 and upsample_channels 2"),
        ({"out_size_factor": 1}, "have 2, 2, 2 pillars to a cell, out_size_factor says 1"),
        ({"upsample_strides": (1.0, 1.0, 2.0)}, "have 1, 2, 2 pillars to a cell"),
        (
            {"backbone": "convnext_pc", "out_size_factor": 4, "feat_channels": (64,), "out_channels": (32,) * 5},
            "begins",
        ),
        ({"backbone": "convnext_pc", "out_size_factor": 4, "layer_strides": (2, 2, 2, 2, 2)}, "layer_strides is"),
        ({"voxel_size": (0.4, 0.4, 8.0)}, "grid of 612 x 612 pillars is no multiple of the backbone's 8"),
        ({"voxel_size": (0.24, 0.24, 4.0)}, "2 cells along z"),
    ],
)
def test_parts_that_do_not_fit_are_named_with_their_numbers(fields: dict[str, Any], said: str) -> None:
    if "voxel_size" in fields and fields["voxel_size"][0] == 0.4:
        fields |= {"layer_strides": (2, 2, 2), "out_size_factor": 4}
    with pytest.raises(ConfigError, match=said) as caught:
        architecture(Config(**fields))
    assert caught.value.exit_code is ExitCode.CONFIG


# ---------------------------------------------------------------- AWML's model config


def test_a_model_config_says_everything(base: Path) -> None:
    config = Config(
        model_config=base,
        point_columns=(0, 1, 2),
        feat_channels=(64,),
        voxel_size=(0.3, 0.3, 8.0),
        out_size_factor=1,
        max_voxels=7,
        post_max_size=3,
    )
    made, grid = architecture(config), geometry(config)
    assert made == architecture(Config(point_columns=(0, 1, 2, 3, 4)))
    assert grid == geometry(Config(point_columns=(0, 1, 2, 3, 4)))
    said = settled(config)
    assert said.class_names == class_names(config) == CLASS_NAMES
    assert (said.score_threshold, said.top_k, said.nms, said.nms_threshold) == (0.2, 400, "circle", 0.7)
    assert (said.post_max_size, said.post_center_range) == (90, (-150, -150, -10, 150, 150, 10))
    assert settled(said) == said


def test_the_short_range_model_inherits(base: Path) -> None:
    path = base.with_name("short.py")
    path.write_text(SHORT)
    config = Config(model_config=path)
    made = architecture(config)
    keys = Config(
        backbone="convnext_pc",
        point_cloud_range=(-51.2, -51.2, -3.0, 51.2, 51.2, 5.0),
        voxel_size=(0.16, 0.16, 8.0),
        out_size_factor=4,
        max_voxels=64000,
    )
    assert made == architecture(keys)
    assert geometry(config) == geometry(keys)


def test_other_stages_may_go_to_the_neck(base: Path) -> None:
    path = base.with_name("short.py")
    path.write_text(SHORT.replace("[2, 3, 4]", "[1, 2, 3]").replace("size_factor=4", "size_factor=2"))
    assert architecture(Config(model_config=path)).levels == (1, 2, 3)


def test_details_of_the_network_are_read(base: Path) -> None:
    text = """
model = dict(
    pts_voxel_encoder=dict(
        type="mmdet3d.BackwardPillarFeatureNet", with_distance=True, norm_cfg=dict(type="BN1d", eps=2e-3, momentum=0.02)
    ),
    pts_backbone=dict(norm_cfg=dict(type="SyncBN", eps=3e-3, momentum=0.03)),
    pts_neck=dict(norm_cfg=dict(_delete_=True, type="BN"), upsample_strides=[1, 2, 4], use_conv_for_no_stride=False),
    pts_bbox_head=dict(
        type="CenterHeadONNX", norm_cfg=dict(type="BN2d", eps=1e-3, momentum=0.01), num_heatmap_convs=3,
        share_conv_channel=32, separate_head=dict(_delete_=True, type="SeparateHead", final_kernel=3, head_conv=16),
        tasks=[dict(class_names=["car", "truck", "bus"]), dict(class_names=["bicycle", "pedestrian"])],
        bbox_coder=dict(out_size_factor=1),
    ),
    test_cfg=dict(pts=dict(out_size_factor=1)),
)
"""
    made = architecture(changed(base, text))
    assert (made.encoder, made.channels) == ("backward", 11)
    assert made.encoder_norm == Norm(eps=2e-3, momentum=0.02)
    assert made.backbone_norm == Norm(eps=3e-3, momentum=0.03)
    assert made.neck_norm == Norm(eps=1e-5, momentum=0.1)
    assert made.head_norm == Norm(eps=1e-3, momentum=0.01)
    assert (made.upsample_strides, made.use_conv_for_no_stride) == ((1.0, 2.0, 4.0), False)
    assert (made.heatmap_convs, made.share_conv_channel, made.head_conv, made.final_kernel) == (3, 32, 16, 3)
    assert (made.tasks, made.heatmap_bias) == ((3, 2), -2.19)


FILE = "dict(type='LoadPointsFromFile', coord_type='LIDAR', load_dim=6, use_dim=5)"
SWEEPS = "dict(type='mmdet3d.LoadPointsFromMultiSweeps', sweeps_num=3, load_dim=6, use_dim=[0, 1, 2, 3, 5])"


@pytest.mark.parametrize(
    ("steps", "columns", "load_dim", "sweeps"),
    [
        (f"[{FILE}, {SWEEPS}]", (0, 1, 2, 3, 5), 6, 3),
        (f"[{FILE.replace('use_dim=5', 'use_dim=[0, 1, 2, 4, 5]')}]", (0, 1, 2, 4, 5), 6, 0),
        (f"[{FILE}]", (0, 1, 2, 3, 4), 6, 0),
        ("[dict(type='Pack3DDetInputs')]", (0, 1, 2, 3, 4), 5, 1),
    ],
)
def test_points_are_read_as_the_test_pipeline_does(
    base: Path, steps: str, columns: tuple[int, ...], load_dim: int, sweeps: int
) -> None:
    found = geometry(changed(base, f"test_pipeline = {steps}"))
    assert (found.columns, found.load_dim, found.sweeps) == (columns, load_dim, sweeps)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = dict(pts_voxel_encoder=dict(type='HardVFE'))", "pts_voxel_encoder.type is HardVFE"),
        ("model = dict(pts_middle_encoder=dict(type='SparseEncoder'))", "pts_middle_encoder.type is SparseEncoder"),
        ("model = dict(pts_backbone=dict(type='SECONDD'))", "pts_backbone.type is SECONDD"),
        ("model = dict(pts_neck=dict(type='FPN'))", "pts_neck.type is FPN"),
        ("model = dict(pts_bbox_head=dict(type='MultiHeadCenterHead'))", "pts_bbox_head.type is MultiHeadCenterHead"),
        ("model = dict(pts_bbox_head=dict(separate_head=dict(type='DCNSeparateHead')))", "is DCNSeparateHead"),
        ("model = dict(pts_neck=dict(norm_cfg=dict(type='GN')))", "norm_cfg.type is GN"),
        ("model = dict(pts_voxel_encoder=dict(legacy=True))", "legacy is on"),
        ("model = dict(pts_voxel_encoder=dict(mode='avg'))", "mode is avg"),
        ("model = dict(pts_bbox_head=dict(norm_bbox=False))", "norm_bbox is off"),
        ("model = dict(pts_middle_encoder=dict(in_channels=64))", "pts_middle_encoder.in_channels is 64.* gives 32"),
        ("model = dict(pts_backbone=dict(in_channels=64))", "pts_backbone.in_channels is 64.* gives 32"),
        ("model = dict(pts_neck=dict(in_channels=[64, 128]))", r"pts_neck.in_channels is \[64, 128\]"),
        ("model = dict(pts_bbox_head=dict(in_channels=256))", "pts_bbox_head.in_channels is 256.* gives 384"),
        ("lidar_sweep_dims = [0, 1, 2, 4]", r"in_channels is 5, but lidar_sweep_dims .* names 4 columns.*9 or 10.*11"),
        ("model = dict(pts_voxel_encoder=dict(in_channels=4))", "in_channels is 4, but lidar_sweep_dims .* names 5"),
        ("model = dict(test_cfg=dict(pts=dict(out_size_factor=[2, 4])))", "out_size_factor differs by task"),
        ("model = dict(test_cfg=dict(pts=dict(min_radius=[1.0, 4.0])))", "min_radius differs by task"),
        ("model = dict(test_cfg=dict(pts=dict(nms_type='hexagon')))", "hexagon"),
        (
            "model = dict(data_preprocessor=dict(voxel_layer=dict(voxel_size=[0.25, 0.25, 8.0])))",
            "point_cloud_range: 244.8 m along x is 979.2 voxels of 0.25 m, not a whole number",
        ),
        ("model = dict(pts_backbone=dict(_delete_=True, type='SECOND'))", "nothing of model.pts_backbone.layer_nums"),
        ("class_names = ['car', 'truck']", "tasks: .* not class_names in order: car, truck"),
        ("model = dict(pts_backbone=dict(layer_strides=[2, 2, 2]))", "4, 4, 4 pillars to a cell"),
    ],
)
def test_what_is_wrong_with_a_model_config_is_named(base: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        architecture(changed(base, text))
    assert str(base.with_name("mine.py")) in caught.value.message
    assert caught.value.hint


def test_a_config_of_something_else_is_no_model_config(tmp_path: Path) -> None:
    path = tmp_path / "yolox.py"
    path.write_text("model = dict(type='YOLOX', backbone=dict(type='ELANDarknet'))")
    with pytest.raises(ConfigError, match=r"yolox\.py: model.pts_voxel_encoder.type is None"):
        architecture(Config(model_config=path))
    path.write_text("x = 1")
    with pytest.raises(ConfigError, match=r"yolox\.py: says nothing of model"):
        geometry(Config(model_config=path))


def test_class_names_of_the_config_must_be_those_of_the_model(base: Path) -> None:
    assert class_names(Config(model_config=base, class_names=CLASS_NAMES)) == CLASS_NAMES
    with pytest.raises(ConfigError, match="not class_names in order: car, bus"):
        class_names(Config(model_config=base, class_names=("car", "bus")))
