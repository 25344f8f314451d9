"""Torch tensors over the bytes of a file: every claim is held against the bytes before a tensor is made."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from typing import Any

import torch
from attrs import define, field

from awml_deploy_core.checkpoint.machine import Inert, Malformed, Named

__all__ = ["DTYPES", "Storage", "storage_of", "tensor_names", "view"]

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *STORAGES.values(), torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
    )
}  # fmt: skip
# Expanded tensors claim more elements than the file has; this many may be claimed out of nothing.
EXPANDED = 2**24


def view(mapping: mmap.mmap, start: int, size: int) -> torch.Tensor:
    """Bytes of the mapping as a tensor, copied only where they do not lie on a boundary that every type accepts."""
    if start < 0 or size < 0 or start + size > len(mapping):
        raise Malformed("holds less data than its tensors claim")
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    flat = torch.frombuffer(mapping, dtype=torch.uint8, count=size, offset=start)
    return flat if flat.data_ptr() % 16 == 0 else flat.clone()


@define
class Storage:
    """What a persistent id stands for; `flat` is None while a legacy file is only being measured."""

    dtype: torch.dtype
    size: int
    flat: torch.Tensor | None = None
    typed: dict[torch.dtype, torch.Tensor] = field(factory=dict)

    def elements(self, dtype: torch.dtype) -> torch.Tensor | None:
        """The bytes as elements; the same memory for all tensors that share it."""
        if self.flat is None:
            return None
        if dtype not in self.typed:
            if self.size % dtype.itemsize:
                raise Malformed(f"holds a storage of {self.size} bytes for elements of {dtype.itemsize}")
            self.typed[dtype] = self.flat.view(dtype)
        return self.typed[dtype]


def storage_of(saved: Any) -> tuple[torch.dtype, str, int, Any]:
    """Element type, key, size in bytes and view of a persistent id."""
    if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage":
        raise Malformed("refers to data that are no tensor storage")
    kind, key, _, count = saved[1:5]
    if not isinstance(kind, Named) or not isinstance(kind.value, torch.dtype):
        raise Malformed("holds a tensor of an unknown or quantised type")
    if type(key) is not str or type(count) is not int or not 0 <= count < 2**48:
        raise Malformed("holds a tensor storage without a sound key and size")
    return kind.value, key, count * kind.value.itemsize, saved[5] if len(saved) == 6 else None


def _sizes(values: Any) -> list[int]:
    if not isinstance(values, (tuple, list)) or len(values) > 64:
        raise Malformed("holds a tensor without a shape")
    if any(type(value) is not int or not 0 <= value < 2**48 for value in values):
        raise Malformed("holds a tensor whose shape or strides are no sizes")
    return list(values)


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, dtype: Any) -> Any:
    """A tensor over a storage, or a placeholder while a legacy file is only being measured."""
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise Malformed("makes a tensor of something that is no storage")
    shape, strides, (start,) = _sizes(size), _sizes(stride), _sizes([offset])
    if len(shape) != len(strides):
        raise Malformed("holds a tensor with more sizes than strides, or fewer")
    flat = storage.elements(dtype)
    if flat is None:
        return Inert("torch.Tensor")
    count = math.prod(shape)
    end = start + 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True)) if count else 0
    if end > len(flat):
        raise Malformed(f"holds a tensor that reaches to element {end} of a storage of {len(flat)}")
    if count > max(len(flat), EXPANDED):
        raise Malformed(f"holds a tensor of {count} elements over a storage of {len(flat)}")
    return flat.as_strided(shape, strides, start if count else 0)


def _no_metadata(metadata: Any) -> None:
    if metadata:
        raise Malformed("holds a tensor that was saved conjugated or negated")


def _version_1(storage: Any, offset: Any, size: Any, stride: Any) -> Any:
    return _rebuild(storage, offset, size, stride, getattr(storage, "dtype", None))


def _version_2(storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, meta: Any = None) -> Any:
    _no_metadata(meta)
    return _version_1(storage, offset, size, stride)


def _version_3(  # noqa: PLR0917  torch's order
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, meta: Any = None
) -> Any:
    _no_metadata(meta)
    return _rebuild(storage, offset, size, stride, dtype)


def _parameter(data: Any, *_: Any) -> Any:
    if not isinstance(data, torch.Tensor) and data != Inert("torch.Tensor"):
        raise Malformed("makes a parameter of something that is no tensor")
    return data


def _from_type(rebuild: Any, kind: Any, args: Any, _state: Any) -> Any:
    """A tensor with attributes; they are dropped."""
    known = isinstance(rebuild, Named) and rebuild.dotted.startswith("torch._utils._rebuild")
    if not known or type(args) is not tuple:
        raise Malformed("makes a tensor in an unknown way")
    if not isinstance(kind, Named) or kind.dotted not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        raise Malformed("holds a tensor of a class of its own")
    return rebuild.make(*args)


def _size(sizes: Any = ()) -> torch.Size:
    return torch.Size(_sizes(sizes))


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise Malformed("holds a device without a name")
    return kind if index is None else f"{kind}:{index}"


def _not_callable(*_: Any) -> Any:
    raise Malformed("calls a tensor class")


def tensor_names() -> dict[str, Any]:
    """What torch's own pickles mention, by dotted name; devices become their names."""
    calls: dict[str, Callable[..., Any]] = {
        "torch._utils._rebuild_tensor": _version_1,
        "torch._utils._rebuild_tensor_v2": _version_2,
        "torch._utils._rebuild_tensor_v3": _version_3,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._tensor._rebuild_from_type_v2": _from_type,
        "torch.Size": _size,
        "torch.device": _device,
        "torch.Tensor": _not_callable,
        "torch.nn.parameter.Parameter": _not_callable,
    }
    kinds = {f"torch.{name}": dtype for name, dtype in STORAGES.items()}
    kinds |= {"torch.storage.UntypedStorage": torch.uint8, "torch.UntypedStorage": torch.uint8}
    return {
        **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
        **{name: Named(name, make) for name, make in calls.items()},
        **{name: Named(name, _not_callable, dtype) for name, dtype in kinds.items()},
    }
