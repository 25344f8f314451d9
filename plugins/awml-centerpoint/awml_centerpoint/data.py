"""T4 info files for detection in three dimensions as samples: one for every key frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from awml_centerpoint.architecture import Geometry, class_names, geometry
from awml_centerpoint.points import Array, Sweep, cloud
from awml_centerpoint.truth import Classes, truth, unseen
from awml_deploy_core.checkpoint import read_info
from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Frame, Sample

if TYPE_CHECKING:
    from awml_centerpoint.config import Config

REMAKE = "Write the info file anew with the data set's own tools, or correct this entry."


@frozen(kw_only=True, eq=False)
class Entry:
    """One key frame.

    Args:
        name: The same in every run.
        where: File and place in it, for messages.
        path: File of its points.
        sweeps: Those that are merged with it.
        pad: How often it stands in for sweeps, where the entry says nothing of any.
        missing: Sweeps that were wanted and are not there.
        instances: The labelled objects as they stand in the file, or None if it has none.
    """

    name: str
    where: str
    path: Path
    sweeps: tuple[Sweep, ...]
    pad: int
    missing: int
    instances: Sequence[Any] | None


def samples(config: Config) -> list[Sample]:
    """A sample for every entry of the info file.

    Its inputs are `points`, float32 of the columns that the network sees, with the sweeps, and two counts for the
    report, `missing_sweeps` and `unseen_truths`; its truth is that of detection in three dimensions, with `velocities`
    (NaN where nobody knows) and `points`.

    Raises:
        ConfigError: If the config names no info file.
        LoadError: If the file is not one, naming the entry and the key.
    """
    io = config.runtime_io
    path = io.info_file or io.info_pkl
    if path is None:
        hint = "For example runtime_io.info_file = 'data/t4dataset_base_infos_test.pkl'."
        raise ConfigError("runtime_io.info_file is needed: it names the info file of the data set", hint=hint)
    content = read_info(path, trust=config.trust_checkpoint)
    grid = geometry(config)
    found = entries(content, path, io.data_root or Path(), grid)
    classes = Classes.of(content, path, class_names(config))
    return [_sample(entry, grid, classes) for entry in found]


def _sample(entry: Entry, grid: Geometry, classes: Classes) -> Sample:
    files = [entry.path, *(sweep.path for sweep in entry.sweeps)]
    return Sample(id=entry.name, load=partial(_load, entry, grid, classes), files=files)


def _load(entry: Entry, grid: Geometry, classes: Classes) -> Frame:
    points = cloud(entry.path, grid.load_dim, entry.sweeps, pad=entry.pad)[:, list(grid.columns)]
    known = None if entry.instances is None else truth(entry.instances, classes, entry.where)
    left_out = unseen(entry.instances or (), classes, entry.where)
    inputs = {"points": points, "missing_sweeps": entry.missing, "unseen_truths": left_out}
    return Frame(inputs=inputs, ground_truth=known)


# ---------------------------------------------------------------- the info file


def entries(content: Any, path: Path, root: Path, grid: Geometry) -> list[Entry]:
    """The checked content of an info file; `root` is the folder that its paths start from."""
    listed = content.get("data_list") if isinstance(content, Mapping) else None
    if not isinstance(listed, list | tuple):
        raise LoadError(f"{path}: holds no data_list, so it is no info file", hint="Name the pickle that AWML wrote.")
    if not listed:
        raise LoadError(f"{path}: data_list is empty", hint="Choose another split: there is nothing to run on.")
    names: Counter[str] = Counter()
    return [_entry(item, f"{path}: entry {index}", root, grid, names) for index, item in enumerate(listed)]


def _entry(item: Any, where: str, root: Path, grid: Geometry, names: Counter[str]) -> Entry:
    lidar = _section(item, "lidar_points", where)
    _refuse_calibration(item, where)
    _check_columns(lidar, grid, where)
    name = str(item.get("token") or item.get("sample_idx") or "sample")
    names[name] += 1
    listed = item.get("lidar_sweeps")
    sweeps = _sweeps(item, listed, where, root, grid) if grid.sweeps and listed is not None else ()
    instances = item.get("instances")
    if instances is not None and not isinstance(instances, list | tuple):
        raise LoadError(f"{where}: 'instances' is no list", hint=REMAKE)
    return Entry(
        name=name if names[name] == 1 else f"{name}#{names[name]}",
        where=where,
        path=root / _path(lidar, f"{where}: lidar_points"),
        sweeps=sweeps,
        pad=grid.sweeps if listed is None else 0,
        missing=grid.sweeps - len(sweeps),
        instances=instances,
    )


def _refuse_calibration(item: Mapping[str, Any], where: str) -> None:
    """Its entries have points too, but no object: everything would run, and nothing would be judged."""
    if "image" in item and not item.keys() & {"images", "instances", "lidar_sweeps"}:
        raise LoadError(
            f"{where}: has one 'image' and no 'instances', as AWML's info files for calibration do",
            hint="Name the info file that was made for detection in three dimensions.",
        )


def _section(item: Any, key: str, where: str) -> Mapping[str, Any]:
    section = item.get(key) if isinstance(item, Mapping) else None
    if not isinstance(section, Mapping):
        fact = f"has no {key!r}, which an info file for three dimensions must have"
        raise LoadError(f"{where}: {fact}", hint=REMAKE)
    return section


def _path(section: Mapping[str, Any], where: str) -> str:
    value = section.get("lidar_path")
    if not isinstance(value, str) or not value:
        raise LoadError(f"{where}: has no 'lidar_path'", hint=REMAKE)
    return value


def _check_columns(lidar: Mapping[str, Any], grid: Geometry, where: str) -> None:
    said = lidar.get("num_pts_feats", grid.load_dim)
    if said != grid.load_dim:
        raise LoadError(
            f"{where}: lidar_points: num_pts_feats is {said!r}, but load_dim is {grid.load_dim}",
            hint="Set load_dim to the columns of the files, and point_columns to those that the network knows.",
        )


def _sweeps(item: Mapping[str, Any], listed: Any, where: str, root: Path, grid: Geometry) -> tuple[Sweep, ...]:
    """The first so many, which is what AWML takes outside training."""
    if not isinstance(listed, list | tuple):
        raise LoadError(f"{where}: 'lidar_sweeps' is no list", hint=REMAKE)
    chosen = listed[: grid.sweeps]
    now = _time(item, where) if chosen else 0.0
    return tuple(_sweep(each, f"{where}: sweep {index}", root, grid, now) for index, each in enumerate(chosen))


def _sweep(item: Any, where: str, root: Path, grid: Geometry, now: float) -> Sweep:
    lidar = _section(item, "lidar_points", where)
    _check_columns(lidar, grid, where)
    return Sweep(
        path=root / _path(lidar, f"{where}: lidar_points"),
        lag=now - _time(item, where),
        lidar_to_sensor=_matrix(lidar, where),
    )


def _time(item: Mapping[str, Any], where: str) -> float:
    value = item.get("timestamp")
    if not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise LoadError(f"{where}: 'timestamp' must be seconds, got {value!r}", hint=REMAKE)
    return float(value)


def _matrix(lidar: Mapping[str, Any], where: str) -> Array:
    try:
        array = np.asarray(lidar.get("lidar2sensor"), np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (4, 4) or not np.isfinite(array).all():
        raise LoadError(f"{where}: lidar_points: 'lidar2sensor' must be 4x4 finite numbers", hint=REMAKE)
    return array
