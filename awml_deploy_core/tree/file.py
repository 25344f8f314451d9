"""A tree in one file: an uncompressed `.npz` whose member `tree.json` holds the structure.

Nothing in the file is executed and nothing in it is believed: no pickle, no class that the reader did not offer, no
size that the file itself does not have. The members are stored as they are, named and dated alike every time.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from awml_deploy_core.errors import LoadError
from awml_deploy_core.files import write_whole
from awml_deploy_core.tree.bits import NARROW, Bits, bits, class_name, dtype_of, fault, is_array, is_tensor
from awml_deploy_core.tree.branches import DEPTH, Branch, arguments, fold

__all__ = ["load", "save"]

_CHUNK = 1 << 20
_STRUCTURE = "tree.json"
_SCHEMA = {"schema": "awml-tree", "schema_version": 1}
_BROKEN = (OSError, EOFError, BadZipFile, ValueError, TypeError, LookupError, RuntimeError, MemoryError, OverflowError,
           AttributeError, struct.error)  # fmt: skip


def save(tree: Any, path: str | Path) -> None:
    """Write a tree into one file, whole or not at all; the same tree gives the same bytes.

    The file is an uncompressed `.npz`: `tree.json` holds the structure and refers to the arrays beside it, which
    `numpy.load` can also read. bfloat16 and the float8 kinds lie in it as unsigned integers of their bits.
    """
    blocks: list[Bits] = []

    def write(leaf: Any, _: str) -> Any:
        return _encode_leaf(leaf, blocks)

    structure = {**_SCHEMA, "tree": fold(tree, write, _encode_branch)}
    # surrogatepass: file names that are no UTF-8 hold lone surrogates, and those must come back as they were.
    text = json.dumps(structure, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    write_whole(path, lambda file: _write_members(file, text, blocks))


def load(path: str | Path, classes: Iterable[type] = ()) -> Any:
    """Read what `save` wrote, without executing anything that the file says.

    Tensors come back as numpy arrays (bfloat16 in the type of ml_dtypes), enum members as their values.

    Args:
        path: The file.
        classes: attrs classes and named tuples that may come back as themselves; an instance of any other comes back
            as a dict or a tuple. The file only names classes, by module and name; none is imported.

    Raises:
        LoadError: The file is missing, damaged, or was not written by `save`.
    """
    known = {class_name(cls): cls for cls in classes}
    try:
        with ZipFile(path) as archive:
            return _read_members(archive, Path(path).stat().st_size, known)
    except FileNotFoundError as error:
        raise LoadError(f"{path}: there is no such file", hint="Check the path.") from error
    except _BROKEN as error:
        reason = f"{type(error).__name__}: {error}"
        raise LoadError(f"{path} is not a sound tree file ({reason})", hint="Have it made again.") from error


def _encode_leaf(leaf: Any, blocks: list[Bits]) -> Any:
    """JSON for a leaf; arrays and bytes go to `blocks` and leave their number."""
    if is_tensor(leaf) or is_array(leaf):
        blocks.append(bits(leaf))
        return {"array": len(blocks) - 1, "dtype": blocks[-1].dtype, "shape": blocks[-1].shape}
    value = leaf.value if isinstance(leaf, Enum) else leaf
    if isinstance(value, bytes):
        import numpy as np

        blocks.append(Bits("|u1", (len(value),), np.frombuffer(value, np.uint8)))
        return {"bytes": len(blocks) - 1, "size": len(value)}
    return _encode_scalar(value)


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": struct.pack("<d", value).hex()}
    # Readers of JSON differ beyond 64 bits, and Python itself refuses to print very long numbers in decimal.
    if isinstance(value, int) and value.bit_length() > 63:
        return {"int": hex(value)}
    return value


def _encode_branch(branch: Branch, answers: list[Any]) -> Any:
    if branch.kind == "list":
        return answers
    kept = list(zip(map(_encode_scalar, branch.keys), answers, strict=True)) if branch.kind == "dict" else answers
    return {branch.kind: kept, "class": branch.name} if branch.name else {branch.kind: kept}


def _member(index: int) -> str:
    return f"{index:05d}.npy"


def _header(code: str, shape: tuple[int, ...]) -> bytes:
    """The head of a `.npy` file, spelt out here so that the bytes do not depend on numpy's version."""
    stored = f"<u{NARROW[code]}".replace("<u1", "|u1") if code in NARROW else code
    text = repr({"descr": stored, "fortran_order": False, "shape": shape}).encode()
    room = -(len(text) + 11) % 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + room + 1) + text + b" " * room + b"\n"


def _write_members(file: BinaryIO, text: bytes, blocks: list[Bits]) -> None:
    with ZipFile(file, "w", ZIP_STORED) as archive:
        _write_member(archive, _STRUCTURE, text)
        for index, block in enumerate(blocks):
            _write_member(archive, _member(index), _header(block.dtype, block.shape), block.raw.data)


def _write_member(archive: ZipFile, name: str, *parts: bytes | memoryview) -> None:
    info = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    # Told beforehand, zipfile knows whether it needs the large format.
    info.file_size = sum(memoryview(part).nbytes for part in parts)
    with archive.open(info, "w") as member:
        for part in parts:
            member.write(part)


def _read_members(archive: ZipFile, size: int, known: Mapping[str, type]) -> Any:
    """The tree in an open file. All members are stored as they are, so together they cannot be larger than the file."""
    members = archive.infolist()
    if [member.filename for member in members] != [_STRUCTURE, *map(_member, range(len(members) - 1))]:
        raise ValueError("its members are not those of a tree")
    if any(member.compress_type != ZIP_STORED or member.file_size != member.compress_size for member in members):
        raise ValueError("its members are compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members are larger than the file")
    text = archive.read(members[0]).decode("utf-8", "surrogatepass")
    structure = json.loads(text, parse_constant=_no_constant)
    if {key: structure.get(key) for key in _SCHEMA} != _SCHEMA:
        raise ValueError(f"it is not of {_SCHEMA}")
    unread = dict(enumerate(members[1:]))

    def take(index: int, code: str, shape: list[int]) -> Any:
        # Each array may be taken once, or a small file could ask for a large one a million times.
        return _read_array(archive, unread.pop(index), code, tuple(shape))

    tree = _decode(structure["tree"], take, known)
    if unread:
        raise ValueError(f"{len(unread)} of its arrays belong nowhere")
    return tree


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _decode(node: Any, take: Callable[[int, str, list[int]], Any], known: Mapping[str, type], depth: int = 0) -> Any:
    if depth > DEPTH:
        raise ValueError(f"it is deeper than {DEPTH} levels")
    if isinstance(node, list):
        return [_decode(child, take, known, depth + 1) for child in node]
    if not isinstance(node, dict):
        return node
    match node:
        case {"array": index, "dtype": str(code), "shape": list(shape)}:
            return take(index, code, shape)
        case {"bytes": index, "size": int(size)}:
            return take(index, "|u1", [size]).tobytes()
        case {"float": str(digits)}:
            return struct.unpack("<d", bytes.fromhex(digits))[0]
        case {"int": str(digits)}:
            return int(digits, 16)
        case {"tuple": list(items)}:
            children = tuple(_decode(item, take, known, depth + 1) for item in items)
            cls = known.get(node.get("class", ""))
            return children if cls is None else cls(*children)
        case {"dict": list(pairs)}:
            values = {_decode(key, take, known, DEPTH): _decode(item, take, known, depth + 1) for key, item in pairs}
            if len(values) < len(pairs):
                raise ValueError("a key occurs twice")
            cls = known.get(node.get("class", ""))
            return values if cls is None else cls(**arguments(cls, values))
    raise ValueError(f"it holds {', '.join(map(repr, node))} where a value should be")


def _read_array(archive: ZipFile, member: ZipInfo, code: str, shape: tuple[int, ...]) -> Any:
    """One array. Its head is not parsed but must be the one that belongs to dtype and shape."""
    import numpy as np

    if code not in NARROW and not re.fullmatch(r"[<|][biufcSU][1-9][0-9]{0,8}", code):
        raise ValueError(f"an array is of {code!r}")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"an array has the shape {shape}")
    dtype, header = dtype_of(code), _header(code, shape)
    if member.file_size != len(header) + math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename} is not as large as {code} {shape}")
    array = np.empty(shape, dtype)
    if fault(array):
        raise ValueError(f"an array is of {code!r}")
    flat = array.reshape(-1).view(np.uint8)
    with archive.open(member) as file:
        if file.read(len(header)) != header:
            raise ValueError(f"{member.filename} is not {code} {shape}")
        for start in range(0, flat.size, _CHUNK):
            piece = file.read(_CHUNK)
            flat[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    return array
