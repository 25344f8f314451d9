"""Annotation files and folders as samples: what is read, in which order, and what is refused with which words."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awml_deploy_core.config import RuntimeIO
from awml_deploy_core.errors import ConfigError, LoadError
from awml_deploy_core.records import Sample
from awml_deploy_core.tree import equal
from awml_yolox.hooks import Config, load_samples

NAMES = ("car", "traffic light", "person")
WIDTH, HEIGHT = 32, 24
IMAGE = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
Box = list[float]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())


def instance(box: Any, label: Any = 0, **more: Any) -> dict[str, Any]:
    return {"bbox": box, "bbox_label": label, "mask": [], "extra_anns": [], "ignore_flag": 0, **more}


def item(index: int, *instances: Any, **more: Any) -> dict[str, Any]:
    return {
        "img_id": index, "img_path": f"cam/{index}.png", "width": WIDTH, "height": HEIGHT,
        "instances": list(instances), **more,
    }  # fmt: skip


def info(*items: Any, classes: Any = NAMES) -> dict[str, Any]:
    about = {"dataset_type": "t4", "task_name": "detection_task", "classes": list(classes)}
    return {"metainfo": about, "data_list": list(items)}


def coco(*annotations: Any, images: int = 2, categories: Any = None) -> dict[str, Any]:
    listed = categories or [{"id": 10 * place, "name": name} for place, name in enumerate(NAMES)]
    return {
        "images": [
            {"id": 100 + index, "file_name": f"cam/{index}.png", "width": WIDTH, "height": HEIGHT}
            for index in range(images)
        ],
        "annotations": [{"id": place, "iscrowd": 0, **each} for place, each in enumerate(annotations)],
        "categories": listed,
    }


def mark(image: int, category: int, box: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, **more}


def samples(folder: Path, content: Any, **fields: Any) -> list[Sample]:
    """What a config makes of a file beside two images."""
    for index in range(2):
        picture(folder / f"cam/{index}.png")
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "ann.json").write_bytes(text)
    io = {"ann_file": folder / "ann.json", "img_prefix": folder, **fields}
    return list(load_samples("evaluate", Config(class_names=NAMES, runtime_io=RuntimeIO(**io))))


def truth(sample: Sample) -> dict[str, Any]:
    found: dict[str, Any] = sample.load().ground_truth
    return found


# ---------------------------------------------------------------- AWML's info file


def test_info_file_gives_images_and_boxes(tmp_path: Path) -> None:
    content = info(item(0, instance([1, 2, 11, 12.5], 2), instance([0, 0, 5, 5], 1, ignore_flag=1)), item(1))
    first, second = samples(tmp_path, content)
    assert (first.id, second.id) == ("0", "1")
    assert first.files == (tmp_path / "cam/0.png",)
    frame = first.load()
    np.testing.assert_array_equal(frame.inputs["image"], IMAGE)
    assert list(frame.inputs) == ["image"]
    found = truth(first)
    np.testing.assert_array_equal(found["boxes"], [[1, 2, 11, 12.5], [0, 0, 5, 5]])
    assert (found["labels"].tolist(), found["ignore"].tolist()) == ([2, 1], [False, True])
    assert {name: str(each.dtype) for name, each in found.items()} == {
        "boxes": "float32", "labels": "int64", "ignore": "bool"
    }  # fmt: skip
    assert truth(second)["boxes"].shape == (0, 4)
    assert truth(second)["labels"].dtype == np.int64


def test_labels_go_by_name_not_by_place(tmp_path: Path) -> None:
    content = info(item(0, instance([0, 0, 5, 5], 0), instance([0, 0, 6, 6], 2)), classes=("person", "bus", "car"))
    assert truth(samples(tmp_path, content)[0])["labels"].tolist() == [2, 0]


def test_labels_of_a_file_without_class_names_are_the_model_s(tmp_path: Path) -> None:
    content = {"data_list": [item(0, instance([0, 0, 5, 5], 2))]}
    assert truth(samples(tmp_path, content)[0])["labels"].tolist() == [2]


def test_absolute_paths_of_another_machine_are_found_below_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = samples(tmp_path, info(*(item(i, img_path=f"/workspace/data/t4/cam/{i}.png") for i in range(2))))
    np.testing.assert_array_equal(found[1].load().inputs["image"], IMAGE)
    assert found[1].files == (tmp_path / "cam/1.png",)
    assert "stands for /workspace/data/t4" in caplog.text


def test_absolute_paths_that_lead_somewhere_are_taken_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    picture(tmp_path / "elsewhere/0.png")
    content = info(item(0, img_path=str(tmp_path / "elsewhere/0.png")))
    (found,) = samples(tmp_path, content, img_prefix=tmp_path / "cam")
    assert found.files == (tmp_path / "elsewhere/0.png",)
    assert "stands for" not in caplog.text
    (found,) = samples(tmp_path, info(item(0, img_path="/nowhere/at/all.png")))
    assert found.files == (Path("/nowhere/at/all.png"),)


# ---------------------------------------------------------------- COCO


def test_coco_is_what_pycocotools_reads(tmp_path: Path) -> None:
    content = coco(
        mark(101, 20, [1, 2, 10, 10.5], area=77.5),
        mark(100, 0, [3, 3, 4, 5], area=20, iscrowd=1),
        mark(101, 10, [0, 0, 8, 8], area=64, ignore=1),
        mark(101, 0, [2.5, 2.5, 8, 8]),
    )
    found = samples(tmp_path, content)
    assert [sample.id for sample in found] == ["cam/0", "cam/1"]
    for each in content["annotations"]:
        each.setdefault("area", 64)
    theirs = pytest.importorskip("pycocotools.coco").COCO()
    theirs.dataset = content
    theirs.createIndex()
    for sample, image in zip(found, (100, 101), strict=True):
        expected = theirs.loadAnns(theirs.getAnnIds(imgIds=[image]))
        ours = truth(sample)
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (each["bbox"] for each in expected)]
        np.testing.assert_array_equal(ours["boxes"], boxes)
        names = [theirs.cats[each["category_id"]]["name"] for each in expected]
        assert [NAMES[label] for label in ours["labels"]] == names
        assert ours["crowd"].tolist() == [bool(each["iscrowd"]) for each in expected]
        assert ours["areas"].tolist() == [each["area"] for each in expected]
        assert ours["ignore"].tolist() == [bool(each.get("ignore", 0)) for each in expected]


def test_coco_without_annotations_has_no_truth(tmp_path: Path) -> None:
    content = coco()
    del content["annotations"]
    assert [sample.load().ground_truth for sample in samples(tmp_path, content)] == [None, None]


def test_images_without_boxes_have_an_empty_truth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = samples(tmp_path, coco())
    assert [len(truth(sample)["boxes"]) for sample in found] == [0, 0]
    assert {name: str(each.dtype) for name, each in truth(found[0]).items()} == {
        "boxes": "float32", "labels": "int64", "ignore": "bool", "crowd": "bool", "areas": "float64"
    }  # fmt: skip
    assert "no box to compare with" in caplog.text


# ---------------------------------------------------------------- a folder


def test_folder_of_images_has_no_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A disk may list its files in any order.
    listed = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda *given: sorted(listed(*given), reverse=True))
    for name in ("b.png", "a.PNG", "deeper/c.jpg", ".hidden/d.png", "deeper/._c.jpg", "a.jpg"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = samples(tmp_path, {}, ann_file=None)
    names = [sample.id for sample in found]
    assert names == ["a", "a#2", "b", "cam/0", "cam/1", "deeper/c"]
    assert all(sample.load().ground_truth is None for sample in found)
    assert found[-1].files == (tmp_path / "deeper/c.jpg",)


def test_folder_may_be_the_data_root(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    config = Config(runtime_io=RuntimeIO(data_root=tmp_path))
    assert [sample.id for sample in load_samples("calibrate", config)] == ["a"]


def test_folder_without_images_or_none_at_all(tmp_path: Path) -> None:
    for folder, said in ((tmp_path, "holds no images"), (tmp_path / "none", "is no folder")):
        with pytest.raises(LoadError, match=said):
            load_samples("evaluate", Config(runtime_io=RuntimeIO(img_prefix=folder)))


def test_no_data_named_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="runtime_io names no data"):
        load_samples("evaluate", Config())


# ---------------------------------------------------------------- what all share


def test_file_may_be_the_info_file_and_the_folder_the_data_root(tmp_path: Path) -> None:
    found = samples(tmp_path, info(item(0)), ann_file=None, img_prefix=None, info_file=tmp_path / "ann.json",
                    data_root=tmp_path)  # fmt: skip
    np.testing.assert_array_equal(found[0].load().inputs["image"], IMAGE)


def test_two_readings_say_the_same(tmp_path: Path) -> None:
    content = info(item(0, instance([1, 2, 11, 12.5], 2)), item(1, instance([1, 2, 3, 4], 1)))
    for first, second in zip(samples(tmp_path, content), samples(tmp_path, content), strict=True):
        assert first.id == second.id
        assert equal(first.load(), second.load())


def test_samples_travel_to_worker_processes(tmp_path: Path) -> None:
    (found,) = samples(tmp_path, info(item(0, instance([1, 2, 11, 12.5], 2))))
    assert equal(pickle.loads(pickle.dumps(found)).load(), found.load())


def test_entries_of_one_name_keep_their_own_ids(tmp_path: Path) -> None:
    content = info(item(0), item(0, img_path="cam/1.png"))
    assert [sample.id for sample in samples(tmp_path, content)] == ["0", "0#2"]


def test_missing_image_is_an_error_of_its_sample_alone(tmp_path: Path) -> None:
    good, bad = samples(tmp_path, info(item(0), item(1, img_path="cam/lost.png")))
    good.load()
    with pytest.raises(LoadError, match=r"cam/lost\.png: the image cannot be read"):
        bad.load()


def test_image_of_another_size_than_the_file_says_is_refused(tmp_path: Path) -> None:
    (sample,) = samples(tmp_path, info(item(0, width=64, height=48)))
    with pytest.raises(LoadError, match="is 32x24 pixels, the annotations are for 64x48"):
        sample.load()


BOXES: list[tuple[Box, Box | None]] = [
    ([-4, -4, 10, 10], [0, 0, 10, 10]),
    ([20, 10, 40, 30], [20, 10, 32, 24]),
    ([40, 2, 50, 8], None),
    ([-9, 2, -1, 8], None),
    ([5, 5, 5, 9], None),
    ([9, 9, 5, 5], None),
    ([float("nan"), 0, 5, 5], None),
    ([0, 0, float("inf"), 5], None),
    ([1, 2, 3, 4], [1, 2, 3, 4]),
]


@pytest.mark.parametrize("kind", ["info", "coco"])
def test_boxes_are_clipped_or_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    if kind == "info":
        content = info(item(0), item(1, *(instance(box) for box, _ in BOXES)))
    else:
        sized = [[x1, y1, x2 - x1, y2 - y1] for (x1, y1, x2, y2), _ in BOXES]
        content = coco(*(mark(101, 0, box, area=1000 + place) for place, box in enumerate(sized)))
    found = truth(samples(tmp_path, content)[1])
    np.testing.assert_array_equal(found["boxes"], [kept for _, kept in BOXES if kept])
    if kind == "coco":
        assert found["areas"].tolist() == [1000, 1001, 1008]
    assert "of 9 boxes 4 have no area and were left out" in caplog.text
    assert "2 lie outside their image and were left out" in caplog.text
    assert "2 reach beyond their image and were clipped" in caplog.text


def test_good_file_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples(tmp_path, info(item(0, instance([0, 0, WIDTH, HEIGHT]))))
    assert not caplog.records


def test_classes_that_the_model_does_not_have_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = info(item(0, instance([0, 0, 5, 5], 1), instance([0, 0, 6, 6], 0), instance([0, 0, 6, 6], -1)),
                   classes=("giraffe", "car"))  # fmt: skip
    assert truth(samples(tmp_path, content)[0])["labels"].tolist() == [0]
    assert "2 are of classes that the model does not have" in caplog.text


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("Car", "person", "traffic light"), "'Car' is none of the model's; 'car' seems to be meant"),
        (("car", "person", "traffic_light"), "'traffic_light' is none of the model's; 'traffic light'"),
        (("car", "persons"), "'persons' is none of the model's; 'person' seems to be meant"),
        (("dog", "cat"), r"none of its classes \(dog, cat\) is one of the model's \(car, traffic light, person\)"),
    ],
)
@pytest.mark.parametrize("kind", ["info", "coco"])
def test_class_names_that_do_not_match(tmp_path: Path, classes: tuple[str, ...], said: str, kind: str) -> None:
    listed = [{"id": place, "name": name} for place, name in enumerate(classes)]
    content = info(item(0), classes=classes) if kind == "info" else coco(categories=listed)
    with pytest.raises(LoadError, match=said) as e:
        samples(tmp_path, content)
    assert "class_names" in str(e.value.hint)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON: Expecting value"),
        (json.dumps(info(item(0))).encode()[:-9], "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        ([], "holds a list where a table is expected"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}], "is a list of COCO results"),
        (7, "holds int where a table is expected"),
        ({}, "is neither an info file nor a COCO file, its keys are none"),
        ({"infos": [], "version": 1}, "its keys are 'infos', 'version'"),
        (info(), "data_list is empty"),
        ({"data_list": {}}, "'data_list' is no list"),
        (info(7), "entry 0: is no table"),
        (info(item(0, lidar_points={})), "entry 0: has 'lidar_points', so this is an info file of 3D data"),
        (info(item(0, instance([0, 0, 1, 1], bbox_3d=[]))), "instance 0: has 'bbox_3d', so this is an info file of 3D"),
        (info(item(0, img_path=None)), "entry 0: has no 'img_path'"),
        (info(item(0, width=None)), "entry 0: has no 'width'"),
        (info(item(0, width=1.5)), "entry 0: 'width' must be a whole number, not 1.5"),
        (info(item(0, height=0)), "entry 0: cannot be 32x0 pixels"),
        (info(item(0, instances=None)), "entry 0: has no 'instances'"),
        (info(item(0), item(1, instance([0, 0, 1]))), "entry 1: instance 0: bbox must be four numbers"),
        (info(item(0, instance([0, 0, 1, 1]), instance("box"))), "instance 1: bbox must be four numbers, not box"),
        (info(item(0, instance([0, 0, 1, "x"]))), "instance 0: bbox must be four numbers"),
        (info(item(0, instance(None))), "instance 0: has no 'bbox'"),
        (info(item(0, instance([0, 0, 1, 1], 3))), "instance 0: bbox_label is 3, the file has 3 classes"),
        (info(item(0, instance([0, 0, 1, 1], -2))), "instance 0: bbox_label is -2"),
        (info(item(0, instance([0, 0, 1, 1], "car"))), "'bbox_label' must be a whole number, not car"),
        ({"images": []}, "lists no images"),
        (coco(mark(100, 7, [0, 0, 1, 1])), "annotation 0: category_id is 7, the categories are 0, 10, 20"),
        (coco(mark(9, 10, [0, 0, 1, 1])), "annotation 0: image_id is 9, the images are 100, 101"),
        (coco(mark(100, 10, [0, 0, 1])), "annotation 0: bbox must be four numbers"),
        (coco({"image_id": 100, "category_id": 10}), "annotation 0: has no 'bbox'"),
        (coco(mark(100, 10, [0, 0, 1, 1])) | {"categories": None}, "has no 'categories'"),
        (coco(categories=[{"id": 1, "name": "car"}, {"id": 1, "name": "person"}]), "two categories have one id"),
        (coco() | {"images": coco()["images"] * 2}, "image 2: has the id 100 of image 0"),
        (coco() | {"images": [{"id": 1, "file_name": "a.png"}]}, "image 0: has no 'width'"),
    ],
)
def test_file_that_is_not_what_it_should_be(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(LoadError, match=said) as e:
        samples(tmp_path, content)
    assert e.value.message.startswith(str(tmp_path / "ann.json"))
    assert e.value.hint


def test_pickled_info_file_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps({"data_list": []}))
    with pytest.raises(LoadError, match=r"infos\.pkl: is not JSON") as e:
        load_samples("evaluate", Config(runtime_io=RuntimeIO(info_file=tmp_path / "infos.pkl")))
    assert "2D info JSON" in str(e.value.hint)


def test_an_image_in_place_of_the_annotations_is_told_where_images_go(tmp_path: Path) -> None:
    (tmp_path / "street.PNG").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(LoadError, match=r"street\.PNG: is not JSON") as e:
        load_samples("evaluate", Config(runtime_io=RuntimeIO(ann_file=tmp_path / "street.PNG")))
    assert "runtime_io.img_prefix" in str(e.value.hint)


def test_missing_annotation_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"none\.json: the annotation file cannot be read: No such file"):
        load_samples("evaluate", Config(runtime_io=RuntimeIO(ann_file=tmp_path / "none.json")))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def spots(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of everything within a tree of lists and dicts."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(spot for key, each in inner for spot in spots(each, (*path, key)))]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["info", "coco"]))
def test_whatever_stands_in_a_file_is_taken_or_refused_with_a_sentence(
    tmp_path: Path, data: st.DataObject, kind: str
) -> None:
    whole: Any = [
        info(item(0, instance([1, 2, 11, 12.5], 2), instance([0, 0, 5, 5], 1))) if kind == "info"
        else coco(mark(100, 10, [0, 0, 8, 8], area=64, ignore=1, iscrowd=0))
    ]  # fmt: skip
    *path, last = data.draw(st.sampled_from(spots(whole)[1:]))
    at = whole
    for key in path:
        at = at[key]
    at[last] = data.draw(ANYTHING)
    (tmp_path / "ann.json").write_text(json.dumps(whole[0]))
    io = RuntimeIO(ann_file=tmp_path / "ann.json", img_prefix=tmp_path)
    with contextlib.suppress(LoadError):
        load_samples("evaluate", Config(class_names=NAMES, runtime_io=io))
