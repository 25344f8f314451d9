"""The example on disk: config, weights, and a data set that is drawn on the spot."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from awml_centerpoint.example.bodies import CLASSES
from awml_centerpoint.example.lidar import BEAMS, STEPS
from awml_centerpoint.example.ride import moments

if TYPE_CHECKING:
    from awml_centerpoint.example.ride import Moment

HERE = Path(__file__).parent
INFO = "t4dataset_town_infos_test.pkl"
TOWNS = range(4)
"""Seeds of the rides, below those of the training."""
TIMES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Seconds at which each ride is labelled."""
LAG = 0.2
"""Seconds from a sweep to its key frame."""


def write(directory: Path) -> None:
    """Write everything that `awml-deploy --model centerpoint config.py` needs into the directory."""
    for name in ("config.py", "weights.safetensors"):
        shutil.copyfile(HERE / name, directory / name)
    draw(directory / "data", TOWNS)


def draw(root: Path, seeds: range) -> Path:
    """Write the points and the info file of a few rides; the same bytes for the same seeds."""
    entries = [entry for seed in seeds for entry in _ride(root, seed)]
    info = root / INFO
    named = {"classes": list(CLASSES), "version": f"town, {len(BEAMS)} x {STEPS} LiDAR"}
    listed = [{"sample_idx": index, **entry} for index, entry in enumerate(entries)]
    info.write_bytes(pickle.dumps({"metainfo": named, "data_list": listed}, protocol=4))
    return info


def _ride(root: Path, seed: int) -> list[dict[str, Any]]:
    """Every labelled moment of a ride, each with the sweep before it."""
    scene = f"town_{seed:02d}"
    (root / scene / "LIDAR_CONCAT").mkdir(parents=True)
    turns = moments(seed, [round(time - lag, 3) for time in TIMES for lag in (LAG, 0.0)])
    paths = [f"{scene}/LIDAR_CONCAT/{index}.pcd.bin" for index in range(len(turns))]
    for path, turn in zip(paths, turns, strict=True):
        (root / path).write_bytes(turn.points.astype("<f4").tobytes())
    pairs = zip(turns[::2], turns[1::2], paths[::2], paths[1::2], strict=True)
    return [
        {
            "token": f"{scene}_{index:02d}",
            "scene_token": scene,
            "scene_name": scene,
            "location": "town",
            "vehicle_type": "simulated",
            "timestamp": _seconds(seed, key),
            "ego2global": key.pose.tolist(),
            "images": {},
            "lidar_points": _lidar(path),
            "lidar_sweeps": [_sweep(key, sweep, earlier, seed)],
            "instances": _instances(key),
        }
        for index, (sweep, key, earlier, path) in enumerate(pairs)
    ]


def _seconds(seed: int, turn: Moment) -> float:
    """One ride after another."""
    return 1000.0 + 10 * seed + turn.time


def _lidar(path: str) -> dict[str, Any]:
    return {"num_pts_feats": 5, "lidar_path": path, "lidar2ego": np.eye(4).tolist()}


def _sweep(key: Moment, sweep: Moment, path: str, seed: int) -> dict[str, Any]:
    # A reader of these files moves a row of points p to `p @ m[:3, :3] - m[:3, 3]`.
    moved = np.linalg.inv(key.pose) @ sweep.pose
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = moved[:3, :3].T, -moved[:3, 3]
    return {
        "timestamp": _seconds(seed, sweep),
        "ego2global": sweep.pose.tolist(),
        "lidar_points": {**_lidar(path), "lidar2sensor": matrix.tolist()},
    }


def _instances(turn: Moment) -> list[dict[str, Any]]:
    """All road users, also those that no point lies on; these say so."""
    truth = turn.truth
    rows = zip(
        truth.boxes.tolist(), truth.labels.tolist(), truth.velocities.tolist(), turn.counts.tolist(), strict=True
    )
    return [
        {
            "bbox_3d": box,
            "bbox_label": label,
            "bbox_label_3d": label,
            "velocity": velocity,
            "num_lidar_pts": count,
            "num_radar_pts": 0,
            "bbox_3d_isvalid": count > 0,
            "gt_nusc_name": CLASSES[label],
        }
        for box, label, velocity, count in rows
    ]
