"""What the receiving side wants beside the artifacts, and what it would trip over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from awml_deploy_core.errors import ExitCode, PluginError
from awml_deploy_core.files import ensure_directory, write_whole
from awml_deploy_core.records import Artifact, Handover, Skip
from awml_deploy_core.report import Delivery
from awml_deploy_core.stages import Story, Unmet, stage

FOLDER = "handover"


def hand_over(story: Story) -> None:
    """Write the plugin's files for every target, and note what the target would trip over."""
    job = story.job
    named = job.config.handover.targets
    offered = "hand_over" in job.plugin.hooks
    if "handover" not in job.stages or named == () or (named is None and not offered):
        return
    artifacts = tuple(artifact for variant in story.variants for artifact in variant.artifacts)
    skip = None
    if not offered:
        skip = Skip(reason="not supported", detail=f"{job.plugin.plugin} has no hook hand_over")
    elif not artifacts:
        skip = Skip(reason="no artifact")
    with stage(story, "handover", skip=skip) as said:
        if skip is None:
            for target in named or ("autoware",):
                done = delivered(story, target, artifacts)
                said.append(_summary(done) if done else f"{target}: the plugin has nothing for it")
                story.deliveries.extend([done] if done else [])
        wrong = [finding for one in story.deliveries for finding in one.findings if finding.level == "error"]
        if job.config.handover.required and (wrong or not story.deliveries):
            fact = f"{wrong[0].subject}: {wrong[0].fact}" if wrong else "nothing was handed over"
            raise Unmet("failed", ExitCode.ARTIFACT, fact)


def delivered(story: Story, target: str, artifacts: tuple[Artifact, ...]) -> Delivery | None:
    """Ask the plugin, write its files, remove those that an earlier run left."""
    job = story.job
    answer = job.plugin.ask("hand_over", target=target, artifacts=artifacts, config=job.config)
    if answer is None:
        return None
    if not isinstance(answer, Handover):
        raise PluginError(f"{job.plugin.plugin}: hand_over answered {type(answer).__name__} instead of a Handover")
    folder = job.work_dir / FOLDER / target
    files = {folder / _inside(name): content for name, content in answer.files.items()}
    for path, content in files.items():
        ensure_directory(path.parent)
        write_whole(path, content.read_bytes() if isinstance(content, Path) else content)
    for old in _files(folder):
        if old not in files:
            old.unlink()
    return Delivery(target=target, files=tuple(files), findings=tuple(answer.findings))


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise PluginError(f"hand_over named a file {name!r}, which is not inside the target's folder")
    return path


def _summary(one: Delivery) -> str:
    levels = [finding.level for finding in one.findings]
    counts = [
        f"{levels.count(level)} {level}{'s' * (levels.count(level) > 1)}"
        for level in ("error", "warning", "note")
        if level in levels
    ]
    return (
        f"{one.target}: {len(one.files)} file{'s' * (len(one.files) != 1)}{''.join(f', {count}' for count in counts)}"
    )
