"""What stands in `<engine>.json`: how an engine was asked for, built, and found to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from awml_deploy_core.build.policy import Plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.build.receipt import Receipt

__all__ = ["BUILT_VERSION", "ENDINGS", "Built", "Library", "Settings", "described", "earlier", "is_engine"]

BUILT_VERSION = 1

ENDINGS = (".engine", ".trt", ".plan")
"""How names of engine files end."""


def is_engine(path: Path) -> bool:
    """Whether a file's name is one of an engine."""
    return path.suffix in ENDINGS


@frozen(kw_only=True)
class Settings:
    """How an engine is built, whatever its precision.

    Args:
        workspace: Scratch memory in bytes that a layer may use.
        timing_cache: Where measured layer times are kept; None for nowhere.
        plugin_libraries: Libraries with custom layers.
        options: What Polygraphy's `CreateConfig` is given by name.
        memory_pools: Limits in bytes by the name of the pool.
        hardware: Name of the level of hardware compatibility.
        compute_capabilities: Names of the capabilities to build for, where that can be chosen.
        dla_core: Core of the deep-learning accelerator.
        extra: What a config hands to `CreateConfig` unseen.
    """

    workspace: int = 1 << 30
    timing_cache: Path | None = None
    plugin_libraries: tuple[Path, ...] = ()
    options: Mapping[str, Any] = field(factory=dict)
    memory_pools: Mapping[str, int] = field(factory=dict)
    hardware: str | None = None
    compute_capabilities: tuple[str, ...] = ()
    dla_core: int | None = None
    extra: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Library:
    """A library with custom layers, as it was loaded.

    Args:
        path: Where it lay.
        sha256: Hash of its content.
        creators: The layers that it brought.
    """

    path: Path
    sha256: str
    creators: tuple[str, ...]


@frozen(kw_only=True)
class Built:
    """What stands in `<engine>.json`.

    Args:
        component: The graph.
        engine: Name of the engine's file.
        sha256: Hash of the engine.
        size: Its bytes.
        made_from: Hash of the ONNX file.
        flavor: Which TensorRT built it, its module's name.
        version: Its version.
        builder: What called it.
        seconds: How long the builder took.
        plan: How the precision was to be met.
        profiles: The sizes that it takes.
        settings: How it was built otherwise.
        libraries: Custom layers.
        receipt: Whether it is what was asked for.
        gpu: The GPU of the machine that built it; None if it had none.
        driver: CUDA version of its driver.
        timing_cache: What came of keeping layer times.
    """

    component: str
    engine: str
    sha256: str
    size: int
    made_from: str
    flavor: str
    version: str
    builder: str
    seconds: float
    plan: Plan
    profiles: tuple[Mapping[str, Range], ...]
    settings: Settings
    libraries: tuple[Library, ...]
    receipt: Receipt
    gpu: str | None = None
    driver: str | None = None
    timing_cache: str = ""


def described(built: Built) -> dict[str, Any]:
    """The document that lies beside the engine."""
    content = attrs.asdict(
        built, value_serializer=lambda _, __, value: str(value) if isinstance(value, Path) else value
    )
    return {"schema": "awml-deploy/engine", "schema_version": BUILT_VERSION, **content}


def earlier(path: Path) -> float | None:
    """How long the builder took the last time."""
    try:
        return float(json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
