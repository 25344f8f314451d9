"""How the process ends: a sentence and an exit code for whatever happened, and no traceback for a user's mistake."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from awml_deploy_core.errors import DeployError, ExitCode

log = logging.getLogger(__name__)


class Terminated(BaseException):
    """The process was asked to end by SIGTERM; unwinds like Ctrl-C so that nothing is left half done."""


def end(command: Callable[[], Any], *, as_json: bool = False) -> int:
    """Run the command and return the exit code of what happened.

    Args:
        command: Returns an exit code, or None for success.
        as_json: Print the failure as JSON on stdout too, so that a script finds one document in every case.
    """
    signal.signal(signal.SIGTERM, _terminate)
    cause: Exception
    try:
        return int(command() or 0)
    except DeployError as error:
        code, cause = error.exit_code, error
        message, hint = error.message, error.hint
        _say(f"error: {message}", hint)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted: what was finished is kept, nothing half-written has its final name", None)
        return ExitCode.INTERRUPTED
    except Terminated:
        _say("terminated: what was finished is kept, nothing half-written has its final name", None)
        return ExitCode.TERMINATED
    except BrokenPipeError:
        # The reader, `head` say, has what it wanted; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001  the last place where a bug can be told apart from a mistake
        code, cause = ExitCode.BUG, error
        message, hint = f"{type(error).__name__}: {error}", "Please report this; -v shows the traceback."
        _say(f"bug: {message}", hint)
    log.debug("the full cause:", exc_info=cause)  # shown with -v
    if as_json:
        print(_document(message, hint, code))  # noqa: T201  the one document on stdout
    return code


def leave(code: int) -> NoReturn:
    """End the process; after an interruption at once, without waiting for threads that still load a sample."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        os._exit(code)
    sys.exit(code)


def _say(text: str, hint: str | None) -> None:
    click.echo(text, err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def _document(message: str, hint: str | None, code: int) -> str:
    error = {"message": message, "hint": hint, "exit_code": int(code)}
    return json.dumps({"schema": "awml-deploy/error", "schema_version": 1, "error": error}, indent=2)


def _terminate(_signal: int, _frame: object) -> None:
    raise Terminated
