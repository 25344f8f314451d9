"""Torch's two file formats: the zip archive, and the row of pickles that stood before it."""

from __future__ import annotations

import mmap
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from awml_deploy_core.checkpoint.machine import Inert, Machine, Malformed
from awml_deploy_core.checkpoint.names import Names, give_state
from awml_deploy_core.checkpoint.opcodes import unpickle
from awml_deploy_core.checkpoint.tensors import Storage, storage_of, view

__all__ = ["read_legacy", "read_zip"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LOCAL_HEADER = struct.Struct("<4s22xHH")


# ---------------------------------------------------------------- zip


def _entries(mapping: mmap.mmap) -> dict[str, zipfile.ZipInfo]:
    try:
        # A mapping has all that zipfile wants of a file: seek, tell, read.
        with zipfile.ZipFile(cast("BinaryIO", mapping)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, EOFError) as error:
        raise Malformed("is a zip archive without a sound end, as after an interrupted copy") from error
    entries = {info.filename: info for info in infos}
    if len(entries) != len(infos):
        raise Malformed("is a zip archive that holds two entries of one name")
    return entries


def _place(mapping: mmap.mmap, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where an entry's bytes are, after holding them against size and checksum."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
        raise Malformed(f"has the entry {info.filename!a} compressed or encrypted, which torch never does")
    header = mapping[info.header_offset : info.header_offset + LOCAL_HEADER.size]
    if info.header_offset < 0 or len(header) != LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise Malformed(f"is a zip archive with no entry where {info.filename!a} should be")
    _, name, extra = LOCAL_HEADER.unpack(header)
    start = info.header_offset + LOCAL_HEADER.size + name + extra
    if start + info.file_size > len(mapping):
        raise Malformed(f"is a zip archive whose entry {info.filename!a} reaches beyond its end")
    with memoryview(mapping) as whole, whole[start : start + info.file_size] as part:
        # Zero is what torch writes where it was told to compute no checksums.
        if info.CRC and zlib.crc32(part) != info.CRC:
            raise Malformed(f"is damaged: the checksum of its entry {info.filename!a} does not match")
    return start, info.file_size


def _content(mapping: mmap.mmap, info: zipfile.ZipInfo) -> bytes:
    start, size = _place(mapping, info)
    return mapping[start : start + size]


def read_zip(mapping: mmap.mmap, names: Names) -> Any:
    """The object in a file of torch 1.6 or newer."""
    entries = _entries(mapping)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Malformed("is a zip archive but no torch checkpoint: it has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise Malformed("is a TorchScript archive, that is a program and no checkpoint")
    order = entries.get(f"{root}byteorder")
    if order is not None and _content(mapping, order) != sys.byteorder.encode():
        raise Malformed("was written on a machine of another byte order")
    storages: dict[str, Storage] = {}

    def persistent(saved: Any) -> Storage:
        dtype, key, size, _ = storage_of(saved)
        if key not in storages:
            info = entries.get(f"{root}data/{key}")
            if info is None or info.file_size != size:
                raise Malformed(f"has no entry of {size} bytes for the tensor storage {key!a}")
            storages[key] = Storage(dtype, size, view(mapping, *_place(mapping, info)))
        return _as(storages[key], dtype, size)

    content = _content(mapping, entries[pickles[0]])
    return unpickle(Machine(content, 0, names.find, give_state, persistent))


def _as(storage: Storage, dtype: Any, size: int) -> Storage:
    if size > storage.size:
        raise Malformed("claims two sizes for one tensor storage")
    return storage if storage.dtype == dtype else Storage(dtype, storage.size, storage.flat)


# ---------------------------------------------------------------- legacy


def _part(storage: Storage, seen: Any) -> Storage:
    """The part of a storage that a file of torch 0.3 or older shares under a key of its own."""
    if seen is None:
        return storage
    if type(seen) is not tuple or len(seen) != 3 or any(type(number) is not int for number in seen[1:]):
        raise Malformed("holds a view of a storage without a place")
    start, size = (number * storage.dtype.itemsize for number in seen[1:])
    if start < 0 or size < 0 or start + size > storage.size:
        raise Malformed("holds a view that reaches beyond its storage")
    flat = None if storage.flat is None else storage.flat[start : start + size]
    return Storage(storage.dtype, size, flat)


def _legacy_persistent(storages: dict[str, Storage]) -> Callable[[Any], Any]:
    def persistent(saved: Any) -> Any:
        if type(saved) is tuple and len(saved) == 4 and saved[0] == "module":
            # A whole network; its class has been refused by name already.
            return saved[1] if isinstance(saved[1], Inert) else Inert("module")
        dtype, key, size, seen = storage_of(saved)
        storage = storages.setdefault(key, Storage(dtype, size))
        return _part(_as(storage, dtype, size), seen)

    return persistent


def read_legacy(mapping: mmap.mmap, names: Names) -> Any:
    """The object in a file of torch 1.5 or older: magic, protocol, machine, object, keys, then the storages."""

    def load(at: int, storages: dict[str, Storage]) -> tuple[Any, int]:
        machine = Machine(mapping, at, names.find, give_state, _legacy_persistent(storages))
        return unpickle(machine), machine.at

    magic, at = load(0, {})
    if type(magic) is not int or magic != LEGACY_MAGIC:
        raise Malformed("is a pickle but no torch checkpoint")
    _, at = load(at, {})
    system, at = load(at, {})
    if not isinstance(system, dict) or system.get("little_endian") is not (sys.byteorder == "little"):
        raise Malformed("was written on a machine of another byte order")
    storages: dict[str, Storage] = {}
    # The bytes come last and their place depends on all that stands before: once to measure, once to read.
    _, end = load(at, storages)
    if names.refused:
        return None
    keys, end = load(end, {})
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(storages):
        raise Malformed("lists other tensor storages than its tensors use")
    for key in keys:
        storage = storages[key]
        if int.from_bytes(mapping[end : end + 8], "little") * storage.dtype.itemsize != storage.size:
            raise Malformed("holds less data than its tensors claim, as after an interrupted copy")
        storage.flat = view(mapping, end + 8, storage.size)
        end += 8 + storage.size
    return load(at, storages)[0]
