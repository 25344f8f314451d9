"""A few samples as the plugin draws them: the truth beside what each variant said."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awml_deploy_core.errors import DeployError
from awml_deploy_core.files import ensure_directory, write_whole
from awml_deploy_core.records import Picture
from awml_deploy_core.report import Shown

if TYPE_CHECKING:
    from awml_deploy_core.stages import Story

log = logging.getLogger(__name__)

FOLDER = "pictures"


def chosen(count: int, wanted: int) -> tuple[int, ...]:
    """Indices spread evenly over so many samples, the first and the last among them."""
    if wanted < 2 or count < 2:
        return tuple(range(min(count, wanted)))
    return tuple(sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)}))


def draw_pictures(story: Story) -> None:
    """Have the plugin draw the samples whose predictions were kept; what an earlier run drew goes.

    A picture is an illustration: one that cannot be drawn is noted and fails nothing.
    """
    folder = story.job.work_dir / FOLDER
    for old in folder.glob("*.png"):
        old.unlink()
    if "draw_sample" not in story.job.plugin.hooks:
        return
    for index, predictions in _kept(story):
        name = story.samples[index].id
        try:
            shown = _drawn(story, index, predictions, folder)
        except Exception as error:
            log.debug("no picture of %r:", name, exc_info=error)
            reason = error.message if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"
            story.notes.append(f"There is no picture of {name}: {reason}")
        else:
            story.pictures.extend([shown] if shown else [])


def _drawn(story: Story, index: int, predictions: Mapping[str, Any], folder: Path) -> Shown | None:
    sample = story.samples[index]
    picture = story.job.plugin.ask("draw_sample", frame=sample.load(), predictions=predictions, config=story.job.config)
    if picture is None:
        return None
    if not isinstance(picture, Picture):
        raise TypeError(f"draw_sample answered {type(picture).__name__} instead of a Picture")
    path = ensure_directory(folder) / f"{index:06}-{_file_name(sample.id)}.png"
    write_whole(path, picture.png)
    return Shown(sample=sample.id, path=path, caption=picture.caption)


def _kept(story: Story) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Index and predictions by variant, of the samples that at least one variant got through."""
    shown: Sequence[tuple[str, Mapping[int, Any]]] = [(one.evaluation.variant, one.shown) for one in story.evaluated]
    for index in sorted({index for _, predictions in shown for index in predictions}):
        yield index, {variant: predictions[index] for variant, predictions in shown if index in predictions}


def _file_name(text: str) -> str:
    """The text with what file names cannot have replaced, and not too long."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[-80:] or "sample"
