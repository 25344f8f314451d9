"""T4 calibration info files as samples: every entry once as it is and once with a wrong calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from attrs import frozen

from awml_calibration.image import Array, View
from awml_calibration.noise import disturbance, seed_of
from awml_deploy_core.checkpoint import read_info
from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Frame, Sample

if TYPE_CHECKING:
    from awml_calibration.hooks import Config

MISCALIBRATED, CALIBRATED = 0, 1

REMAKE = "Write the info file anew with the data set's own tools, or correct this entry."


@frozen(kw_only=True, eq=False)
class Entry:
    """One camera image with the LiDAR points that belong to it.

    Args:
        name: The same in every run, whatever stands before it in the file.
        image: File of the image.
        size: Width and height as the info file gives them, or None if it gives none.
        camera: 3x3.
        distortion: k1, k2, p1, p2, k3.
        lidar_to_camera: 4x4.
        points: File of the points.
        columns: Numbers per point.
    """

    name: str
    image: Path
    size: tuple[int, int] | None
    camera: Array
    distortion: Array
    lidar_to_camera: Array
    points: Path
    columns: int


def samples(config: Config) -> list[Sample]:
    """Both variants of every entry: even places are calibrated, odd ones are not.

    Raises:
        ConfigError: If the config names no info file.
        LoadError: If the file is not one, naming the entry and the key.
    """
    io = config.runtime_io
    path = io.info_pkl or io.info_file
    if path is None:
        hint = "For example runtime_io.info_pkl = 'data/t4dataset_base_infos_test.pkl'."
        raise ConfigError("runtime_io.info_pkl is needed: it names the calibration info file", hint=hint)
    images, points = io.img_prefix or io.data_root or Path(), io.data_root or io.img_prefix or Path()
    found = []
    for entry in entries(path, images, points, trust=config.trust_checkpoint):
        for label, word in ((CALIBRATED, "calibrated"), (MISCALIBRATED, "miscalibrated")):
            load = partial(_load, entry, label, config.noise_seed)
            found.append(Sample(id=f"{entry.name}:{word}", load=load, files=[entry.image, entry.points]))
    return found


# ---------------------------------------------------------------- the info file


def entries(path: Path, images: Path, points: Path, *, trust: bool = False) -> list[Entry]:
    """The checked content of an info file; `images` and `points` are the folders that its paths start from."""
    content = read_info(path, trust=trust)
    listed = content.get("data_list") if isinstance(content, Mapping) else None
    if not isinstance(listed, list | tuple):
        raise LoadError(f"{path}: holds no data_list, so it is no info file", hint="Name the pickle that AWML wrote.")
    if not listed:
        raise LoadError(f"{path}: data_list is empty", hint="Choose another split: there is nothing to run on.")
    names: Counter[str] = Counter()
    return [_entry(item, f"{path}: entry {index}", images, points, names) for index, item in enumerate(listed)]


def _entry(item: Any, where: str, images: Path, points: Path, names: Counter[str]) -> Entry:
    image, lidar = _section(item, "image", where), _section(item, "lidar_points", where)
    name = "-".join(str(item[key]) for key in ("scene_id", "frame_idx", "frame_id") if item.get(key) is not None)
    name = name or str(item.get("sample_idx", "sample"))
    names[name] += 1
    columns = lidar.get("num_pts_feats", 5)
    if not isinstance(columns, int) or columns < 4:
        fact = f"num_pts_feats is {columns!r}, at least 4 are needed: x, y, z, intensity"
        raise LoadError(f"{where}: {fact}", hint=REMAKE)
    return Entry(
        name=name if names[name] == 1 else f"{name}#{names[name]}",
        image=images / _text(image, "img_path", f"{where}: image"),
        size=_size(image, where),
        camera=_matrix(image, "cam2img", (3, 3), where),
        distortion=_distortion(image, where),
        lidar_to_camera=_matrix(image, "lidar2cam", (4, 4), where),
        points=points / _text(lidar, "lidar_path", f"{where}: lidar_points"),
        columns=columns,
    )


def _section(item: Any, key: str, where: str) -> Mapping[str, Any]:
    section = item.get(key) if isinstance(item, Mapping) else None
    if not isinstance(section, Mapping):
        raise LoadError(f"{where}: has no {key!r}, which a calibration info file must have", hint=REMAKE)
    return section


def _text(section: Mapping[str, Any], key: str, where: str) -> str:
    value = section.get(key)
    if not isinstance(value, str) or not value:
        raise LoadError(f"{where}: has no {key!r}", hint=REMAKE)
    return value


def _size(image: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    if width is None or height is None:
        return None
    if not isinstance(width, int | np.integer) or not isinstance(height, int | np.integer):
        raise LoadError(f"{where}: image: 'width' and 'height' must be whole numbers", hint=REMAKE)
    return int(width), int(height)


def _numbers(value: Any) -> Array | None:
    """An array of finite numbers, or None."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return array if np.isfinite(array).all() else None


def _matrix(section: Mapping[str, Any], key: str, shape: tuple[int, int], where: str) -> Array:
    if section.get(key) is None:
        raise LoadError(f"{where}: image: has no {key!r}", hint=REMAKE)
    array = _numbers(section[key])
    if array is None or array.shape != shape:
        raise LoadError(f"{where}: image: {key!r} must be {shape[0]}x{shape[1]} finite numbers", hint=REMAKE)
    return array


def _distortion(section: Mapping[str, Any], where: str) -> Array:
    """Five coefficients: without them the image cannot be straightened, and zeros must be said, not guessed."""
    value = section.get("distortion_coefficients")
    hint = "Give k1, k2, p1, p2, k3; five zeros for a camera without distortion."
    if value is None:
        raise LoadError(f"{where}: image: has no 'distortion_coefficients'", hint=hint)
    array = _numbers(value)
    if array is None or array.size != 5:
        fact = "must be finite numbers" if array is None else f"must be five, not {array.size}"
        raise LoadError(f"{where}: image: 'distortion_coefficients' {fact}", hint=hint)
    return array.reshape(5)


# ---------------------------------------------------------------- one sample


def _load(entry: Entry, label: int, seed: int) -> Frame:
    pose = entry.lidar_to_camera
    if label == MISCALIBRATED:
        pose = pose @ disturbance(np.random.default_rng(seed_of(entry.name, seed)))
    view = View(
        image=read_image(entry.image, entry.size),
        camera=entry.camera,
        distortion=entry.distortion,
        points=read_points(entry.points, entry.columns),
        lidar_to_camera=pose,
    )
    return Frame(inputs=view, ground_truth={"label": label})


def read_image(path: Path, size: tuple[int, int] | None) -> Array:
    """Blue green red bytes.

    Raises:
        LoadError: If the file is missing, no image, cut off, or of another size.
    """
    data = _bytes(
        path, "image", "Check runtime_io.data_root or runtime_io.img_prefix, and that the data set is complete."
    )
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if _whole(data) else None
    if image is None:
        raise LoadError(f"{path}: is not a complete image", hint="Fetch the file again.")
    if size and (image.shape[1], image.shape[0]) != size:
        seen = f"{image.shape[1]}x{image.shape[0]}"
        raise LoadError(
            f"{path}: is {seen} pixels, the info file says {size[0]}x{size[1]}",
            hint="The camera matrix belongs to the size in the info file: use the original images.",
        )
    return np.asarray(image)


def _whole(data: bytes) -> bool:
    """Whether the end of the file is there; OpenCV 4 fills what is missing with grey and only warns."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-64:]
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in data[-4096:]
    return bool(data)


def read_points(path: Path, columns: int) -> Array:
    """Rows of float32.

    Raises:
        LoadError: If the file is missing or its size is no whole number of points.
    """
    data = _bytes(path, "points file", "Check runtime_io.data_root, and that the data set is complete.")
    if len(data) % (4 * columns):
        raise LoadError(
            f"{path}: has {len(data)} bytes, which is no whole number of points of {columns} float32",
            hint="The file is cut off, or num_pts_feats of the info file is wrong.",
        )
    points = np.frombuffer(data, "<f4").reshape(-1, columns)
    if not len(points):
        raise LoadError(f"{path}: has no points", hint="Was the file copied whole? An empty scan says nothing.")
    broken = ~np.isfinite(points[:, :3]).all(axis=1)
    if broken.any():
        raise LoadError(
            f"{path}: {int(broken.sum())} of {len(points)} points have no finite place, the first is point "
            f"{int(broken.argmax())}",
            hint="Remove such points, or take the sample out of the data set.",
        )
    return points


def _bytes(path: Path, what: str, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path}: the {what} cannot be read: {error.strerror}", hint=hint) from error
