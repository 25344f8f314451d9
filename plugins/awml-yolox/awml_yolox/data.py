"""Images with or without annotations as samples."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Frame, Sample
from awml_yolox.annotations import Entry, entries
from awml_yolox.images import SUFFIXES, read

if TYPE_CHECKING:
    from awml_yolox.hooks import Config

log = logging.getLogger(__name__)


def samples(config: Config) -> list[Sample]:
    """Every image of the annotation file, or of the folder if there is no such file, in a stable order.

    Raises:
        ConfigError: If the config names neither.
        LoadError: If what it names is of no use.
    """
    io = config.runtime_io
    path = io.ann_file or io.info_file or io.info_pkl
    folder = io.img_prefix or io.data_root
    if path is None and folder is None:
        hint = "runtime_io.ann_file names the info JSON or COCO JSON; runtime_io.img_prefix alone names bare images."
        raise ConfigError("runtime_io names no data", hint=hint)
    found = entries(path, config.names) if path is not None else _bare(folder or Path())
    images = _found([Path(entry.image) for entry in found], folder)
    names = _unique([entry.name for entry in found])
    return [
        Sample(id=name, load=partial(_load, image, entry), files=[image])
        for name, image, entry in zip(names, images, found, strict=True)
    ]


def _load(image: Path, entry: Entry) -> Frame:
    return Frame(inputs={"image": read(image, entry.size)}, ground_truth=entry.truth)


def _bare(folder: Path) -> list[Entry]:
    """The images in a folder and the folders below it, by name."""
    if not folder.is_dir():
        hint = "runtime_io.img_prefix names a folder; a file with annotations is runtime_io.ann_file."
        raise LoadError(f"{folder}: is no folder", hint=hint)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    # What begins with a point was put there by a program for itself.
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    if not shown:
        raise LoadError(f"{folder}: holds no images", hint=f"Looked for {', '.join(SUFFIXES)}, in all folders below.")
    return [Entry(name=path.with_suffix("").as_posix(), image=str(path)) for path in shown]


def _found(images: Sequence[Path], folder: Path | None) -> list[Path]:
    """Where the images lie: relative paths start at the folder.

    Info files of AWML have the absolute paths of the machine that wrote them. If they lead nowhere here, the first
    of them says how much of their beginning the folder stands for.
    """
    if folder is None:
        return list(images)
    first = images[0]
    dropped = 0
    if first.is_absolute() and not first.exists():
        dropped = next((n for n in range(1, len(first.parts)) if folder.joinpath(*first.parts[n:]).exists()), 0)
    if dropped:
        log.info("%s stands for %s in the paths of the images", folder, Path(*first.parts[:dropped]))
    return [folder.joinpath(*image.parts[dropped:]) if image.is_absolute() else folder / image for image in images]


def _unique(names: Sequence[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"
