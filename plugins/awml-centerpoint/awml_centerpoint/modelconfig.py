"""AWML's model config of a CenterPoint in this plugin's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from awml_centerpoint.architecture import FINE, WIDE, Architecture, Norm
from awml_deploy_core.configfile import read_config
from awml_deploy_core.errors import ConfigError, nearest
from awml_deploy_core.strict import structure

if TYPE_CHECKING:
    from awml_centerpoint.config import Config

Table = Mapping[str, Any]

KINDS: dict[str, dict[str, str]] = {
    "model.pts_voxel_encoder": {"PillarFeatureNet": "pillar", "BackwardPillarFeatureNet": "backward"},
    "model.pts_middle_encoder": {"PointPillarsScatter": "scatter"},
    "model.pts_backbone": {"SECOND": "second", "ConvNeXt_PC": "convnext_pc"},
    "model.pts_neck": {"SECONDFPN": "secondfpn"},
    "model.pts_bbox_head": {"CenterHead": "centre"},
    "model.pts_bbox_head.separate_head": {"SeparateHead": "separate", "CustomSeparateHead": "separate"},
}
"""What each part may be. AWML's classes for export bear the same names with ONNX behind."""

HINT = "Name AWML's config of a CenterPoint, or leave model_config out and set the keys."


@frozen(kw_only=True)
class Model:
    """A model config that was read.

    Args:
        path: The file.
        values: All of it.
    """

    path: Path
    values: Table

    def settle(self, config: Config) -> Config:
        """The config with everything that the file says.

        Raises:
            ConfigError: If the file describes another network, or numbers that cannot be meant.
        """
        said = {name: value for name, value in _keys(self).items() if value is not None}
        of_tasks = [name for task in said["tasks"] for name in task]
        said["class_names"] = config.class_names or self.get("class_names") or of_tasks
        typed = structure(said, type(config), where=str(self.path))
        try:
            made = attrs.evolve(config, **{name: getattr(typed, name) for name in said})
        except ValueError as error:
            raise ConfigError(f"{self.path}: {error}", hint=HINT) from error
        faults = list(_unfit(self, made))
        if faults:
            raise ConfigError(f"{self.path}: {'; '.join(faults)}", hint="Parts of a network must fit one another.")
        return made

    def refine(self, made: Architecture) -> Architecture:
        """The architecture with what has no key of its own: norms, the heat map's first bias."""
        parts = {"pts_voxel_encoder": WIDE, "pts_backbone": WIDE, "pts_neck": WIDE, "pts_bbox_head": FINE}
        encoder, backbone, neck, head = (self._norm(f"model.{part}.norm_cfg", usual) for part, usual in parts.items())
        bias = self.get("model.pts_bbox_head.separate_head.init_bias", -2.19)
        indices = self.get("model.pts_backbone.out_indices", made.levels)
        return attrs.evolve(
            made,
            levels=tuple(indices) if made.backbone == "convnext_pc" else made.levels,
            heatmap_bias=float(bias),
            encoder_norm=encoder,
            backbone_norm=backbone,
            neck_norm=neck,
            head_norm=head,
        )

    def kind(self, section: str) -> str:
        """Which of the known parts a section names.

        Raises:
            ConfigError: If none, naming those that are known.
        """
        known = KINDS[section]
        said = str(self.get(f"{section}.type")).rpartition(".")[2]
        found = known.get(said.removesuffix("ONNX"))
        if found is None:
            near = nearest(said, known)
            there = f"Known: {', '.join(known)}."
            raise ConfigError(
                f"{self.path}: {section}.type is {said}, which this plugin does not know",
                hint=f"Did you mean {near}? {there}" if near else there,
            )
        return found

    def get(self, path: str, default: Any = None) -> Any:
        """A value by its dotted path."""
        found: Any = self.values
        for name in path.split("."):
            if not isinstance(found, Mapping) or name not in found:
                return default
            found = found[name]
        return found

    def need(self, path: str) -> Any:
        """A value that must be there.

        Raises:
            ConfigError: If it is not.
        """
        found = self.get(path)
        if found is None:
            raise ConfigError(f"{self.path}: says nothing of {path}, from which the network is built", hint=HINT)
        return found

    def _norm(self, path: str, usual: Norm) -> Norm:
        said = self.get(path)
        if said is None:
            return usual
        kind = str(said.get("type")).rpartition(".")[2]
        if kind not in ("BN", "BN1d", "BN2d", "SyncBN", "naiveSyncBN1d", "naiveSyncBN2d"):
            raise ConfigError(f"{self.path}: {path}.type is {kind}, the published networks have batch norms", hint=HINT)
        return Norm(eps=float(said.get("eps", FINE.eps)), momentum=float(said.get("momentum", FINE.momentum)))


def read(path: Path) -> Model:
    """Read a model config.

    Raises:
        ConfigError: If it is not one of a CenterPoint.
    """
    model = Model(path=path, values=read_config(path).values)
    model.need("model")
    for section in KINDS:
        if section.endswith("separate_head") and model.get(section) is None:
            continue
        model.kind(section)
    return model


def _keys(model: Model) -> dict[str, Any]:
    """This plugin's keys; None where the file is silent."""
    return {**_grid(model), **_encoder(model), **_trunk(model), **_head(model), **_decoding(model)}


def _grid(model: Model) -> dict[str, Any]:
    layer = "model.data_preprocessor.voxel_layer"
    most = model.get(f"{layer}.max_voxels")
    return {
        "point_cloud_range": model.get(f"{layer}.point_cloud_range", model.get("point_cloud_range")),
        "voxel_size": model.need(f"{layer}.voxel_size"),
        "max_num_points": model.get(f"{layer}.max_num_points"),
        "max_voxels": most[-1] if isinstance(most, Sequence) else most,  # the first is training's
        "out_size_factor": _factor(model),
        **_loading(model),
    }


def _loading(model: Model) -> dict[str, Any]:
    """How points are read: what the test pipeline says, else the variables that AWML's configs put into it."""
    steps = [step for step in model.get("test_pipeline", ()) if isinstance(step, Mapping)]
    by_kind = {str(step.get("type")).rpartition(".")[2]: step for step in steps}
    file, sweeps = by_kind.get("LoadPointsFromFile", {}), by_kind.get("LoadPointsFromMultiSweeps", {})
    columns = (sweeps or file).get("use_dim", model.get("lidar_sweep_dims"))
    return {
        "point_columns": list(range(columns)) if isinstance(columns, int) else columns,
        "load_dim": file.get("load_dim", model.get("point_load_dim")),
        "sweeps": sweeps.get("sweeps_num", 0 if file and not sweeps else model.get("sweeps_num")),
    }


def _factor(model: Model) -> Any:
    places = ("model.test_cfg.pts.out_size_factor", "model.pts_bbox_head.bbox_coder.out_size_factor", "out_size_factor")
    said = next((value for value in map(model.get, places) if value is not None), None)
    if isinstance(said, Sequence):
        raise ConfigError(f"{model.path}: out_size_factor differs by task: {list(said)}", hint="Maps must be one size.")
    return said


def _encoder(model: Model) -> dict[str, Any]:
    part = "model.pts_voxel_encoder"
    if model.get(f"{part}.legacy", True):
        raise ConfigError(
            f"{model.path}: {part}.legacy is on, which overwrites x, y and z of each point",
            hint="The released networks say legacy=False; another rule needs another encoder.",
        )
    if model.get(f"{part}.mode", "max") != "max":
        raise ConfigError(f"{model.path}: {part}.mode is {model.get(f'{part}.mode')}, known is max", hint=HINT)
    return {
        "encoder": model.kind(part),
        "with_cluster_center": model.get(f"{part}.with_cluster_center", True),
        "with_voxel_center": model.get(f"{part}.with_voxel_center", True),
        "with_distance": model.get(f"{part}.with_distance", False),
        "feat_channels": model.get(f"{part}.feat_channels", [64]),
    }


def _trunk(model: Model) -> dict[str, Any]:
    back, neck = "model.pts_backbone", "model.pts_neck"
    kind = model.kind(back)
    depths = model.need(f"{back}.{'layer_nums' if kind == 'second' else 'depths'}")
    strides = model.need(f"{back}.layer_strides") if kind == "second" else [1, *[2] * (len(depths) - 1)]
    if model.get(f"{back}.gap_before_final_norm", False):
        raise ConfigError(f"{model.path}: {back}.gap_before_final_norm leaves no map to detect on", hint=HINT)
    return {
        "backbone": kind,
        "layer_nums": depths,
        "layer_strides": strides,
        "out_channels": model.need(f"{back}.out_channels"),
        "upsample_strides": model.need(f"{neck}.upsample_strides"),
        "upsample_channels": model.need(f"{neck}.out_channels"),
        "use_conv_for_no_stride": model.get(f"{neck}.use_conv_for_no_stride", False),
    }


def _head(model: Model) -> dict[str, Any]:
    part = "model.pts_bbox_head"
    if not model.get(f"{part}.norm_bbox", True):
        raise ConfigError(f"{model.path}: {part}.norm_bbox is off, known are sizes as logarithms", hint=HINT)
    return {
        "share_conv_channel": model.get(f"{part}.share_conv_channel", 64),
        "head_conv": model.get(f"{part}.separate_head.head_conv", 64),
        "common_heads": model.need(f"{part}.common_heads"),
        "heatmap_convs": model.get(f"{part}.num_heatmap_convs", 2),
        "final_kernel": model.get(f"{part}.separate_head.final_kernel", 1),
        "tasks": [_classes(model, task) for task in model.need(f"{part}.tasks")],
    }


def _classes(model: Model, task: Any) -> list[str]:
    names = task.get("class_names") if isinstance(task, Mapping) else None
    if not names:
        raise ConfigError(f"{model.path}: model.pts_bbox_head.tasks holds a task without class_names", hint=HINT)
    return list(names)


def _decoding(model: Model) -> dict[str, Any]:
    coder, test = "model.pts_bbox_head.bbox_coder", "model.test_cfg.pts"
    kind = model.get(f"{test}.nms_type", "circle")
    said = model.get(f"{test}.min_radius", ())
    radii = set(said if isinstance(said, Sequence) else (said,))
    if kind == "circle" and len(radii) > 1:
        raise ConfigError(f"{model.path}: {test}.min_radius differs by task", hint="Known is one radius for all.")
    return {
        "nms": kind,
        "nms_threshold": next(iter(radii), None) if kind == "circle" else model.get(f"{test}.nms_thr"),
        "score_threshold": model.get(f"{coder}.score_threshold"),
        "top_k": model.get(f"{coder}.max_num"),
        "pre_max_size": model.get(f"{test}.pre_max_size"),
        "post_max_size": model.get(f"{test}.post_max_size"),
        "post_center_range": model.get(f"{coder}.post_center_range"),
    }


def _unfit(model: Model, made: Config) -> Iterator[str]:
    """Numbers of one part that another contradicts."""
    wide, features = made.out_channels or (), made.feat_channels[-1]
    second = made.backbone == "second"
    taken = wide if second else tuple(wide[level] for level in model.get("model.pts_backbone.out_indices", (2, 3, 4)))
    wanted = {
        "pts_middle_encoder.in_channels": features,
        "pts_backbone.in_channels": features,
        "pts_neck.in_channels": list(taken),
        "pts_bbox_head.in_channels": sum(made.upsample_channels),
    }
    for path, number in wanted.items():
        said = model.get(f"model.{path}", number)
        if (list(said) if isinstance(said, Sequence) else said) != number:
            yield f"model.{path} is {said}, the part before it gives {number}"
    columns = model.get("model.pts_voxel_encoder.in_channels", 4)
    if columns != len(made.point_columns):
        yield (
            f"model.pts_voxel_encoder.in_channels is {columns}, but lidar_sweep_dims (or the test pipeline) names "
            f"{len(made.point_columns)} columns: {', '.join(map(str, made.point_columns))} "
            "(the published encoders take 4 columns, decorated to 9 or 10 channels, or 5, decorated to 11)"
        )
