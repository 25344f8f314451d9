"""A first deployment to start from: the plugin's small example, or a preset of real size."""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from awml_deploy_core.errors import ConfigError, PluginError, nearest
from awml_deploy_core.files import ensure_directory, write_whole
from awml_deploy_core.plugins import Loaded, load

if TYPE_CHECKING:
    from importlib.abc import Traversable


def presets(plugin: Loaded) -> dict[str, Traversable]:
    """The configs of real size that lie in the folder `presets` of the plugin's package, by name."""
    package = plugin.plugin.value.partition(":")[0].rpartition(".")[0]
    folder = resources.files(sys.modules[package]) / "presets" if package in sys.modules else None
    if folder is None or not folder.is_dir():
        return {}
    files = {file.name.removesuffix(".py"): file for file in folder.iterdir() if file.name.endswith(".py")}
    return {name: file for name, file in sorted(files.items()) if not name.startswith("_")}


def write(model: str, directory: Path, *, preset: str | None = None) -> Path:
    """Write an example or a preset into a new folder, whole or not at all.

    Args:
        model: Name of the model.
        directory: The folder, which must not exist yet or be empty.
        preset: Name of a preset; None for the example.

    Returns:
        The config.
    """
    plugin = load(model)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{directory} exists and is not an empty folder", hint="Name a new folder.")
    parent = ensure_directory(directory.absolute().parent)
    if preset is not None:
        text = _preset(plugin, preset).read_bytes()
        write_whole(ensure_directory(directory) / "config.py", text)
        return directory / "config.py"
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=parent))
    try:
        staging.chmod(0o755)
        plugin.call("write_example", directory=staging)
        if not (staging / "config.py").is_file():
            raise PluginError(
                f"{plugin.plugin}: write_example wrote no config.py", hint="Write it into the given folder."
            )
        if directory.exists():
            # Not replaced: somebody may stand in it. The config comes last, so that what is half there cannot be run.
            for each in sorted(staging.iterdir(), key=lambda path: path.name == "config.py"):
                each.rename(directory / each.name)
        else:
            staging.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return directory / "config.py"


def _preset(plugin: Loaded, name: str) -> Traversable:
    there = presets(plugin)
    if name in there:
        return there[name]
    near = nearest(name, there)
    listed = ", ".join(there) or "none"
    raise ConfigError(
        f"--preset {name}: {plugin.plugin} has no such preset",
        hint=f"Did you mean {near!r}?" if near else f"There are: {listed}.",
    )
