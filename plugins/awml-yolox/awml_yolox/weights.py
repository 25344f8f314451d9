"""The trained network: its architecture from the config, its weights from a checkpoint of any of three layouts."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awml_deploy_core.checkpoint import Checkpoint, load_state, read_checkpoint
from awml_deploy_core.errors import LoadError
from awml_yolox.architecture import architecture
from awml_yolox.layouts import Shape, foreign, renamed, shape_of, wanted_shape
from awml_yolox.network import Yolox, build

if TYPE_CHECKING:
    from torch import Tensor

    from awml_yolox.hooks import Config

logger = logging.getLogger(__name__)

CLASSES = re.compile(r"bbox_head\.multi_level_conv_cls\.\d+\.bias")


def load(config: Config) -> Yolox:
    """The network with its trained weights, in eval mode.

    Raises:
        LoadError: There are no weights, they are of another network, or of other classes.
    """
    path = config.checkpoint_path
    if path is None:
        raise LoadError("checkpoint_path is not set, so there are no weights to load", hint="Name the trained weights.")
    wanted = architecture(config)
    model = build(wanted)
    checkpoint = read_checkpoint(path, trust=config.trust_checkpoint)
    tensors = renamed(checkpoint.state(strip="module."))
    require_shape(tensors, wanted_shape(wanted), path)
    require_classes(tensors, config.names, path)
    require_order(checkpoint, config.names)
    load_state(model, tensors, source=str(path))
    return model.eval()


def require_shape(tensors: Mapping[str, Tensor], wanted: Shape, path: Path) -> None:
    """Refuse the weights of another network, before a list of keys is all that is said about it."""
    found = shape_of(tensors)
    if found is None:
        raise LoadError(
            f"{path}: holds {foreign(tensors)}, not a YOLOX", hint="Name a checkpoint of YOLOX_opt_ELAN or of YOLOX."
        )
    if found != wanted:
        raise LoadError(
            f"{path}: holds the weights of {found.called()}, the config asks for {wanted.called()}",
            hint=f"Set {found.keys()}, or name another checkpoint.",
        )


def require_classes(tensors: Mapping[str, Tensor], names: tuple[str, ...], path: Path) -> None:
    """Refuse a head for another number of classes."""
    counts = {len(value) for name, value in tensors.items() if CLASSES.fullmatch(name)}
    if counts and counts != {len(names)}:
        raise LoadError(
            f"{path}: was trained for {min(counts)} classes, class_names lists {len(names)} ({', '.join(names)})",
            hint="Set class_names to the classes of the training, in its order.",
        )


def require_order(checkpoint: Checkpoint, names: tuple[str, ...]) -> None:
    """Hold the class names against those that mmengine wrote beside the weights."""
    meta: Any = checkpoint.meta.get("dataset_meta")
    classes = meta.get("classes") or meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        return
    ours, theirs = [name.lower() for name in names], [name.lower() for name in classes]
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise LoadError(
            f"{checkpoint.path}: was trained with the classes {', '.join(classes)}, class_names has another order",
            hint="Set class_names to that order.",
        )
    if ours != theirs:
        logger.warning("%s: was trained with the classes %s, class_names is %s", checkpoint.path, classes, list(names))
