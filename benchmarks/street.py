"""A deployment of real size, made from seeds: ResNet-18 with 5 channels on 480x640 images, for `awml-calibration`."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from awml_calibration.network import Classifier

HEIGHT, WIDTH = 480, 640
POINTS = 2000

CONFIG = """
model = "calibration"
task_type = "classification"
checkpoint_path = "checkpoint.pth"
class_names = ["miscalibrated", "calibrated"]
height = (240, 480, 960)
width = (320, 640, 1280)
runtime_io = {{"info_pkl": "data/infos.pkl", "data_root": "data"}}
export = {{"mode": "onnx", "work_dir": "work_dir"}}
onnx_config = {{"opset_version": {opset}, "exporter": "{exporter}", "simplify": True}}
verification = {{"enabled": True, "num_verify_samples": 3}}
evaluation = {{
    "enabled": True,
    "num_samples": {samples},
    "num_warmup": 0,
    "backends": {{"pytorch": {{"enabled": True}}, "onnx": {{"enabled": True}}}},
}}
"""


def write(folder: Path, *, samples: int, exporter: str, opset: int) -> None:
    """Data, checkpoint and config; every entry of the info file makes two samples."""
    rng = np.random.default_rng(0)
    entries = [entry(folder / "data", index, rng) for index in range((max(samples, 3) + 1) // 2)]
    (folder / "data/infos.pkl").write_bytes(pickle.dumps({"metainfo": {}, "data_list": entries}))
    torch.manual_seed(0)
    torch.save({"state_dict": Classifier(18, 64).state_dict()}, folder / "checkpoint.pth")
    (folder / "config.py").write_text(CONFIG.format(samples=samples, exporter=exporter, opset=opset))


def entry(data: Path, index: int, rng: np.random.Generator) -> dict[str, Any]:
    """One image with its points, written to files."""
    data.mkdir(parents=True, exist_ok=True)
    coarse = rng.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    cv2.imwrite(str(data / f"{index}.jpg"), cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    points = rng.uniform((-8, -4, 4, 0, 0), (8, 4, 60, 255, 1), (POINTS, 5)).astype(np.float32)
    points.tofile(data / f"{index}.bin")
    image = {
        "img_path": f"{index}.jpg",
        "width": WIDTH,
        "height": HEIGHT,
        "cam2img": [[500.0, 0.0, WIDTH / 2], [0.0, 500.0, HEIGHT / 2], [0.0, 0.0, 1.0]],
        "lidar2cam": np.eye(4).tolist(),
        "distortion_coefficients": [-0.1, 0.02, 0.0, 0.0, 0.0],
    }
    return {"sample_idx": index, "image": image, "lidar_points": {"lidar_path": f"{index}.bin", "num_pts_feats": 5}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--exporter", default="torchscript")
    parser.add_argument("--opset", type=int, default=17)
    said = parser.parse_args()
    write(said.folder, samples=said.samples, exporter=said.exporter, opset=said.opset)


if __name__ == "__main__":
    main()
