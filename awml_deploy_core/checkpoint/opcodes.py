"""What the machine does for each of pickle's opcodes, and the loop that runs them.

Left out are the extension registry, whose cache answers without asking anybody, and buffers from outside of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from awml_deploy_core.checkpoint.literals import LITERALS, Op, decimal, utf8
from awml_deploy_core.checkpoint.machine import Inert, Machine, Malformed
from awml_deploy_core.checkpoint.scan import mentioned

__all__ = ["unpickle"]

STOP = 0x2E


def _unknown(m: Machine) -> None:
    raise Malformed(f"uses the opcode 0x{m.data[m.at - 1]:02x}, which is unknown or not allowed")


OPS: list[Op] = [LITERALS.get(code, _unknown) for code in range(256)]


def _op(code: bytes) -> Callable[[Op], Op]:
    def enter(op: Op) -> Op:
        OPS[code[0]] = op
        return op

    return enter


# ---------------------------------------------------------------- containers


@_op(b"(")
def _mark(m: Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


@_op(b"t")
def _tuple(m: Machine) -> None:
    items = m.since_mark()
    m.push(tuple(items), items)


def _tuple_of(count: int) -> Op:
    def op(m: Machine) -> None:
        items = tuple(m.stack[-count:])
        if len(items) < count:
            raise Malformed("takes more values than there are")
        del m.stack[-count:]
        m.push(items, items)

    return op


OPS[0x85], OPS[0x86], OPS[0x87] = _tuple_of(1), _tuple_of(2), _tuple_of(3)


@_op(b"l")
def _list(m: Machine) -> None:
    items = m.since_mark()
    m.push(items, items)


@_op(b"d")
def _dict(m: Machine) -> None:
    items = m.since_mark()
    m.push({}, ())
    _update(m, items)


@_op(b"\x91")
def _frozenset(m: Machine) -> None:
    items = m.since_mark()
    m.push(frozenset(_keys(items)), items)


def _keys(items: list[Any]) -> list[Any]:
    """The same, if hashing them is cheap: a tuple of tuples that share can take longer than anyone lives."""
    for item in items:
        if isinstance(item, tuple):
            left = [item]
            for count, part in enumerate(left):
                if count > 1000:
                    raise Malformed("uses a huge tuple as a key")
                left.extend(inner for inner in part[:1001] if isinstance(inner, tuple))
    return items


def _extend(m: Machine, items: list[Any]) -> None:
    target = m.stack[-1]
    if isinstance(target, Inert):
        return
    if type(target) is not list:
        raise Malformed(f"appends to a {type(target).__name__}")
    m.change(target, items)
    target.extend(items)


def _update(m: Machine, items: list[Any]) -> None:
    target = m.stack[-1]
    if isinstance(target, Inert):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise Malformed(f"sets items of a {type(target).__name__}")
    m.change(target, items)
    target.update(zip(_keys(items[::2]), items[1::2], strict=True))


@_op(b"a")
def _append(m: Machine) -> None:
    _extend(m, [m.stack.pop()])


@_op(b"e")
def _appends(m: Machine) -> None:
    _extend(m, m.since_mark())


@_op(b"s")
def _set_item(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    _update(m, [key, value])


@_op(b"u")
def _set_items(m: Machine) -> None:
    _update(m, m.since_mark())


@_op(b"\x90")
def _add_items(m: Machine) -> None:
    items, target = m.since_mark(), m.stack[-1]
    if isinstance(target, Inert):
        return
    if type(target) is not set:
        raise Malformed(f"adds items to a {type(target).__name__}")
    m.change(target, items)
    target.update(_keys(items))


# ---------------------------------------------------------------- stack and memo


@_op(b"0")
def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


@_op(b"1")
def _pop_mark(m: Machine) -> None:
    m.since_mark()


@_op(b"2")
def _duplicate(m: Machine) -> None:
    m.stack.append(m.stack[-1])


def _get(code: bytes, layout: str) -> None:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def op(m: Machine) -> None:
        start, m.at = m.at, m.at + size
        m.stack.append(m.memo[unpack(m.data, start)[0]])

    OPS[code[0]] = op


def _put(code: bytes, layout: str) -> None:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def op(m: Machine) -> None:
        start, m.at = m.at, m.at + size
        m.memo[unpack(m.data, start)[0]] = m.stack[-1]

    OPS[code[0]] = op


_get(b"h", "B")
_get(b"j", "<I")
_put(b"q", "B")
_put(b"r", "<I")


@_op(b"g")
def _get_text(m: Machine) -> None:
    m.stack.append(m.memo[decimal(m.line())])


@_op(b"p")
def _put_text(m: Machine) -> None:
    m.memo[decimal(m.line())] = m.stack[-1]


@_op(b"\x94")
def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


@_op(b"\x80")
def _protocol(m: Machine) -> None:
    if m.take(1)[0] > 5:
        raise Malformed("is a pickle of a protocol newer than 5")


@_op(b"\x95")
def _frame(m: Machine) -> None:
    m.take(8)


# ---------------------------------------------------------------- names and calls


@_op(b"c")
def _global(m: Machine) -> None:
    module, name = utf8(m.line()), utf8(m.line())
    m.stack.append(m.find(module, name))


@_op(b"\x93")
def _stack_global(m: Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise Malformed("names a class by something that is no string")
    m.stack.append(m.find(module, name))


@_op(b"R")
def _reduce(m: Machine) -> None:
    args, target = m.stack.pop(), m.stack.pop()
    m.call(target, args)


OPS[0x81] = _reduce  # NEWOBJ differs in what it does to classes, and there are none here


@_op(b"\x92")
def _new_with_keywords(m: Machine) -> None:
    keywords, args, target = m.stack.pop(), m.stack.pop(), m.stack.pop()
    m.call(target, args)
    if keywords and not isinstance(m.stack[-1], Inert):
        raise Malformed("calls something with keywords")


@_op(b"i")
def _instance(m: Machine) -> None:
    target = m.find(utf8(m.line()), utf8(m.line()))
    m.call(target, tuple(m.since_mark()))


@_op(b"o")
def _object(m: Machine) -> None:
    target, *args = m.since_mark()
    m.call(target, tuple(args))


@_op(b"b")
def _build(m: Machine) -> None:
    state = m.stack.pop()
    if not isinstance(m.stack[-1], Inert):
        m.change(m.stack[-1], (state,))
        m.build(m.stack[-1], state)


@_op(b"Q")
def _persistent(m: Machine) -> None:
    m.stack.append(m.persistent(m.stack.pop()))


def unpickle(machine: Machine) -> Any:
    """Run to the end of one pickle; `machine.at` is then behind it.

    Raises:
        Malformed: The bytes are no pickle, or one that asks for what this machine does not do.
    """
    data, start = machine.data, machine.at
    try:
        while (code := data[machine.at]) != STOP:
            machine.at += 1
            OPS[code](machine)
        machine.at += 1
        return machine.stack.pop()
    except (Malformed, IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        # Unhashable keys, numbers that are none, bytes that are no text: whatever a damaged pickle can say.
        for module, name in mentioned(data, start):
            machine.find(module, name)
        if isinstance(error, Malformed):
            raise
        if isinstance(error, (IndexError, struct.error)):
            raise Malformed("ends too early or takes more values than there are") from error
        raise Malformed(f"is not a sound pickle ({type(error).__name__}: {str(error)[:200]})") from error
