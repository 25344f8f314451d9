"""What a run would do, without doing any of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from awml_deploy_core import ladder
from awml_deploy_core.build.flavor import installed
from awml_deploy_core.config import Backend
from awml_deploy_core.ladder import RUNGS
from awml_deploy_core.stages.record import needs_network

if TYPE_CHECKING:
    from awml_deploy_core.overrides import Graph
    from awml_deploy_core.stages import Job


def plan(job: Job) -> tuple[tuple[str, str], ...]:
    """Pairs of stage and what it would do; asks the plugin for its graphs and for nothing else."""
    graphs = ladder.describe(job.plugin, job.config)
    return tuple(_steps(job, graphs))


def _steps(job: Job, graphs: tuple[Graph, ...]) -> Iterator[tuple[str, str]]:
    config, mode = job.config, job.config.export.mode
    if config.checkpoint_path is not None and needs_network(job):
        yield "load", f"the network from {_there(config.checkpoint_path)}"
        yield "record", f"{_samples(job)}, on {config.export.device}"
    for graph in graphs:
        path = config.export.work_dir / "onnx" / graph.onnx_file
        if job.exports:
            settings = config.onnx_config
            yield "export", f"{path} (opset {settings.opset_version}, exporter {settings.exporter})"
        else:
            yield "export", f"nothing, mode {mode!r}; {graph.component.name} is taken from existing files"
    if job.builds:
        yield from _casts(job, graphs)
    if "verify" in job.stages:
        yield "verify", _verification(job) if config.verification.enabled else "disabled: the run will be unverified"
    if job.builds:
        yield from _builds(job, graphs)
    if "evaluate" in job.stages:
        yield "evaluate", _evaluation(job) if config.evaluation.enabled else "disabled"
    if "handover" in job.stages and "hand_over" in job.plugin.hooks:
        targets = ("autoware",) if config.handover.targets is None else config.handover.targets
        yield "handover", ", ".join(f"{config.export.work_dir}/handover/{target}" for target in targets) or "to nobody"
    if "report" in job.stages:
        yield "report", f"{config.export.work_dir}/report.json, report.md, manifest.json"


_REHEARSED = ("fp16", "bf16", "explicit_int8")


def _policy(job: Job, graph: Graph) -> str:
    own = job.config.components.get(graph.component.name)
    return (own and own.precision_policy) or job.config.backend_config.common_config.precision_policy


def _casts(job: Job, graphs: tuple[Graph, ...]) -> Iterator[tuple[str, str]]:
    if job.config.backend_config.common_config.typing == "weak":
        return  # the flag of the builder does it, except for INT8, as far as this TensorRT has it
    for graph in graphs:
        policy = _policy(job, graph)
        if policy in _REHEARSED:
            path = job.work_dir / "onnx" / f"{Path(graph.onnx_file).stem}.{policy}.onnx"
            yield "cast", f"{path}, on ONNX Runtime before any engine is built"


def _builds(job: Job, graphs: tuple[Graph, ...]) -> Iterator[tuple[str, str]]:
    with_what = ", ".join(installed()) or "nothing: no TensorRT is installed"
    for graph in graphs:
        policy = _policy(job, graph)
        yield "build", f"{job.work_dir / 'tensorrt' / graph.engine_file} ({policy}) with {with_what}"


def _there(path: Path) -> str:
    return str(path) if path.is_file() else f"{path}, WHICH DOES NOT EXIST"


def _samples(job: Job) -> str:
    verification, config = job.config.verification, job.config
    if verification.samples:
        return f"the samples {', '.join(verification.samples)}"
    start = config.runtime_io.sample_idx if config.export.sample_idx is None else config.export.sample_idx
    return f"{verification.num_verify_samples} samples from index {start}"


def _verification(job: Job) -> str:
    scenarios = (job.config.verification.scenarios or {}).get(job.config.export.mode)
    if scenarios is None:
        if job.config.checkpoint_path is None:
            return "nothing: there is no checkpoint, so the run will be unverified"
        return "every rung against its parent and against trained" if job.exports else "onnx against trained"
    return (
        ", ".join(
            f"{RUNGS[one.ref_backend]} ({one.ref_device}) -> {RUNGS[one.test_backend]} ({one.test_device})"
            for one in scenarios
        )
        or "no scenario: nothing will be compared"
    )


def _evaluation(job: Job) -> str:
    settings = job.config.evaluation
    wanted = [b for b in Backend if not settings.backends or b in settings.backends]
    on = [b for b in wanted if b not in settings.backends or settings.backends[b].enabled is not False]
    if job.config.checkpoint_path is None:
        on = [backend for backend in on if backend is not Backend.PYTORCH]
    devices = {b: (settings.backends[b].device if b in settings.backends else None) or "cpu" for b in on}
    variants = ", ".join(f"{RUNGS[b]} ({device})" for b, device in devices.items() if b is not Backend.TENSORRT)
    count = "all samples" if settings.num_samples == -1 else f"{settings.num_samples} samples"
    workers = f" in {settings.workers} processes" if settings.workers > 1 else ""
    return f"{count}{workers} on {variants}"
