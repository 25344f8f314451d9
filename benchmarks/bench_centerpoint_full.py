"""CenterPoint at its real size: what a run of one frame needs, and what TensorRT makes of the two graphs.

The preset `base_2_6_0` (121 m, 1020 x 1020 pillars) with weights from a seed and one frame of the example's simulator,
whose sensor is made dense enough for about 200,000 points. Ours is `awml-deploy --model centerpoint config.py`: export,
verification and evaluation of that frame on PyTorch and ONNX Runtime. `peak-torch` holds its largest memory against a
process that does one forward pass of the network on the frame, `peak-onnx` against one that opens both files in ONNX
Runtime, without torch, and runs them on it; `peak` against the larger of the two, which no run can do without. Wall
times, and those of the stages of our run, stand before the table.

Then both graphs are built by TensorRT-RTX, in FP32 and in FP16, by the same command; seconds, sizes and receipts are
printed, and the rows `build-*` hold FP16 (ours) against FP32 (theirs). Without TensorRT-RTX this part is left out.

    python benchmarks/bench_centerpoint_full.py [--turns 1] [--threads 2] [--no-build] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.engines import DEPLOY, engines
from benchmarks.frame import Cost, Row, limit, process, show

CONFIG = """
_base_ = [{preset!r}]
checkpoint_path = "checkpoint.pth"
runtime_io = {{"info_file": "data/t4dataset_town_infos_test.pkl", "data_root": "data"}}
export = {{"mode": "onnx", "work_dir": "work_dir"}}
evaluation = {{
    "_delete_": True,
    "enabled": True,
    "num_samples": 1,
    "num_warmup": 0,
    "num_pictures": 0,
    "backends": {{"pytorch": {{"enabled": True}}, "onnx": {{"enabled": True}}}},
}}
"""
FILES = ("pts_voxel_encoder", "pts_backbone_neck_head")


# ---------------------------------------------------------------- children


def write(folder: Path) -> None:
    """Weights, one dense frame and the config."""
    import numpy as np
    import torch

    from awml_centerpoint.architecture import architecture, geometry
    from awml_centerpoint.config import Config
    from awml_centerpoint.example import lidar
    from awml_centerpoint.example import write as example
    from awml_centerpoint.network import build
    from awml_centerpoint.presets import base_2_6_0 as preset

    # Two turns of about 100,000 points; the module's functions look these names up when they are called.
    beams = np.radians(np.linspace(-25, 12, 84))
    for owner, name, value in ((lidar, "STEPS", 1800), (lidar, "BEAMS", beams), (example, "TIMES", (0.5,))):
        setattr(owner, name, value)
    example.draw(folder / "data", range(1))
    torch.manual_seed(0)
    model = build(architecture(Config()))
    for name, parameter in model.named_parameters():
        if name.endswith("heatmap.1.weight"):
            # As it comes from the seed, all cells are nearly equally hot, and rounding would choose the boxes.
            torch.nn.init.normal_(parameter, std=1.0)
    torch.save({"state_dict": model.state_dict()}, folder / "checkpoint.pth")
    (folder / "config.py").write_text(CONFIG.format(preset=str(preset.__file__)))
    frame(folder, geometry(Config()))


def frame(folder: Path, grid: Any) -> None:
    """What both graphs are asked, for those who run them alone."""
    import numpy as np
    import torch

    from awml_centerpoint.architecture import architecture
    from awml_centerpoint.config import Config
    from awml_centerpoint.data import samples
    from awml_centerpoint.voxels import decorate, voxelise
    from awml_deploy_core.config import RuntimeIO

    io = RuntimeIO(info_file=folder / "data/t4dataset_town_infos_test.pkl", data_root=folder / "data")
    (sample,) = samples(Config(runtime_io=io))
    points = torch.from_numpy(sample.load().inputs["points"])
    voxels = voxelise(points, grid)
    np.save(folder / "features.npy", decorate(points, voxels, grid, architecture(Config())).numpy())
    np.save(folder / "places.npy", voxels.coordinates.numpy())
    print(f"{len(points):,} points in {len(voxels.counts):,} pillars")


def torch_alone(folder: Path) -> None:
    """One forward pass of the network."""
    import numpy as np
    import torch

    from awml_centerpoint.architecture import architecture, geometry
    from awml_centerpoint.config import Config
    from awml_centerpoint.network import build
    from awml_centerpoint.scatter import scatter

    model = build(architecture(Config())).eval()
    model.load_state_dict(torch.load(folder / "checkpoint.pth", weights_only=True)["state_dict"])
    features, places = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("features", "places"))
    with torch.no_grad():
        encoded = model.encode(features)
        model.detect(scatter([encoded], [places], geometry(Config()).grid))


def onnx_alone(folder: Path) -> None:
    """One run of both files, without torch."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    encoder, detector = (
        onnxruntime.InferenceSession(folder / f"work_dir/onnx/{name}.onnx", options, providers=["CPUExecutionProvider"])
        for name in FILES
    )
    features, places = (np.load(folder / f"{name}.npy") for name in ("features", "places"))
    (encoded,) = encoder.run(None, {"input_features": features})
    canvas = np.zeros((1, encoded.shape[-1], 1020, 1020), np.float32)
    canvas[0, :, places[:, 1], places[:, 2]] = encoded[:, 0]
    detector.run(None, {"spatial_features": canvas})


CHILDREN = {"write": write, "torch": torch_alone, "onnx": onnx_alone}


# ---------------------------------------------------------------- both sides


def child(name: str, folder: Path) -> Cost:
    return process([sys.executable, "-W", "ignore", str(Path(__file__)), "--child", name, "--folder", str(folder)])


def run(folder: Path, told: list[dict[str, Any]]) -> Cost:
    """Our side, without anything left from the turn before."""
    shutil.rmtree(folder / "work_dir", ignore_errors=True)
    cost = process((*DEPLOY, "centerpoint", "config.py"), cwd=folder)
    told.append(json.loads((folder / "work_dir/report.json").read_text()))
    return cost


def measure(folder: Path, count: int) -> list[Row]:
    """The run against either process alone; the files that the latter opens are those of the run before."""
    told: list[dict[str, Any]] = []
    costs = [(run(folder, told), child("torch", folder), child("onnx", folder)) for _ in range(count)]
    stages = ", ".join(f"{each['name']} {each['seconds']:.1f} s" for each in told[-1]["stages"])
    print(f"the run is {told[-1]['status']}: {stages}")
    sides = list(zip(*costs, strict=True))
    walls = [min(cost.wall_s for cost in side) for side in sides]
    print("wall: run {:.1f} s, torch alone {:.1f} s, ONNX Runtime alone {:.1f} s".format(*walls))
    ours, torch, onnx = (max(cost.peak_mb for cost in side) for side in sides)
    alone = {"peak-torch": torch, "peak-onnx": onnx, "peak": max(torch, onnx)}
    return [Row(name=name, ours=ours, theirs=theirs, unit="mb") for name, theirs in alone.items()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep everything there instead of in a temporary folder")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.child:
        CHILDREN[said.child](said.folder)
        return
    limit(said.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = (said.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        child("write", folder)
        rows = measure(folder, said.turns)
        show(f"One frame of full size, {said.threads} threads, {said.turns} turns", rows, ours="run", theirs="alone")
        if not said.no_build and find_spec("tensorrt_rtx"):
            show("Engines of full size", engines(folder, "centerpoint"), ours="fp16", theirs="fp32")


if __name__ == "__main__":
    main()
