"""Transforms by the names that configs use for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from awml_deploy_core.errors import ConfigError, LoadError, PluginError, nearest

__all__ = ["Results", "Transform", "build_all", "build_one", "known", "need", "register_transform"]

Results = dict[str, Any]
Transform = Callable[[Results], Results]
"""From a sample's dict to the dict for the next transform; a new dict, or the given one with keys added."""

_F = TypeVar("_F", bound=Callable[..., Any])
_FACTORIES: dict[str, Callable[..., Any]] = {}
_HOMES = ("images", "neutral", "packing", "points", "sizes")


def register_transform(*names: str, replace: bool = False) -> Callable[[_F], _F]:
    """Make a transform known under names; a decorator.

    What is decorated is called once with the keyword arguments that stand in the config. A function answers the
    transform; a class may have `__call__(results)`, or `transform(results)` as in MMDetection.

    Args:
        names: What configs say as `type`, without the scope: `Resize`, not `mmdet.Resize`. By default the name of
            what is decorated.
        replace: Whether another transform of that name gives way.

    Raises:
        PluginError: The name is taken.
    """

    def register(factory: _F) -> _F:
        for name in names or (factory.__name__,):
            there = _FACTORIES.get(name)
            if there is not None and not replace and _origin(there) != _origin(factory):
                raise PluginError(
                    f"transform {name!r} of {'.'.join(_origin(factory))} is there already, from "
                    f"{'.'.join(_origin(there))}",
                    hint="Choose another name, or say `replace=True`.",
                )
            _FACTORIES[name] = factory
        return factory

    return register


def known() -> tuple[str, ...]:
    """The names of all transforms."""
    for home in _HOMES:
        import_module(f"awml_deploy_core.preprocess.{home}")
    return tuple(sorted(_FACTORIES))


def build_all(steps: Any, where: str) -> Transform:
    """One function of a list of transforms.

    Args:
        steps: What stands in the config.
        where: Its place there, for messages.
    """
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        raise ConfigError(f"{where}: a list of transforms is wanted, got {type(steps).__name__}")
    built = [build_one(step, f"{where}[{place}]") for place, step in enumerate(steps)]

    def run(results: Results) -> Results:
        for transform in built:
            results = transform(results)
        return results

    return run


def build_one(step: Any, where: str) -> Transform:
    """One transform of its config.

    Raises:
        ConfigError: There is none of that name, or it does not take these arguments.
    """
    if not isinstance(step, Mapping) or not isinstance(step.get("type"), str):
        raise ConfigError(f"{where}: a transform is a dict with a `type`, got {step!r:.100}")
    name = step["type"].rpartition(".")[2]
    if name not in known():
        raise _unknown(name, where)
    given = {key: value for key, value in step.items() if key not in {"type", "_scope_"}}
    factory = _FACTORIES[name]
    _check(factory, given, f"{where} {name}")
    try:
        made = factory(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} {name}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where} {name}: {error.message}", hint=error.hint) from error
    return _watched(made if callable(made) else made.transform, f"{where} {name}")


def need(results: Results, key: str) -> Any:
    """What an earlier transform, or the sample itself, must have given.

    Raises:
        LoadError: It is not there.
    """
    if results.get(key) is None:
        there = ", ".join(sorted(results)) or "nothing"
        raise LoadError(f"the sample has no {key!r} here, it has {there}")
    return results[key]


def _origin(factory: Callable[..., Any]) -> tuple[str, str]:
    return factory.__module__, factory.__qualname__


def _unknown(name: str, where: str) -> ConfigError:
    near = nearest(name, known())
    more = "Write a function for it and register it with awml_deploy_core.preprocess.register_transform."
    return ConfigError(
        f"{where}: there is no transform {name!r}", hint=f"Did you mean {near!r}? {more}" if near else more
    )


def _check(factory: Callable[..., Any], given: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    names = [one.name for one in parameters]
    for key in given:
        if key not in names:
            near = nearest(str(key), names)
            hint = f"Did you mean {near!r}?" if near else f"It takes {', '.join(names) or 'no arguments'}."
            raise ConfigError(f"{where}: there is no argument {key!r}", hint=hint)
    missing = [one.name for one in parameters if one.default is one.empty and one.name not in given]
    if missing:
        raise ConfigError(f"{where}: it needs {', '.join(missing)}")


def _watched(transform: Transform, where: str) -> Transform:
    """A transform whose complaints say where it stands."""

    def run(results: Results) -> Results:
        try:
            return transform(results)
        except LoadError as error:
            raise LoadError(f"{where}: {error.message}", hint=error.hint) from error

    return run
