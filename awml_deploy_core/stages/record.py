"""Load what a run needs, and record what the trained network does on real samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from awml_deploy_core import ladder
from awml_deploy_core.config import Backend, ModelIO
from awml_deploy_core.errors import ConfigError, LoadError, nearest
from awml_deploy_core.records import Call, Sample, Variant
from awml_deploy_core.stages import Job, Story, failed, stage


def load_all(story: Story) -> None:
    """Samples, graphs, and the network if anything needs it."""
    job = story.job
    with stage(story, "load") as said:
        story.graphs = ladder.describe(job.plugin, job.config)
        story.samples = ladder.load_samples(job.plugin, job.config)
        if len(story.graphs) > 1 and job.config.model_io != ModelIO():
            story.notes.append("`model_io` is ignored: it is for models with one graph; use `components.<name>.io`.")
        said.append(f"{len(story.samples)} samples, {len(story.graphs)} component{'s' * (len(story.graphs) > 1)}")
        path = job.config.checkpoint_path
        if path is not None and needs_network(job):
            if not path.is_file():
                raise _no_checkpoint(path)
            story.network = ladder.load_network(job.plugin, job.config, story.graphs)
            weights = sum(parameter.numel() for parameter in story.network.model.parameters())
            said.append(f"{weights:,} weights from {path.name}")
            trained = Variant(name="trained", backend="pytorch")
            story.variants.append(ladder.on_device(trained, job.config.export.device, job.config.devices.cuda))


def _no_checkpoint(path: Path) -> LoadError:
    if path.is_dir():
        return LoadError(f"{path}: is a folder, not a checkpoint", hint="Name the file with the weights in it.")
    near = nearest(path.name, [other.name for other in path.parent.iterdir()]) if path.parent.is_dir() else None
    hint = f"Did you mean {near}?" if near else "Correct `checkpoint_path`."
    return LoadError(f"{path}: no such checkpoint", hint=hint)


def needs_network(job: Job) -> bool:
    """Whether any stage that was asked for runs PyTorch."""
    evaluates = "evaluate" in job.stages and job.config.evaluation.enabled
    chosen_backends = job.config.evaluation.backends
    trained = chosen_backends[Backend.PYTORCH].enabled if Backend.PYTORCH in chosen_backends else not chosen_backends
    return job.exports or job.verifies or bool(evaluates and trained)


def record_calls(story: Story) -> None:
    """Run the trained network on real samples and keep every call for the checks to come."""
    if story.network is None or failed(story, "load") or not (story.job.exports or story.job.verifies):
        return
    from awml_deploy_core import tree
    from awml_deploy_core.record import record

    job, network = story.job, story.network

    def keep(call: Call) -> None:
        path = story.scratch / f"{len(story.calls):06}.npz"
        content = {"sample": call.sample, "component": call.component, "inputs": call.inputs, "outputs": call.outputs}
        tree.save({**content, "ms": call.ms}, path)
        story.calls.append((call.component, path))

    with stage(story, "record") as said:
        samples, start, count = verified_samples(story)
        variant = story.variants[0]
        with ladder.runs(story.graphs, network, story.scratch) as run_of:
            run = run_of(variant)
            pipeline = partial(ladder.build_pipeline, job.plugin, job.config, run.device)
            recording = record(samples, run, pipeline, start=start, count=count, on_call=keep)
        network.require_unchanged("a forward pass")
        story.examples.update(recording.examples)
        story.shapes.update(
            {
                component: {name: tuple(value.shape) for name, value in inputs.items()}
                for component, inputs in recording.examples.items()
            }
        )
        story.recorded = recording.samples
        if len(recording.samples) < count:
            story.notes.append(
                f"{count} samples were to be compared, from index {start} there are {len(recording.samples)}."
            )
        said.append(f"{len(story.calls)} calls on {len(recording.samples)} samples")


def verified_samples(story: Story) -> tuple[Sequence[Sample], int, int]:
    """What to record: the samples, where to start, and how many at least."""
    config = story.job.config
    wanted = config.verification.samples
    if not wanted:
        start = config.export.sample_idx if config.export.sample_idx is not None else config.runtime_io.sample_idx
        return story.samples, start, config.verification.num_verify_samples
    by_id = {sample.id: sample for sample in story.samples}
    for name in wanted:
        if name not in by_id:
            near = nearest(name, by_id)
            hint = f"Did you mean {near!r}?" if near else f"The first is called {next(iter(by_id))!r}."
            raise ConfigError(f"verification.samples: no sample is called {name!r}", hint=hint)
    return [by_id[name] for name in wanted], 0, len(wanted)


def recorded_calls(story: Story) -> Iterator[Call]:
    """The recorded calls, one at a time."""
    from awml_deploy_core import tree

    for _, path in story.calls:
        yield Call(**tree.load(path))
