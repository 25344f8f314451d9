"""YOLOX-opt-ELAN at its real size: what evaluation adds to the session runs, and what other precisions bring.

The preset's network, 960x960 with batch 1, with weights from a seed, and 30 scenes of the example's generator, enlarged
to 1920x1280 and written as JPEG. `awml-deploy` exports it. `evaluate` is the core's evaluation of that file in ONNX
Runtime: images are read, letterboxed, run, decoded, suppressed and scored. Theirs is a session of ONNX Runtime on
tensors that were prepared beforehand. Both take turns of three images, and who begins changes. Rows in `-cpu` hold
processor time of all threads, rows in `-least` the least of all turns instead of the median.

Then the file is cast to FP16 and to INT8 by the command, which also builds engines with TensorRT-RTX: `session-*` are
runs of the cast file in ONNX Runtime against those of the file in FP32, `build-*` and `size-*` are the engines, each
against FP32. INT8 has a scale per channel, which wants opset 13; the preset has 11. Without TensorRT-RTX this part is
left out.

    python benchmarks/bench_yolox_full.py [--repeats 3] [--threads 2] [--no-build] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.engines import DEPLOY, engines
from benchmarks.frame import Row, call, compared, limit, process, show, turns

IMAGES, TURN = 30, 3
SIZE = (1920, 1280)
LIKELY = 300
"""Rows of the first image that may become boxes; a street with a few dozen things has as many."""

CONFIG = """
_base_ = [{preset!r}]
checkpoint_path = "checkpoint.pth"
runtime_io = {{"ann_file": "infos.json", "img_prefix": "images", "sample_idx": 0}}
model_io = {{"batch_size": 1}}
onnx_config = {{"save_file": "yolox.onnx", "opset_version": 13}}
export = {{"mode": "onnx", "work_dir": "work_dir", "_delete_": True}}
verification = {{"enabled": False, "_delete_": True}}
evaluation = {{"enabled": False, "_delete_": True}}
"""


# ---------------------------------------------------------------- what it works on


def write(folder: Path) -> None:
    """Images, weights and config."""
    import torch

    from awml_yolox.presets import yolox_s_opt_elan_960x960_t4dataset as preset

    images = pictures(folder)
    (folder / "config.py").write_text(CONFIG.format(preset=str(preset.__file__)))
    torch.save({"state_dict": network(images).state_dict()}, folder / "checkpoint.pth")


def pictures(folder: Path) -> list[Any]:
    """The first images, after all are written."""
    import cv2

    from awml_yolox.example.scene import draw
    from awml_yolox.example.street import CLASSES

    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries, first = [], []
    for seed in range(IMAGES):
        scene = draw(seed)
        image = cv2.resize(scene.image, SIZE, interpolation=cv2.INTER_CUBIC)
        first += [image] if seed < 2 else []
        cv2.imwrite(str(folder / f"images/{seed}.jpg"), image)
        larger = [SIZE[0] / scene.image.shape[1], SIZE[1] / scene.image.shape[0]] * 2
        instances = [
            {"bbox": [value * more for value, more in zip(box, larger, strict=True)], "bbox_label": label}
            for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
        ]
        size = {"width": SIZE[0], "height": SIZE[1]}
        entries.append({"img_id": f"{seed}", "img_path": f"{seed}.jpg", **size, "instances": instances})
    info = {"metainfo": {"classes": list(CLASSES)}, "data_list": entries}
    (folder / "infos.json").write_text(json.dumps(info))
    return first


def network(images: list[Any]) -> Any:
    """Weights from a seed, with statistics that let an image through, and as sure of things as a trained network."""
    import torch
    from torch import nn

    from awml_yolox.architecture import architecture
    from awml_yolox.hooks import Config
    from awml_yolox.letterbox import letterbox
    from awml_yolox.network import build

    torch.manual_seed(0)
    model = build(architecture(Config()))
    batch = torch.from_numpy(letterbox(images, (960, 960))[0])
    momenta = {part: part.momentum for part in model.modules() if isinstance(part, nn.BatchNorm2d)}
    for part in momenta:
        part.momentum = None
    with torch.no_grad():
        model(batch)
        for part, momentum in momenta.items():
            part.momentum = momentum
        answers = model.eval()(batch[:1])
        every = torch.cat([sure.flatten() for _, _, sure in answers])
        spread, high = every.std(), every.sort().values[-LIKELY]
        for name, parameter in model.named_parameters():
            if "multi_level_conv_obj" in name:
                parameter.mul_(2 / spread)
            if name.endswith(tuple(f"multi_level_conv_obj.{level}.bias" for level in range(3))):
                parameter.sub_(2 * high / spread + 4.6)  # a share of 0.01
            if "multi_level_conv_cls" in name and name.endswith("bias"):
                parameter.zero_()
    return model


# ---------------------------------------------------------------- both sides


def session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def prepared(config: Any) -> Iterator[list[dict[str, Any]]]:
    """What the network is given, turn by turn."""
    from awml_yolox.data import samples
    from awml_yolox.letterbox import letterbox

    every = samples(config)
    for start in range(0, IMAGES, TURN):
        frames = [sample.load().inputs["image"] for sample in every[start : start + TURN]]
        yield [{"images": letterbox([image], config.input_size)[0]} for image in frames]


def evaluation(config: Any, threads: int, repeats: int) -> list[Row]:
    """The core's evaluation against session runs, three images at a time."""
    from awml_deploy_core import ladder
    from awml_deploy_core.backends import open_run
    from awml_deploy_core.evaluate import evaluate
    from awml_deploy_core.overrides import resolve
    from awml_deploy_core.records import Variant
    from awml_yolox import hooks
    from awml_yolox.data import samples
    from awml_yolox.pipeline import Detector

    graphs = resolve(hooks.export_workflow(config), config)
    files = ladder.find_onnx(config, graphs)
    every, raw, feeds = samples(config), session(files[0].path, threads), list(prepared(config))
    boxes: list[int] = []

    def score(records: Any) -> Any:
        boxes.extend(len(record.prediction["scores"]) for record in records)
        return hooks.compute_metrics(records, config)

    variant = Variant(name="onnx", backend="onnx", artifacts=files)
    with open_run(variant, [graph.filed for graph in graphs], threads=threads) as run:

        def ours(turn: int) -> None:
            indices = range(turn * TURN, (turn + 1) * TURN)
            evaluate("onnx", run, every, partial(Detector, device="cpu", config=config), score=score, indices=indices)

        def theirs(turn: int) -> None:
            for feed in feeds[turn]:
                raw.run(None, feed)

        theirs(0)
        order = [*range(len(feeds))] * repeats
        mine, others = iter(order), iter(order)
        pairs = turns(lambda: call(partial(ours, next(mine))), lambda: call(partial(theirs, next(others))), len(order))
    print(f"{sum(boxes) / len(boxes):.0f} boxes per image")
    return compared("evaluate", pairs)


def sessions(config: Any, folder: Path, threads: int) -> list[Row]:
    """The cast files against the one in FP32, on the first images."""
    feeds = next(prepared(config))

    def answer(one: Any) -> None:
        for feed in feeds:
            one.run(None, feed)

    plain = session(folder / "work_dir/onnx/yolox.onnx", threads)
    rows = []
    for policy in ("fp16", "explicit_int8"):
        path = folder / policy / f"onnx/yolox.{policy}.onnx"
        cast = session(path, threads)
        answer(cast)
        pairs = turns(partial(call, partial(answer, cast)), partial(call, partial(answer, plain)), 3)
        sizes = (each.stat().st_size / 2**20 for each in (path, folder / "work_dir/onnx/yolox.onnx"))
        rows += [*compared(f"session-{policy}", pairs)]
        rows.append(Row(name=f"file-{policy}", ours=next(sizes), theirs=next(sizes), unit="mb"))
    return rows


def settled(folder: Path) -> Any:
    from awml_deploy_core.settings import Options, settle
    from awml_yolox.hooks import Config

    os.chdir(folder)  # paths of the config start there
    return settle(Path("config.py"), Options(model="yolox"), config_class=Config).config


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep everything there instead of in a temporary folder")
    said = parser.parse_args()
    limit(said.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = (said.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        process((*DEPLOY, "yolox", "config.py"), cwd=folder)
        config = settled(folder)
        title = f"{IMAGES} images, {said.threads} threads, {said.repeats} times"
        show(title, evaluation(config, said.threads, said.repeats), ours="evaluation", theirs="runs alone")
        if not said.no_build and find_spec("tensorrt_rtx"):
            count = {"backend_config.common_config.calibration.num_samples": "4"}
            rows = engines(folder, "yolox", ("fp32", "fp16", "explicit_int8"), **count)
            show("Other precisions", [*rows, *sessions(config, folder, said.threads)], ours="cast", theirs="fp32")


if __name__ == "__main__":
    main()
