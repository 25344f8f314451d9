"""What the transforms of images share: OpenCV where it is installed, and words for its constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from awml_deploy_core.errors import ConfigError, RequirementError

__all__ = ["SMOOTH", "Scale", "choice", "only_opencv", "opencv", "two"]

Scale = int | Sequence[int]
"""Width and height, or one number for both."""

SMOOTH = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "area": "INTER_AREA",
    "lanczos": "INTER_LANCZOS4",
}


def opencv() -> Any:
    """The module, imported when it is first needed.

    Raises:
        RequirementError: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise RequirementError(
            f"the transforms of images need OpenCV: {error}", hint="pip install opencv-python-headless"
        ) from error
    return cv2


def choice(what: str, given: Any, known: Mapping[str, str]) -> str:
    """What a word of a config means.

    Raises:
        ConfigError: It is not one of those.
    """
    if given not in known:
        raise ConfigError(f"{what} {given!r} is not known", hint=f"There are {', '.join(known)}.")
    return known[given]


def two(what: str, given: Any) -> tuple[int, int]:
    """Width and height, of which a single number means both.

    Raises:
        ConfigError: They are no positive whole numbers.
    """
    pair = (given, given) if isinstance(given, int) else tuple(given)
    if len(pair) != 2 or not all(isinstance(one, int) and one > 0 for one in pair):
        raise ConfigError(f"{what} must be a size of two positive whole numbers, got {given!r}")
    return pair[0], pair[1]


def only_opencv(backend: str | None) -> Any:
    """OpenCV, unless the config asks for another library, whose numbers would differ."""
    if backend not in ("cv2", None):
        raise ConfigError(f"the backend {backend!r} is not supported", hint="cv2 is, which is the default.")
    return opencv()
