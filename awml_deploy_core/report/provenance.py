"""Where a result came from: versions, machine, git state, and the slice of the config that an export depends on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from importlib_metadata import PackageNotFoundError, version

from awml_deploy_core.config import Config
from awml_deploy_core.strict import unstructure

if TYPE_CHECKING:
    from awml_deploy_core.overrides import Graph
    from awml_deploy_core.plugins import Loaded

PACKAGES = ("awml-deploy-core", "numpy", "onnx", "onnxruntime", "onnxscript", "onnxslim", "torch")


def environment() -> dict[str, str]:
    """Versions, machine and threads, by name."""
    torch = sys.modules.get("torch")
    return {**_machine(), "threads": str(torch.get_num_threads()) if torch else "not asked"}


@lru_cache(maxsize=1)
def _machine() -> dict[str, str]:
    found = {name: _version(name) for name in PACKAGES}
    return {
        **found,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
    }


def _version(name: str) -> str:
    try:
        return str(version(name))
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def git_state(folder: Path) -> dict[str, str] | None:
    """Commit and cleanness of the repository that the folder lies in, None if it lies in none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # noqa: S603  fixed words

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": str(bool(git("status", "--porcelain")))}
    except (OSError, subprocess.SubprocessError):
        return None


def file_metadata(plugin: Loaded, config: Config, graph: Graph, checkpoint: str | None) -> dict[str, str]:
    """What is written into an ONNX file about itself: only what its bytes depend on.

    The plugin's own settings are there by name, so that a choice such as the order of the colours travels with the
    file.
    """
    own = {f.name for f in attrs.fields(type(config))} - {f.name for f in attrs.fields(Config)}
    said = {name: unstructure(getattr(config, name)) for name in sorted(own)}
    export = {
        "component": unstructure(graph.filed),
        "onnx_config": unstructure(config.onnx_config),
        "plugin": said,
    }
    return {
        "awml.model": plugin.plugin.model,
        "awml.plugin": str(plugin.plugin),
        "awml.component": graph.component.name,
        "awml.checkpoint_sha256": checkpoint or "",
        "awml.export_sha256": hashlib.sha256(_canonical(export)).hexdigest(),
        **{f"config.{name}": value if isinstance(value, str) else json.dumps(value) for name, value in said.items()},
    }


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
