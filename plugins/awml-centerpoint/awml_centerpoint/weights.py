"""The trained network: its architecture from the config, its weights from a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awml_centerpoint.architecture import Architecture, architecture, class_names
from awml_centerpoint.network import CenterPoint, build
from awml_deploy_core.checkpoint import load_state, read_checkpoint
from awml_deploy_core.errors import LoadError

if TYPE_CHECKING:
    from torch import Tensor

    from awml_centerpoint.config import Config

    Tensors = Mapping[str, Tensor]

PREFIX = "module."
"""What torch's wrappers for several GPUs put before every name."""

QUANTISED = re.compile(r"(^|\.)_?(input|weight|output)_quantizer\.|(^|\.)\w*fake_quant\w*\.|\.(zero_point|_amax)$")
"""Names under which tools for quantisation keep their ranges."""

FOREIGN = {
    "img_backbone.": "a network with cameras, such as BEVFusion or StreamPETR",
    "pts_bbox_head.decoder.": "TransFusion",
    "pts_middle_encoder.": "a CenterPoint on voxels, whose middle encoder has weights",
    "pts_backbone.blocks.": "second",
    "pts_backbone.stages.": "convnext_pc",
    "bbox_head.multi_level_conv_cls.": "YOLOX",
    "backbone.layer1.": "a ResNet",
}
"""How the names of a network begin; the first that is met counts."""

CHANNELS = {
    9: "9 channels are point_columns = (0, 1, 2, 4) with encoder = 'backward'.",
    10: "10 channels are point_columns = (0, 1, 2, 4) with encoder = 'pillar'.",
    11: "11 channels are point_columns = (0, 1, 2, 3, 4) with encoder = 'pillar'.",
}


def load(config: Config) -> CenterPoint:
    """The network with its trained weights, in eval mode.

    Raises:
        LoadError: If the weights do not fit, saying what they look like.
    """
    if config.checkpoint_path is None:
        raise LoadError("checkpoint_path is not set, so there are no weights to load", hint="Name the trained weights.")
    made, path = architecture(config), config.checkpoint_path
    checkpoint = read_checkpoint(path, trust=config.trust_checkpoint)
    tensors = checkpoint.state(strip=PREFIX)
    model = build(made)
    refuse_quantised(tensors, path)
    refuse_other(tensors, made, path)
    refuse_channels(tensors, made, path)
    refuse_sizes(tensors, model.state_dict(), path)
    refuse_classes(checkpoint.meta, class_names(config), path)
    load_state(model, tensors, source=str(path))
    return model.eval()


def refuse_quantised(tensors: Tensors, path: Path) -> None:
    """Refuse ranges of a quantiser, which are no weights of this network."""
    found = [name for name in tensors if QUANTISED.search(name)]
    if found:
        raise LoadError(
            f"{path}: holds the state of a quantiser beside the weights ({len(found)} entries, such as {found[0]}), "
            "as a checkpoint does after post-training quantisation",
            hint="Take the checkpoint from before that; precision is chosen by backend_config's precision_policy.",
        )


def refuse_other(tensors: Tensors, made: Architecture, path: Path) -> None:
    """Refuse the weights of another kind of network by its name."""
    met = (what for start, what in FOREIGN.items() if any(name.startswith(start) for name in tensors))
    looks = next(met, f"another network (its first weight is {next(iter(tensors))})")
    if looks != made.backbone:
        kinds = {"second": "a CenterPoint on second", "convnext_pc": "a CenterPoint on convnext_pc"}
        raise LoadError(
            f"{path}: looks like {kinds.get(looks, looks)}, this config describes {kinds[made.backbone]}",
            hint="Name the right checkpoint, or set model_config (or backbone) to what was trained.",
        )


def refuse_channels(tensors: Tensors, made: Architecture, path: Path) -> None:
    """Refuse an encoder for other points, before it is called a mismatch of shapes."""
    first = tensors.get("pts_voxel_encoder.pfn_layers.0.linear.weight")
    if first is not None and first.ndim == 2 and first.shape[1] != made.channels:
        channels = int(first.shape[1])
        raise LoadError(
            f"{path}: its encoder was trained on points of {channels} channels, this config makes {made.channels} "
            f"(point_columns names {made.columns}, encoder is {made.encoder!r})",
            hint=CHANNELS.get(channels, "Known are 9, 10 and 11 channels, by point_columns and encoder."),
        )


def refuse_classes(meta: Mapping[str, Any], names: Sequence[str], path: Path) -> None:
    """Refuse classes in another order than the training's, where the file tells it: a heat map has no names.

    mmengine keeps them with the data set's description, other layouts say nothing. A class may be renamed, not moved.
    """
    said = meta.get("dataset_meta")
    found = said.get("classes", said.get("CLASSES")) if isinstance(said, Mapping) else None
    trained = tuple(map(str, found)) if isinstance(found, list | tuple) else ()
    if any(name in names and names[place] != name for place, name in enumerate(trained[: len(names)])):
        raise LoadError(
            f"{path}: was trained on the classes {', '.join(trained)}, this config says {', '.join(names)}: "
            "boxes would have the wrong names",
            hint="Set class_names (and tasks) to the classes of the training, in its order.",
        )


def refuse_sizes(tensors: Tensors, wanted: Tensors, path: Path) -> None:
    """Refuse another size of the same network in its own terms, before single weights are counted."""
    there, here = outline(tensors), outline(wanted)
    faults = [f"{what} {there[what]} in the file, {here[what]} here" for what in here if there[what] != here[what]]
    if faults:
        raise LoadError(
            f"{path}: is a CenterPoint of another size: {'; '.join(faults)}",
            hint="Set model_config, or the keys of the architecture, to what was trained.",
        )


def outline(tensors: Tensors) -> dict[str, tuple[int | str, ...]]:
    """The sizes that tell one CenterPoint from another, read off names and shapes."""
    pillar = _shapes(tensors, r"pts_voxel_encoder\.pfn_layers\.\d+\.linear\.weight")
    stages = _shapes(tensors, r"pts_backbone\.(blocks\.\d+\.0|stages\.\d+\.0\.depthwise_conv)\.weight")
    layers = [name.split(".")[2] for name, value in tensors.items() if _is_layer(name, value)]
    heads = [name.split(".")[2:4] for name in tensors if name.startswith("pts_bbox_head.task_heads.")]
    heat = _shapes(tensors, r"pts_bbox_head\.task_heads\.\d+\.heatmap\.\d+\.bias")
    return {
        "encoder layers of units": tuple(shape[0] for shape in pillar),
        "stages of channels": tuple(shape[0] for shape in stages),
        "layers of each stage": tuple(layers.count(stage) for stage in dict.fromkeys(layers)),
        "neck of channels": tuple(shape[0] for shape in _shapes(tensors, r"pts_neck\.deblocks\.\d+\.1\.weight")),
        "neck of kernels": tuple(shape[-1] for shape in _shapes(tensors, r"pts_neck\.deblocks\.\d+\.0\.weight")),
        "classes of each task": tuple(shape[0] for shape in heat),
        "maps": tuple(sorted({name for task, name in heads if task == "0"})),
    }


def _shapes(tensors: Tensors, pattern: str) -> list[tuple[int, ...]]:
    names: Iterable[str] = (name for name in tensors if re.fullmatch(pattern, name))
    by_number = sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return [tuple(tensors[name].shape) or (0,) for name in by_number]


def _is_layer(name: str, value: Tensor) -> bool:
    found = re.fullmatch(r"pts_backbone\.(blocks\.\d+\.\d+|stages\.\d+\.\d+\.depthwise_conv)\.weight", name)
    return found is not None and value.ndim == 4
