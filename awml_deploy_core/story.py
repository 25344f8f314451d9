"""The story: the only place that knows the order of the stages.

    load -> record -> export -> cast -> verify -> build -> evaluate -> handover -> report

A stage that fails is a result: what does not depend on it still runs, and the report is written in any case.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from awml_deploy_core import defaults, logs
from awml_deploy_core.config import Config
from awml_deploy_core.errors import ConfigError, DeployError, nearest
from awml_deploy_core.files import alone_in, ensure_directory
from awml_deploy_core.plugins import Loaded, load
from awml_deploy_core.report import Report, Stage, verdict
from awml_deploy_core.settings import Options, Settings, peek_model, settle
from awml_deploy_core.stages import STAGES, Job, Progress, Story
from awml_deploy_core.strict import unstructure

log = logging.getLogger(__name__)

WEIGHTS = {".ckpt", ".pt", ".pth", ".safetensors"}


# ---------------------------------------------------------------- what the run is told


def options(
    *,
    sets: tuple[str, ...] = (),
    model: str | None = None,
    model_config: Path | None = None,
    checkpoint: Path | None = None,
    work_dir: Path | None = None,
    device: str | None = None,
    trust_checkpoint: bool = False,
) -> Options:
    """The command line as a value; a second positional that is a weights file is the checkpoint."""
    if checkpoint is None and model_config is not None and model_config.suffix in WEIGHTS:
        model_config, checkpoint = None, model_config
    return Options(
        sets=sets,
        model=model,
        model_config=model_config,
        checkpoint=checkpoint,
        work_dir=work_dir,
        device=device,
        trust_checkpoint=trust_checkpoint,
    )


def configure(config: Path, said: Options, *, safe: bool = False) -> Settings:
    """The settings in the class of the model's plugin, or the core's if no model is named."""
    model = said.model or peek_model(config, safe=safe)
    return settle(config, said, config_class=config_class(model), safe=safe)


def config_class(model: str | None) -> type[Config]:
    """The class of settings of a model; the plugin may be a skeleton, since nothing is run."""
    return load(model, incomplete=True).config_class if model else Config


def chosen(config: Path, said: Options, *, safe: bool = False) -> Loaded:
    """The plugin that the command line or the config names, with the core's defaults behind it."""
    model = said.model or peek_model(config, safe=safe)
    if model is None:
        raise ConfigError(
            f"{config}: no model is named",
            hint="Add `--model NAME`, or `model = 'NAME'` to the config; `awml-deploy plugins` lists the names.",
        )
    return load(model, defaults=defaults)


def stages_of(text: str | None) -> tuple[str, ...]:
    """The stages of `--stages export,verify`; all of them if nothing is said."""
    if text is None:
        return STAGES
    asked = tuple(word.strip() for word in text.split(",") if word.strip())
    if not asked:
        raise ConfigError("--stages names no stage", hint=f"There are {', '.join(STAGES)}.")
    for word in asked:
        if word not in STAGES:
            near = nearest(word, STAGES)
            hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(STAGES)}."
            raise ConfigError(f"--stages: {word!r} is no stage", hint=hint)
    return asked


def deploy(
    config: Path | str,
    *,
    model: str | None = None,
    model_config: Path | str | None = None,
    checkpoint: Path | str | None = None,
    work_dir: Path | str | None = None,
    device: str | None = None,
    sets: Sequence[str] = (),
    stages: str | Sequence[str] | None = None,
    trust_checkpoint: bool = False,
    safe_config: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Do what the command `awml-deploy` does and return its report.

    Args:
        config: The config file.
        model: Name of the model, if the config does not say.
        model_config: Overrides `model_config`.
        checkpoint: Overrides `checkpoint_path`.
        work_dir: Overrides `export.work_dir`.
        device: Runs every backend there that can.
        sets: Overrides as `key=value`.
        stages: Names, or one text with commas; all by default.
        trust_checkpoint: Let code in the checkpoint run.
        safe_config: Refuse a config that is Python code.
        progress: Told what is being done, how much of it is done, and of how much.

    Returns:
        The report, also of a run in which something failed: `report.exit_code` says so.

    Raises:
        DeployError: There is nothing to report on: the config or the plugin is wrong.
    """
    said = options(
        sets=(sets,) if isinstance(sets, str) else tuple(sets),
        model=model,
        model_config=None if model_config is None else Path(model_config),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        work_dir=None if work_dir is None else Path(work_dir),
        device=device,
        trust_checkpoint=trust_checkpoint,
    )
    names = stages if stages is None or isinstance(stages, str) else ",".join(stages)
    return carry_out(prepare(Path(config), said, stages=names, safe=safe_config), progress=progress)


def prepare(config: Path, said: Options, *, stages: str | None = None, safe: bool = False) -> Job:
    """Everything that can be wrong before any work is done."""
    wanted = stages_of(stages)
    plugin = chosen(config, said, safe=safe)
    settled = settle(config, said, config_class=plugin.config_class, safe=safe)
    notes = settled.notes
    return Job(
        plugin=plugin,
        config=settled.config,
        notes=notes,
        stages=wanted,
        named=stages is not None,
        command=tuple(sys.argv),
    )


# ---------------------------------------------------------------- the run


def carry_out(job: Job, *, progress: Progress | None = None) -> Report:
    """Walk through the stages and write what was found out."""
    started, clock = datetime.now(timezone.utc), time.monotonic()
    from awml_deploy_core.report import writing
    from awml_deploy_core.stages import build, cast, evaluate, export, handover, pictures, record, verify

    ensure_directory(job.work_dir)
    log_path = job.config.deploy_log_path
    with (
        alone_in(job.work_dir),
        swept(job.work_dir),
        logs.to_file(log_path and job.work_dir / log_path),
        tempfile.TemporaryDirectory(prefix=".recording-", dir=job.work_dir) as scratch,
    ):
        log.debug("command: %s", " ".join(job.command))
        story = Story(job=job, scratch=Path(scratch), notes=list(job.notes), progress=progress)
        record.load_all(story)
        record.record_calls(story)
        export.export_graphs(story)
        cast.cast_graphs(story)
        verify.verify_ladder(story)
        build.build_engines(story)
        verify.verify_engines(story)
        evaluate.evaluate_variants(story)
        pictures.draw_pictures(story)
        handover.hand_over(story)
        report = told(story, started, time.monotonic() - clock)
        try:
            writing.write(report)
        except DeployError as error:
            # What was found out is worth more than the files: it is returned, and says that they are not there.
            said = error.message + (f" ({error.hint})" if error.hint else "")
            story.stages.append(Stage(name="report", status="failed", detail=said, exit_code=int(error.exit_code)))
            report = told(story, started, time.monotonic() - clock)
    return report


@contextmanager
def swept(folder: Path) -> Iterator[None]:
    """Remove what a run that was killed had recorded or half built; nobody else is at work in the folder."""
    for left in (*folder.glob(".recording-*"), *folder.glob("tensorrt/.awml-build-*")):
        shutil.rmtree(left, ignore_errors=True)
    yield


# ---------------------------------------------------------------- the report


def told(story: Story, started: datetime, seconds: float) -> Report:
    """Everything that happened, as the report holds it."""
    from awml_deploy_core.report.provenance import environment

    status, code = verdict(tuple(story.stages))
    return Report(
        model=story.job.plugin.plugin.model,
        plugin=str(story.job.plugin.plugin),
        status=status,
        exit_code=code,
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        command=story.job.command,
        work_dir=story.job.work_dir,
        stages=tuple(story.stages),
        variants=tuple(story.variants),
        exports=tuple(story.exports),
        engines=tuple(story.engines),
        artifacts=tuple(artifact for variant in story.variants for artifact in variant.artifacts),
        verification=story.verification,
        evaluations=(*(one.evaluation for one in story.evaluated), *story.skipped),
        crossings=tuple(story.crossings),
        unequal=story.unequal,
        pictures=tuple(story.pictures),
        deliveries=tuple(story.deliveries),
        notes=tuple(story.notes),
        environment=environment(),
        config=unstructure(story.job.config),
    )
