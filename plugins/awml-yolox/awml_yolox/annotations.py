"""Annotation files of 2D data as entries: AWML's info JSON and COCO's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from attrs import frozen

from awml_deploy_core.errors import LoadError
from awml_yolox.images import SUFFIXES
from awml_yolox.marks import REMAKE, Mark, Truth, match, number, truths

EXPECTED = "An info file has 'data_list' and 'metainfo', a COCO file 'images', 'annotations' and 'categories'."
LARGEST = 1 << 20
"""Pixels that no image has on a side."""

OTHER_SPLIT = "Choose another split: there is nothing to run on."


@frozen(kw_only=True, eq=False)
class Entry:
    """One image with what is to be seen on it.

    Args:
        name: As the file calls it; not yet unique.
        image: Its path as the file has it.
        size: Width and height that the boxes belong to; None if nobody knows.
        truth: Boxes and what goes with them; None if nobody knows.
    """

    name: str
    image: str
    size: tuple[int, int] | None = None
    truth: Truth | None = None


def entries(path: Path, names: Sequence[str]) -> list[Entry]:
    """Every image of an annotation file, in its order.

    Args:
        path: The file; what it is, is seen from its content.
        names: The model's classes; labels of the answer are places in it.

    Raises:
        LoadError: If the file is of no use, naming the place.
    """
    content = _json(path)
    if isinstance(content, Mapping) and "data_list" in content:
        return _info(content, path, names)
    if isinstance(content, Mapping) and "images" in content:
        return _coco(content, path, names)
    raise LoadError(f"{path}: {_wrong(content)}", hint=EXPECTED)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        hint = "Check runtime_io.ann_file; a folder of images without annotations is named by runtime_io.img_prefix."
        raise LoadError(f"{path}: the annotation file cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path}: is not JSON: {error}", hint=_instead(path.suffix.lower())) from error


def _instead(suffix: str) -> str:
    if suffix in (".pkl", ".pickle"):
        return "Pickles hold 3D data; this model wants the 2D info JSON."
    if suffix in SUFFIXES:
        return "Images without annotations are named by their folder, as runtime_io.img_prefix; leave ann_file out."
    return "Was it copied whole?"


def _wrong(content: Any) -> str:
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, Mapping) and {"image_id", "score"} <= set(first):
            return "is a list of COCO results, not of annotations"
        return "holds a list where a table is expected"
    if isinstance(content, Mapping):
        keys = ", ".join(map(repr, list(content)[:8])) or "none"
        return f"is neither an info file nor a COCO file, its keys are {keys}"
    return f"holds {type(content).__name__} where a table is expected"


# ---------------------------------------------------------------- AWML's info file


def _info(content: Mapping[str, Any], path: Path, names: Sequence[str]) -> list[Entry]:
    listed = _list(content, "data_list", str(path))
    if not listed:
        raise LoadError(f"{path}: data_list is empty", hint=OTHER_SPLIT)
    about = content.get("metainfo")
    classes = names
    if isinstance(about, Mapping) and "classes" in about:
        classes = [str(name) for name in _list(about, "classes", f"{path}: metainfo")]
    labels = match(classes, names, path)
    images: list[tuple[str, str, tuple[int, int]]] = []
    marks: list[Mark] = []
    for index, item in enumerate(listed):
        where = f"{path}: entry {index}"
        _refuse_3d(item, where)
        image = _text(item, "img_path", where)
        images.append((str(item.get("img_id", _stem(image))), image, _size(item, where)))
        marks += _instances(item, index, labels, where)
    found = truths(marks, [size for _, _, size in images], path, coco=False)
    return [
        Entry(name=name, image=image, size=size, truth=truth)
        for (name, image, size), truth in zip(images, found, strict=True)
    ]


def _instances(item: Mapping[str, Any], image: int, labels: Sequence[int | None], where: str) -> Iterator[Mark]:
    for place, instance in enumerate(_list(item, "instances", where)):
        there = f"{where}: instance {place}"
        _refuse_3d(instance, there)
        label = _number(instance, "bbox_label", there)
        if not -1 <= label < len(labels):
            raise LoadError(f"{there}: bbox_label is {label}, the file has {len(labels)} classes", hint=REMAKE)
        yield Mark(
            image=image,
            box=_required(instance, "bbox", there),
            # mmengine writes -1 for what belongs to no class.
            label=labels[label] if label >= 0 else None,
            where=there,
            ignore=bool(instance.get("ignore_flag", 0)),
        )


def _refuse_3d(item: Any, where: str) -> None:
    if not isinstance(item, Mapping):
        raise LoadError(f"{where}: is no table", hint=REMAKE)
    for key in ("lidar_points", "bbox_3d", "images"):
        if key in item:
            fact = f"has {key!r}, so this is an info file of 3D data"
            raise LoadError(f"{where}: {fact}", hint="Name the 2D file in runtime_io.ann_file.")


# ---------------------------------------------------------------- COCO


def _coco(content: Mapping[str, Any], path: Path, names: Sequence[str]) -> list[Entry]:
    listed = _list(content, "images", str(path))
    if not listed:
        raise LoadError(f"{path}: lists no images", hint=OTHER_SPLIT)
    places: dict[Any, int] = {}
    images = []
    for index, item in enumerate(listed):
        where = f"{path}: image {index}"
        key, image = _key(item, "id", where), _text(item, "file_name", where)
        if places.setdefault(key, index) != index:
            raise LoadError(f"{where}: has the id {key!r} of image {places[key]}", hint=REMAKE)
        images.append((image, _size(item, where)))
    found: list[Truth | None] = [None] * len(images)
    if "annotations" in content:  # lists of images to be tested have none
        marks = _annotations(content, places, path, names)
        found = [*truths(marks, [size for _, size in images], path, coco=True)]
    return [
        Entry(name=_stem(image), image=image, size=size, truth=truth)
        for (image, size), truth in zip(images, found, strict=True)
    ]


def _annotations(content: Mapping[str, Any], places: Mapping[Any, int], path: Path, names: Sequence[str]) -> list[Mark]:
    where = f"{path}: category"
    listed = _list(content, "categories", str(path))
    classes = {_key(each, "id", where): _text(each, "name", where) for each in listed}
    if len(classes) != len(listed):
        raise LoadError(f"{path}: two categories have one id", hint=REMAKE)
    labels = dict(zip(classes, match(list(classes.values()), names, path), strict=True))
    marks = []
    for index, each in enumerate(_list(content, "annotations", str(path))):
        there = f"{path}: annotation {index}"
        area = each.get("area") if isinstance(each, Mapping) else None
        mark = Mark(
            image=_listed(each, "image_id", places, there),
            box=_required(each, "bbox", there),
            label=_listed(each, "category_id", labels, there),
            where=there,
            ignore=bool(each.get("ignore", 0)),
            crowd=bool(each.get("iscrowd", 0)),
            area=number(area),
        )
        marks.append(mark)
    return marks


def _listed(item: Any, key: str, table: Mapping[Any, Any], where: str) -> Any:
    value = _key(item, key, where)
    if value not in table:
        known = ", ".join(map(repr, list(table)[:10]))
        section = "images" if key == "image_id" else "categories"
        raise LoadError(f"{where}: {key} is {value!r}, the {section} are {known}", hint=REMAKE)
    return table[value]


# ---------------------------------------------------------------- what both need


def _required(item: Any, key: str, where: str) -> Any:
    value = item.get(key) if isinstance(item, Mapping) else None
    if value is None:
        raise LoadError(f"{where}: has no {key!r}", hint=REMAKE)
    return value


def _list(item: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    value = _required(item, key, where)
    if not isinstance(value, list):
        raise LoadError(f"{where}: {key!r} is no list", hint=REMAKE)
    return value


def _text(item: Any, key: str, where: str) -> str:
    value = _required(item, key, where)
    if not isinstance(value, str) or not value:
        raise LoadError(f"{where}: {key!r} is no text", hint=REMAKE)
    return value


def _number(item: Any, key: str, where: str) -> int:
    value = _required(item, key, where)
    if not isinstance(value, int):
        raise LoadError(f"{where}: {key!r} must be a whole number, not {str(value)[:60]}", hint=REMAKE)
    return value


def _key(item: Any, key: str, where: str) -> int | str:
    value = _required(item, key, where)
    if not isinstance(value, int | str):
        raise LoadError(f"{where}: {key!r} must be a number or a text, not {str(value)[:60]}", hint=REMAKE)
    return value


def _size(item: Any, where: str) -> tuple[int, int]:
    width, height = _number(item, "width", where), _number(item, "height", where)
    if not 1 <= min(width, height) <= max(width, height) <= LARGEST:
        raise LoadError(f"{where}: cannot be {str(width)[:9]}x{str(height)[:9]} pixels", hint=REMAKE)
    return width, height


def _stem(image: str) -> str:
    return PurePath(image).with_suffix("").as_posix()
