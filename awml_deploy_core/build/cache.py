"""Layer times that TensorRT measured once, kept between builds.

Times of one TensorRT, version or GPU say nothing about another, so all three are in the name of the file. TensorRT-RTX
times nothing while it builds: there the file is neither read nor written.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awml_deploy_core.build.machine import gpus
from awml_deploy_core.errors import DeployError
from awml_deploy_core.files import write_whole

if TYPE_CHECKING:
    from awml_deploy_core.build.flavor import Flavor

__all__ = ["keep", "name", "remembered"]


def name(flavor: Flavor) -> str:
    """Name of the file for this TensorRT and this GPU."""
    device = next((f"-{gpu.name}-{gpu.capability}" for gpu in gpus()), "")
    return re.sub(r"[^\w.-]+", "_", f"{flavor.name}-{flavor.version}{device}.timing")


def remembered(path: str | None, flavor: str) -> bytes | None:
    """What is in the file; None where nothing is, or nothing is of use."""
    if path is None or flavor == "tensorrt_rtx":
        return None
    try:
        return Path(path).read_bytes() or None
    except OSError:
        return None


def keep(config: Any, path: str | None, flavor: str) -> str:
    """Add what was measured to what the file has by now, and say what came of it.

    Other builds may write at the same time. A cache that cannot be kept costs time and nothing else: no build fails.
    """
    if path is None:
        return "not asked for"
    if flavor == "tensorrt_rtx":
        return "TensorRT-RTX measures no layers while it builds"
    cache = config.get_timing_cache()
    if cache is None:
        return "this TensorRT has none"
    try:
        with _alone(Path(path)):
            now = remembered(path, flavor)
            if now is not None:
                cache.combine(config.create_timing_cache(now), ignore_mismatch=True)
            write_whole(path, bytes(cache.serialize()))
    except (OSError, DeployError) as error:
        return f"cannot be kept: {error}"
    return "reused and kept" if now is not None else "kept"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
