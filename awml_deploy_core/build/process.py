"""The process that TensorRT lives in, seen from outside: it is given a request and says what happens, line by line.

Polygraphy decides at its import which TensorRT it serves, a builder can be killed for want of memory, and a parser can
crash: none of it happens in the process of the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from awml_deploy_core.errors import ArtifactError, BuildError, ConfigError, DeployError, LoadError, RequirementError

__all__ = ["HEARTBEAT", "Told", "ask", "died", "open_log"]

Told = Callable[[Mapping[str, Any]], None]

HEARTBEAT = 10.0
"""Seconds after which the process is said to be alive, if it says nothing itself."""

_KINDS: dict[str, type[DeployError]] = {
    kind.__name__: kind for kind in (ArtifactError, BuildError, ConfigError, LoadError, RequirementError)
}
_LAST = 2000


def ask(request: Mapping[str, Any], *, told: Told | None = None, log: Path | None = None) -> dict[str, Any]:
    """Have the process carry out a request.

    Args:
        request: Plain values; `task` is `probe` or `build`, `flavor` the module.
        told: Is given everything that the process says on the way, and a heartbeat while it says nothing.
        log: Where the process's own words go; nowhere if it is not said.

    Returns:
        Its answer.

    Raises:
        DeployError: What it gave as the reason of a failure, or how it died.
    """
    what = request.get("component", request["flavor"])
    with open_log(log) as out, _spawned(request, out) as (process, words):
        answer: dict[str, Any] | None = None
        for said in _heard(process, words):
            if said["event"] == "done":
                answer = said["answer"]
            elif said["event"] == "failed":
                kind = _KINDS.get(said["kind"], BuildError)
                raise kind(said["message"], hint=said["hint"])
            elif told is not None:
                told(said)
        code = process.wait()
        if answer is None or code:
            raise died(what, code, out)
        return answer


@contextmanager
def open_log(path: Path | None) -> Iterator[IO[bytes]]:
    """The file for a process's own words, which can be read while it works.

    Raises:
        RequirementError: It cannot be made.
    """
    try:
        file = tempfile.TemporaryFile() if path is None else path.open("w+b")  # noqa: SIM115  closed below
    except OSError as error:
        raise RequirementError(
            f"cannot write {path or 'a temporary file'}: {error.strerror}",
            hint="Free space, or choose another work_dir.",
        ) from error
    with file:
        yield file


@contextmanager
def _spawned(request: Mapping[str, Any], out: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as words:
        try:
            process = subprocess.Popen(  # noqa: S603  this very Python and a module of ours
                [sys.executable, "-m", "awml_deploy_core.build.child", str(write)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                # A file tensorrt.py in the user's folder is not TensorRT.
                env={
                    **os.environ,
                    "POLYGRAPHY_USE_TENSORRT_RTX": str(int(request["flavor"] == "tensorrt_rtx")),
                    "PYTHONSAFEPATH": "1",
                },
            )
        finally:
            os.close(write)
        try:
            assert process.stdin is not None
            # One that died before it read is found out by what it does not answer.
            with contextlib.suppress(BrokenPipeError), process.stdin as given:
                given.write(json.dumps(request, default=str).encode())
            yield process, words
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _heard(process: subprocess.Popen[bytes], words: IO[bytes]) -> Iterator[dict[str, Any]]:
    """What the process says, and a heartbeat where it is silent, until it closes its end."""
    started, rest = time.monotonic(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(words, selectors.EVENT_READ)
        while True:
            if not selector.select(HEARTBEAT):
                yield {"event": "alive", "seconds": time.monotonic() - started}
                continue
            more = words.read(1 << 16)
            if not more:
                return
            *lines, rest = (rest + more).split(b"\n")
            yield from (_word(line, process) for line in lines)


def _word(line: bytes, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    try:
        said = json.loads(line)
        said["event"]
    except (ValueError, TypeError, KeyError) as error:
        process.kill()
        raise BuildError(
            f"the process of TensorRT answered with what is no answer: {line[:80]!r}",
            hint="A library that it loads writes where it must not; leave out plugin_libraries to find which.",
        ) from error
    return dict(said)


def died(what: str, code: int, out: IO[bytes]) -> DeployError:
    """The error for a process that ended without an answer."""
    last = " ".join(_end_of(out).split())[-300:]
    said = f"; its last words: {last}" if last else ""
    if code >= 0:
        return BuildError(
            f"{what}: the process of TensorRT ended with exit code {code} before it had answered{said}",
            hint="The log of the build beside the engine has all that it said.",
        )
    hint = (
        "SIGKILL mostly means that memory ran out: lower max_workspace_size or optimization_level, or free memory."
        if -code == signal.SIGKILL
        else "A crash of TensorRT itself: try another optimization_level or opset_version, or another TensorRT."
    )
    return BuildError(f"{what}: the process of TensorRT was ended by {signal.Signals(-code).name}{said}", hint=hint)


def _end_of(out: IO[bytes]) -> str:
    out.seek(max(0, out.seek(0, os.SEEK_END) - _LAST))
    return out.read().decode("utf-8", "replace")
