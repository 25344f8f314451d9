"""What stands around a detector of 960x960 and 8 classes: images in, boxes out.

`decode-and-suppress-*` takes the network's 18,900 rows to boxes by AWML's rule. Theirs is ONNX Runtime's
NonMaxSuppression alone, on boxes that are decoded and on scores that are reduced to the best class of a row before the
clock runs; rows in `-opencv` are `cv2.dnn.NMSBoxes` alone, class by class, on the boxes that reach the threshold. All
three find the same boxes, which is asserted. Scenes are drawn from a seed: things with a cloud of confident cells
around each, among cells that are all but sure of nothing. `street` is a frame with 30 things, `crowd` one with 200,
`dense` one with 600.

`letterbox-*` takes images to one batch. Theirs is `cv2.resize`, `cv2.copyMakeBorder` and `cv2.dnn.blobFromImages`.

A turn works on eight scenes or images, several times each.

    python benchmarks/bench_boxes.py [TURNS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

from awml_yolox.decode import Found, awml, cells_of
from awml_yolox.letterbox import letterbox, place
from benchmarks.frame import Cost, Row, call, compared, limit, show, turns

Array = np.ndarray[Any, np.dtype[Any]]

SIZE = (960, 960)
CLASSES = 8
THRESHOLD, OVERLAP = 0.01, 0.65
SCENES = {"street": (30, 2.5), "crowd": (200, 5.0), "dense": (600, 3.0)}
PLACEMENT = place((1280, 1920), SIZE)


# ---------------------------------------------------------------- boxes


def scene(seed: int, things: int, reach: float) -> Array:
    """Rows of a frame: cells up to `reach` cells from a thing's centre tell of it, the surer the nearer."""
    rng = np.random.default_rng(seed)
    left, top, stride, _ = cells_of(SIZE)
    count = len(left)
    rows = np.concatenate([rng.normal(0.5, 0.3, (count, 2)), rng.normal(1, 0.5, (count, 2))], axis=1)
    objectness, classes = rng.normal(-9, 1.2, count), rng.normal(-5, 1, (count, CLASSES))
    for _ in range(things):
        size, centre = np.exp(rng.normal(4, 0.8, 2)), rng.uniform(0, SIZE[0], 2)
        level = 8 if size.max() < 64 else 16 if size.max() < 160 else 32
        off = np.stack([centre[0] - left, centre[1] - top]) / level
        near = np.flatnonzero((stride == level) & (np.abs(off) < reach).all(axis=0))
        told = np.concatenate([off[:, near].T, np.tile(np.log(size / level), (len(near), 1))], axis=1)
        rows[near] = told + rng.normal(0, 0.1, told.shape)
        objectness[near] = 2 - 2 * np.hypot(*off[:, near]) + rng.normal(0, 1, len(near))
        classes[near, rng.integers(CLASSES)] = rng.normal(2, 1, len(near))
    shares = 1 / (1 + np.exp(-np.concatenate([objectness[:, None], classes], axis=1)))
    return np.concatenate([rows, shares], axis=1).astype(np.float32)


def decoded(rows: Array) -> tuple[Array, Array]:
    """Boxes in pixels of the image (1, N, 4), and scores (1, C, N) with zeros for all but the best class."""
    left, top, stride, _ = cells_of(SIZE)
    centres = rows[:, :2] * stride[:, None] + np.stack([left, top], axis=1)
    halves = np.exp(rows[:, 2:4]) * (stride / 2)[:, None]
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    boxes /= np.array(PLACEMENT.factors * 2, np.float32)
    scores = np.zeros((CLASSES, len(rows)), np.float32)
    best, every = rows[:, 5:].argmax(axis=1), np.arange(len(rows))
    scores[best, every] = rows[every, 5 + best] * rows[:, 4]
    return boxes[None].astype(np.float32), scores[None]


def operator() -> Any:
    """A session of NonMaxSuppression alone."""
    names = ["boxes", "scores", "most", "overlap", "above"]
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT]
    shapes: list[list[int | str]] = [[1, "n", 4], [1, "c", "n"], [1], [1], [1]]
    inputs = [helper.make_tensor_value_info(*each) for each in zip(names, kinds, shapes, strict=True)]
    kept = helper.make_tensor_value_info("kept", TensorProto.INT64, ["k", 3])
    graph = helper.make_graph([helper.make_node("NonMaxSuppression", names, ["kept"])], "alone", inputs, [kept])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feed(rows: Array) -> dict[str, Array]:
    boxes, scores = decoded(rows)
    above = np.nextafter(np.float32(THRESHOLD), np.float32(0))
    limits = {"most": np.array([1 << 31]), "overlap": np.array([OVERLAP], np.float32), "above": np.array([above])}
    return {"boxes": boxes, "scores": scores, **limits}


def by_class(rows: Array) -> list[tuple[Any, Any]]:
    """What OpenCV's function takes: x, y, width and height, and scores, for each class."""
    boxes, scores = decoded(rows)
    sized = np.concatenate([boxes[0, :, :2], boxes[0, :, 2:] - boxes[0, :, :2]], axis=1)
    found = [np.flatnonzero(row >= THRESHOLD) for row in scores[0]]
    return [(sized[each].tolist(), row[each].tolist()) for row, each in zip(scores[0], found, strict=True)]


def ours(rows: Array) -> Found:
    return awml(rows, cells_of(SIZE), PLACEMENT, threshold=THRESHOLD, overlap=OVERLAP)


def opencv(classes: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [cv2.dnn.NMSBoxes(boxes, scores, 0.0, OVERLAP) for boxes, scores in classes if boxes]


def require_same(rows: Array, session: Any) -> int:
    """Stop if the three do not find the same boxes; answer how many there are."""
    found, given = ours(rows), feed(rows)
    kept = session.run(None, given)[0]
    theirs = given["boxes"][0, kept[:, 2]][np.argsort(-given["scores"][0, kept[:, 1], kept[:, 2]], kind="stable")]
    np.testing.assert_allclose(found.boxes, theirs, rtol=1e-5, atol=1e-3)
    assert sum(map(len, opencv(by_class(rows)))) == len(kept)
    return len(kept)


def boxes(name: str, session: Any, count: int) -> list[Row]:
    rows = [scene(seed, *SCENES[name]) for seed in range(8)]
    kept = [require_same(each, session) for each in rows]
    likely = [int((decoded(each)[1] >= THRESHOLD).sum()) for each in rows]
    print(f"{name}: {np.mean(likely):.0f} boxes reach {THRESHOLD}, {np.mean(kept):.0f} are kept")
    feeds, lists = [feed(each) for each in rows], [by_class(each) for each in rows]
    again = 20 if name == "street" else 4
    mine = repeated(ours, rows, again)
    pairs = turns(mine, repeated(lambda given: session.run(None, given), feeds, again), count)
    few = max(again // 4, 1)
    slow = turns(repeated(ours, rows, few), repeated(opencv, lists, few), count)
    title = f"decode-and-suppress-{name}"
    return [*compared(title, pairs), *compared(f"{title}-opencv", slow)]


def repeated(work: Callable[[Any], object], things: Sequence[Any], count: int) -> Callable[[], Cost]:
    def all_of_them() -> None:
        for _ in range(count):
            for each in things:
                work(each)

    return partial(call, all_of_them)


# ---------------------------------------------------------------- images


def by_opencv(images: Sequence[Array]) -> Array:
    padded = []
    for image in images:
        scale = min(SIZE[0] / image.shape[0], SIZE[1] / image.shape[1])
        height, width = (int(side * scale + 0.5) for side in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        rest = (0, SIZE[0] - height, 0, SIZE[1] - width)
        padded.append(cv2.copyMakeBorder(small, *rest, cv2.BORDER_CONSTANT, value=(114, 114, 114)))
    return np.asarray(cv2.dnn.blobFromImages(padded))


def images(name: str, size: tuple[int, int], batch: int, count: int) -> list[Row]:
    rng = np.random.default_rng(0)
    frames = [cv2.blur(rng.integers(0, 256, (*size, 3), dtype=np.uint8), (5, 5)) for _ in range(8)]
    batches = [frames[start : start + batch] for start in range(0, 8, batch)]
    np.testing.assert_array_equal(letterbox(frames, SIZE)[0], by_opencv(frames))
    mine = repeated(lambda given: letterbox(given, SIZE), batches, 1)
    return compared(f"letterbox-{name}", turns(mine, repeated(by_opencv, batches, 1), count))


def main(count: int = 30) -> None:
    limit(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    session = operator()
    rows = [row for name in SCENES for row in boxes(name, session, count)]
    for name, size, batch in (
        ("1280x1920", (1280, 1920), 1),
        ("1080x1440", (1080, 1440), 1),
        ("batch", (1280, 1920), 4),
    ):
        rows += images(name, size, batch, count)
    show(f"18,900 rows of 8 classes, images to 960x960, one thread, {count} turns", rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
