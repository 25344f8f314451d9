"""What pluggy would let through in silence.

An undecorated hook, or one marked for another project, is never called; an argument with a default is never passed. A
plugin with such a fault would lose a hook without a word, so each is named before the plugin is used.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from awml_deploy_core import hookspecs
from awml_deploy_core.errors import nearest
from awml_deploy_core.hookspecs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

    import pluggy

__all__ = ["audit_config", "audit_hooks"]


def audit_hooks(manager: pluggy.PluginManager, target: Any) -> tuple[tuple[str, ...], list[str]]:
    """The hooks that an object implements, in the order of the specifications, and what is wrong with them."""
    known = [name for name in vars(hookspecs) if manager.parse_hookspec_opts(hookspecs, name) is not None]
    found: dict[str, str] = {}
    faults: list[str] = []
    for name in dir(target):
        options: Any = manager.parse_hookimpl_opts(target, name)
        hook = (options or {}).get("specname") or name
        if options is None:
            faults += _unmarked(target, name) if name in known else []
        elif hook not in known:
            close = nearest(hook, known)
            faults.append(f"{hook} is no hook" + (f", {close} may be meant" if close else ""))
        elif hook in found:
            faults.append(f"{found[hook]} and {name} both implement {hook}")
        else:
            found[hook] = name
            faults += _misdeclared(hook, getattr(target, name), options)
    return tuple(hook for hook in known if hook in found), faults


def audit_config(found: Any) -> list[str]:
    """What is wrong with a plugin's `Config`: it may only add fields to the core's."""
    from awml_deploy_core.config import Config as core  # noqa: N813  beside the plugin's, it is the core's

    if not (isinstance(found, type) and issubclass(found, core) and "__attrs_attrs__" in vars(found)):
        return ["its Config is not an attrs class (`@frozen(kw_only=True)`) that extends awml_deploy_core.Config"]
    parents = {field.name for field in core.__attrs_attrs__}
    added = found.__mro__[: found.__mro__.index(core)]
    fields = [field for cls in added for field in vars(cls).get("__attrs_attrs__", ()) if not field.inherited]
    names = {field.name for field in fields} | {name for cls in added for name in vars(cls)}
    return [f"its Config redefines the core's field {name!r}" for name in sorted(parents & names)]


def _unmarked(target: Any, name: str) -> list[str]:
    """Something is called like a hook, but pluggy does not see it."""
    value = getattr(target, name)
    if not callable(value):
        return []
    marks = getattr(value, "__dict__", {})
    others = [key[: -len("_impl")] for key in marks if key.endswith("_impl") and isinstance(marks[key], dict)]
    if others:
        return [f"{name} is marked for the project {others[0]!r} instead of {PROJECT!r}"]
    if not inspect.isroutine(value):
        return [f"{name} is a {type(value).__name__}, a hook must be a function marked with @hookimpl"]
    return [f"{name} is called like a hook but is not marked with @hookimpl"]


def _misdeclared(hook: str, function: Callable[..., Any], options: dict[str, Any]) -> list[str]:
    """What is wrong with the declaration of one implementation."""
    faults = [f"{hook} asks for {key}=True, a plugin has no say" for key in ("tryfirst", "trylast") if options.get(key)]
    if options.get("wrapper") or options.get("hookwrapper"):
        faults.append(f"{hook} is a wrapper, a plugin only answers")
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        faults.append(f"{hook} is async, it must return its answer")
    elif inspect.isgeneratorfunction(function):
        faults.append(f"{hook} is a generator, it must return its answer")
    return faults + _misparameters(hook, function)


def _misparameters(hook: str, function: Callable[..., Any]) -> list[str]:
    """What is wrong with the arguments; pluggy passes those of the specification by position."""
    expected = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    faults = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            faults.append(f"{hook} takes {parameter.replace(annotation=parameter.empty)}, which is never filled")
        elif name not in expected:
            faults.append(f"{hook} takes {name!r}, but the hook has: {', '.join(expected)}")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            faults.append(f"{hook} takes {name!r} by keyword only, but it is passed by position")
        elif parameter.default is not parameter.empty:
            faults.append(f"{hook} gives {name!r} a default, so pluggy would never pass it")
    return faults
