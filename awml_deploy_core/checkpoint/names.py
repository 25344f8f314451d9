"""The names that a file may mention, and what stands in their place: containers, numpy, datetime, pure paths.

No class of a file is ever looked up. A name is either in a table here, or belongs to a package whose objects carry
no weights and becomes `Inert`, or is refused.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from attrs import define, field

from awml_deploy_core.checkpoint.machine import Inert, Malformed, Named

__all__ = ["Names", "give_state", "plain_names"]

INERT = re.compile(
    r"(mmengine|pytorch_lightning|lightning|lightning_fabric|lightning_utilities|omegaconf|torch\.optim)\."
    r"|argparse\.Namespace$"
)
RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib"}
UNITS = {b"Y", b"M", b"W", b"D", b"h", b"m", b"s", b"ms", b"us", b"ns", b"ps", b"fs", b"as", b"generic"}


class Table(OrderedDict[Any, Any]):
    """An `OrderedDict` that takes no attributes: torch hangs its `_metadata` there."""

    __slots__ = ()


def _scalars(real: Callable[..., Any], *kinds: type) -> Callable[..., Any]:
    """The real constructor, but only for arguments of exactly these types."""

    def make(*args: Any) -> Any:
        if any(type(arg) not in kinds for arg in args):
            raise Malformed(f"makes a {getattr(real, '__name__', real)} of {[type(arg).__name__ for arg in args]}")
        return real(*args)

    return make


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1", "iso-8859-1"):
        raise Malformed("encodes text in another way than latin-1")
    return text.encode("latin-1")


def _bytearray(raw: Any = b"", encoding: str | None = None) -> bytearray:
    if type(raw) not in (bytes, bytearray, str):
        raise Malformed(f"makes a bytearray of a {type(raw).__name__}")
    return bytearray(_encode(raw, encoding) if isinstance(raw, str) and encoding is not None else raw)


def _table(items: Any = ()) -> Table:
    if not isinstance(items, (list, tuple, dict)):
        raise Malformed("makes an OrderedDict of something that is no list")
    return Table(items)


def _counter(counts: Any = None) -> Counter[Any]:
    if counts is not None and not isinstance(counts, dict):
        raise Malformed("makes a Counter of something that is no dict")
    return Counter(counts)


def _defaultdict(factory: Any = None, items: Any = None) -> defaultdict[Any, Any]:
    if factory is not None and not (isinstance(factory, Named) and isinstance(factory.value, type)):
        raise Malformed("makes a defaultdict of something that is no plain type")
    if items is not None and not isinstance(items, dict):
        raise Malformed("fills a defaultdict from something that is no dict")
    return defaultdict(None if factory is None else factory.value, items or {})


# ---------------------------------------------------------------- numpy


def _dtype(text: Any, _align: Any = False, _copy: Any = True) -> np.dtype[Any]:
    if type(text) is not str or not re.fullmatch(r"[<>|=]?([biufcmMSUVO]\d{0,9}|[?efdgFDGbBhHiIlLqQ])", text):
        raise Malformed("holds a numpy array of an unknown type")
    # A fresh one: its byte order comes later and must not change numpy's own.
    return np.dtype(text, False, True)


def _finish_dtype(dtype: np.dtype[Any], state: Any) -> None:
    """Take byte order and time unit from a state and nothing else: sizes and flags are numpy's own."""
    order, unit = state[1], state[8] if len(state) > 8 else None
    if type(order) is not str or order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
        raise Malformed("holds a numpy array with a structured type")
    flexible = dtype.kind in "SUV"
    sizes = (dtype.itemsize, dtype.alignment, dtype.flags) if flexible else (-1, -1, dtype.flags)
    if dtype.kind not in "mM" or unit is None:
        dtype.__setstate__((3, order, None, None, None, *sizes))  # type: ignore[attr-defined]
        return
    name, *steps = unit[-1]
    if (
        len(steps) != 3
        or type(name) is not bytes
        or name not in UNITS
        or any(type(step) is not int or not 0 < step < 2**31 for step in steps)
    ):
        raise Malformed("holds a numpy array of an unknown unit of time")
    dtype.__setstate__((4, order, None, None, None, *sizes, (None, (name, *steps))))  # type: ignore[attr-defined]


def _check(shape: Any, dtype: Any, payload: Any) -> None:
    if not isinstance(dtype, np.dtype) or type(shape) is not tuple or len(shape) > 32:
        raise Malformed("holds a numpy array without a type or a shape")
    if any(type(size) is not int or not 0 <= size < 2**62 for size in shape):
        raise Malformed("holds a numpy array with sizes that are none")
    kind, size = ((list,), 1) if dtype.hasobject else ((bytes, bytearray), dtype.itemsize)
    if type(payload) not in kind or len(payload) != math.prod(shape) * size:
        raise Malformed(f"holds a numpy array whose data do not fill its shape {shape}")


def _finish_array(array: np.ndarray[Any, Any], state: Any) -> None:
    if type(state) is not tuple or len(state) not in (4, 5):
        raise Malformed("holds a numpy array without a state")
    shape, dtype, fortran, payload = state[-4:]
    if isinstance(payload, str):
        payload = payload.encode("latin-1")  # written by Python 2
    _check(shape, dtype, payload)
    array.__setstate__((1, shape, dtype, bool(fortran), payload))  # type: ignore[arg-type]


def _from_buffer(payload: Any, dtype: Any, shape: Any, order: Any, _axes: Any = None) -> Any:
    _check(shape, dtype, payload)
    if dtype.hasobject or order not in ("C", "F") or _axes is not None:
        raise Malformed("holds a numpy array in an unknown order")
    return np.ndarray(shape, dtype, bytearray(payload), order=order)


def _scalar(dtype: Any, payload: Any = b"") -> Any:
    raw = payload.encode("latin-1") if isinstance(payload, str) else payload
    _check((), dtype, raw)
    if dtype.hasobject:
        raise Malformed("holds a numpy scalar that is an object")
    return np.ndarray((), dtype, raw)[()]


# ---------------------------------------------------------------- what a name stands for


def _attribute(owner: Any, name: Any) -> Inert:
    """What `getattr` may do: HistoryBuffer, in every mmengine checkpoint, keeps its methods this way."""
    if not isinstance(owner, Inert) or not INERT.match(owner.dotted) or type(name) is not str:
        raise Malformed("calls builtins.getattr")
    return Inert(f"{owner.dotted}.{name}")


def _bare_object(owner: Any, *_: Any) -> Inert:
    if not isinstance(owner, Inert) or not INERT.match(owner.dotted):
        raise Malformed("calls copyreg._reconstructor")
    return Inert(owner.dotted)


def _types() -> dict[str, Any]:
    text = (str,)
    return {
        "builtins.list": (list, _scalars(list, list, tuple)),
        "builtins.dict": (dict, _scalars(dict, list, tuple, dict)),
        "builtins.set": (set, _scalars(set, list, tuple)),
        "builtins.frozenset": (frozenset, _scalars(frozenset, list, tuple)),
        "builtins.tuple": (tuple, _scalars(tuple, list, tuple)),
        "builtins.int": (int, _scalars(int, int, bool)),
        "builtins.float": (float, _scalars(float, float, int)),
        "builtins.str": (str, _scalars(str, str)),
        "builtins.bool": (bool, _scalars(bool, bool)),
        "builtins.bytes": (bytes, _scalars(bytes, bytes)),
        "builtins.complex": (complex, _scalars(complex, float, int)),
        "builtins.bytearray": (bytearray, _bytearray),
        "builtins.getattr": (None, _attribute),
        "copyreg._reconstructor": (None, _bare_object),
        "_codecs.encode": (None, _encode),
        "collections.OrderedDict": (OrderedDict, _table),
        "collections.Counter": (None, _counter),
        "collections.defaultdict": (None, _defaultdict),
        "datetime.datetime": (None, _scalars(dt.datetime, bytes, int, dt.timezone)),
        "datetime.date": (None, _scalars(dt.date, bytes, int)),
        "datetime.time": (None, _scalars(dt.time, bytes, int, dt.timezone)),
        "datetime.timedelta": (None, _scalars(dt.timedelta, int)),
        "datetime.timezone": (None, _scalars(dt.timezone, dt.timedelta, str)),
        **{f"pathlib.{name}": (None, _scalars(PurePosixPath, *text)) for name in ("PosixPath", "PurePosixPath")},
        **{f"pathlib.{name}": (None, _scalars(PureWindowsPath, *text)) for name in ("WindowsPath", "PureWindowsPath")},
    }


def _arrays() -> dict[str, Any]:
    made = {
        "multiarray._reconstruct": lambda *_: np.empty(0, "u1"),
        "multiarray.scalar": _scalar,
        "numeric._frombuffer": _from_buffer,
    }
    # numpy 2 renamed the package.
    moved = {f"numpy.{core}.{name}": make for core in ("core", "_core") for name, make in made.items()}
    return {"numpy.ndarray": lambda *_: _refuse_call("numpy.ndarray"), "numpy.dtype": _dtype} | moved


def _refuse_call(name: str) -> Any:
    raise Malformed(f"calls {name}")


def plain_names() -> dict[str, Named]:
    """Containers, numpy, datetime and pure paths, by dotted name."""
    plain = {name: Named(name, make, value) for name, (value, make) in _types().items()}
    return plain | {name: Named(name, make) for name, make in _arrays().items()}


@define
class Names:
    """Looks names up and remembers what was refused, so that one error can name them all."""

    known: Mapping[str, Any]
    refused: dict[str, None] = field(factory=dict)

    def find(self, module: str, name: str) -> Any:
        """What stands for that name; a refused one stands for nothing and is remembered."""
        dotted = f"{RENAMED.get(module, module)}.{name}"
        # Only the dots of the module may lead to a known name: `collections` + `OrderedDict.x` leads nowhere.
        if dotted in self.known and "." not in name:
            return self.known[dotted]
        if not INERT.match(dotted):
            self.refused[dotted] = None
        return Named(dotted, lambda *_: Inert(dotted))


def give_state(target: Any, state: Any) -> None:
    """What BUILD may do: finish an array or an array's type; an OrderedDict's attributes are dropped."""
    if isinstance(target, Table):
        return
    if type(target) is np.ndarray:
        _finish_array(target, state)
    elif isinstance(target, np.dtype) and type(state) is tuple and len(state) >= 8:
        _finish_dtype(target, state)
    else:
        raise Malformed(f"gives a state to a {type(target).__name__}")
