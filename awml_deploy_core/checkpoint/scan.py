"""Every name that a pickle mentions, found without running it: for the error that refuses them all at once."""

from __future__ import annotations

import io
import pickletools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from awml_deploy_core.checkpoint.machine import Source

__all__ = ["mentioned"]


def mentioned(data: Source, start: int) -> Iterator[tuple[str, str]]:
    """Module and name of each, to the end of the pickle or to where it stops making sense."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    stream.seek(start)
    memo: dict[Any, object] = {}
    pushed: deque[object] = deque([None, None], maxlen=2)
    try:
        for op, arg, _ in pickletools.genops(stream):  # type: ignore[arg-type]  # a mapping reads as a file does
            if op.name in ("GLOBAL", "INST") and isinstance(arg, str):
                module, _, name = arg.partition(" ")
                yield module, name
            if op.name == "STACK_GLOBAL" and isinstance(pushed[0], str) and isinstance(pushed[1], str):
                yield pushed[0], pushed[1]
            if op.name == "MEMOIZE" or "PUT" in op.name:
                memo[len(memo) if arg is None else arg] = pushed[1]
            else:
                pushed.append(memo.get(arg) if "GET" in op.name else arg)
    except (ValueError, OverflowError, MemoryError):
        # What comes behind the damage is anybody's guess.
        return
