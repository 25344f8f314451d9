"""Images as the `test_pipeline` of a model's config prepares them, for networks that do not take a letterbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from awml_deploy_core.errors import ConfigError
from awml_yolox.letterbox import Placement, Size

if TYPE_CHECKING:
    from awml_deploy_core.preprocess import Transform

Array = np.ndarray[Any, np.dtype[Any]]


def prepare(images: Sequence[Array], canvas: Size, transform: Transform) -> tuple[Array, list[Placement]]:
    """One batch out of several images.

    Args:
        images: Blue green red bytes, (height, width, 3), of any sizes.
        canvas: Height and width of the network's input.
        transform: What `build_preprocessing_pipeline` made of the config.

    Returns:
        float32 (images, 3, height, width), and where each image lies.

    Raises:
        ConfigError: The pipeline makes images of another size than the network wants.
    """
    batch = np.empty((len(images), 3, *canvas), np.float32)
    placements = []
    for image, target in zip(images, batch, strict=True):
        done = transform({"img": image})
        inputs = np.asarray(done["inputs"])
        if inputs.shape != target.shape:
            raise ConfigError(
                f"the test_pipeline of model_config makes images of {_shown(inputs)}, the network takes "
                f"{_shown(target)}",
                hint="Set input_size to what it makes, or let it resize and pad to input_size.",
            )
        target[:] = inputs
        across, down = np.ravel(done["data_samples"].get("scale_factor", (1.0, 1.0)))[:2].tolist()
        size = (image.shape[0], image.shape[1])
        placements.append(Placement(image=size, factors=(across, down), scale=min(across, down)))
    return batch, placements


def _shown(image: Array) -> str:
    return " x ".join(map(str, image.shape))
