"""Walking, mapping, hashing and comparing nested values."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from awml_deploy_core import tree
from awml_deploy_core.errors import DeployError


@attrs.frozen(kw_only=True)
class Boxes:
    scores: Any
    _labels: Any = None
    count: int = attrs.field(init=False, default=0)


class Size(NamedTuple):
    width: Any
    height: Any


class Kind(Enum):
    CAR = "car"


class Level(IntEnum):
    HIGH = 3


DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex64", ">f4", ">i2", "<U3", "S2"]
keys = st.one_of(st.text(max_size=3), st.integers(-3, 300), st.booleans(), st.none(), st.floats(allow_nan=False))
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4), st.just(Kind.CAR)
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


# ---------------------------------------------------------------- walking


def test_paths_name_the_way_to_each_leaf_in_the_order_given() -> None:
    value = {
        "boxes": [Boxes(scores=1, labels=2)],
        "weird key": (3, 4),
        7: 5,
        "7": 6,
        None: 7,
        "a": {"b": Size(8, 9)},
        Kind.CAR: 10,
    }
    assert tree.paths(value) == (
        "$.boxes[0].scores",
        "$.boxes[0]._labels",
        "$['weird key'][0]",
        "$['weird key'][1]",
        "$[7]",
        "$['7']",
        "$[None]",
        "$.a.b[0]",
        "$.a.b[1]",
        "$.car",
    )
    assert [leaf for _, leaf in tree.leaves(value)] == list(range(1, 11))


def test_a_leaf_alone_is_the_root() -> None:
    assert list(tree.leaves(3)) == [("$", 3)]
    assert tree.paths({}) == ()


@given(trees)
def test_no_two_leaves_share_a_path(value: Any) -> None:
    assert len(set(tree.paths(value))) == len(tree.paths(value))


def test_map_keeps_structure_and_types_and_leaves_the_tree_alone() -> None:
    value = OrderedDict(a=Boxes(scores=[1, 2], labels=(3,)), b=Size(4, 5), c=MappingProxyType({6: 7}), d={Kind.CAR: 8})
    before = copy.deepcopy(list(value.items())[:2])
    mapped = tree.tree_map(lambda leaf: leaf * 10, value)
    assert mapped == {"a": Boxes(scores=[10, 20], labels=(30,)), "b": Size(40, 50), "c": {6: 70}, "d": {Kind.CAR: 80}}
    assert [type(mapped), type(mapped["b"]), type(mapped["c"])] == [dict, Size, dict]
    assert list(value.items())[:2] == before


def test_map_moves_tensors_without_looking_at_the_rest() -> None:
    value = {"points": torch.zeros(2), "name": "x"}
    mapped = tree.tree_map(lambda leaf: leaf.double() if isinstance(leaf, torch.Tensor) else leaf, value)
    assert mapped["points"].dtype == torch.float64
    assert mapped["name"] == "x"


@given(trees)
def test_mapping_the_identity_gives_an_equal_tree(value: Any) -> None:
    assert tree.equal(tree.tree_map(lambda leaf: leaf, value), value)


# ---------------------------------------------------------------- what is refused


class Plain:
    pass


@pytest.mark.parametrize(
    ("leaf", "named"),
    [
        (Plain(), "Plain"),
        ({1, 2}, "set"),
        (1j, "complex"),
        (np.array([None]), "object"),
        (np.zeros(2, dtype=[("x", "f4")]), "x"),
        (np.array(["2024"], dtype="M8[D]"), "datetime64"),
        (np.ma.masked_array([1.0], mask=[True]), "masked"),
        (np.longdouble(1), "float128"),
        (torch.eye(2).to_sparse(), "sparse"),
        (torch.empty(2, device="meta"), "meta"),
        (Boxes, "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize(
    "walk", [tree.digest, tree.paths, lambda t: tree.equal(t, 1)], ids=["digest", "paths", "equal"]
)
def test_an_unsupported_leaf_is_named_with_its_place(leaf: Any, named: Any, walk: Callable[[Any], Any]) -> None:
    with pytest.raises(DeployError) as caught:
        walk({"out": [0, leaf]})
    assert "$.out[1]" in caught.value.message
    assert named in caught.value.message


@pytest.mark.parametrize("key", [(1, 2), b"x", float("nan")])
def test_an_unsupported_key_is_named(key: Any) -> None:
    with pytest.raises(DeployError, match=r"\$\.a has the key"):
        tree.digest({"a": {key: 1}})


def test_keys_that_say_the_same_are_refused() -> None:
    with pytest.raises(DeployError, match="two keys"):
        tree.digest({Kind.CAR: 1, "car": 2})


def test_a_cycle_is_named_and_sharing_is_none() -> None:
    shared = [1]
    assert tree.paths([shared, shared]) == ("$[0][0]", "$[1][0]")
    loop: dict[str, Any] = {"inner": []}
    loop["inner"].append(loop)
    with pytest.raises(DeployError, match=r"\$\.inner\[0\] contains itself"):
        tree.digest(loop)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_depth_has_a_limit() -> None:
    assert tree.equal(nested(100), nested(100))
    with pytest.raises(DeployError, match="100 levels"):
        tree.digest(nested(101))


# ---------------------------------------------------------------- hashing


@given(trees)
def test_equal_trees_share_their_digest(value: Any) -> None:
    assert tree.digest(copy.deepcopy(value)) == tree.digest(value)
    assert tree.equal(copy.deepcopy(value), value)


def altered(leaf: Any) -> Any:
    """Another leaf of the same type, one bit away where it has any."""
    if isinstance(leaf, np.ndarray):
        if leaf.size == 0:
            return np.zeros((*leaf.shape, 2), leaf.dtype)
        other = np.ascontiguousarray(leaf).copy()
        other.reshape(-1).view(np.uint8)[-1] ^= 1
        return other.reshape(leaf.shape)
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, float):
        return 0.5 if math.isnan(leaf) or math.isinf(leaf) else math.nextafter(leaf, math.inf)
    if isinstance(leaf, Enum):
        return "bus"
    if isinstance(leaf, (int, type(None))):
        return 0 if leaf is None else leaf + 1
    return leaf + "x" if isinstance(leaf, str) else leaf + b"x"


@given(trees, st.data())
def test_changing_any_one_leaf_changes_the_digest(value: Any, data: Any) -> None:
    paths = tree.paths(value)
    if not paths:
        return
    which, seen = data.draw(st.integers(0, len(paths) - 1)), iter(range(len(paths)))
    changed = tree.tree_map(lambda leaf: altered(leaf) if next(seen) == which else leaf, value)
    assert tree.digest(changed) != tree.digest(value)


def test_digests_tell_apart_what_differs_in_structure_type_shape_or_bits() -> None:
    different = [
        1, 1.0, True, "1", b"1", None, [], (), {}, "", b"", [1], (1,), [[1]], [1, 1], {"a": 1}, {1: "a"}, {"1": "a"},
        {True: "a"}, {1.0: "a"}, {None: "a"}, 0.0, -0.0, 0, False, math.nan, math.inf, -math.inf, ["a", "b"], ["ab"],
        np.float32(1), np.float64(1), np.int64(1), np.ones(1, "f4"), np.ones((1, 1), "f4"), np.zeros((0, 2), "f4"),
        np.zeros((2, 0), "f4"), np.zeros(2, "f4"), -np.zeros(2, "f4"), np.zeros(2, "i4"), np.array(["a"]),
        np.array([b"a"]), np.array(["a"], "<U2"), torch.ones(2, dtype=torch.bfloat16),
        torch.full((2,), 0x3F80, dtype=torch.uint16), torch.ones(2).half(), torch.ones(2, dtype=torch.float8_e5m2),
    ]  # fmt: skip
    assert len({tree.digest(value) for value in different}) == len(different)
    assert [(a, b) for a in different for b in different if a is not b and tree.equal(a, b)] == []


def strided() -> Any:
    return np.arange(24, dtype="f4").reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (strided(), torch.from_numpy(strided())),
        (strided().T, np.ascontiguousarray(strided().T)),
        (strided()[:, ::-1], strided()[:, ::-1].copy()),
        (torch.from_numpy(strided()).permute(2, 0, 1), np.ascontiguousarray(strided().transpose(2, 0, 1))),
        (torch.from_numpy(strided())[::2, 1], strided()[::2, 1].copy()),
        (torch.arange(9.0)[::2], np.arange(9, dtype="f4")[::2]),
        (np.asfortranarray(strided()), strided()),
        (strided().astype(">f4"), strided()),
        (torch.zeros(0, 3), np.zeros((0, 3), "f4")),
        (torch.tensor(2.5), np.float32(2.5)),
        (np.float32(2.5), np.array(2.5, "f4")),
        (torch.nn.Parameter(torch.ones(2)), np.ones(2, "f4")),
        (torch.tensor([1 + 2j]).conj(), np.array([1 - 2j], "c8")),
        (torch.tensor([True, False]), np.array([True, False])),
        (torch.tensor(1.5, dtype=torch.bfloat16), torch.tensor([0, 1.5], dtype=torch.bfloat16)[1]),
        (Boxes(scores=1, labels=2), {"_labels": 2, "scores": 1}),
        (Size(1, 2), (1, 2)),
        (Kind.CAR, "car"),
        (Level.HIGH, 3),
        ({Kind.CAR: 1, np.int64(3): 2}, {3: 2, "car": 1}),
        (OrderedDict(a=1, b=2), {"b": 2, "a": 1}),
    ],
)
def test_what_says_the_same_has_one_digest_and_is_equal(a: Any, b: Any) -> None:
    assert tree.digest(a) == tree.digest(b)
    assert tree.digest([a]) == tree.digest([b])
    assert tree.equal(a, b)


def test_bits_of_a_nan_count_for_the_digest_and_not_for_equality() -> None:
    quiet = np.array([1, np.nan], "f4")
    payload = quiet.copy()
    payload.view("u4")[1] ^= 1
    for a, b in [(quiet, payload), (quiet.view("c8"), payload.view("c8")), (quiet.astype("f8"), -quiet.astype("f8"))]:
        if tree.digest(a) == tree.digest(b):
            pytest.fail("a NaN's bits were lost")
    assert tree.equal(quiet, payload)
    assert tree.equal(quiet.view("c8"), payload.view("c8"))
    assert tree.equal(math.nan, -math.nan)
    bfloat = torch.tensor([float("nan")], dtype=torch.bfloat16)
    assert tree.equal(bfloat, (bfloat.view(torch.int16) ^ 1).view(torch.bfloat16))
    assert not tree.equal(quiet, np.array([1, 2], "f4"))
    assert not tree.equal(np.array([1, 2], "f4"), quiet)
    assert not tree.equal(quiet.view("i4"), payload.view("i4"))


SAMPLE = {"b": [1, 2.5, None, "ü"], "a": (np.arange(3.0), {"z": b"1", "y": True, None: Kind.CAR})}


def test_another_process_with_another_hash_seed_finds_the_same_digest() -> None:
    script = (
        "import numpy as np; from awml_deploy_core import tree\n"
        "inner = {None: 'car', 'y': True, 'z': b'1'}\n"
        "print(tree.digest({'a': (np.arange(3.0), inner), 'b': [1, 2.5, None, 'ü']}))"
    )
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONUTF8": "1"}
        run = subprocess.run([sys.executable, "-c", script], env=env, check=True, capture_output=True, text=True)
        assert run.stdout.strip() == tree.digest(SAMPLE)


def test_the_digest_is_the_one_that_it_was() -> None:
    # Caches and manifests hold digests: a change here makes all of them worthless and must be meant.
    assert tree.digest(SAMPLE) == "b2537e8f8f5dd50821c24f1a752dab316de9a1a2c1f0a4011cc70591fcd4c86f"


def test_importing_and_hashing_plain_values_needs_neither_torch_nor_numpy() -> None:
    script = (
        "import sys; from awml_deploy_core import tree; tree.digest({'a': [1, 'x']}); tree.equal([1.0], [2.0])\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_large_contiguous_array_is_not_copied() -> None:
    import tracemalloc

    for large in (np.zeros(1 << 22, "f4"), torch.zeros(1 << 22)):
        tree.digest(large)
        tracemalloc.start()
        tree.digest(large)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.gpu
def test_a_tensor_on_a_gpu_says_what_its_copy_on_the_host_says() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    value = torch.arange(6.0).reshape(2, 3)
    assert tree.digest(value.cuda().T) == tree.digest(value.T)


# ---------------------------------------------------------------- comparing


@settings(max_examples=300)
@given(trees, trees)
def test_equality_and_digest_agree(a: Any, b: Any) -> None:
    if tree.digest(a) == tree.digest(b):
        assert tree.equal(a, b)
    assert tree.equal(a, b) == tree.equal(b, a)


@given(trees)
def test_a_tree_differs_from_itself_with_one_more_level(value: Any) -> None:
    assert not tree.equal(value, [value])
    assert not tree.equal({"a": value}, {"b": value})
    assert not tree.equal([value], (value,))


# ---------------------------------------------------------------- checksums


def large() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(3, 117, 203)).astype(np.float32)


def test_a_checksum_is_the_same_for_what_says_the_same() -> None:
    assert tree.checksum({"x": large()}) == tree.checksum({"x": torch.from_numpy(large())})
    assert tree.checksum(large()[::-1][::-1]) == tree.checksum(large())


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: np.where(np.arange(x.size).reshape(x.shape) == 40_000, np.nextafter(x, np.float32(9)), x),
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x[:, :, ::-1],
        lambda x: np.roll(x, 1, axis=2),
        lambda x: x.reshape(3, 203, 117),
        lambda x: x.astype(np.float64),
        lambda x: np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, np.float32(7), x),
        lambda x: x[:, :-1],
    ],
    ids=["one bit", "channels", "upside down", "mirrored", "shifted", "shape", "type", "last value", "cut"],
)
def test_a_checksum_sees_what_befalls_an_image(changed: Any) -> None:
    assert tree.checksum(changed(large())) != tree.checksum(large())


@given(st.integers(0, 3 * 117 * 203 - 1), st.integers(0, 3 * 117 * 203 - 1))
def test_a_checksum_sees_any_two_values_change_places(one: int, other: int) -> None:
    swapped = large().reshape(-1)
    swapped[[one, other]] = swapped[[other, one]]
    same = bool((swapped == large().reshape(-1)).all())
    assert (tree.checksum(swapped.reshape(3, 117, 203)) == tree.checksum(large())) == same
