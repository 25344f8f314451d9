"""Opcodes that push one value: numbers, text, bytes, empty containers."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from awml_deploy_core.checkpoint.machine import Machine, Malformed

__all__ = ["LITERALS", "Op", "decimal", "utf8"]

Op = Callable[[Machine], None]
LITERALS: dict[int, Op] = {}


def _constant(code: bytes, value: Any) -> None:
    LITERALS[code[0]] = lambda m: m.stack.append(value)


def _container(code: bytes, kind: Callable[[], Any]) -> None:
    LITERALS[code[0]] = lambda m: m.push(kind(), ())


def _number(code: bytes, layout: str) -> None:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def op(m: Machine) -> None:
        start, m.at = m.at, m.at + size
        m.stack.append(unpack(m.data, start)[0])

    LITERALS[code[0]] = op


def _counted(code: bytes, width: int, convert: Callable[[bytes], Any]) -> None:
    LITERALS[code[0]] = lambda m: m.stack.append(convert(m.take(int.from_bytes(m.take(width), "little"))))


def _text(code: bytes, convert: Callable[[bytes], Any]) -> None:
    LITERALS[code[0]] = lambda m: m.stack.append(convert(m.line()))


def utf8(raw: bytes) -> str:
    """Text as pickle writes it: halves of surrogate pairs are allowed."""
    return raw.decode("utf-8", "surrogatepass")


def _latin1(raw: bytes) -> str:
    return raw.decode("latin-1")


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def decimal(line: bytes) -> int:
    """An integer of the text protocol."""
    if len(line) > 4000:  # longer ones take quadratic time
        raise Malformed("holds an integer of more than 4000 digits")
    return int(line.rstrip(b"L"))


def _quoted(line: bytes) -> str:
    if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
        raise Malformed("holds a string without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


for _code, _value in (b"N", None), (b"\x88", True), (b"\x89", False):
    _constant(_code, _value)
for _code, _kind in (b"]", list), (b"}", dict), (b"\x8f", set):
    _container(_code, _kind)
_constant(b")", ())
for _code, _layout in (b"J", "<i"), (b"K", "<B"), (b"M", "<H"), (b"G", ">d"):
    _number(_code, _layout)
for _code, _width, _convert in (
    (b"\x8c", 1, utf8), (b"X", 4, utf8), (b"\x8d", 8, utf8),
    (b"C", 1, bytes), (b"B", 4, bytes), (b"\x8e", 8, bytes), (b"\x96", 8, bytearray),
    (b"U", 1, _latin1), (b"T", 4, _latin1), (b"\x8a", 1, _integer), (b"\x8b", 4, _integer),
):  # fmt: skip
    _counted(_code, _width, _convert)
_text(b"I", lambda line: line == b"01" if line in (b"00", b"01") else decimal(line))
_text(b"L", decimal)
_text(b"F", float)
_text(b"S", _quoted)
_text(b"V", lambda line: line.decode("raw-unicode-escape"))
