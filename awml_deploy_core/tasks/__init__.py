"""What a kind of task means: its figures, when two predictions agree, how a sample is drawn.

The evaluation loop knows none of this; a task is looked up by the config's `task_type` and imported only then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from awml_deploy_core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from awml_deploy_core.records import Agreement, Array, Metrics, Picture, Record

__all__ = ["AVAILABLE", "PLANNED", "Task", "task"]

AVAILABLE = ("classification", "detection2d", "detection3d")
PLANNED = ("segmentation",)


class Task(Protocol):
    """What every task module offers."""

    def metrics(self, records: Sequence[Record], class_names: Sequence[str]) -> Metrics:
        """The figures over all records."""

    def agree(self, reference: Any, candidate: Any) -> Agreement:
        """How well two predictions for one sample agree."""

    def picture(self, scene: Array, truth: Any, predictions: Mapping[str, Any], class_names: Sequence[str]) -> Picture:
        """One sample, an image or points, with its truth and the predictions by variant."""


def task(name: str) -> Task:
    """The module of a task, by the name that configs use for it."""
    if name in AVAILABLE:
        return cast("Task", import_module(f"{__name__}.{name}"))
    there = f"Available: {', '.join(AVAILABLE)}; a plugin may also implement compute_metrics itself."
    if name in PLANNED:
        raise ConfigError(f"task_type {name!r} is not available yet in this version", hint=there)
    meant = nearest(name, AVAILABLE + PLANNED)
    raise ConfigError(f"task_type {name!r} is unknown", hint=f"Did you mean {meant!r}? {there}" if meant else there)
