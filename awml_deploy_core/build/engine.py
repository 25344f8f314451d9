"""One engine from beginning to end: request, process, receipt, and a name only for what holds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from awml_deploy_core.build.document import BUILT_VERSION, Built, Library, Settings, described, earlier
from awml_deploy_core.build.policy import Plan
from awml_deploy_core.build.process import ask
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.build.receipt import facts_of, hold
from awml_deploy_core.errors import BuildError, RequirementError
from awml_deploy_core.files import ensure_directory, publish, sha256_file, write_json
from awml_deploy_core.records import Artifact

if TYPE_CHECKING:
    from awml_deploy_core.build.flavor import Flavor

__all__ = ["BUILT_VERSION", "Built", "Settings", "build_engine", "described", "finish", "phases", "staging"]

Progress = Callable[[str, int, int], None]


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
    with staging(path, settings) as staged:
        request = {
            "task": "build",
            "flavor": flavor.name,
            "component": source.component,
            "onnx": str(source.path),
            "engine": str(staged),
            "policy": plan.policy,
            "strong": plan.strong,
            "flags": plan.flags,
            "profiles": [{name: attrs.asdict(one) for name, one in profile.items()} for profile in profiles],
            **attrs.asdict(settings),
        }
        told = phases(source, path, progress)
        answer = ask(request, told=told, log=path.with_name(f"{path.name}.log"))
        return finish(source, path, staged, answer, (flavor, plan, tuple(profiles), settings, islands or {}))


Asked = tuple["Flavor", Plan, tuple[Mapping[str, Range], ...], Settings, Mapping[str, str]]


@contextmanager
def staging(path: Path, settings: Settings) -> Iterator[Path]:
    """A hidden place on the same disk for the engine until it is known to be good.

    Raises:
        RequirementError: Nothing can be written there.
    """
    ensure_directory(path.parent)
    if settings.timing_cache:
        ensure_directory(settings.timing_cache.parent)
    try:
        folder = tempfile.TemporaryDirectory(prefix=".awml-build-", dir=path.parent)
    except OSError as error:
        raise RequirementError(
            f"cannot write into the folder {path.parent}: {error.strerror}", hint="Choose another work_dir."
        ) from error
    with folder as name:
        yield Path(name) / path.name


def finish(
    source: Artifact, path: Path, staged: Path, answer: Mapping[str, Any], asked: Asked
) -> tuple[Artifact, Built]:
    """Hold the engine against what was asked for, and give it its name.

    Raises:
        BuildError: The receipt does not hold; nothing lies under the name then, also no engine of an earlier build.
    """
    flavor, plan, profiles, settings, islands = asked
    built = Built(
        component=source.component,
        engine=path.name,
        sha256=sha256_file(staged),
        size=answer["size"],
        made_from=source.sha256,
        flavor=flavor.name,
        version=answer["version"],
        builder=answer.get("builder", "polygraphy"),
        seconds=answer["seconds"],
        plan=plan,
        profiles=profiles,
        settings=settings,
        libraries=tuple(
            Library(path=Path(one["path"]), sha256=one["sha256"], creators=tuple(one["creators"]))
            for one in answer["libraries"]
        ),
        receipt=hold(plan, facts_of(answer["facts"]), islands),
        gpu=answer["gpu"],
        driver=answer["driver"],
        timing_cache=answer["timing_cache"],
    )
    beside, refused = (path.with_name(f"{path.name}.{ending}") for ending in ("json", "refused.json"))
    if built.receipt.holds is False:
        path.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)
        write_json(refused, described(built))
        raise BuildError(
            f"component {source.component}: the engine is not {plan.policy}: {built.receipt.summary}",
            hint=f"What was read from TensorRT stands in {refused}.",
        )
    write_json(staged.with_name(beside.name), described(built))
    publish(staged.parent, path.parent, (beside.name, path.name))
    refused.unlink(missing_ok=True)
    return _artifact(built, path), built


def _artifact(built: Built, path: Path) -> Artifact:
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


def phases(source: Artifact, path: Path, progress: Progress | None) -> Callable[[Mapping[str, Any]], None] | None:
    """What the process says, as progress: the outermost phases, and a heartbeat, with the time of the last build."""
    if progress is None:
        return None
    before = earlier(path)
    title = f"build {source.component}" + (f" (last time {before:.0f} s)" if before is not None else "")

    def told(said: Mapping[str, Any]) -> None:
        if said["event"] == "phase" and said["total"] and not said["parent"]:
            progress(f"{title}: {said['name']}", said["done"], said["total"])
        elif said["event"] == "alive":
            progress(f"{title}: still at work after {said['seconds']:.0f} s", 0, 0)

    return told
