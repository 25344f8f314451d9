"""The leaves of a tree: which there may be, and what they say to the bit.

Neither numpy nor torch is imported before somebody hands over an array.
"""

from __future__ import annotations

import struct
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import numpy as np  # noqa: TC004  inside functions it is imported again

__all__ = ["NARROW", "Bits", "atom", "bits", "class_name", "dtype_of", "fault", "is_array", "is_tensor"]

# numpy has no word for these; their bits travel as unsigned integers and ml_dtypes gives them a type again.
NARROW = {"bfloat16": 2, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1}
_PLAIN = {"bool", "float16", "float32", "float64", "complex64", "complex128"}
_PLAIN |= {f"{sign}int{width}" for sign in ("", "u") for width in (8, 16, 32, 64)}


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; nobody can hold one who has not imported torch."""
    return isinstance(value, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_array(value: Any) -> bool:
    """Whether it is a numpy array or one of numpy's scalars, which are arrays of shape `()`."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def fault(leaf: Any) -> str | None:
    """What a leaf is that a tree cannot hold, or None."""
    if is_tensor(leaf):
        name = str(leaf.dtype).removeprefix("torch.")
        dense = str(leaf.layout) == "torch.strided" and not leaf.is_meta and not leaf.is_quantized
        held = dense and (name in _PLAIN or name in NARROW)
        return None if held else f"a {leaf.layout} {name} tensor on {leaf.device}"
    if is_array(leaf):
        name, masked = leaf.dtype.name, hasattr(leaf, "mask")
        held = name in _PLAIN or name in NARROW or (leaf.dtype.kind in "SU" and leaf.dtype.itemsize > 0)
        return None if held and not masked else f"{'a masked' if masked else 'an'} array of {leaf.dtype}"
    value = leaf.value if isinstance(leaf, Enum) else leaf
    plain = value is None or isinstance(value, (bool, int, float, str, bytes))
    return None if plain else f"a {class_name(type(leaf))}"


def atom(value: Any) -> tuple[str, bytes]:
    """A scalar as kind and content."""
    value = value.value if isinstance(value, Enum) else value
    if value is None:
        return "none", b""
    if isinstance(value, bool):
        return "bool", bytes([value])
    if isinstance(value, int):
        return "int", hex(value).encode()
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    return ("text", value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else ("bytes", bytes(value))


@attrs.frozen(eq=False)
class Bits:
    """An array by what it says: `<f4` or a narrow name, shape, and its bytes in C order, little end first."""

    dtype: str
    shape: tuple[int, ...]
    raw: np.ndarray[Any, Any]

    def __eq__(self, other: object) -> bool:
        import numpy as np

        if not isinstance(other, Bits) or (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        if np.array_equal(self.raw, other.raw):
            return True
        part = _part(self.dtype)
        if part is None:
            return False
        mine, theirs = self.raw.view(part), other.raw.view(part)
        word = f"u{part.itemsize}"
        odd = mine.view(word) != theirs.view(word)
        return bool(np.isnan(mine[odd]).all() and np.isnan(theirs[odd]).all())

    __hash__ = None  # type: ignore[assignment]


def bits(leaf: Any) -> Bits:
    """The bits of a tensor or an array, without a copy where they lie in order in host memory."""
    import numpy as np

    if is_tensor(leaf):
        name = str(leaf.dtype).removeprefix("torch.")
        code = name if name in NARROW else _code(np.dtype(name))
        flat = leaf.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        return Bits(code, tuple(leaf.shape), flat.view(sys.modules["torch"].uint8).numpy())
    code = _code(leaf.dtype)
    ordered = np.ascontiguousarray(leaf, dtype=leaf.dtype if code in NARROW else np.dtype(code))
    return Bits(code, np.shape(leaf), ordered.reshape(-1).view(np.uint8))


def _code(dtype: np.dtype[Any]) -> str:
    return str(dtype.name if dtype.name in NARROW else dtype.newbyteorder("<").str)


def dtype_of(code: str) -> np.dtype[Any]:
    """The type behind the `dtype` of `Bits`."""
    import numpy as np

    if code in NARROW:
        import ml_dtypes

        narrow: np.dtype[Any] = np.dtype(getattr(ml_dtypes, code))
        return narrow
    return np.dtype(code)


def _part(code: str) -> np.dtype[Any] | None:
    """The floating type in which NaNs may hide: half of a complex number, None for what has none."""
    dtype = dtype_of(code)
    if code in NARROW or dtype.kind == "f":
        return dtype
    return dtype_of(f"<f{dtype.itemsize // 2}") if dtype.kind == "c" else None


def class_name(cls: type) -> str:
    """The name under which messages and files know a class."""
    return f"{cls.__module__}.{cls.__qualname__}"
