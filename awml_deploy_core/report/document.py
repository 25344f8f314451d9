"""A report as JSON's own words, for programs.

JSON has no word for NaN and infinity. Such a figure is written as null, and its place stands under `not_finite` with
what it was, so that a number is always a number or null, and nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from awml_deploy_core.files import step
from awml_deploy_core.judge import Check, Status, Verification
from awml_deploy_core.report import SCHEMA_VERSION, Report

__all__ = ["DERIVED", "Checked", "Verified", "document", "report"]


@frozen(kw_only=True)
class Checked:
    """What a check comes to.

    Args:
        status: How it ended.
        unproved: Outputs that were compared only while they were empty, which proves nothing.
    """

    status: Status
    unproved: tuple[str, ...]


@frozen(kw_only=True)
class Verified:
    """What the verification comes to.

    Args:
        status: How it ended.
        counts: How many checks ended how.
    """

    status: Status
    counts: Mapping[str, int]


DERIVED: dict[type, type] = {Check: Checked, Verification: Verified}
"""What is written besides an instance's own fields: properties of the same names."""


def report(done: Report) -> dict[str, Any]:
    """The document that `report.json` holds and `--json` prints."""
    return document("report", SCHEMA_VERSION, done)


def document(name: str, version: int, value: Any) -> dict[str, Any]:
    """A value under its schema's name and version."""
    odd: dict[str, str] = {}
    content = _plain(value, "$", odd)
    return {"schema": f"awml-deploy/{name}", "schema_version": version, **content, "not_finite": odd}


def _plain(value: Any, path: str, odd: dict[str, str]) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, path, odd)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        odd[path] = str(value)
        return None
    if attrs.has(type(value)):
        return _plain(_fields(value), path, odd)
    if isinstance(value, Mapping):
        return {_key(key): _plain(child, path + step(_key(key)), odd) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child, f"{path}[{index}]", odd) for index, child in enumerate(value)]
    # Only a config's free sections can hold anything else; a report is not lost because of them.
    return str(value) if isinstance(value, Path) else _scalar(value, path, odd)


def _scalar(value: Any, path: str, odd: dict[str, str]) -> Any:
    """A numpy scalar as Python's number, whatever else as its text."""
    return _plain(value.item(), path, odd) if getattr(value, "shape", None) == () else repr(value)


def _key(key: Any) -> str:
    return str(key.value if isinstance(key, Enum) else key)


def _fields(instance: Any) -> dict[str, Any]:
    own = {field.name: getattr(instance, field.name) for field in attrs.fields(type(instance))}
    more = DERIVED.get(type(instance))
    return own | ({field.name: getattr(instance, field.name) for field in attrs.fields(more)} if more else {})
