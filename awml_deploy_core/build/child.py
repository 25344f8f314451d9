"""The process that imports TensorRT: `python -m awml_deploy_core.build.child DESCRIPTOR`, given a request on its input.

What it has to say to the run goes down the descriptor, a line of JSON each; its output is TensorRT's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from typing import Any

from awml_deploy_core.errors import DeployError

__all__ = ["main"]

_DIE_WITH_PARENT = 1
"""Number of the wish in Linux's prctl."""


def main(descriptor: int) -> int:
    """Carry out the request on standard input."""
    from awml_deploy_core.build import polygraph

    _end_with_parent()
    tasks = {"probe": polygraph.probe, "build": polygraph.build}
    with os.fdopen(descriptor, "wb", buffering=0) as words:

        def say(event: str, **more: Any) -> None:
            try:
                words.write(json.dumps({"event": event, **more}, default=str).encode() + b"\n")
            except BrokenPipeError:
                os._exit(1)  # nobody listens any more, and TensorRT's callbacks must not raise

        request = json.load(sys.stdin)
        try:
            say("done", answer=tasks[request["task"]](request, say))
        except DeployError as error:
            say("failed", kind=type(error).__name__, message=error.message, hint=error.hint)
    return 0


def _end_with_parent() -> None:
    """A run that is killed outright cannot end its child, so the child asks the system to."""
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.path.pop(0)  # the present folder: a file tensorrt.py in it is not TensorRT
    sys.exit(main(int(sys.argv[1])))
