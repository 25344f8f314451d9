"""Info files as samples: what is read, in which order, and what is refused with which words."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from awml_calibration.data import read_image
from awml_calibration.hooks import Config, load_samples
from awml_deploy_core.config import RuntimeIO
from awml_deploy_core.errors import ConfigError, ExitCode, LoadError
from awml_deploy_core.tree import digest, equal

if TYPE_CHECKING:
    from awml_deploy_core.records import Sample

POINTS = np.random.default_rng(0).uniform(1, 20, (50, 5)).astype(np.float32)
IMAGE = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def entry(index: int = 0, **changes: Any) -> dict[str, Any]:
    image: dict[str, Any] = {
        "img_path": f"cam/{index}.png",
        "cam2img": np.array([[30, 0, 16], [0, 30, 12], [0, 0, 1.0]]),
        "lidar2cam": [[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]],
        "distortion_coefficients": [-0.1, 0.01, 0, 0, 0],
        "width": 32,
        "height": 24,
    }
    lidar: dict[str, Any] = {"lidar_path": f"lidar/{index}.bin", "num_pts_feats": 5}
    for key, value in changes.items():
        section = image if key in image else lidar
        section[key] = value
        if value is ...:
            del section[key]
    return {"scene_id": "s", "frame_idx": index, "frame_id": "CAM_FRONT", "image": image, "lidar_points": lidar}


def data_set(folder: Path, *entries: Any) -> Config:
    """Files for every entry and the config that names them."""
    for index in range(len(entries)):
        for name, content in ((f"cam/{index}.png", cv2.imencode(".png", IMAGE)[1]), (f"lidar/{index}.bin", POINTS)):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content.tobytes())
    return info(folder, {"data_list": list(entries), "metainfo": {"version": "x"}})


def info(folder: Path, content: Any, **fields: Any) -> Config:
    (folder / "infos.pkl").write_bytes(pickle.dumps(content))
    return Config(runtime_io=RuntimeIO(info_pkl=folder / "infos.pkl", data_root=folder), **fields)


def samples(config: Config) -> Sequence[Sample]:
    found: Sequence[Sample] = load_samples("evaluate", config)
    return found


def test_every_entry_is_calibrated_at_even_and_miscalibrated_at_odd_places(tmp_path: Path) -> None:
    found = samples(data_set(tmp_path, entry(0), entry(1)))
    assert [sample.load().ground_truth["label"] for sample in found] == [1, 0, 1, 0]
    assert [sample.id for sample in found] == [
        "s-0-CAM_FRONT:calibrated",
        "s-0-CAM_FRONT:miscalibrated",
        "s-1-CAM_FRONT:calibrated",
        "s-1-CAM_FRONT:miscalibrated",
    ]
    assert found[3].files == (tmp_path / "cam/1.png", tmp_path / "lidar/1.bin")


def test_the_variants_share_everything_but_the_calibration(tmp_path: Path) -> None:
    right, wrong = (sample.load().inputs for sample in samples(data_set(tmp_path, entry())))
    for name in ("image", "camera", "distortion", "points"):
        assert np.array_equal(getattr(right, name), getattr(wrong, name))
    np.testing.assert_array_equal(right.image, IMAGE)
    np.testing.assert_array_equal(right.points, POINTS)
    np.testing.assert_array_equal(right.lidar_to_camera, entry()["image"]["lidar2cam"])
    motion = np.linalg.inv(right.lidar_to_camera) @ wrong.lidar_to_camera
    angle = np.degrees(np.arccos((np.trace(motion[:3, :3]) - 1) / 2))
    assert 1 - 1e-6 <= angle <= 10 + 1e-6
    assert 0.05 - 1e-9 <= np.linalg.norm(motion[:3, 3]) <= 0.2 + 1e-9


def test_two_runs_see_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry())
    first, second = (samples(config)[1].load().inputs for _ in range(2))
    assert digest(first) == digest(second)
    other = Config(runtime_io=config.runtime_io, noise_seed=1)
    assert not equal(first, samples(other)[1].load().inputs)
    assert equal(samples(config)[0].load().inputs, samples(other)[0].load().inputs)


def test_noise_belongs_to_the_entry_not_to_its_place(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry(0), entry(1))
    before = samples(config)[3].load().inputs
    assert not np.array_equal(before.lidar_to_camera, samples(config)[1].load().inputs.lidar_to_camera)
    after = samples(info(tmp_path, {"data_list": [entry(1)]}))[1].load().inputs
    assert equal(before, after)


def test_entries_of_one_name_keep_their_own_ids(tmp_path: Path) -> None:
    found = samples(data_set(tmp_path, entry(0), entry(1, img_path="cam/1.png") | {"frame_idx": 0}))
    assert len({sample.id for sample in found}) == 4


def test_nothing_is_read_before_it_is_loaded(tmp_path: Path) -> None:
    config = info(tmp_path, {"data_list": [entry()]})
    sample = samples(config)[0]
    with pytest.raises(LoadError, match=r"cam/0\.png: the image cannot be read"):
        sample.load()


def test_images_may_have_a_folder_of_their_own(tmp_path: Path) -> None:
    data_set(tmp_path, entry())
    (tmp_path / "pictures").mkdir()
    (tmp_path / "cam").rename(tmp_path / "pictures" / "cam")
    io = RuntimeIO(info_file=tmp_path / "infos.pkl", data_root=tmp_path, img_prefix=tmp_path / "pictures")
    np.testing.assert_array_equal(samples(Config(runtime_io=io))[0].load().inputs.image, IMAGE)


def test_number_of_columns_is_the_info_file_s(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry(num_pts_feats=10))
    assert samples(config)[0].load().inputs.points.shape == (25, 10)
    config = data_set(tmp_path, entry(num_pts_feats=...))
    assert samples(config)[0].load().inputs.points.shape == (50, 5)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"img_path": ...}, "entry 1: image: has no 'img_path'"),
        ({"cam2img": ...}, "entry 1: image: has no 'cam2img'"),
        ({"cam2img": np.eye(4)}, "entry 1: image: 'cam2img' must be 3x3"),
        ({"cam2img": [[1, 2], [3]]}, "entry 1: image: 'cam2img' must be 3x3"),
        ({"lidar2cam": ...}, "entry 1: image: has no 'lidar2cam'"),
        ({"lidar2cam": np.full((4, 4), np.nan)}, "entry 1: image: 'lidar2cam' must be 4x4 finite"),
        ({"distortion_coefficients": ...}, "entry 1: image: has no 'distortion_coefficients'"),
        ({"distortion_coefficients": [0, 0, 0, 0]}, "'distortion_coefficients' must be five, not 4"),
        ({"distortion_coefficients": [0] * 8}, "'distortion_coefficients' must be five, not 8"),
        ({"distortion_coefficients": "none"}, "'distortion_coefficients' must be finite numbers"),
        ({"width": "wide"}, "'width' and 'height' must be whole numbers"),
        ({"lidar_path": ...}, "entry 1: lidar_points: has no 'lidar_path'"),
        ({"num_pts_feats": 3}, "entry 1: num_pts_feats is 3"),
    ],
)
def test_faulty_entry_is_named_with_its_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LoadError, match=said) as e:
        samples(info(tmp_path, {"data_list": [entry(0), entry(1, **changes)]}))
    assert "infos.pkl" in e.value.message
    assert e.value.hint
    assert e.value.exit_code is ExitCode.EXPORT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "holds no data_list"),
        ({"infos": []}, "holds no data_list"),
        ({"data_list": {}}, "holds no data_list"),
        ({"data_list": []}, "data_list is empty"),
        ({"data_list": [7]}, "entry 0: has no 'image'"),
        ({"data_list": [{"images": {}}]}, "entry 0: has no 'image'"),
        ({"data_list": [{"image": {}}]}, "entry 0: has no 'lidar_points'"),
    ],
)
def test_file_that_is_no_info_file(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(LoadError, match=said):
        samples(info(tmp_path, content))


def test_no_info_file_named_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"runtime_io\.info_pkl"):
        samples(Config())


def test_missing_info_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"nowhere\.pkl"):
        samples(Config(runtime_io=RuntimeIO(info_pkl=tmp_path / "nowhere.pkl")))


PNG, JPEG = cv2.imencode(".png", IMAGE)[1].tobytes(), cv2.imencode(".jpg", IMAGE)[1].tobytes()


@pytest.mark.parametrize(
    "content", [b"", b"no picture", PNG[: len(PNG) // 2], JPEG[: len(JPEG) // 2], PNG[:40]],
    ids=["empty", "text", "half a png", "half a jpeg", "head of a png"],
)  # fmt: skip
def test_broken_image(tmp_path: Path, content: Any) -> None:
    config = data_set(tmp_path, entry())
    (tmp_path / "cam/0.png").write_bytes(content)
    with pytest.raises(LoadError, match=r"cam/0\.png: is not a complete image"):
        samples(config)[0].load()


@pytest.mark.parametrize("content", [PNG[:-20], JPEG[:-20]], ids=["png", "jpeg"])
def test_image_cut_off_is_refused_though_the_decoder_fills_it(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenCV 4 answers a picture that is grey from the cut on; OpenCV 5 answers none.
    monkeypatch.setattr(cv2, "imdecode", lambda *_: IMAGE)
    (tmp_path / "cut").write_bytes(content)
    with pytest.raises(LoadError, match="is not a complete image"):
        read_image(tmp_path / "cut", None)


def test_jpeg_is_read(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry())
    (tmp_path / "cam/0.png").write_bytes(JPEG)
    np.testing.assert_array_equal(
        samples(config)[0].load().inputs.image, cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    )


def test_image_of_another_size(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry(width=64))
    with pytest.raises(LoadError, match=r"cam/0\.png: is 32x24 pixels, the info file says 64x24"):
        samples(config)[0].load()


def test_points_cut_off(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry())
    (tmp_path / "lidar/0.bin").write_bytes(POINTS.tobytes()[:-4])
    with pytest.raises(LoadError, match=r"lidar/0\.bin: has 996 bytes, .* of 5 float32"):
        samples(config)[0].load()


def test_points_missing(tmp_path: Path) -> None:
    config = data_set(tmp_path, entry())
    (tmp_path / "lidar/0.bin").unlink()
    with pytest.raises(LoadError, match=r"lidar/0\.bin: the points file cannot be read"):
        samples(config)[0].load()
