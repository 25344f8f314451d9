"""The process that imports TensorRT: `python -m awml_deploy_core.build.child DESCRIPTOR`, given a request on its input.

What it has to say to the run goes down the descriptor, a line of JSON each; its output is TensorRT's own.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from awml_deploy_core.build import polygraph
from awml_deploy_core.errors import DeployError

__all__ = ["main"]

TASKS = {"probe": polygraph.probe, "build": polygraph.build}


def main(descriptor: int) -> int:
    """Carry out the request on standard input."""
    with os.fdopen(descriptor, "wb", buffering=0) as words:

        def say(event: str, **more: Any) -> None:
            words.write(json.dumps({"event": event, **more}, default=str).encode() + b"\n")

        request = json.load(sys.stdin)
        try:
            say("done", answer=TASKS[request["task"]](request, say))
        except DeployError as error:
            say("failed", kind=type(error).__name__, message=error.message, hint=error.hint)
        except BrokenPipeError:
            return 1  # nobody listens any more
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
