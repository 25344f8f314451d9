"""What goes to Autoware beside the two ONNX files: its parameter files, and what its node would trip over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from awml_centerpoint import rules
from awml_centerpoint.architecture import architecture, class_names, geometry, settled
from awml_centerpoint.config import DETECTOR, ENCODER, LABELS, Config
from awml_deploy_core.records import Finding, Handover

if TYPE_CHECKING:
    from awml_deploy_core.records import Artifact

Table = Mapping[str, Any]

PRECISIONS = {"auto": "fp16", "fp16": "fp16", "fp32": "fp32", "fp32_tf32": "fp32"}
"""The node's word for each policy that it can follow; `fp16` is its own default."""

REMAPPER = "detection_class_remapper.param.yaml"


def autoware(artifacts: Sequence[Artifact], config: Config) -> Handover:
    """Parameter files for autoware_lidar_centerpoint, every value from the config and the graphs.

    `ml_package.param.yaml` and the class remapper lie in the bundle beside the ONNX files; the node's own parameters
    are in `centerpoint_common.param.yaml`. `deploy_metadata.yaml` says what the bundle is and what its files must be.
    """
    config = attrs.evolve(settled(config), class_names=class_names(config))
    graphs = {one.component: rules.read(one.path) for one in artifacts if one.format == "onnx"}
    case = rules.Case(
        config=config,
        made=architecture(config),
        grid=geometry(config),
        encoder=graphs.get(ENCODER),
        detector=graphs.get(DETECTOR),
    )
    files = {
        "ml_package.param.yaml": _parameters({**_bundle(config, artifacts), "model_params": _model(case)}),
        REMAPPER: _parameters(_remapper(config)),
        "centerpoint_common.param.yaml": _parameters(_node(case)),
        "deploy_metadata.yaml": _metadata(config, artifacts),
    }
    texts = {name: "\n".join(_lines(content)) + "\n" for name, content in files.items()}
    found = [*rules.findings(case), *_precision_findings(config)]
    return Handover(files={name: text.encode() for name, text in texts.items()}, findings=tuple(found))


# ---------------------------------------------------------------- what the files hold


def _parameters(content: Table) -> Table:
    return {"/**": {"ros__parameters": content}}


def _bundle(config: Config, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """The version and the files of the bundle, by names relative to it."""
    names = {"version": config.bundle_version}
    for role, component in (("encoder", ENCODER), ("head", DETECTOR)):
        there = {one.format: one.path.name for one in artifacts if one.component == component}
        onnx = there.get("onnx", f"{component}.onnx")
        names[f"{role}_onnx_path"] = onnx
        names[f"{role}_engine_path"] = there.get("engine", f"{onnx.removesuffix('.onnx')}.engine")
    return {**names, "class_remapper_param_path": REMAPPER, "trt_precision": PRECISIONS.get(_policy(config), "fp16")}


def _model(case: rules.Case) -> dict[str, Any]:
    config, grid = case.config, case.grid
    bins = config.score_distance_bins
    scores = {
        name.upper(): _floats(config.score_thresholds.get(name, [config.score_threshold] * len(bins)))
        for name in config.class_names
    }
    return {
        "class_names": [name.upper() for name in config.class_names],
        "has_twist": any(name == "vel" for name, _, _ in case.made.heads),
        "point_feature_size": len(grid.columns),
        "has_variance": rules.has_variance(case.made),
        "max_voxel_size": grid.max_voxels,
        "point_cloud_range": _floats(grid.range),
        "voxel_size": _floats(grid.voxel_size),
        "downsample_factor": grid.out_size_factor,
        "encoder_in_feature_size": case.made.channels,
        "yaw_norm_thresholds": _yaw_norms(config),
        "detection_score_thresholds": {"distance_bin_upper_limits": _floats(bins), "min_confidence_scores": scores},
    }


def _yaw_norms(config: Config) -> list[float]:
    if config.yaw_norm_thresholds is not None:
        return _floats(config.yaw_norm_thresholds)
    return [0.0 if name == "pedestrian" else 0.3 for name in config.class_names]


def _floats(numbers: Sequence[float]) -> list[float]:
    """ROS refuses a whole number where a node declares a fraction."""
    return [float(number) for number in numbers]


def _remapper(config: Config) -> dict[str, Any]:
    """Three matrices, flat: rows are the class that the network says, columns the one that is published."""
    areas = {
        (source.upper(), target.upper()): limits
        for source, targets in config.remap_by_area.items()
        for target, limits in targets.items()
    }
    pairs = [(source, target) for source in LABELS for target in LABELS]
    return {
        "allow_remapping_by_area_matrix": [int(pair in areas) for pair in pairs],
        "min_area_matrix": _floats([areas.get(pair, (0.0, 0.0))[0] for pair in pairs]),
        "max_area_matrix": _floats([areas.get(pair, (0.0, 0.0))[1] for pair in pairs]),
    }


def _node(case: rules.Case) -> dict[str, Any]:
    config = case.config
    return {
        "cloud_capacity": 2000000,
        "post_process_params": {
            "circle_nms_dist_threshold": float(config.circle_nms_dist_threshold),
            "iou_nms_search_distance_2d": float(config.iou_nms_search_distance_2d),
            "iou_nms_threshold": float(config.iou_nms_threshold),
            # Nodes before bundles of v4.1 read them here.
            "yaw_norm_thresholds": _yaw_norms(config),
        },
        "densification_params": {"world_frame_id": "map", "num_past_frames": case.grid.sweeps},
        "diagnostics": {
            "max_allowed_processing_time_ms": 200.0,
            "max_acceptable_consecutive_delay_ms": 1000.0,
            "validation_callback_interval_ms": 100.0,
        },
    }


def _metadata(config: Config, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    files = {
        one.path.name: {"sha256": one.sha256, "size": one.size, "precision": one.precision, "made_by": one.tool}
        for one in artifacts
    }
    return {"version": config.bundle_version, "model": "centerpoint", **_bundle(config, artifacts), "files": files}


# ---------------------------------------------------------------- precision


def _policy(config: Config) -> str:
    return config.backend_config.common_config.precision_policy


def _precision_findings(config: Config) -> Iterator[Finding]:
    policy, rule = _policy(config), "trt_precision is fp16 or fp32; the node builds its own engines with it."
    if policy not in PRECISIONS:
        fact = f"precision_policy is {policy!r}, which the node cannot follow; fp16 is written"
        yield Finding(level="warning", subject="trt_precision", fact=fact, rule=rule)
    elif policy == "auto":
        fact = "precision_policy is 'auto', so the node's own default of fp16 is written"
        yield Finding(level="note", subject="trt_precision", fact=fact, rule=rule)


# ---------------------------------------------------------------- YAML as ROS reads it


def _lines(content: Table, depth: int = 0) -> Iterator[str]:
    for key, value in content.items():
        start = f"{'  ' * depth}{key if key == '/**' or key.replace('_', '').isalnum() else json.dumps(key)}:"
        if isinstance(value, Mapping):
            yield start if value else f"{start} {{}}"
            yield from _lines(value, depth + 1)
        elif isinstance(value, list) and len(value) == len(LABELS) ** 2:
            yield from _matrix(start, value, depth + 1)
        else:
            yield f"{start} {_value(value)}"


def _matrix(start: str, values: Sequence[Any], depth: int) -> Iterator[str]:
    size = len(LABELS)
    yield f"{start}  # rows and columns: {', '.join(LABELS)}"
    for row in range(size):
        shown = ", ".join(map(_value, values[row * size : (row + 1) * size]))
        yield f"{'  ' * depth}{'[' if not row else ' '}{shown}{']' if row == size - 1 else ','}"


def _value(value: Any) -> str:
    """A value whose type ROS recognises: 50 is a whole number there and 50.0 is not."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    text = json.dumps(value)
    # YAML 1.1 takes 1e-05 for a word.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
