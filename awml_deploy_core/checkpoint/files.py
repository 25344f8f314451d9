"""Files before anybody reads them: what they are, or one sentence why they are of no use."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from awml_deploy_core.checkpoint.machine import Malformed
from awml_deploy_core.errors import LoadError

__all__ = ["mapped", "opened", "refuse_other", "stamped"]

WHOLE = "If it should be a sound file, compare its size and hash with the original's: copies and downloads break off."


def stamped(file: Any) -> tuple[int, int]:
    """Size and time of change, which tell a file that was replaced."""
    stat = os.fstat(file.fileno())
    return stat.st_size, stat.st_mtime_ns


def _refuse_device(path: Path) -> None:
    # Opening a pipe would wait for a writer.
    if path.exists() and not path.is_file() and not path.is_dir():
        raise Malformed("is a device or a pipe, not a file")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open file; whatever goes wrong with it is said with its name."""
    try:
        _refuse_device(path)
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise LoadError(
            f"{path}: there is no such file", hint="Relative paths start at the working directory."
        ) from error
    except IsADirectoryError as error:
        raise LoadError(f"{path}: is a directory, not a file") from error
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Malformed as fault:
        raise LoadError(f"{path}: {fault}", hint=WHOLE) from fault


def mapped(file: Any) -> mmap.mmap:
    """The file's bytes, private and writable: torch wants writable memory, and the file must not change."""
    if not os.fstat(file.fileno()).st_size:
        raise Malformed("is empty")
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def refuse_other(head: bytes, size: int) -> None:
    """Say what a file is that is no checkpoint and no pickle."""
    start = head.lstrip()[:64].lower()
    if head.startswith(b"version https://git-lfs"):
        raise Malformed("is a git-lfs pointer, not the file itself; run `git lfs pull`")
    if start.startswith((b"{", b"[")):
        raise Malformed("is JSON, not a pickle")  # none begins so
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise Malformed("is a web page, as from a download that asked for a login")
    if head[257:262] == b"ustar":
        raise Malformed("is a tar archive; torch 0.1 wrote such checkpoints, load and re-save it with torch <= 2.6")
    if not any(head):
        raise Malformed(f"begins with zeros ({size} bytes), as after an interrupted copy")
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head[:64]) and b" " in head[:64]:
        raise Malformed("is a text file")
