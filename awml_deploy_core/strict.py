"""Plain values to typed settings and back, strictly: no guess, and every fault at once.

A value either is what the field says or is named as a fault with its place, what was expected and what was probably
meant. `"false"` is not True, 1.9 is not 1 and `"abc"` is not a list of letters.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from inspect import cleandoc
from math import isfinite
from os import PathLike, fspath
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs
from attrs import frozen

from awml_deploy_core.errors import ConfigError, nearest
from awml_deploy_core.files import step

T = TypeVar("T")


@frozen(kw_only=True)
class Fault:
    """One thing wrong with a config.

    Args:
        path: Where, as `$.evaluation.backends.onnx.device`.
        message: What is wrong.
        hint: What was probably meant, or what is allowed.
    """

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """One line, as `what @ $.path (hint)`."""
        return f"{self.message} @ {self.path}" + (f" ({self.hint})" if self.hint else "")


class _Faults(Exception):  # noqa: N818  it carries findings and never leaves this module
    def __init__(self, *faults: Fault) -> None:
        super().__init__(faults)
        self.faults = faults


def _wrong(message: str, hint: str = "") -> _Faults:
    return _Faults(Fault(path="", message=message, hint=hint))


def structure(values: Mapping[str, Any], cls: type[T], *, where: str, faults: Sequence[Fault] = ()) -> T:
    """Plain values as an instance of an attrs class.

    Args:
        values: What a config file holds.
        cls: The class of settings.
        where: The file, for the message.
        faults: What is known to be wrong already; named together with what is found here.

    Raises:
        ConfigError: Naming every fault.
    """
    found: tuple[Fault, ...] = ()
    settings: Any = None
    try:
        settings = _typed(values, cls)
    except _Faults as error:
        found = tuple(attrs.evolve(fault, path="$" + fault.path) for fault in error.faults)
    refuse((*faults, *found), where=where)
    return cast("T", settings)


def refuse(faults: Sequence[Fault], *, where: str) -> None:
    """Raise one error that lists all faults of a file, if there are any."""
    if not faults:
        return
    lines = "".join(f"\n  {fault}" for fault in faults)
    number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise ConfigError(
        f"{where}: {number} in the config{lines}",
        hint="`awml-deploy config schema` lists every key with its type.",
    )


def unstructure(value: Any, *, defaults: bool = True) -> Any:
    """Settings as plain values, which `structure` reads back to an equal instance.

    Args:
        value: An instance, or anything inside one.
        defaults: Whether fields that hold their default are written too.
    """
    if attrs.has(type(value)):
        kept = {f.name: getattr(value, f.name) for f in attrs.fields(type(value))}
        plain = {name: unstructure(item, defaults=defaults) for name, item in kept.items()}
        return plain if defaults else {name: plain[name] for name in kept if not _is_default(value, name)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {unstructure(key): unstructure(item, defaults=defaults) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(unstructure(item, defaults=defaults) for item in value)
    return value


def _is_default(instance: Any, name: str) -> bool:
    default = getattr(attrs.fields(type(instance)), name).default
    # attrs' stubs show Factory as a function, at run time it is the class of such defaults.
    made = default.factory() if hasattr(default, "factory") else default
    return bool(made is not attrs.NOTHING and getattr(instance, name) == made)


# ---------------------------------------------------------------- plain to typed


def _said(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _of(kind: type, wanted: str, *also: type) -> Callable[[Any, Any], Any]:
    """A hook for one plain type; bool is an int in Python and never in a config."""

    def hook(value: Any, _type: Any) -> Any:
        if (isinstance(value, bool) and kind is not bool) or not isinstance(value, (kind, *also)):
            raise _wrong(f"expected {wanted}, got {_said(value)}")
        return value

    return hook


def _float(value: Any, _type: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"expected a number, got {_said(value)}")
    if not isfinite(value):
        raise _wrong(f"expected a finite number, got {value}")
    return float(value)


def _path(value: Any, _type: Any) -> Path:
    if not isinstance(value, str | PathLike) or "\0" in fspath(value):
        raise _wrong(f"expected a path, got {_said(value)}")
    if not fspath(value):
        raise _wrong("expected a path, got an empty string", "use None for no path")
    return Path(value)


def _choice(allowed: Sequence[Any], value: Any) -> _Faults:
    hint = f"allowed: {', '.join(map(str, allowed))}"
    near = nearest(value, [word for word in allowed if isinstance(word, str)]) if isinstance(value, str) else None
    return _wrong(f"{_said(value)} is not allowed", hint + (f"; did you mean {near!r}?" if near else ""))


def _literal(value: Any, literal: Any) -> Any:
    for allowed in get_args(literal):
        if type(value) is type(allowed) and value == allowed:
            return value
    raise _choice(get_args(literal), value)


def _enum(value: Any, cls: type[Enum]) -> Enum:
    if isinstance(value, cls):
        return value
    allowed = [member.value for member in cls]
    if isinstance(value, str) and value in allowed:
        return cls(value)
    raise _choice(allowed, value)


def _collect(attempts: Sequence[tuple[str, Callable[[], Any]]]) -> list[Any]:
    """Attempt everything, and raise the faults of all, each below its own place."""
    done: list[Any] = []
    faults: list[Fault] = []
    for place, attempt in attempts:
        try:
            done.append(attempt())
        except _Faults as error:
            faults += [attrs.evolve(fault, path=place + fault.path) for fault in error.faults]
    if faults:
        raise _Faults(*faults)
    return done


def _tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(f"expected a list, got {_said(value)}")
    items = get_args(kind)
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    if len(items) != len(value):
        raise _wrong(f"expected {len(items)} values, got {len(value)}")
    return tuple(_collect([(f"[{i}]", partial(_typed, v, items[i])) for i, v in enumerate(value)]))


def _mapping(value: Any, kind: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(f"expected a table of keys and values, got {_said(value)}")
    key_type, item_type = get_args(kind)

    def entry(key: Any, item: Any) -> tuple[Any, Any]:
        if key_type is int and isinstance(key, str) and re.fullmatch(r"\d+", key):
            key = int(key)  # JSON and TOML have no other keys than strings
        try:
            known = _typed(key, key_type)
        except _Faults as error:
            raise _Faults(*(attrs.evolve(f, message=f"as a key: {f.message}") for f in error.faults)) from None
        return known, _typed(item, item_type)

    return dict(_collect([(step(key), partial(entry, key, item)) for key, item in value.items()]))


def _union(value: Any, kind: Any) -> Any:
    members = get_args(kind)
    if NoneType in members and (value is None or (value == "" and Path in members)):
        return None  # the ancestor's configs write an empty string for "no file"
    members = tuple(member for member in members if member is not NoneType)
    if len(members) == 1:
        return _typed(value, members[0])
    wrong: list[str] = []
    for member in members:
        try:
            return _typed(value, member)
        except _Faults as error:
            wrong += [fault.hint or fault.message.split(", got")[0] for fault in error.faults]
    raise _wrong(f"{_said(value)} fits nothing that is allowed here", "; ".join(wrong))


def _settings(value: Any, cls: type) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(f"expected a table of settings, got {_said(value)}")
    types = typing.get_type_hints(cls)
    fields = {field.name: field for field in attrs.fields(cls)}
    unknown = [_unknown(key, fields) for key in value if key not in fields]

    def one(field: attrs.Attribute[Any]) -> tuple[str, Any]:
        item = _typed(value[field.name], types[field.name])
        if field.validator is not None:
            try:
                field.validator(None, field, item)
            except ValueError as error:
                raise _wrong(str(error)) from None
        return field.name, item

    def missing(name: str) -> Any:
        raise _wrong(f"the key {name!r} is missing")

    absent = [name for name, field in fields.items() if field.default is attrs.NOTHING and name not in value]
    attempts: list[tuple[str, Callable[[], Any]]] = [("", partial(missing, name)) for name in absent]
    attempts += [(f".{name}", partial(one, field)) for name, field in fields.items() if name in value]
    try:
        known = _collect(attempts)
    except _Faults as error:
        raise _Faults(*unknown, *error.faults) from None
    if unknown:
        raise _Faults(*unknown)
    try:
        return cls(**dict(known))
    except ValueError as error:
        raise _wrong(str(error)) from None


def _unknown(key: Any, fields: Mapping[str, Any]) -> Fault:
    near = nearest(str(key), fields)
    hint = f"did you mean {near!r}?" if near else f"known here: {', '.join(fields)}"
    return Fault(path=step(key), message=f"unknown key {key!r}", hint=hint)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


_HOOKS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]], ...] = (
    (lambda kind: kind is Any, lambda value, _type: value),
    (lambda kind: kind is bool, _of(bool, "True or False")),
    (lambda kind: kind is int, _of(int, "a whole number")),
    (lambda kind: kind is float, _float),
    (lambda kind: kind is str, _of(str, "text")),
    (lambda kind: kind is Path, _path),
    (lambda kind: get_origin(kind) is Literal, _literal),
    (lambda kind: get_origin(kind) is tuple, _tuple),
    (lambda kind: get_origin(kind) in (dict, Mapping), _mapping),
    (_is_union, _union),
    (lambda kind: isinstance(kind, type) and issubclass(kind, Enum), _enum),
    (attrs.has, _settings),
)


def _typed(value: Any, kind: Any) -> Any:
    for fits, hook in _HOOKS:
        if fits(kind):
            return hook(value, kind)
    raise TypeError(f"a field of settings cannot have the type {kind!r}")


# ---------------------------------------------------------------- descriptions, for schema and reference


def describe(cls: type) -> dict[str, str]:
    """What each field of a class of settings means, out of the `Args` of its docstring and of its parents'."""
    texts: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        args = re.search(r"^Args:\n(.*)\Z", cleandoc(one.__doc__ or ""), re.MULTILINE | re.DOTALL)
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", args[1] if args else "", re.MULTILINE):
            texts[name] = " ".join(text.split())
    return {field.name: texts.get(field.name, "") for field in attrs.fields(cls)}


def schema(cls: type) -> dict[str, Any]:
    """A JSON schema (2020-12) of a class of settings."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": cls.__name__, **_schema(cls)}


_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", NoneType: "null"}


def _schema(kind: Any) -> dict[str, Any]:
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if rest == [Ellipsis]:
            return {"type": "array", "items": _schema(first)}
        items = [_schema(item) for item in (first, *rest)]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if get_origin(kind) in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(get_args(kind)[1])}
    if _is_union(kind):
        return {"anyOf": [_schema(member) for member in get_args(kind)]}
    if attrs.has(kind):
        return _schema_of_settings(kind)
    return {}


def _schema_of_settings(cls: type) -> dict[str, Any]:
    types, texts = typing.get_type_hints(cls), describe(cls)
    properties = {}
    for field in attrs.fields(cls):
        properties[field.name] = {"description": texts[field.name], **_schema(types[field.name])}
        if field.default is not attrs.NOTHING and not hasattr(field.default, "factory"):
            properties[field.name]["default"] = unstructure(field.default)
    return {
        "type": "object",
        "description": cleandoc(cls.__doc__ or "").splitlines()[0],
        "properties": properties,
        "required": [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING],
        "additionalProperties": False,
    }
