"""Nested values: what pipelines take and give, walked but never interpreted.

A tree is made of attrs instances, dicts, lists and tuples down to its leaves: numpy arrays and scalars, dense torch
tensors, bool, int, float, str, bytes, None, and enum members whose value is one of these. Anything else is refused
with its place and type, so that nothing is hashed or kept by halves.

`digest`, `equal` and `save` see what a tree says and not the classes that say it, so `equal(load(p), tree)` holds for
whatever was saved to `p`. The same to them are

- an attrs instance and a dict of its fields (those that its constructor takes; the others follow from them),
- a named tuple and a tuple, an enum member and its value, a dict and any other mapping,
- a tensor wherever it lives, an array of the same shape, dtype and bits however it lies in memory, and, with shape
  `()`, a numpy scalar.

They do tell a list from a tuple, 1 from 1.0 from True, float32 from float64, -0.0 from 0.0. The order of keys does not
matter; a file keeps it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from awml_deploy_core.tree.bits import atom, bits, is_array, is_tensor
from awml_deploy_core.tree.branches import Branch, fold, rebuild
from awml_deploy_core.tree.file import load, save

__all__ = ["checksum", "digest", "equal", "leaves", "load", "paths", "save", "tree_map"]

_LARGE = 1 << 13
"""Words of 64 bits from which a checksum is quicker than a hash."""


def leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, in the order of fields, keys and indices.

    `$` is the tree itself. `.name` enters a field or a key that is an identifier, `['odd key']`, `[3]`, `[None]` any
    other key, `[3]` an element of a list or tuple: `$.boxes[0].scores`, `$.by_class['traffic light']`. No two leaves
    of a tree share a path.
    """
    found: list[tuple[str, Any]] = []

    def keep(leaf: Any, path: str) -> None:
        found.append((path, leaf))

    fold(tree, keep, lambda *_: None)
    return iter(found)


def paths(tree: Any) -> tuple[str, ...]:
    """The paths of all leaves, as `leaves` gives them."""
    return tuple(path for path, _ in leaves(tree))


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same tree with every leaf replaced by what the function makes of it; the tree itself is left alone.

    attrs instances are evolved and named tuples stay what they are; other mappings, lists and tuples come back as
    plain ones.
    """
    return fold(tree, lambda leaf, _: function(leaf), rebuild)


def digest(tree: Any) -> str:
    """A SHA-256 in hexadecimal of what a tree says, the same in every process.

    Bits count: every NaN is hashed as it is. Contiguous arrays in host memory are not copied.
    """
    return fold(tree, _hash_leaf, _hash_branch).hex()


def checksum(tree: Any) -> str:
    """What `digest` says, but quickly: of a large array only the sums of the rows and columns of a square of its bits.

    A changed, moved or missing value shows; two arrays made for the purpose could share it. It costs a tenth of a
    digest, which matters where every sample of an evaluation is proved equal on all variants.
    """
    return fold(tree, _check_leaf, _hash_branch).hex()


def equal(a: Any, b: Any) -> bool:
    """Whether two trees say the same, to the bit, except that every NaN equals every other."""
    return bool(fold(a, _compare_leaf, _compare_branch) == fold(b, _compare_leaf, _compare_branch))


# ---------------------------------------------------------------- hashing and comparing


def _hash_leaf(leaf: Any, _: str) -> bytes:
    if not (is_tensor(leaf) or is_array(leaf)):
        kind, content = atom(leaf)
        return _sha(kind, content)
    block = bits(leaf)
    return _sha(f"array {block.dtype} {block.shape}", block.raw)


def _check_leaf(leaf: Any, path: str) -> bytes:
    if not (is_tensor(leaf) or is_array(leaf)):
        return _hash_leaf(leaf, path)
    block = bits(leaf)
    words = block.raw[: block.raw.size // 8 * 8].view("<u8")
    if words.size < _LARGE:
        return _hash_leaf(leaf, path)
    side = math.isqrt(words.size)
    square, rest = words[: side * side].reshape(side, side), block.raw[side * side * 8 :]
    sums = b"".join(square.sum(axis=axis, dtype="u8").tobytes() for axis in (0, 1))
    return _sha(f"sums {block.dtype} {block.shape}", sums + rest.tobytes())


def _hash_branch(branch: Branch, answers: list[bytes]) -> bytes:
    if branch.kind == "dict":
        keys = [_sha(*atom(key)) for key in branch.keys]
        answers = [key + answer for key, answer in sorted(zip(keys, answers, strict=True))]
    return _sha(branch.kind, b"".join(answers))


def _sha(kind: str, content: Any) -> bytes:
    hashed = hashlib.sha256(kind.encode() + b"\0")
    hashed.update(content)
    return hashed.digest()


def _compare_leaf(leaf: Any, _: str) -> Any:
    if is_tensor(leaf) or is_array(leaf):
        return bits(leaf)
    kind, content = atom(leaf)
    return (kind, b"nan" if kind == "float" and leaf != leaf else content)  # noqa: PLR0124  NaN


def _compare_branch(branch: Branch, answers: list[Any]) -> Any:
    if branch.kind == "dict":
        answers = sorted(zip(map(atom, branch.keys), answers, strict=True), key=itemgetter(0))
    return [branch.kind, *answers]
