"""The core's own answers to hooks, asked where the plugin has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from awml_deploy_core.config import Config
    from awml_deploy_core.records import Agreement, Metrics, Record
    from awml_deploy_core.tasks import Task


@hookimpl(trylast=True)
def compute_metrics(records: Sequence[Record], config: Config) -> Metrics:
    """The figures of the config's task."""
    return _task(config, "compute_metrics").metrics(records, config.class_names)


@hookimpl(trylast=True)
def compare_predictions(reference: Any, candidate: Any, config: Config) -> Agreement | None:
    """The agreement by the config's task; nothing is said of predictions of an unknown kind."""
    return _task(config, "compare_predictions").agree(reference, candidate) if config.task_type else None


def _task(config: Config, hook: str) -> Task:
    from awml_deploy_core.tasks import task

    if config.task_type is None:
        raise ConfigError(f"task_type is not set, and the plugin has no {hook}", hint="Set task_type in the config.")
    return task(config.task_type)
