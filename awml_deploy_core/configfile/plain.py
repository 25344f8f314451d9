"""Values as a config's code makes them to values that a config can hold: dicts, lists, tuples and scalars."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import attrs

from awml_deploy_core.configfile.names import Lazy
from awml_deploy_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
_MAX_VALUES = 200_000
_SCALARS = (bool, int, float, str)
_HINTS = {"set": "Write a list", "range": "Write list(range(...))", "ndarray": "Write array.tolist()"}


def plain(value: Any, key: str = "") -> Any:
    """The value with nothing in it but dicts, lists, tuples, numbers, strings, booleans and None.

    Args:
        value: What stands in a config.
        key: Where it stands, for messages.

    Raises:
        ConfigError: A value of another type, too many of them, or a value that contains itself.
    """
    return _plain(value, key, 0, iter(range(_MAX_VALUES)))


def _plain(value: Any, key: str, depth: int, budget: Iterator[int]) -> Any:
    if next(budget, None) is None:
        raise ConfigError(f"`{key}` holds more than {_MAX_VALUES} values", hint="Aliases that name aliases grow fast")
    if depth > MAX_DEPTH:
        raise ConfigError(f"`{key[:80]}`: nested more than {MAX_DEPTH} levels", hint="Does a value contain itself?")
    if isinstance(value, (list, tuple)):
        items = (_plain(item, f"{key}.{index}", depth + 1, budget) for index, item in enumerate(value))
        return tuple(items) if isinstance(value, tuple) else list(items)
    if isinstance(value, set) and value == {Ellipsis}:
        return Ellipsis
    if attrs.has(type(value)):
        value = dict(_changed(value))
    if isinstance(value, dict):
        return _mapping(value, key, depth, budget)
    return _scalar(value, f"`{key}`")


def _mapping(value: dict[Any, Any], key: str, depth: int, budget: Iterator[int]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for name, item in value.items():
        made = _scalar(name, f"a key in `{key}`")
        inner = f"{key}.{made}" if key else str(made)
        if made in result:
            raise ConfigError(f"`{inner}` is given twice, as {made!r} and as {name!r}", hint="Keep one of them")
        result[made] = _plain(item, inner, depth + 1, budget)
    return result


def _scalar(value: Any, what: str) -> Any:
    if value is None or value is Ellipsis or type(value) in _SCALARS:
        return value  # documents write `...` for "as you like"; whoever gives values types decides what it means
    if isinstance(value, Enum):
        return _scalar(value.value, what)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Lazy):
        return value.__dotted__
    # Numpy is not imported for this: where it was not imported, no value can be of its making.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) in _SCALARS:
        return value.item()
    for kind in _SCALARS:
        if isinstance(value, kind):
            return kind(value)
    name = type(value).__name__
    hint = _HINTS.get(name, "A config holds numbers, strings, booleans, None, lists, tuples and dicts")
    raise ConfigError(f"{what} is a {name}, which a config cannot hold", hint=hint)


def _changed(instance: Any) -> Iterator[tuple[str, Any]]:
    """Fields of an attrs instance that differ from their defaults."""
    for field in attrs.fields(type(instance)):
        value, default = getattr(instance, field.name), field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # typed as a function, is a class
            default = default.factory(instance) if default.takes_self else default.factory()
        if default is attrs.NOTHING or type(value) is not type(default) or value != default:
            yield field.name, value
