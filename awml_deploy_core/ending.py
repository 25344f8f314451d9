"""How the process ends: a sentence and an exit code for whatever happened, and no traceback for a user's mistake."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

import click

from awml_deploy_core.errors import DeployError, ExitCode

log = logging.getLogger(__name__)


_KEPT = "what was finished is kept, nothing half-written has its final name"


class Terminated(BaseException):
    """The process was asked to end by SIGTERM; unwinds like Ctrl-C so that nothing is left half done."""


class Unread(BaseException):
    """Whoever read our output has gone; no `OSError`, which click would answer with code 1.

    Args:
        code: What there was to say.
    """

    def __init__(self, code: int = ExitCode.OK) -> None:
        super().__init__()
        self.code = code


def end(command: Callable[[], Any], *, as_json: bool = False) -> int:
    """Run the command and return the exit code of what happened.

    Args:
        command: Returns an exit code, or None for success.
        as_json: Print the failure as JSON on stdout too, so that a script finds one document in every case.
    """
    signal.signal(signal.SIGTERM, _terminate)
    cause: Exception | None = None
    hint: str | None
    try:
        return int(command() or 0)
    except DeployError as error:
        code, cause = error.exit_code, error
        message, hint = error.message, error.hint
        _say(f"error: {message}", hint)
    except click.ClickException as error:
        error.show()
        code, cause = ExitCode(error.exit_code), error
        message, hint = error.format_message(), None
    except (KeyboardInterrupt, click.Abort, Terminated) as error:
        code = ExitCode.TERMINATED if isinstance(error, Terminated) else ExitCode.INTERRUPTED
        message, hint = f"{code.name.lower()}: {_KEPT}", None
        _say(message, hint)
    except Unread as unread:
        return unread.code
    except Exception as error:  # noqa: BLE001  the last place where a bug can be told apart from a mistake
        code, cause = ExitCode.BUG, error
        message, hint = f"{type(error).__name__}: {error}", "Please report this; -v shows the traceback."
        _say(f"bug: {message}", hint)
    if cause is not None:
        log.debug("the full cause:", exc_info=cause)  # shown with -v
    if as_json:
        with contextlib.suppress(OSError):  # the reader has gone, and the code says enough
            click.echo(_document(message, hint, code))
    return code


def leave(code: int) -> NoReturn:
    """End the process; after an interruption at once, without waiting for threads that still load a sample."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, AttributeError):  # closed, or not there at all
            _flush(stream)
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        os._exit(code)
    sys.exit(code)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        # The reader, `head` say, has what it wanted; Python would complain when it flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(text: str, hint: str | None) -> None:
    click.echo(text, err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def _document(message: str, hint: str | None, code: int) -> str:
    error = {"message": message, "hint": hint, "exit_code": int(code)}
    return json.dumps({"schema": "awml-deploy/error", "schema_version": 1, "error": error}, indent=2)


def _terminate(_signal: int, _frame: object) -> None:
    raise Terminated
