"""What can go wrong, said so that a reader can act on it.

A message names the culprit, then the fact; the hint is the remedy. Each class carries the exit code of its class of
failure, so that a script can tell a typo in a config from a model that lost its accuracy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar

__all__ = [
    "ArtifactError",
    "BuildError",
    "ConfigError",
    "DeployError",
    "ExitCode",
    "LoadError",
    "PluginError",
    "RequirementError",
    "nearest",
]


class ExitCode(IntEnum):
    """What the process says when it ends."""

    OK = 0
    BUG = 1
    CONFIG = 2
    ENVIRONMENT = 3
    EXPORT = 4
    BUILD = 5
    VERIFICATION = 6
    EVALUATION = 7
    ARTIFACT = 8
    INTERRUPTED = 130
    TERMINATED = 143


class DeployError(Exception):
    """A failure with a sentence for the user and, where there is one, a remedy.

    Args:
        message: Culprit and fact, one sentence, no trailing full stop needed.
        hint: What to do about it.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint, as a log shows them."""
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


class ConfigError(DeployError):
    """The command line or the config asks for something that cannot be meant."""

    exit_code = ExitCode.CONFIG


class RequirementError(DeployError):
    """The environment lacks a package, a device or a capability."""

    exit_code = ExitCode.ENVIRONMENT


class ForeignError(RequirementError):
    """A graph needs operators that this runtime lacks, and another one has."""


class PluginError(RequirementError):
    """A plugin is missing, broken, clashing, outdated, or answers what it must not."""


class LoadError(DeployError):
    """A checkpoint, a data file or a network could not be read or exported."""

    exit_code = ExitCode.EXPORT


class BuildError(DeployError):
    """An engine could not be built, or is not what was asked for."""

    exit_code = ExitCode.BUILD


class ArtifactError(DeployError):
    """An artifact or a bundle is missing, was changed, or is not for this machine."""

    exit_code = ExitCode.ARTIFACT


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None if none is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
