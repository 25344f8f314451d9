"""One engine from beginning to end: request, process, receipt, and a name only for what holds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import field, frozen

from awml_deploy_core.build.policy import Plan
from awml_deploy_core.build.process import ask
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.build.receipt import Receipt, facts_of, hold
from awml_deploy_core.errors import BuildError
from awml_deploy_core.files import ensure_directory, publish, sha256_file, write_json
from awml_deploy_core.records import Artifact

if TYPE_CHECKING:
    from awml_deploy_core.build.flavor import Flavor

__all__ = ["BUILT_VERSION", "Built", "Settings", "build_engine", "described"]

BUILT_VERSION = 1

Progress = Callable[[str, int, int], None]


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
    """What stands in `<component>.engine.json`.

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


def build_engine(
    source: Artifact,
    path: Path,
    *,
    flavor: Flavor,
    plan: Plan,
    profiles: Sequence[Mapping[str, Range]] = (),
    settings: Settings | None = None,
    islands: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, Built]:
    """Build an engine in a process of its own; it gets its name only if the receipt holds.

    Args:
        source: The ONNX file, already in the precision that the plan writes into graphs.
        path: The engine's file; `<path>.json` beside it says how it came about, `<path>.log` what TensorRT said.
        flavor: Which TensorRT.
        plan: How the precision is to be met.
        profiles: The sizes that it must take.
        settings: Everything else.
        islands: Nodes that stay in float32 on purpose, with the reasons.
        progress: Told the phases of the builder.

    Raises:
        BuildError: TensorRT refuses, dies, or builds something else than was asked for.
    """
    settings = settings or Settings()
    ensure_directory(path.parent)
    if settings.timing_cache:
        ensure_directory(settings.timing_cache.parent)
    with tempfile.TemporaryDirectory(prefix=".awml-build-", dir=path.parent) as folder:
        staged = Path(folder) / path.name
        request = {
            "task": "build",
            "flavor": flavor.name,
            "component": source.component,
            "onnx": str(source.path),
            "engine": str(staged),
            "strong": plan.strong,
            "flags": plan.flags,
            "profiles": [{name: attrs.asdict(one) for name, one in profile.items()} for profile in profiles],
            **attrs.asdict(settings),
        }
        told = _Phases(f"build {source.component}", earlier(path), progress) if progress else None
        answer = ask(request, told=told, log=path.with_name(f"{path.name}.log"))
        receipt = hold(plan, facts_of(answer["facts"]), islands or {})
        built = Built(
            component=source.component,
            engine=path.name,
            sha256=sha256_file(staged),
            size=answer["size"],
            made_from=source.sha256,
            flavor=flavor.name,
            version=answer["version"],
            builder="polygraphy",
            seconds=answer["seconds"],
            plan=plan,
            profiles=tuple(profiles),
            settings=settings,
            libraries=tuple(
                Library(path=Path(one["path"]), sha256=sha256_file(one["path"]), creators=tuple(one["creators"]))
                for one in answer["libraries"]
            ),
            receipt=receipt,
        )
        if receipt.holds is False:
            write_json(path.with_name(f"{path.name}.refused.json"), described(built))
            raise BuildError(
                f"component {source.component}: the engine is not {plan.policy}: {receipt.summary}",
                hint=f"What was read from TensorRT stands in {path.name}.refused.json beside where it would lie.",
            )
        write_json(staged.with_name(f"{path.name}.json"), described(built))
        publish(staged.parent, path.parent, (path.name, f"{path.name}.json"))
    path.with_name(f"{path.name}.refused.json").unlink(missing_ok=True)
    return artifact(built, path), built


def artifact(built: Built, path: Path) -> Artifact:
    """The engine as one of the run's files."""
    return Artifact(
        component=built.component,
        format="engine",
        path=path,
        sha256=built.sha256,
        size=built.size,
        precision=built.plan.policy,
        made_from=built.made_from,
        tool=f"{built.flavor} {built.version}",
        receipt=built.receipt.summary,
    )


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


class _Phases:
    """What the process says, as progress: the outermost phase that counts steps, and a heartbeat."""

    def __init__(self, title: str, before: float | None, progress: Progress) -> None:
        self._title = f"{title} (last time {before:.0f} s)" if before else title
        self._progress = progress

    def __call__(self, said: Mapping[str, Any]) -> None:
        if said["event"] == "phase" and said["total"] and not said.get("parent"):
            self._progress(f"{self._title}: {said['name']}", said["done"], said["total"])
        elif said["event"] == "alive":
            self._progress(f"{self._title}: still at work after {said['seconds']:.0f} s", 0, 0)
