"""What Autoware gets beside the graphs, and every way in which its node would trip over them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from awml_centerpoint.architecture import architecture
from awml_centerpoint.hooks import DETECTOR, ENCODER, Config, export_workflow, hand_over, wrap_for_onnx
from awml_centerpoint.network import build
from awml_deploy_core.config import BackendConfig, CommonConfig
from awml_deploy_core.errors import ArtifactError
from awml_deploy_core.export import export_onnx
from awml_deploy_core.records import Artifact, Finding, Handover
from awml_deploy_core.settings import Options, settle

SIX = {"heatmap": 5, "reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
GOOD: dict[str, Any] = {
    "rot_y_axis_reference": True,
    "score_thresholds": dict.fromkeys(("car", "truck", "bus", "bicycle", "pedestrian"), (0.35,) * 4),
    "backend_config": BackendConfig(common_config=CommonConfig(precision_policy="fp16")),
}

Shape = Sequence[str | int]


def written(
    path: Path, given: Shape, outputs: Mapping[str, Shape], tails: Mapping[str, Sequence[str]], opset: int
) -> Path:
    """A file whose shapes and last operators are those; it computes nothing of use."""
    nodes = []
    for name in outputs:
        operators = ["Conv", *tails.get(name, ())]
        steps = [f"{name}_{index}" for index in range(len(operators) - 1)] + [name]
        for index, (operator, made) in enumerate(zip(operators, steps, strict=True)):
            before = ["input", "weight"] if not index else [steps[index - 1]]
            nodes.append(helper.make_node(operator, before, [made]))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def encoder(folder: Path, shape: Shape = ("v", "p", 10), out: Shape = ("v", 1, 32), opset: int = 13) -> Artifact:
    path = written(folder / "pts_voxel_encoder.onnx", shape, {"pillar_features": out}, {}, opset)
    return artifact(ENCODER, path)


def detector(
    folder: Path,
    maps: Mapping[str, int] | None = None,
    tails: Mapping[str, Sequence[str]] | None = None,
    *,
    given: Shape = ("b", 32, "H", "W"),
    cells: Shape = ("h", "w"),
    opset: int = 13,
) -> Artifact:
    outputs = {name: ("b", channels, *cells) for name, channels in (maps or SIX).items()}
    turned = {"dim": ["Gather"], "rot": ["Gather", "Neg"]} if tails is None else tails
    return artifact(DETECTOR, written(folder / "pts_backbone_neck_head.onnx", given, outputs, turned, opset))


def artifact(component: str, path: Path) -> Artifact:
    content = path.read_bytes()
    return Artifact(
        component=component,
        format="onnx",
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        tool="torch 2.13 torchscript",
    )


def handed(tmp_path: Path, *artifacts: Artifact, **fields: Any) -> Handover:
    chosen = artifacts or (encoder(tmp_path), detector(tmp_path))
    made = hand_over("autoware", chosen, Config(**{**GOOD, **fields}))
    assert made is not None
    return made


def loaded(made: Handover, name: str) -> Any:
    content = made.files[name]
    assert isinstance(content, bytes)
    return yaml.safe_load(content)


def parameters(made: Handover, name: str) -> Any:
    return loaded(made, name)["/**"]["ros__parameters"]


def only(made: Handover) -> Finding:
    (found,) = made.findings
    return found


# ---------------------------------------------------------------- the files


def test_nothing_is_wrong_with_a_released_model(tmp_path: Path) -> None:
    made = handed(tmp_path)
    assert made.findings == ()
    assert set(made.files) == {
        "ml_package.param.yaml",
        "detection_class_remapper.param.yaml",
        "centerpoint_common.param.yaml",
        "deploy_metadata.yaml",
    }


def test_another_target_is_none_of_this_plugins_business() -> None:
    assert hand_over("triton", (), Config()) is None


def test_every_value_of_the_package_comes_from_config_and_graphs(tmp_path: Path) -> None:
    found = parameters(
        handed(tmp_path, encoder(tmp_path, ("v", "p", 11)), detector(tmp_path), **J6GEN2), "ml_package.param.yaml"
    )
    assert found == {
        "version": "v4.1",
        "encoder_onnx_path": "pts_voxel_encoder.onnx",
        "encoder_engine_path": "pts_voxel_encoder.engine",
        "head_onnx_path": "pts_backbone_neck_head.onnx",
        "head_engine_path": "pts_backbone_neck_head.engine",
        "class_remapper_param_path": "detection_class_remapper.param.yaml",
        "trt_precision": "fp16",
        "model_params": {
            "class_names": ["CAR", "TRUCK", "BUS", "BICYCLE", "PEDESTRIAN"],
            "has_twist": True,
            "point_feature_size": 5,
            "has_variance": False,
            "max_voxel_size": 96000,
            "point_cloud_range": [-122.4, -122.4, -3.0, 122.4, 122.4, 5.0],
            "voxel_size": [0.24, 0.24, 8.0],
            "downsample_factor": 2,
            "encoder_in_feature_size": 11,
            "yaw_norm_thresholds": [0.3, 0.3, 0.3, 0.3, 0.0],
            "detection_score_thresholds": {
                "distance_bin_upper_limits": [50.0, 90.0, 121.0, 200.0],
                "min_confidence_scores": {
                    "CAR": [0.4, 0.3, 0.2, 0.1],
                    "TRUCK": [0.1, 0.1, 0.1, 0.1],
                    "BUS": [0.1, 0.1, 0.1, 0.1],
                    "BICYCLE": [0.1, 0.1, 0.1, 0.1],
                    "PEDESTRIAN": [0.1, 0.1, 0.1, 0.1],
                },
            },
        },
    }


J6GEN2 = {"point_columns": (0, 1, 2, 3, 4), "score_thresholds": {"car": (0.4, 0.3, 0.2, 0.1)}}


def test_numbers_keep_the_types_that_ros_declares(tmp_path: Path) -> None:
    made = handed(tmp_path, voxel_size=(1, 1, 8), point_cloud_range=(-48, -48, -3, 48, 48, 5))
    model = parameters(made, "ml_package.param.yaml")["model_params"]
    for key in ("point_cloud_range", "voxel_size", "yaw_norm_thresholds"):
        assert {type(number) for number in model[key]} == {float}, key
    for key in ("point_feature_size", "max_voxel_size", "downsample_factor", "encoder_in_feature_size"):
        assert type(model[key]) is int, key
    remapper = parameters(made, "detection_class_remapper.param.yaml")
    assert {type(number) for number in remapper["allow_remapping_by_area_matrix"]} == {int}
    assert {type(number) for key in ("min_area_matrix", "max_area_matrix") for number in remapper[key]} == {float}


def test_small_numbers_stay_numbers(tmp_path: Path) -> None:
    made = handed(tmp_path, iou_nms_threshold=1e-5)
    assert parameters(made, "centerpoint_common.param.yaml")["post_process_params"]["iou_nms_threshold"] == 1e-5


def test_the_remapper_maps_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    found = parameters(handed(tmp_path), "detection_class_remapper.param.yaml")
    assert {key: set(values) for key, values in found.items()} == {
        "allow_remapping_by_area_matrix": {0},
        "min_area_matrix": {0.0},
        "max_area_matrix": {0.0},
    }
    assert {len(values) for values in found.values()} == {64}


def test_the_remapper_has_a_row_for_what_the_network_says(tmp_path: Path) -> None:
    areas = {"car": {"truck": (12.1, 36.0)}, "truck": {"trailer": (36.0, 999.0)}}
    found = parameters(handed(tmp_path, remap_by_area=areas), "detection_class_remapper.param.yaml")
    # UNKNOWN, CAR, TRUCK, BUS, TRAILER, MOTORCYCLE, BICYCLE, PEDESTRIAN
    places = {1 * 8 + 2: (12.1, 36.0), 2 * 8 + 4: (36.0, 999.0)}
    for place in range(64):
        low, high = places.get(place, (0.0, 0.0))
        assert found["allow_remapping_by_area_matrix"][place] == (place in places)
        assert (found["min_area_matrix"][place], found["max_area_matrix"][place]) == (low, high)


def test_the_nodes_own_parameters(tmp_path: Path) -> None:
    made = handed(tmp_path, sweeps=3, circle_nms_dist_threshold=0.7, iou_nms_threshold=0.2)
    assert parameters(made, "centerpoint_common.param.yaml") == {
        "cloud_capacity": 2000000,
        "post_process_params": {
            "circle_nms_dist_threshold": 0.7,
            "iou_nms_search_distance_2d": 10.0,
            "iou_nms_threshold": 0.2,
            "yaw_norm_thresholds": [0.3, 0.3, 0.3, 0.3, 0.0],
        },
        "densification_params": {"world_frame_id": "map", "num_past_frames": 3},
        "diagnostics": {
            "max_allowed_processing_time_ms": 200.0,
            "max_acceptable_consecutive_delay_ms": 1000.0,
            "validation_callback_interval_ms": 100.0,
        },
    }


def test_the_metadata_name_each_file_with_its_hash(tmp_path: Path) -> None:
    engine = Artifact(
        component=ENCODER, format="engine", path=Path("enc.engine"), sha256="e" * 64, size=7, precision="fp16"
    )
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path), engine)
    found = loaded(made, "deploy_metadata.yaml")
    assert (found["version"], found["encoder_engine_path"]) == ("v4.1", "enc.engine")
    assert set(found["files"]) == {"pts_voxel_encoder.onnx", "pts_backbone_neck_head.onnx", "enc.engine"}
    assert found["files"]["enc.engine"] == {"sha256": "e" * 64, "size": 7, "precision": "fp16", "made_by": ""}
    content = (tmp_path / "pts_voxel_encoder.onnx").read_bytes()
    assert found["files"]["pts_voxel_encoder.onnx"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    assert handed(tmp_path).files == handed(tmp_path).files


def test_names_of_the_files_follow_the_artifacts(tmp_path: Path) -> None:
    given = ("v", "p", 10)
    path = written(tmp_path / "voxel_encoder.onnx", given, {"pillar_features": ("v", 1, 32)}, {}, 13)
    made = handed(tmp_path, artifact(ENCODER, path), detector(tmp_path))
    found = parameters(made, "ml_package.param.yaml")
    assert (found["encoder_onnx_path"], found["encoder_engine_path"]) == ("voxel_encoder.onnx", "voxel_encoder.engine")


def test_twist_and_variance_follow_the_heads(tmp_path: Path) -> None:
    doubled = {"reg": (4, 2), "height": (2, 2), "dim": (6, 2), "rot": (4, 2), "vel": (4, 2)}
    maps = {"heatmap": 5, **{name: channels for name, (channels, _) in doubled.items()}}
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path, maps), common_heads=doubled)
    assert made.findings == ()
    model = parameters(made, "ml_package.param.yaml")["model_params"]
    assert (model["has_variance"], model["has_twist"]) == (True, True)
    still = {name: value for name, value in doubled.items() if name != "vel"}
    model = parameters(handed(tmp_path, common_heads=still), "ml_package.param.yaml")["model_params"]
    assert (model["has_variance"], model["has_twist"]) == (False, False)


@pytest.mark.parametrize(
    ("policy", "written_as", "level"),
    [
        ("fp16", "fp16", None),
        ("fp32", "fp32", None),
        ("fp32_tf32", "fp32", None),
        ("auto", "fp16", "note"),
        ("explicit_int8", "fp16", "warning"),
    ],
)
def test_precision_is_the_policys(tmp_path: Path, policy: Any, written_as: str, level: str | None) -> None:
    config = BackendConfig(common_config=CommonConfig(precision_policy=policy))
    made = handed(tmp_path, backend_config=config)
    assert parameters(made, "ml_package.param.yaml")["trt_precision"] == written_as
    assert [finding.level for finding in made.findings] == ([level] if level else [])


# ---------------------------------------------------------------- what breaks the node


@pytest.mark.parametrize(
    ("fields", "level", "subject", "fact"),
    [
        ({"rot_y_axis_reference": False}, "error", "rot_y_axis_reference", "given from the x axis"),
        ({"max_num_points": 20}, "error", "max_num_points", "keeps 20 points"),
        ({"feat_channels": (64,)}, "error", "feat_channels", "64 features"),
        ({"point_columns": (0, 1, 2, 3)}, "error", "point_feature_size", "columns 0, 1, 2, 3 and the encoder 'pillar'"),
        ({"with_distance": True, "with_voxel_center": False}, "error", "encoder_in_feature_size", "takes 8 channels"),
        ({"with_distance": True}, "error", "point_feature_size", "11 channels come from the columns 0, 1, 2, 4"),
        ({"score_thresholds": {}}, "note", "score_thresholds", "takes 0.1 at every distance"),
        ({"yaw_norm_thresholds": (0.3, 0.3, 0.3, 0.3, 1.2)}, "warning", "yaw_norm_thresholds", "not all from 0"),
    ],
)
def test_a_config_that_breaks_the_node(
    tmp_path: Path, fields: dict[str, Any], level: str, subject: str, fact: str
) -> None:
    number = 8 if "with_voxel_center" in fields else 11 if "with_distance" in fields else 10
    tails: dict[str, Sequence[str]] | None = {} if fields.get("rot_y_axis_reference") is False else None
    found = only(handed(tmp_path, encoder(tmp_path, ("v", "p", number)), detector(tmp_path, tails=tails), **fields))
    assert (found.level, found.subject) == (level, subject)
    assert fact in found.fact
    assert found.rule


def test_a_class_that_autoware_does_not_know(tmp_path: Path) -> None:
    fields = {"class_names": ("car", "scooter"), "score_thresholds": {"car": (0.3,) * 4}}
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path, {**SIX, "heatmap": 2}), **fields)
    assert (only(made).level, only(made).fact) == ("warning", "SCOOTER is no class of Autoware")
    scores = parameters(made, "ml_package.param.yaml")["model_params"]["detection_score_thresholds"]
    assert set(scores["min_confidence_scores"]) == {"CAR", "SCOOTER"}


def test_a_range_that_loses_a_cell_in_single_precision(tmp_path: Path) -> None:
    # 120 / 0.3 is 400 for whoever computes it exactly, and 399.99997 in single precision.
    made = handed(tmp_path, point_cloud_range=(-60.0, -60.0, -3.0, 60.0, 60.0, 5.0), voxel_size=(0.3, 0.3, 8.0))
    assert [(one.level, one.subject) for one in made.findings] == [("error", "point_cloud_range")] * 2
    assert made.findings[0].fact == "along x the node counts 399 voxels where training had 400"


def swapped() -> dict[str, int]:
    return {name: SIX[name] for name in ("heatmap", "reg", "dim", "height", "rot", "vel")}


@pytest.mark.parametrize(
    ("how", "fact"),
    [
        ({"maps": swapped()}, "it stands in place 3, where the node reads height"),
        ({"maps": {"heatmap": 5, "reg": 2}}, "it has 2 outputs: heatmap, reg"),
        ({"maps": {**SIX, "iou": 1}}, "it has 7 outputs"),
        ({"maps": {**SIX, "heatmap": 4}}, "axis 1 is 4, the node binds 5"),
        ({"maps": {**SIX, "reg": 4}}, "axis 1 is 4, the node binds 2"),
        ({"tails": {"heatmap": ["Sigmoid"], "dim": ["Gather"], "rot": ["Gather"]}}, "it has passed Sigmoid"),
        ({"tails": {"dim": ["Gather", "Exp"], "rot": ["Gather"]}}, "it has passed Exp"),
        (
            {"tails": {"heatmap": ["Sigmoid", "Identity"], "dim": ["Gather"], "rot": ["Gather"]}},
            "it has passed Sigmoid",
        ),
        ({"tails": {}}, "rot leaves the last convolution as it is"),
        ({"given": (1, 64, 1020, 1020)}, "axis 1 is 64, the node binds 32"),
        ({"given": (4, 32, 1020, 1020)}, "axis 0 is 4, the node binds 1"),
        ({"given": (1, 32, 1020, 760)}, "axis 3 is 760, the node binds 1020"),
        ({"given": (32, 1020, 1020)}, "it has 3 axes"),
    ],
)
def test_a_detector_that_breaks_the_node(tmp_path: Path, how: dict[str, Any], fact: str) -> None:
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path, **how))
    assert made.findings
    assert {finding.level for finding in made.findings} == {"error"}
    assert any(fact in finding.fact for finding in made.findings), made.findings
    assert all(finding.subject.startswith("pts_backbone_neck_head.onnx") for finding in made.findings)


def test_maps_of_another_size_break_the_node(tmp_path: Path) -> None:
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path, given=(1, 32, 1020, 1020), cells=(1020, 510)))
    assert {finding.fact for finding in made.findings} == {"axis 2 is 1020, the node binds 510"}
    assert len(made.findings) == 6


@pytest.mark.parametrize(
    ("given", "out", "level", "fact"),
    [
        (("v", "p", 9), ("v", 1, 32), "error", "axis 2 is 9, the node binds 10"),
        (("v", 20, 10), ("v", 1, 32), "error", "axis 1 is 20, the node binds 32"),
        ((40000, 32, 10), ("v", 1, 32), "error", "axis 0 is 40000, the node binds 96000"),
        (("v", "p", 10), ("v", 1, 64), "error", "axis 2 is 64, the node binds 32"),
        (("v", "p", 10), ("v", 32), "warning", "lacks the axis of size 1"),
    ],
)
def test_an_encoder_that_breaks_the_node(tmp_path: Path, given: Shape, out: Shape, level: str, fact: str) -> None:
    found = only(handed(tmp_path, encoder(tmp_path, given, out), detector(tmp_path)))
    assert found.level == level
    assert fact in found.fact
    assert found.subject.startswith("pts_voxel_encoder.onnx: ")


def test_fixed_sizes_that_are_the_nodes_are_fine(tmp_path: Path) -> None:
    first = encoder(tmp_path, (96000, 32, 10), (96000, 1, 32))
    second = detector(tmp_path, given=(1, 32, 1020, 1020), cells=(510, 510))
    assert handed(tmp_path, first, second).findings == ()


def test_names_of_outputs_are_free(tmp_path: Path) -> None:
    maps = {f"out_{name}": channels for name, channels in SIX.items()}
    assert handed(tmp_path, encoder(tmp_path), detector(tmp_path, maps, {})).findings == ()


def test_several_tasks_are_more_than_the_node_reads(tmp_path: Path) -> None:
    maps = {f"{name}_{task}": channels for task in (0, 1) for name, channels in SIX.items()}
    tasks = (("car", "truck", "bus"), ("bicycle", "pedestrian"))
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path, maps), tasks=tasks)
    assert only(made).fact.startswith("it has 12 outputs")


def test_half_a_variance_is_none(tmp_path: Path) -> None:
    heads = {"reg": (4, 2), "height": (1, 2), "dim": (3, 2), "rot": (2, 2), "vel": (2, 2)}
    made = handed(tmp_path, encoder(tmp_path), detector(tmp_path), common_heads=heads)
    assert only(made).fact == "reg have channels for a variance, the others have none"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    made = handed(tmp_path, encoder(tmp_path))
    assert [(one.level, one.subject) for one in made.findings] == [("error", DETECTOR)]


@pytest.mark.parametrize("length", [0, 40, 200])
def test_a_file_that_is_cut_short_is_said_to_be(tmp_path: Path, length: int) -> None:
    broken = detector(tmp_path)
    broken.path.write_bytes(broken.path.read_bytes()[:length])
    with pytest.raises(ArtifactError, match=r"pts_backbone_neck_head\.onnx: is no ONNX file, or is cut short") as error:
        handed(tmp_path, encoder(tmp_path), broken)
    assert error.value.hint == "Export it again."


def test_a_new_opset_is_a_warning(tmp_path: Path) -> None:
    found = only(handed(tmp_path, encoder(tmp_path, opset=18), detector(tmp_path, opset=17)))
    assert (found.level, found.subject, found.fact) == ("warning", "pts_voxel_encoder.onnx", "it has opset 18")


def test_errors_come_first(tmp_path: Path) -> None:
    made = handed(tmp_path, encoder(tmp_path, opset=18), detector(tmp_path), max_num_points=8, score_thresholds={})
    assert [finding.level for finding in made.findings] == ["error", "warning", "note"]


def exported(folder: Path, config: Config) -> list[Artifact]:
    """Both graphs as the core writes them."""
    torch.manual_seed(0)
    model = build(architecture(config)).eval()
    examples = {
        ENCODER: {"input_features": torch.rand(3, 32, 10)},
        DETECTOR: {"spatial_features": torch.rand(1, 32, 8, 8)},
    }
    return [
        export_onnx(
            wrap_for_onnx(model, one, config),
            one,
            examples[one.name],
            folder / f"{one.name}.onnx",
            opset_version=13,
        ).artifact
        for one in export_workflow(config)
    ]


def test_exported_graphs_are_what_the_node_wants(tmp_path: Path) -> None:
    thin = {"out_channels": (4, 4, 4), "layer_nums": (0, 0, 0), "upsample_channels": (4, 4, 4), "share_conv_channel": 4}
    config = Config(**{**GOOD, **thin, "head_conv": 4})
    files = exported(tmp_path, config)
    made = hand_over("autoware", files, config)
    assert made is not None
    assert made.findings == ()
    plain = exported(tmp_path, attrs.evolve(config, rot_y_axis_reference=False))
    made = hand_over("autoware", plain, config)
    assert made is not None
    assert only(made).fact == "rot leaves the last convolution as it is, though the config wants the y-axis form"


# ---------------------------------------------------------------- the config's part


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("remap_by_area = dict(car=dict(lorry=(1, 2)))", "LORRY is no class of Autoware"),
        ("remap_by_area = dict(car=dict(truck=(3, 2)))", "car to truck: areas must ascend"),
        ("bundle_version = 'v3.0'", "bundle_version"),
    ],
)
def test_faulty_settings_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(f"checkpoint_path = 'x'\n{line}\n")
    with pytest.raises(Exception, match=said):
        settle(path, Options(), config_class=Config)
