"""How the example's weights were made: `python -m awml_calibration.example.train OUT.safetensors`.

The streets are not those of the example's data. Every picture is used many times, each time through another virtual
camera (the picture is turned, scaled and shifted, and the points with it), half of the time with a wrong calibration
drawn anew.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from awml_calibration.example.rig import CAMERAS, SIZE, mount
from awml_calibration.example.scene import photograph, scan
from awml_calibration.example.street import lay_out
from awml_calibration.image import Array, View, paint, rectify
from awml_calibration.network import Classifier
from awml_calibration.noise import disturbance

WIDTH = 12
FIRST_STREET = 10_000
"""Seeds below are the example's."""

log = logging.getLogger(__name__)


def views(streets: int, first: int = FIRST_STREET) -> list[View]:
    """Three pictures of each street, without lens distortion, each with the points around its field of view."""
    found = []
    for seed in range(first, first + streets):
        street, rng = lay_out(seed), np.random.default_rng([seed, 1])
        rig = mount(rng)
        for name, ahead in CAMERAS.items():
            lens = rig.lenses[name]
            image, camera = rectify(photograph(street, lens, rng), lens.matrix, lens.distortion)
            points = scan(street, rig.lidar, rng, (np.radians(ahead - 62), np.radians(ahead + 62)))
            pose = np.linalg.inv(lens.pose) @ rig.lidar
            found.append(View(image=image, camera=camera, distortion=np.zeros(5), points=points, lidar_to_camera=pose))
    return found


def _draw(view: View, calibrated: bool, rng: np.random.Generator) -> Array:
    """One training image, seen by a virtual camera."""
    pose = view.lidar_to_camera if calibrated else view.lidar_to_camera @ disturbance(rng)
    warp = _warp(rng)
    image = cv2.warpAffine(view.image, warp[:2], SIZE, borderMode=cv2.BORDER_REPLICATE)
    pixels, depth, intensity = _project(view.points, pose, warp @ view.camera)
    values = np.stack([255 * depth / 128, intensity]).astype(np.float32)
    colours = image * rng.uniform(0.8, 1.2, 3) + rng.uniform(-12, 12)
    painted = paint(pixels, depth, values, SIZE, 1)
    stack = np.concatenate([np.clip(colours, 0, 255).transpose(2, 0, 1).astype(np.float32), painted])
    return np.asarray(stack / np.float32(255))


def _warp(rng: np.random.Generator) -> Array:
    """From a picture's pixels to those of the virtual camera, 3x3: turned, scaled, shifted, mirrored."""
    width, height = SIZE
    warp = np.eye(3)
    middle = (width / 2 + rng.uniform(-40, 40), height / 2 + rng.uniform(-20, 20))
    warp[:2] = cv2.getRotationMatrix2D(middle, rng.normal(0, 3), rng.uniform(1.0, 1.3))
    warp[:2, 2] += rng.uniform((-20, -14), (20, 14))
    mirror = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]])
    return mirror @ warp if rng.random() < 0.5 else warp


def _project(points: Array, pose: Array, camera: Array) -> tuple[Array, Array, Array]:
    """As `image.project`, for a camera matrix with a turn in it, which OpenCV would ignore."""
    seen = points[:, :3] @ pose[:3, :3].T.astype(np.float32) + pose[:3, 3].astype(np.float32)
    ahead = (seen[:, 2] > 0) & (seen[:, 2] < 128)
    seen, intensity = seen[ahead], points[ahead, 3]
    flat = seen @ camera.T.astype(np.float32)
    flat = flat[:, :2] / flat[:, 2:]
    inside = (flat >= 0).all(1) & (flat[:, 0] <= SIZE[0] - 1) & (flat[:, 1] <= SIZE[1] - 1)
    return flat[inside].astype(np.int64), seen[inside, 2], intensity[inside]


def _batches(data: list[View], size: int, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of different pictures, half of them calibrated, made one step ahead in a thread."""

    def make(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(data), size, replace=False)
        labels = np.arange(size) % 2
        images = [_draw(data[view], bool(label), rng) for view, label in zip(chosen, labels, strict=True)]
        return torch.from_numpy(np.stack(images)), torch.from_numpy(labels)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, 0)
        for step in range(steps):
            batch = ahead.result()
            ahead = pool.submit(make, step + 1)
            yield batch


def train(data: list[View], steps: int, seed: int = 0, batch: int = 32) -> Classifier:
    """A network from scratch; AdamW, one cycle, label smoothing 0.1 as in the published training."""
    torch.manual_seed(seed)
    model: Classifier = Classifier(width=WIDTH).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        # Depth is small beside the colours (10 m are 0.08): let it speak from the first step on.
        model.backbone.conv1.weight[:, 3] *= 6
        model.backbone.conv1.weight[:, 4] *= 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.15)
    begin, right, seen = time.monotonic(), 0, 0
    for step, (images, labels) in enumerate(_batches(data, batch, steps, seed), 1):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images.to(memory_format=torch.channels_last)).float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2)
        optimiser.step()
        cycle.step()
        right += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
        if step % 50 == 0:
            log.info(
                "step %d: loss %.3f, accuracy %.3f, %.0f s", step, loss.item(), right / seen, time.monotonic() - begin
            )
            right = seen = 0
    model.eval()
    return model


def main() -> None:
    """Draw the streets, train, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--streets", type=int, default=160)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(given.threads)
    data = views(given.streets)
    log.info("%d pictures", len(data))
    model = train(data, given.steps)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    # One entry only: safetensors writes several in any order.
    made = {"training": f"resnet18, base_channels {WIDTH}, channel_order bgr, {given.steps} steps"}
    save_file(tensors, given.output, made)


if __name__ == "__main__":
    main()
