"""The example on disk: config, weights, and pictures of streets that are drawn on the spot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2

from awml_yolox.example.scene import Scene, draw
from awml_yolox.example.street import CLASSES

HERE = Path(__file__).parent
INFO = "street_infos_test.json"
SCENES = 28
"""The seeds lie below those that the training uses."""


def write(directory: Path) -> None:
    """Write everything that `awml-deploy --model yolox config.py` needs into the directory."""
    for name in ("config.py", "weights.safetensors"):
        shutil.copyfile(HERE / name, directory / name)
    write_data(directory / "data", range(SCENES))


def write_data(root: Path, seeds: range) -> Path:
    """Write pictures and AWML's 2D info file of a few streets; the same bytes for the same seeds."""
    (root / "images").mkdir(parents=True)
    entries = [_entry(root, seed, draw(seed)) for seed in seeds]
    about = {"dataset_type": "street", "task_name": "detection_task", "classes": CLASSES}
    info = root / INFO
    info.write_text(json.dumps({"metainfo": about, "data_list": entries}, indent=1) + "\n", encoding="utf-8")
    return info


def _entry(root: Path, seed: int, scene: Scene) -> dict[str, Any]:
    """Write a picture; answers what the info file says of it."""
    name = f"street_{seed:02d}"
    _, data = cv2.imencode(".png", scene.image)
    (root / "images" / f"{name}.png").write_bytes(data.tobytes())
    height, width = scene.image.shape[:2]
    instances = [
        {"bbox": box, "bbox_label": label, "mask": [], "extra_anns": [], "ignore_flag": 0}
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
    ]
    return {
        "img_id": name,
        "img_path": f"images/{name}.png",
        "width": width,
        "height": height,
        "instances": instances,
    }
