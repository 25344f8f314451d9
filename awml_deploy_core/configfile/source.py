"""A config file with everything that it inherits from, read into one dict."""

from __future__ import annotations

import os
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from attrs import field, frozen

from awml_deploy_core.configfile.edit import merge
from awml_deploy_core.configfile.formats import parse
from awml_deploy_core.configfile.plain import plain
from awml_deploy_core.configfile.python import BASE, Script, Wanted, run, understand
from awml_deploy_core.configfile.section import Section, settled
from awml_deploy_core.configfile.text import REFERENCE, absolute, beside, fill, format_of, read_text, require
from awml_deploy_core.errors import ConfigError, nearest

RESERVED = ("filename", "text", "pretty_text", "env_variables")
"""Names that mmengine's Config keeps for itself."""

_MAX_CHAIN = 50
_CODE = (FunctionType, BuiltinFunctionType, ModuleType, type)


@frozen(kw_only=True)
class ConfigSource:
    """What a config file says.

    Args:
        values: Nested dicts, lists, tuples and scalars.
        path: The file that was asked for.
        files: Every file that was read, bases first, as absolute paths.
    """

    values: dict[str, Any]
    path: Path
    files: tuple[Path, ...]


@frozen(kw_only=True)
class _Layer:
    """One file with its bases: its settings, and the names that only inheriting Python files can use."""

    values: dict[str, Any]
    helpers: dict[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class _Reading:
    """Where a reading stands: the files on the way to this one, those done, and whether code may run."""

    chain: tuple[Path, ...] = ()
    done: list[Path] = field(factory=list)
    safe: bool


def read_config(path: str | os.PathLike[str], *, safe: bool = False) -> ConfigSource:
    """Read a .py, .yaml, .yml, .toml or .json config and the files that it inherits from.

    Args:
        path: The file; a leading `~` is the home folder.
        safe: Refuse Python configs, which are code.

    Returns:
        The merged values. Top-level names with a leading underscore are left out.

    Raises:
        ConfigError: Anything that is wrong with the files, with file, line and remedy.
    """
    reading = _Reading(safe=safe)
    asked = Path(path).expanduser()
    layer = _read(asked, None, reading)
    values = {key: settled(value) for key, value in layer.values.items() if not key.startswith("_")}
    for key in RESERVED:
        if key in values:
            raise ConfigError(
                f"{asked}: `{key}` is a reserved name", hint="Rename it; mmengine's Config refuses it too"
            )
    files = tuple(dict.fromkeys(absolute(file) for file in reading.done))
    return ConfigSource(values=values, path=asked, files=files)


def _read(path: Path, asked: str | None, reading: _Reading) -> _Layer:
    reading = _descend(path, asked, reading)
    require(path, asked)
    form = format_of(path)
    if form == "py" and reading.safe:
        raise ConfigError(f"{path}: a Python config is code and was not run", hint="Write it as YAML, TOML or JSON")
    text = fill(read_text(path, asked), path)
    if form == "py":
        layer = _python(understand(text, path), path, reading)
    else:
        layer = _data(parse(text, path, form), path, reading)
    reading.done.append(path)
    return layer


def _descend(path: Path, asked: str | None, reading: _Reading) -> _Reading:
    """The reading one file further down, unless the file was already on the way."""
    known = [os.path.realpath(file) for file in reading.chain]
    chain = (*reading.chain, path)
    if os.path.realpath(path) in known:
        loop = chain[known.index(os.path.realpath(path)) :]
        fact = "inherits from itself" if len(loop) == 2 else f"inherits in a circle, {' -> '.join(map(str, loop))}"
        raise ConfigError(f"{asked}: {fact}", hint=f"Take one of the bases out of its `{BASE}`")
    if len(chain) > _MAX_CHAIN:
        raise ConfigError(f"{asked}: more than {_MAX_CHAIN} files inherit from one another", hint="Join some of them")
    return _Reading(chain=chain, done=reading.done, safe=reading.safe)


# ---------------------------------------------------------------- the formats


def _python(script: Script, path: Path, reading: _Reading) -> _Layer:
    base = Section(_bases(script.bases, f"{path}:{script.line}", path, reading))
    names: dict[str, Any] = {}
    inherited: set[str] = set()
    for wanted in script.wanted:
        taken, helpers = _taken(wanted, path, reading)
        names.update(taken)
        inherited = (inherited - taken.keys()) | helpers
    found = run(script, path, base, names)
    untouched = {name for name in inherited if found.get(name) is names[name]}
    hidden = {
        name: value
        for name, value in found.items()
        if name in script.imported or name in untouched or isinstance(value, _CODE)
    }
    kept = {name: value for name, value in found.items() if name not in hidden}
    return _Layer(values=_merged(base, _plain(kept, path), path), helpers=hidden)


def _taken(wanted: Wanted, path: Path, reading: _Reading) -> tuple[dict[str, Any], set[str]]:
    """What an import under `with read_base():` brings, and which of it are helpers, not settings."""
    layer = _read(wanted.path, f"{path}:{wanted.line}", reading)
    there = {**layer.helpers, **Section(layer.values)}
    if any(name == "*" for name, _ in wanted.names):
        return there, set(layer.helpers)
    for name, _ in wanted.names:
        if name not in there:
            close = nearest(name, there)
            raise ConfigError(
                f"{path}:{wanted.line}: {wanted.path} has no {name!r}",
                hint=f"Did you mean {close!r}?" if close else f"It has {', '.join(there) or 'nothing'}",
            )
    given = {alias: there[name] for name, alias in wanted.names}
    return given, {alias for name, alias in wanted.names if name in layer.helpers}


def _data(values: dict[str, Any], path: Path, reading: _Reading) -> _Layer:
    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: the top-level key {key!r} is no text", hint="Quote it")
    bases = values.pop(BASE, None)
    base = _bases(bases, str(path), path, reading)
    kept = {key: value for key, value in values.items() if not key.startswith("__")}
    return _Layer(values=_merged(base, _resolved(_plain(kept, path), base, path), path))


def _resolved(value: Any, base: dict[str, Any], path: Path) -> Any:
    """The value with references to the bases replaced by what they name."""
    if isinstance(value, dict):
        return {_whole(key, path): _resolved(item, base, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, base, path) for item in value]
    if not isinstance(value, str) or not value.startswith(f"{REFERENCE}."):
        return _whole(value, path)
    found: Any = base
    trail = value.split(".")[1:]
    for part in trail:
        if not isinstance(found, dict) or part not in found:
            close = nearest(part, map(str, found)) if isinstance(found, dict) else None
            raise ConfigError(
                f"{path}: the base has no `{'.'.join(trail)}`",
                hint=f"Did you mean {close!r} instead of {part!r}?" if close else "Check the names in the base",
            )
        found = found[part]
    return found


def _whole(value: Any, path: Path) -> Any:
    if isinstance(value, str) and REFERENCE in value:
        raise ConfigError(
            f"{path}: a reference to the base inside other text, {value.replace(REFERENCE, BASE)!r:.80}",
            hint="A reference stands alone as a value and without quotes: {{ _base_.name }}",
        )
    return value


# ---------------------------------------------------------------- bases


def _bases(bases: Any, where: str, path: Path, reading: _Reading) -> dict[str, Any]:
    """The bases that `_base_` names, side by side; none may set what another sets."""
    result: dict[str, Any] = {}
    owners: dict[str, Path] = {}
    for name in _base_names(bases, where):
        file = beside(path.parent, name)
        values = _read(file, where, reading).values
        twice = [key for key in values if key in result]
        if twice:
            raise ConfigError(
                f"{where}: the bases {owners[twice[0]]} and {file} both set {', '.join(map(repr, twice))}",
                hint="Let one of them inherit from the other, or set it in one only",
            )
        result.update(values)
        owners.update(dict.fromkeys(values, file))
    return result


def _base_names(bases: Any, where: str) -> list[str]:
    names = [] if bases is None else list(bases) if isinstance(bases, (list, tuple)) else [bases]
    for name in names:
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"{where}: `{BASE}` holds {name!r:.60}, not the name of a file", hint="Write a path or a list of paths"
            )
        if "::" in name:
            raise ConfigError(
                f"{where}: `{BASE}` names {name!r}, a config inside an installed package",
                hint="Copy that config beside this one and name the copy",
            )
    return names


def _merged(base: dict[str, Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        return merge(plain(base), values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error


def _plain(values: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = plain(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return result
