"""Trees in files: what comes back, and what a bad file may not do."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import math
import struct
import zipfile
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from awml_deploy_core import tree
from awml_deploy_core.errors import DeployError, LoadError, RequirementError

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@attrs.frozen(kw_only=True)
class Boxes:
    scores: Any
    _labels: Any = None


class Size(NamedTuple):
    width: Any
    height: Any


class Kind(Enum):
    CAR = "car"


keys = st.one_of(st.text(max_size=3), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))
arrays = st.sampled_from(["bool", "uint8", "int64", "float16", "float64", "complex128", ">f4", "<U3", "S2"]).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
any_text = st.text(st.characters(exclude_categories=()), max_size=4)
atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), any_text, st.binary(max_size=4), st.just(Kind.CAR)
)
trees = st.recursive(
    atoms | arrays,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.builds(Boxes, scores=inner, labels=inner),
        st.builds(Size, inner, inner),
    ),
    max_leaves=8,
)


# ---------------------------------------------------------------- there and back


@relaxed
@given(value=trees)
def test_what_is_loaded_says_what_was_saved(value: Any, tmp_path: Path) -> None:
    tree.save(value, tmp_path / "a.npz")
    back = tree.load(tmp_path / "a.npz")
    assert tree.equal(back, value)
    assert tree.digest(back) == tree.digest(value)
    # Also the order of keys, which neither of the two looks at.
    assert tree.paths(back) == tree.paths(value)


def test_types_come_back_as_documented(tmp_path: Path) -> None:
    value = {
        "box": Boxes(scores=[1, 2.0, True, None], labels=b"\x00\xff"),
        "size": Size(1, (2,)),
        "kind": Kind.CAR,
        "big": 10**40,
        "inf": -math.inf,
        "zero": -0.0,
        "points": torch.ones(2, 3),
        "scalar": np.float32(2),
        3: "int", None: "none", 2.5: "float", False: "bool", "3": "text",
    }  # fmt: skip
    tree.save(value, tmp_path / "a.npz")
    back = tree.load(tmp_path / "a.npz")
    points, scalar = back.pop("points"), back.pop("scalar")
    assert repr(back) == repr({
        "box": {"scores": [1, 2.0, True, None], "_labels": b"\x00\xff"}, "size": (1, (2,)), "kind": "car",
        "big": 10**40, "inf": -math.inf, "zero": -0.0, 3: "int", None: "none", 2.5: "float", False: "bool", "3": "text",
    })  # fmt: skip
    assert isinstance(points, np.ndarray)
    assert (points.dtype, points.shape, points.flags.writeable) == (np.float32, (2, 3), True)
    assert (scalar.dtype, scalar.shape) == (np.float32, ())


@pytest.mark.parametrize("value", [1 << 20_000, -(1 << 63), "\ud83d\ude00", "\udcff", {"\ud800": 1}], ids=range(5))
def test_numbers_and_texts_that_json_would_lose_come_back(tmp_path: Path, value: Any) -> None:
    tree.save(value, tmp_path / "a.npz")
    assert tree.load(tmp_path / "a.npz") == value


def test_classes_come_back_where_the_reader_offers_them(tmp_path: Path) -> None:
    value = [Boxes(scores=1, labels=2), Size(3, Boxes(scores=4))]
    tree.save(value, tmp_path / "a.npz")
    assert tree.load(tmp_path / "a.npz", classes=(Boxes, Size)) == value
    assert tree.load(tmp_path / "a.npz", classes=(Size,)) == [
        {"scores": 1, "_labels": 2},
        Size(3, {"scores": 4, "_labels": None}),
    ]


def test_a_class_that_has_changed_since_is_a_load_error(tmp_path: Path) -> None:
    tree.save(Boxes(scores=1), tmp_path / "a.npz")
    Changed = attrs.make_class("Boxes", ["scores"])
    Changed.__module__, Changed.__qualname__ = Boxes.__module__, Boxes.__qualname__
    with pytest.raises(LoadError, match="_labels"):
        tree.load(tmp_path / "a.npz", classes=(Changed,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_narrow_floats_come_back_to_the_bit(tmp_path: Path, dtype: Any) -> None:
    value = torch.tensor([[1.5, -0.0], [float("nan"), 448.0]]).to(dtype)
    tree.save({"w": value, "scalar": value[0, 0]}, tmp_path / "a.npz")
    back = tree.load(tmp_path / "a.npz")
    assert np.array_equal(back["w"].astype("f4"), value.float().numpy(), equal_nan=True)
    assert tree.equal(back, {"w": value, "scalar": value[0, 0]})
    tree.save(back, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_numpy_reads_the_arrays_without_us(tmp_path: Path) -> None:
    value = [np.arange(6, dtype="i2").reshape(2, 3).T, torch.tensor(1.5), np.array(["ab"]), np.zeros((0, 2), ">f8")]
    tree.save(value, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        for index, expected in enumerate(value):
            found = file[f"{index:05d}"]
            assert found.shape == tuple(expected.shape)
            assert np.array_equal(found, np.asarray(expected))


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        tree.save({"x": np.arange(5), "y": [b"12", {"z": 1}]}, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.namelist() == ["tree.json", "00000.npy", "00001.npy"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_tree_that_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    tree.save(1, tmp_path / "a.npz")
    with pytest.raises(DeployError, match=r"\$\[0\]"):
        tree.save([object()], tmp_path / "a.npz")
    assert tree.load(tmp_path / "a.npz") == 1
    with pytest.raises(RequirementError, match="nowhere"):
        tree.save(1, tmp_path / "nowhere" / "a.npz")


# ---------------------------------------------------------------- bad files


def sound(folder: Path) -> bytes:
    path = folder / "sound.npz"
    value = {"x": np.arange(4, dtype="f4"), "y": [(1, b"ab"), math.nan, 10**30], 3: Boxes(scores=np.array(["é"]))}
    tree.save(value, path)
    return path.read_bytes()


def refused(folder: Path, content: bytes, match: str = ".") -> None:
    path = folder / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=match) as caught:
        tree.load(path, classes=(Boxes,))
    assert str(path) in caught.value.message


def packed(structure: Any, *arrays: bytes, compression: int = zipfile.ZIP_STORED, extra: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        text = structure if isinstance(structure, (str, bytes)) else json.dumps(structure)
        archive.writestr("tree.json", text)
        for index, array in enumerate(arrays):
            archive.writestr(f"{index:05d}.npy", array)
        if extra:
            archive.writestr(extra, b"x")
    return buffer.getvalue()


def said(value: Any) -> dict[str, Any]:
    return {"schema": "awml-tree", "schema_version": 1, "tree": value}


def npy(array: Any, **how: Any) -> bytes:
    """What numpy writes, with the head in the form that has one spelling only."""
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    length = struct.unpack("<H", buffer.getvalue()[8:10])[0]
    head = repr(ast.literal_eval(buffer.getvalue()[10 : 10 + length].decode())).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return buffer.getvalue()[:8] + struct.pack("<H", len(head)) + head + buffer.getvalue()[10 + length :]


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    content = sound(tmp_path)
    for length in range(0, len(content), 7):
        refused(tmp_path, content[:length])


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="there is no such file") as caught:
        tree.load(tmp_path / "none.npz")
    assert caught.value.hint
    with pytest.raises(LoadError, match=str(tmp_path)):
        tree.load(tmp_path)


@settings(relaxed, max_examples=300)
@given(data=st.data())
def test_a_file_with_flipped_bytes_loads_or_is_refused_and_nothing_else(data: Any, tmp_path: Path) -> None:
    content = bytearray(sound(tmp_path))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "flipped.npz").write_bytes(content)
    with contextlib.suppress(LoadError):
        tree.load(tmp_path / "flipped.npz", classes=(Boxes,))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["array", "dtype", "shape", "bytes", "size", "dict", "tuple", "class", "int", "float"]),
            inner,
        )
    ),
    max_leaves=8,
)


@settings(relaxed, max_examples=300)
@given(structure=json_values)
def test_any_json_loads_or_is_refused_and_nothing_else(structure: Any, tmp_path: Path) -> None:
    for text in (said(structure), structure):
        (tmp_path / "any.npz").write_bytes(packed(text, npy(np.zeros(1, "u1"))))
        with contextlib.suppress(LoadError):
            tree.load(tmp_path / "any.npz", classes=(Boxes,))


X = {"array": 0, "dtype": "<f4", "shape": [4]}


@pytest.mark.parametrize(
    ("structure", "match"),
    [
        ("{", "JSON"),
        ("[NaN]", "no JSON"),
        (b"\xff\xfe", "Unicode"),
        ([], "list"),
        ({**said(1), "schema_version": 2}, "awml-tree"),
        ({"schema": "awml-tree", "schema_version": 1}, "tree"),
        ("[" * 100_000, "Recursion"),
        (said({"dict": [[{"pickle": 1}, 2]]}), "pickle"),
        (said({"dict": [["a", 1], ["a", 2]]}), "twice"),
        (said({"dict": [[[], 1]]}), "unhashable"),
        (said({"float": "00"}), "struct"),
        (said({"int": "zz"}), "int"),
        (said({}), "where a value should be"),
    ],
)
def test_a_wrong_structure_is_refused(tmp_path: Path, structure: Any, match: Any) -> None:
    refused(tmp_path, packed(structure), match)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(101):
        value = [value]
    refused(tmp_path, packed(said(value)), "100 levels")


@pytest.mark.parametrize(
    ("said_of_it", "array"),
    [
        (X, npy(np.zeros(5, "f4"))),
        (X, npy(np.zeros(4, "i4"))),
        (X, npy(np.zeros((2, 2), "f4"))),
        ({**X, "shape": [2, 2]}, npy(np.asfortranarray(np.zeros((2, 2), "f4")))),
        ({**X, "shape": [-4]}, npy(np.zeros(4, "f4"))),
        ({**X, "shape": [4.0]}, npy(np.zeros(4, "f4"))),
        ({**X, "shape": [10**15]}, npy(np.zeros(4, "f4"))),
        ({**X, "shape": [1] * 65 + [4]}, npy(np.zeros(4, "f4"))),
        ({**X, "dtype": "|O"}, npy(np.array([None] * 4), allow_pickle=True)),
        ({**X, "dtype": "<M8[ns]"}, npy(np.zeros(4, "M8[ns]"))),
        ({**X, "dtype": "<f16"}, npy(np.zeros(4, "f16"))),
        ({**X, "dtype": "<f4,<f4"}, npy(np.zeros(4, "f4,f4"))),
        ({**X, "dtype": "bfloat16"}, npy(np.zeros(4, "f4"))),
        ({**X, "array": 1}, npy(np.zeros(4, "f4"))),
        ([X, X], npy(np.zeros(4, "f4"))),
        (1, npy(np.zeros(4, "f4"))),
    ],
)
def test_an_array_that_is_not_what_was_said_of_it_is_refused(tmp_path: Path, said_of_it: Any, array: Any) -> None:
    refused(tmp_path, packed(said(said_of_it), array))


def test_an_array_that_is_what_was_said_of_it_is_read(tmp_path: Path) -> None:
    # Numpy's own writer is the witness that the head spelt out here is the right one.
    (tmp_path / "a.npz").write_bytes(packed(said(X), npy(np.arange(4, dtype="f4"))))
    assert tree.load(tmp_path / "a.npz").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["../evil.npy", "/etc/evil", "00007.npy", "tree.json"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_of_any_other_name_is_refused(tmp_path: Path, name: Any) -> None:
    refused(tmp_path, packed(said(1), extra=name), "members are not those")


def test_a_compression_bomb_is_refused_unread(tmp_path: Path) -> None:
    bomb = packed(said("x" * 50_000_000), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    refused(tmp_path, bomb, "compressed")


def test_overlapping_members_are_refused_unread(tmp_path: Path) -> None:
    # Every directory entry of the bomb points at the same bytes, so the members add up to more than the file.
    content = packed(said(1), *[npy(np.zeros(1000))] * 1)
    end = content.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", content[end + 16 : end + 20])[0]
    entries = content[start:end]
    second = entries[entries.rindex(b"PK\x01\x02") :]
    more = b"".join(second.replace(b"00000.npy", f"{index:05d}.npy".encode()) for index in range(1, 50))
    count = struct.pack("<HHI", 51, 51, len(entries) + len(more))
    refused(
        tmp_path, content[:end] + more + content[end : end + 8] + count + content[end + 16 :], "larger than the file"
    )


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed(said(1)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    refused(tmp_path, bytes(content), "encrypted")
