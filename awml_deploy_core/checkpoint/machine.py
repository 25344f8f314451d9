"""Pickle's stack machine, without the power to call anything that we did not write.

The standard unpickler can be told which names it may look up, but it still hashes endless tuples until the C stack is
gone, allocates a memo of any size that a file asks for, takes classes out of the extension registry's cache unasked
and hands any state to any object. This machine does none of it, and promises that what it answers is free of cycles
and at most `DEEPEST` levels deep, so that whoever walks the answer may recurse.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen

__all__ = ["DEEPEST", "Inert", "Machine", "Malformed", "Named", "Source"]

Source = bytes | mmap.mmap
DEEPEST = 100


class Malformed(Exception):  # noqa: N818  the word says what the file is; it never leaves this package
    """A file that does not say what it should; the reader puts the path in front."""


@frozen
class Inert:
    """Stands for an object that a trainer put into the file; its arguments and its state were dropped."""

    dotted: str


@frozen
class Named(Inert):
    """A class or function that the file mentions; `make` is what we do in its place."""

    make: Callable[..., Any] = field(eq=False, repr=False)
    value: Any = field(default=None, eq=False, repr=False)


def _no_persistent(_: Any) -> Any:
    raise Malformed("refers to data outside of itself")


@define
class Machine:
    """Where one run stands.

    Args:
        data: The bytes.
        at: Where the next opcode is.
        find: From module and name to what may stand in its place.
        build: Gives a state to an object that `find`'s functions made.
        persistent: From a persistent id to the object.
    """

    data: Source
    at: int
    find: Callable[[str, str], Any]
    build: Callable[[Any, Any], None]
    persistent: Callable[[Any], Any] = _no_persistent
    stack: list[Any] = field(factory=list)
    marks: list[list[Any]] = field(factory=list)
    memo: dict[int, Any] = field(factory=dict)
    kept: list[Any] = field(factory=list)
    depths: dict[int, int] = field(factory=dict)
    used: set[int] = field(factory=set)
    copied: int = 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start, self.at = self.at, self.at + count
        if count < 0 or self.at > len(self.data):
            raise Malformed("ends in the middle of a value")
        return self.data[start : self.at]

    def line(self) -> bytes:
        """The next line of the text protocol."""
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise Malformed("ends in the middle of a line")
        return self.take(end + 1 - self.at)[:-1]

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def hold(self, parent: Any, children: Sequence[Any]) -> None:
        """Note that a container got children, and refuse bottomless nesting."""
        inner = self.depths.keys() & map(id, children)
        depth = 1 + max(self.depths[number] for number in inner) if inner else 1
        known = self.depths.get(id(parent))
        if known is None:
            # An id is only a name while the object lives.
            self.kept.append(parent)
        self.depths[id(parent)] = max(depth, known or 0)
        if depth > DEEPEST:
            raise Malformed(f"is nested more than {DEEPEST} levels deep")
        self.used |= inner

    def change(self, target: Any, children: Sequence[Any]) -> None:
        """Note that a container gets more children, which no sound pickle does once it is inside another one."""
        self.hold(target, children)
        if id(target) in self.used:
            raise Malformed("changes a container that is already inside another one, as only a cycle would")

    def push(self, container: Any, children: Sequence[Any]) -> None:
        """Push a container that was made of these."""
        self.hold(container, children)
        self.stack.append(container)

    def call(self, target: Any, args: Any) -> None:
        """Do what stands for a call; only what `find` answered can be called."""
        if type(args) is not tuple:
            raise Malformed("calls something with arguments that are no tuple")
        if not isinstance(target, Named):
            raise Malformed(f"calls a {type(target).__name__}")
        self.copied += sum(len(arg) for arg in args if isinstance(arg, (str, bytes, bytearray, list, tuple, dict)))
        if self.copied > 16 * len(self.data) + 2**20:
            raise Malformed("copies the same data over and over")
        made = target.make(*args)
        if isinstance(made, Inert) or made is None:
            self.stack.append(made)
        else:
            self.push(made, args)
