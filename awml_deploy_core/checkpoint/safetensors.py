"""The safetensors format: the size of a header, the header as JSON, the bytes."""

from __future__ import annotations

import json
import math
import mmap
from typing import TYPE_CHECKING, Any

from awml_deploy_core.checkpoint.machine import Malformed
from awml_deploy_core.checkpoint.tensors import DTYPES, view

if TYPE_CHECKING:
    import torch

__all__ = ["looks_like", "read_safetensors"]

LONGEST = 100_000_000
TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


def looks_like(head: bytes) -> bool:
    """Whether a file that begins so can only be a safetensors file."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= LONGEST


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("has a header that names something twice")
    return found


def _header(mapping: mmap.mmap) -> tuple[dict[str, Any], int]:
    start = 8 + int.from_bytes(mapping[:8], "little")
    if start > len(mapping):
        raise Malformed("ends inside of its header, as after an interrupted copy")
    try:
        header = json.loads(mapping[8:start].decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed("has a header that is no JSON") from error
    if not isinstance(header, dict):
        raise Malformed("has a header that is no JSON object")
    return header, start


def _claim(name: str, entry: Any) -> tuple[int, int, torch.dtype, list[int]]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Malformed(f"describes the tensor {name!a} by other things than dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise Malformed(f"holds the tensor {name!a} in a type that is not supported")
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers) or len(offsets) != 2:
        raise Malformed(f"describes the tensor {name!a} by sizes that are none")
    dtype = DTYPES[TYPES[kind]]
    if math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
        raise Malformed(f"gives the tensor {name!a} other bytes than its shape needs")
    return offsets[0], offsets[1], dtype, shape


def read_safetensors(mapping: mmap.mmap) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors in the order of the file, and its metadata."""
    header, start = _header(mapping)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        raise Malformed("has metadata that are no text")
    claims = {name: _claim(name, entry) for name, entry in header.items()}
    covered = 0
    tensors = {}
    for name, (begin, end, dtype, shape) in sorted(claims.items(), key=lambda item: item[1][:2]):
        if begin != covered:
            raise Malformed(f"has a gap or an overlap before the tensor {name!a}")
        covered = end
        tensors[name] = view(mapping, start + begin, end - begin).view(dtype).view(shape)
    if start + covered != len(mapping):
        raise Malformed(f"has {len(mapping) - start} bytes of data where its header claims {covered}")
    return tensors, metadata
