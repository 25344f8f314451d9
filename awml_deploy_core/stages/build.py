"""TensorRT engines, each in a process of its own, each with a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awml_deploy_core import ladder
from awml_deploy_core.build import cache, trtexec
from awml_deploy_core.build.engine import Settings, build_engine
from awml_deploy_core.build.profiles import Range, profiles
from awml_deploy_core.errors import ArtifactError
from awml_deploy_core.overrides import Graph, to_file
from awml_deploy_core.records import Artifact, Skip, Variant
from awml_deploy_core.report import EngineNote
from awml_deploy_core.stages import Story, failed, stage
from awml_deploy_core.stages.found import find_engines, rung

if TYPE_CHECKING:
    from awml_deploy_core.build.engine import Built


def build_engines(story: Story) -> None:
    """Build an engine for every component, or say why there is none."""
    if not story.job.builds:
        find_engines(story)
        return
    mode, base = story.job.config.export.mode, _base(story)
    skip: Skip | None = None
    if failed(story, "load", "record", "export", "cast", "verify"):
        skip = Skip(reason="parent failed")
    elif mode == "both" and story.no_flavor is not None:
        skip = Skip(reason="no package", detail=story.no_flavor.message)
        story.notes.append(
            f"No TensorRT engine was built: {story.no_flavor.message}. {story.no_flavor.hint or ''}".strip()
        )
    with stage(story, "build", skip=skip) as said:
        if skip is not None:
            return
        if story.no_flavor is not None:
            raise story.no_flavor
        if base is None:
            raise ArtifactError(
                "there is no ONNX file to build from",
                hint="Name one with `export.onnx_path`, or export it with `export.mode = 'both'`.",
            )
        made = [_built(story, graph, base, said) for graph in story.graphs]
        story.variants.append(rung(story, made, base.name))


def _base(story: Story) -> Variant | None:
    """The files that engines are built from: those in the asked precision, else the exported ones."""
    cast = [variant for variant in story.variants if ladder.is_cast(variant)]
    return cast[-1] if cast else story.variant("onnx")


def _built(story: Story, graph: Graph, base: Variant, said: list[str]) -> Artifact:
    assert story.flavor is not None
    name = graph.component.name
    source = next(artifact for artifact in base.artifacts if artifact.component == name)
    build: Any = partial(build_engine, flavor=story.flavor)
    if story.program is not None:
        build = partial(trtexec.build_engine, program=story.program)
    made: tuple[Artifact, Built] = build(
        source,
        story.job.work_dir / "tensorrt" / graph.engine_file,
        plan=story.plans[name],
        profiles=ranges(story, graph),
        settings=settings(story),
        islands=story.islands.get(name),
        progress=story.progress,
    )
    artifact, built = made
    story.engines.append(noted(built))
    story.notes.extend(f"{name}: {note}" for note in built.plan.notes if f"{name}: {note}" not in story.notes)
    said.append(f"{artifact.path} ({artifact.size / 1e6:.2f} MB, {built.receipt.summary})")
    return artifact


def noted(built: Built) -> EngineNote:
    """What the report says of an engine."""
    islands = [
        f"{layer.name} is {layer.dtype}{f': {layer.reason}' if layer.reason else ''}" for layer in built.receipt.islands
    ]
    return EngineNote(
        component=built.component,
        flavor=built.flavor,
        version=built.version,
        policy=built.plan.policy,
        seconds=built.seconds,
        holds=built.receipt.holds,
        receipt=built.receipt.summary,
        islands=tuple(islands),
        profiles=tuple(
            f"{name} {list(one.min)} .. {list(one.opt)} .. {list(one.max)}"
            for profile in built.profiles
            for name, one in profile.items()
        ),
    )


def ranges(story: Story, graph: Graph) -> tuple[dict[str, Range], ...]:
    """The profiles of a component: the config's, then the limits of its axes, then the recording."""
    config, own = story.job.config, {}  # type: Any, dict[str, str]
    for mine, filed in zip(graph.component.inputs, graph.filed.inputs, strict=True):
        own[mine.name] = filed.name
    names = {*own, *own.values()}
    component = config.components.get(graph.component.name)
    if component and component.tensorrt_profile:
        given: list[Mapping[str, Any]] = [component.tensorrt_profile]
    else:
        listed = [one.input_shapes for one in config.backend_config.model_inputs]
        # Of several graphs each takes the inputs that it has; of one graph a name that it lacks is a mistake.
        several = len(story.graphs) > 1
        given = [{n: p for n, p in shapes.items() if not several or n in names} for shapes in listed]
    shapes = story.shapes.get(graph.component.name)
    recorded = to_file(graph, shapes) if shapes else {}
    return profiles(graph.filed, [{own.get(n, n): p for n, p in one.items()} for one in given], recorded)


def settings(story: Story) -> Settings:
    """The config's words, as the process takes them."""
    common = story.job.config.backend_config.common_config
    rtx = story.flavor is not None and story.flavor.name == "tensorrt_rtx"
    options = {
        "builder_optimization_level": common.optimization_level,
        "max_aux_streams": common.aux_streams,
        "sparse_weights": common.sparsity or None,
        "version_compatible": common.version_compatible or None,
        # TensorRT-RTX cannot put its lean runtime into an engine where there is no GPU.
        "exclude_lean_runtime": (common.version_compatible and rtx) or None,
        "use_dla": True if common.dla_core is not None else None,
        "allow_gpu_fallback": True if common.dla_core is not None else None,
    }
    return Settings(
        workspace=common.max_workspace_size,
        timing_cache=_timing_cache(story, common.timing_cache),
        plugin_libraries=common.plugin_libraries,
        options={name: value for name, value in options.items() if value is not None},
        memory_pools=common.memory_pools,
        hardware=common.hardware_compatibility,
        compute_capabilities=common.compute_capabilities,
        dla_core=common.dla_core,
        extra=common.extra,
    )


def _timing_cache(story: Story, said: bool | Path) -> Path | None:
    """Where layer times are kept: times of one TensorRT, version or device say nothing about another."""
    if said is False:
        return None
    assert story.flavor is not None
    if isinstance(said, Path):
        return said
    return story.job.work_dir / "tensorrt" / cache.name(story.flavor)
