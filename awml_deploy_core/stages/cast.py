"""Precision written into the graphs, as a rung of its own: it runs on ONNX Runtime before any engine is built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from awml_deploy_core import ladder
from awml_deploy_core.build.flavor import Flavor, choose
from awml_deploy_core.build.policy import Plan, plan
from awml_deploy_core.build.program import find
from awml_deploy_core.errors import RequirementError
from awml_deploy_core.files import ensure_directory
from awml_deploy_core.overrides import Graph, to_file
from awml_deploy_core.stages import Story, failed, stage
from awml_deploy_core.stages.found import find_casts

if TYPE_CHECKING:
    from awml_deploy_core.cast.narrow import Keep
    from awml_deploy_core.cast.quantise import Calibration
    from awml_deploy_core.config import CommonConfig
    from awml_deploy_core.records import Artifact, Call, Sample, Variant


def cast_graphs(story: Story) -> None:
    """Plan the precision of every engine, and write it into the graphs where it has to stand there."""
    if not story.job.builds:
        find_casts(story)
        return
    found = story.variant("onnx")
    if found is None or failed(story, "load", "export"):
        return  # the build says why there is nothing to build from
    common = story.job.config.backend_config.common_config
    try:
        story.flavor = _chosen(story)
    except RequirementError as error:
        story.no_flavor = error
    asked = {graph.component.name: policy_of(story, graph) for graph in story.graphs}
    plain = all(policy in ("auto", "fp32", "fp32_tf32", "strongly_typed") for policy in asked.values())
    refused: RequirementError | None = None
    try:
        story.plans = {name: plan(policy, story.flavor, common.typing) for name, policy in asked.items()}
    except RequirementError as error:
        refused = error
    if plain and refused is None:
        return  # nothing is to be done, so there is nothing to report
    with stage(story, "cast") as said:
        if refused is not None:
            raise refused
        if any(one.cast for one in story.plans.values()):
            _cast(story, found, said)


def _chosen(story: Story) -> Flavor:
    """The TensorRT that builds: a module of Python, or the one that the program trtexec belongs to."""
    common = story.job.config.backend_config.common_config
    if common.builder == "polygraphy":
        return choose(common.flavor)
    if common.flavor == "tensorrt_rtx":
        raise RequirementError(
            "`builder = 'trtexec'` with `flavor = 'tensorrt_rtx'`: TensorRT-RTX has another program",
            hint="Use `builder = 'polygraphy'` for it.",
        )
    story.program = find()
    return story.program.flavor


def policy_of(story: Story, graph: Graph) -> Any:
    """The policy of a component: its own, or the common one."""
    config = story.job.config
    own = config.components.get(graph.component.name)
    return (own and own.precision_policy) or config.backend_config.common_config.precision_policy


def _cast(story: Story, found: Variant, said: list[str]) -> None:
    from awml_deploy_core.cast.file import cast_file

    common = story.job.config.backend_config.common_config
    made: list[Artifact] = []
    for graph in story.graphs:
        name = graph.component.name
        source = next(artifact for artifact in found.artifacts if artifact.component == name)
        asked = story.plans[name]
        if asked.cast is None:
            made.append(source)
            continue
        calls = _calls(story, found, asked, name)
        feeds = partial(_feeds, calls, graph)
        target = ensure_directory(story.job.work_dir / "onnx") / f"{Path(graph.onnx_file).stem}.{asked.policy}.onnx"
        done = cast_file(
            source,
            target,
            asked.cast,
            policy=asked.policy,
            feeds=feeds,
            data=_hash(calls, graph),
            keep=_keep(common, source, [one for one in found.artifacts if one != source]),
            calibration=_calibration(common),
        )
        made.append(done.artifact)
        story.islands[name] = dict(done.islands)
        story.notes.extend(f"{name}: {note}" for note in (*asked.notes, *done.notes))
        said.append(f"{target} ({done.artifact.size / 1e6:.2f} MB{', unchanged' if done.reused else ''})")
    name = ladder.cast_name(one.policy for one in story.plans.values() if one.cast)
    rung = attrs.evolve(found, name=name, artifacts=tuple(made), parent="onnx", device="cpu")
    story.variants.append(rung)


def _keep(common: CommonConfig, source: Artifact, others: list[Artifact]) -> Keep:
    """What stays wide in this graph: names that only another graph has are not meant for it."""
    from awml_deploy_core.cast.narrow import Keep

    elsewhere = {name for other in others for name in _names(other)} - _names(source)

    def mine(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in elsewhere)

    return Keep(nodes=mine(common.keep.nodes), ops=mine(common.keep.ops), outputs=mine(common.keep.outputs))


def _names(artifact: Artifact) -> set[str]:
    """Nodes, operators and tensors of a graph."""
    from awml_deploy_core.cast.file import read

    nodes = read(artifact.path, weights=False).graph.node
    return {name for node in nodes for name in (node.name, node.op_type, *node.output)}


def _calibration(common: CommonConfig) -> Calibration:
    from awml_deploy_core.cast.quantise import Calibration

    how = common.calibration
    return Calibration(method=how.method, percentile=how.percentile, per_channel=how.per_channel)


# ---------------------------------------------------------------- what the components are given


def _calls(story: Story, found: Variant, asked: Plan, component: str) -> list[Path]:
    """Recorded calls of a component: those of the verification, or for INT8 those on the samples for calibration."""
    if asked.cast == "int8":
        return _on_samples(story, found, "calibrate")[component]
    if story.calls:
        return [path for name, path in story.calls if name == component]
    return _on_samples(story, found, "evaluate")[component]


def _on_samples(story: Story, found: Variant, purpose: str) -> Mapping[str, list[Path]]:
    """Run the ONNX files on samples and keep what each component was given, once for a purpose."""
    if purpose in story.fed:
        return story.fed[purpose]
    from awml_deploy_core import tree
    from awml_deploy_core.record import record

    config = story.job.config
    if purpose == "calibrate":
        samples = story.job.plugin.call("load_samples", purpose="calibrate", config=config)
        wanted = config.backend_config.common_config.calibration.num_samples
    else:
        samples, wanted = story.samples, config.verification.num_verify_samples
    chosen: list[Sample] = list(islice(samples, len(samples) if wanted == -1 else wanted))
    kept: dict[str, list[Path]] = {graph.component.name: [] for graph in story.graphs}

    def keep(call: Call) -> None:
        path = story.scratch / f"{purpose}-{sum(map(len, kept.values())):06}.npz"
        tree.save({"inputs": call.inputs}, path)
        kept[call.component].append(path)

    if chosen:
        with ladder.opened(found, story.graphs, None) as run:
            pipeline = partial(ladder.build_pipeline, story.job.plugin, config, run.device)
            record(chosen, run, pipeline, count=len(chosen), on_call=keep)
    story.fed[purpose] = kept
    return kept


def _feeds(calls: list[Path], graph: Graph) -> Iterator[dict[str, Any]]:
    """The inputs of a component under the names in the file, one call at a time."""
    import numpy as np

    from awml_deploy_core import tree

    for path in calls:
        given = to_file(graph, tree.load(path)["inputs"])
        yield {name: np.ascontiguousarray(value) for name, value in given.items()}


def _hash(calls: list[Path], graph: Graph) -> str:
    """A hash of everything that the component was given."""
    from awml_deploy_core import tree

    total = hashlib.sha256()
    for feed in _feeds(calls, graph):
        total.update(tree.digest(feed).encode())
    return total.hexdigest()
