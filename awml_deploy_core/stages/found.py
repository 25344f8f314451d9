"""Engines that an earlier run built, and the graphs in another precision that they were built from.

On the machine with the GPU nothing is built anew: what was brought there is checked and run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from awml_deploy_core import ladder
from awml_deploy_core.config import Backend
from awml_deploy_core.errors import ArtifactError
from awml_deploy_core.files import sha256_file
from awml_deploy_core.records import Artifact, Skip, Variant
from awml_deploy_core.stages import Story, failed, stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from awml_deploy_core.overrides import Graph

__all__ = ["find_casts", "find_engines", "rung"]


def find_casts(story: Story) -> None:
    """Take the graphs in another precision that the engines here were built from, as a rung of their own.

    An engine that was built from none of the files here is `find_engines`' business.
    """
    found = story.variant("onnx")
    paths = _wanted(story)
    if found is None or not paths or not all(path.is_file() for path in paths.values()):
        return
    made: list[Artifact] = []
    for graph in story.graphs:
        source = next(one for one in found.artifacts if one.component == graph.component.name)
        made.append(_base(story, graph, source, paths[graph]) or source)
    policies = [one.precision for one in made if one not in found.artifacts]
    if policies:
        name = ladder.cast_name(policies)
        story.variants.append(attrs.evolve(found, name=name, artifacts=tuple(made), parent="onnx", device="cpu"))


def find_engines(story: Story) -> None:
    """Take engines that were built before, if they are whole and belong to the graphs that are here."""
    if not story.graphs or failed(story, "load", "export"):
        return
    named, paths = _named(story), _wanted(story)
    absent = [str(path) for path in paths.values() if not path.is_file()]
    if not paths or (named is None and len(absent) == len(paths)):
        return
    with stage(story, "build", skip=Skip(reason="not asked", detail="engines of an earlier run")) as said:
        if absent:
            raise ArtifactError(
                f"{', '.join(absent)}: no such engine",
                hint="Correct `evaluation.backends.tensorrt.engine_dir`, or build with `export.mode = 'trt'`.",
            )
        made = [_engine(graph, path) for graph, path in paths.items()]
        story.variants.append(rung(story, made, _parent(story, made)))
        said.append(f"found {', '.join(str(one.path) for one in made)}")


def rung(story: Story, engines: Sequence[Artifact], parent: str | None) -> Variant:
    """The rung of engines, which runs as the config says."""
    config = story.job.config
    return Variant(
        name="engine",
        backend="tensorrt",
        device=config.devices.cuda or "cuda:0",
        artifacts=tuple(engines),
        parent=parent,
        cuda_graphs=config.backend_config.common_config.cuda_graphs,
    )


def _named(story: Story) -> Path | None:
    """What the config names; a file or a folder."""
    settings = story.job.config.evaluation
    backend = settings.backends.get(Backend.TENSORRT)
    return (backend and backend.engine_dir) or settings.models.get(Backend.TENSORRT)


def _wanted(story: Story) -> dict[Graph, Path]:
    """Where the engines would lie; nowhere if this run exports, since they would belong to other graphs."""
    from awml_deploy_core.build.document import is_engine

    if story.job.exports or story.job.builds or not {"verify", "evaluate"} & set(story.job.stages):
        return {}
    place = _named(story) or story.job.work_dir / "tensorrt"
    return {graph: place if is_engine(place) else place / graph.engine_file for graph in story.graphs}


def _said(path: Path) -> Mapping[str, Any]:
    from awml_deploy_core.backends.tensorrt import described

    return described(path)


def _engine(graph: Graph, path: Path) -> Artifact:
    """An engine with what stands beside it.

    Raises:
        ArtifactError: It is not the one that was built, or of another component.
    """
    from awml_deploy_core.backends.tensorrt import require_whole

    said = _said(path)
    artifact = Artifact(
        component=graph.component.name,
        format="engine",
        path=path,
        sha256=said["sha256"],
        size=path.stat().st_size,
        precision=said.get("plan", {}).get("policy", ""),
        made_from=said.get("made_from"),
        tool=f"{said['flavor']} {said['version']}",
        receipt=said.get("receipt", {}).get("summary", ""),
    )
    require_whole(artifact, said)
    if said.get("component", artifact.component) != artifact.component:
        raise ArtifactError(
            f"{path} was built for component {said['component']}, not for {artifact.component}",
            hint="Correct `evaluation.backends.tensorrt.engine_dir`.",
        )
    return artifact


def _base(story: Story, graph: Graph, source: Artifact, engine: Path) -> Artifact | None:
    """The file in another precision that an engine was built from, if it is here."""
    try:
        said = _said(engine)
    except ArtifactError:
        return None  # said by `find_engines`
    policy = said.get("plan", {}).get("policy", "")
    path = story.job.work_dir / "onnx" / f"{Path(graph.onnx_file).stem}.{policy}.onnx"
    if said.get("made_from") == source.sha256 or not path.is_file() or sha256_file(path) != said.get("made_from"):
        return None
    return attrs.evolve(
        source,
        path=path,
        sha256=said["made_from"],
        size=path.stat().st_size,
        precision=policy,
        made_from=source.sha256,
        tool="given",
    )


def _parent(story: Story, engines: list[Artifact]) -> str | None:
    """The rung that the engines were built from.

    Raises:
        ArtifactError: There are ONNX files, and an engine was built from none of them.
    """
    rungs = [one for one in story.variants if one.name == "onnx" or ladder.is_cast(one)]
    known = {artifact.sha256 for one in rungs for artifact in one.artifacts}
    strange = [str(engine.path) for engine in engines if known and engine.made_from not in known]
    if strange:
        raise ArtifactError(
            f"{', '.join(strange)}: built from another ONNX file than those that are here",
            hint="Copy the work dir as a whole, or build again with `export.mode = 'trt'`.",
        )
    return rungs[-1].name if rungs else None
