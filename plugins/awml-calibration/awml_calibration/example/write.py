"""The example on disk: config, weights, and a data set that is drawn on the spot."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from awml_calibration.example.rig import mount
from awml_calibration.example.scene import BEAMS, STEPS, Lens, photograph, scan
from awml_calibration.example.street import lay_out

if TYPE_CHECKING:
    from awml_calibration.noise import Doubles

HERE = Path(__file__).parent
INFO = "t4dataset_street_infos_test.pkl"
STREETS = 8
"""Three pictures each, two samples per picture; the seeds lie below those of the training."""


def write(directory: Path) -> None:
    """Write everything that `awml-deploy --model calibration config.py` needs into the directory."""
    for name in ("config.py", "weights.safetensors"):
        shutil.copyfile(HERE / name, directory / name)
    draw(directory / "data", range(STREETS))


def draw(root: Path, seeds: range) -> Path:
    """Write pictures, points and the info file of a few streets; the same bytes for the same seeds."""
    entries = [entry for index, seed in enumerate(seeds) for entry in _moment(root, seed, index)]
    info = root / INFO
    content = {"metainfo": {"version": f"street, {BEAMS} x {STEPS} LiDAR"}, "data_list": entries}
    info.write_bytes(pickle.dumps(content, protocol=4))
    return info


def _moment(root: Path, seed: int, index: int) -> list[dict[str, Any]]:
    """One turn of the LiDAR and a picture from each camera."""
    street, rng = lay_out(seed), np.random.default_rng([seed, 1])
    rig, scene = mount(rng), f"street_{seed:02d}"
    lidar = f"{scene}/LIDAR_CONCAT/0.pcd.bin"
    points = scan(street, rig.lidar, rng)
    (root / lidar).parent.mkdir(parents=True)
    (root / lidar).write_bytes(points.astype("<f4").tobytes())
    found = []
    for number, (channel, lens) in enumerate(rig.lenses.items()):
        image = f"{scene}/{channel}/0.png"
        (root / image).parent.mkdir()
        _, data = cv2.imencode(".png", photograph(street, lens, rng))
        (root / image).write_bytes(data.tobytes())
        found.append(
            {
                "sample_idx": index * len(rig.lenses) + number,
                "scene_id": scene,
                "frame_idx": 0,
                "frame_id": channel,
                "image": {"img_path": image, **_camera(lens, rig.lidar)},
                "lidar_points": {"lidar_path": lidar, "num_pts_feats": points.shape[1], "timestamp": float(index)},
            }
        )
    return found


def _camera(lens: Lens, lidar: Doubles) -> dict[str, Any]:
    width, height = lens.size
    return {
        "cam2img": lens.matrix.tolist(),
        "lidar2cam": (np.linalg.inv(lens.pose) @ lidar).tolist(),
        "distortion_coefficients": lens.distortion.tolist(),
        "height": height,
        "width": width,
    }
