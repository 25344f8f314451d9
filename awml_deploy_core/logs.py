"""Logging, set up once: words for people on stderr, everything in the file of the run."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from awml_deploy_core.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import Iterator

    _Handler = logging.StreamHandler[TextIO]
else:
    _Handler = logging.StreamHandler  # generic for type checkers only before Python 3.11

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
ROOT = logging.getLogger("awml_deploy_core")


class _Stderr(_Handler):
    """Writes to what `sys.stderr` is at that moment, so that a progress bar can keep lines out of itself."""

    @property
    def stream(self) -> TextIO:
        """The stream to write to now."""
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Nothing to remember."""


class _Onward(logging.Handler):
    """Hands messages on to the root of all loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one message."""
        logging.getLogger().handle(record)


def set_up(level: str = "INFO", *, verbose: bool = False) -> None:
    """Send our messages to stderr; called once by the command line, never by the library."""
    handler = _Stderr()
    handler.setLevel("DEBUG" if verbose else level)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for old in ROOT.handlers[:]:
        ROOT.removeHandler(old)
    ROOT.addHandler(handler)
    ROOT.setLevel("DEBUG")
    ROOT.propagate = False


@contextmanager
def to_file(path: Path | None) -> Iterator[None]:
    """Also write every message, with time and level, to the file; a run appends to what earlier runs said."""
    if path is None:
        yield
        return
    from awml_deploy_core.files import ensure_directory  # costs milliseconds that `plugins` does not have

    ensure_directory(path.parent)
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise RequirementError(
            f"{path}: cannot write the log ({error.strerror})", hint="Set `deploy_log_path`."
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(name)s: %(message)s"))
    ROOT.addHandler(handler)
    before, onward = ROOT.level, ROOT.propagate
    # A program around us hears what it would hear without the file.
    through = _Onward(ROOT.getEffectiveLevel())
    if onward:
        ROOT.addHandler(through)
        ROOT.propagate = False
    ROOT.setLevel("DEBUG")
    try:
        yield
    except BaseException as error:
        # To the file alone: what the terminal shows is decided where the process ends.
        cause = (type(error), error, error.__traceback__)
        handler.handle(ROOT.makeRecord(ROOT.name, logging.ERROR, "", 0, "ended by %s", (type(error).__name__,), cause))
        raise
    finally:
        ROOT.setLevel(before)
        ROOT.propagate = onward
        ROOT.removeHandler(through)
        ROOT.removeHandler(handler)
        handler.close()
