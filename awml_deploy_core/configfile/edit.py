"""One config laid over another, and one value set by its dotted name."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from awml_deploy_core.configfile.plain import plain
from awml_deploy_core.configfile.section import DELETE
from awml_deploy_core.errors import ConfigError

_SPELLINGS = {"true": True, "false": False, "null": None}


def merge(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """The base with the override laid over it, by the rules of mmengine's config files.

    Dicts merge key by key, everything else is replaced whole, lists too. A dict in the override with `_delete_=True`
    replaces what the base has. A `_delete_` where the base has nothing stays in the result, as it does there.

    Args:
        base: Values to start from; not changed.
        override: Values that win; not changed.

    Raises:
        ConfigError: A dict would have to merge into something else.
    """
    return _merge(base, override, "")


def _merge(base: dict[str, Any], override: dict[str, Any], trail: str) -> dict[str, Any]:
    result = dict(base)
    for key, value in override.items():
        if not isinstance(value, dict) or key not in base:
            result[key] = value
        elif value.get(DELETE):
            result[key] = {name: item for name, item in value.items() if name != DELETE}
        elif isinstance(base[key], dict):
            added = {name: item for name, item in value.items() if name != DELETE}
            result[key] = _merge(base[key], added, f"{trail}{key}.")
        else:
            raise ConfigError(
                f"`{trail}{key}` is a dict, but the base has a {type(base[key]).__name__} there",
                hint=f"Put `{DELETE}=True` into the dict to replace the base's value",
            )
    return result


def assign(values: dict[str, Any], name: str, text: str) -> dict[str, Any]:
    """The values with one of them set, as `--set a.b.0.c=text` asks.

    Dicts that are missing on the way are made, also in place of None; a list or a tuple takes an index that it has.
    What was there is replaced, not merged.

    Args:
        values: A config; not changed.
        name: Keys and indices, joined with dots.
        text: A Python literal, where `true`, `false` and `null` count too; any other text is itself.

    Raises:
        ConfigError: The name does not lead anywhere.
    """
    parts = name.split(".")
    if not all(parts):
        raise ConfigError(f"{name!r} is no name of a setting", hint="Write keys joined with dots: a.b.c=value")
    result = _assign(values, parts, plain(_literal(text), name), "")
    assert isinstance(result, dict)
    return result


def _assign(target: Any, parts: list[str], value: Any, trail: str) -> Any:
    if not parts:
        return value
    first, rest = parts[0], parts[1:]
    inner = f"{trail}.{first}" if trail else first
    if target is None:
        target = {}
    if isinstance(target, dict):
        key = _key(target, first)
        return {**target, key: _assign(target.get(key), rest, value, inner)}
    if isinstance(target, (list, tuple)):
        index = _index(target, first, trail)
        changed = [_assign(item, rest, value, inner) if at == index else item for at, item in enumerate(target)]
        return type(target)(changed)
    raise ConfigError(
        f"`{inner}` cannot be set: `{trail}` is {target!r:.60}, not a dict or a list",
        hint=f"Set `{trail}` itself",
    )


def _key(target: dict[Any, Any], part: str) -> Any:
    """The key itself, or the number that is a key of the dict and is spelt so."""
    if part in target:
        return part
    return next((key for key in target if not isinstance(key, (str, bool)) and repr(key) == part), part)


def _index(target: list[Any] | tuple[Any, ...], part: str, trail: str) -> int:
    if part.isascii() and part.isdigit() and int(part) < len(target):
        return int(part)
    indices = f"an index from 0 to {len(target) - 1}" if target else "no index, it is empty"
    raise ConfigError(
        f"`{trail}.{part}` cannot be set: `{trail}` is a {type(target).__name__} of {len(target)}",
        hint=f"`{trail}` takes {indices}",
    )


def _literal(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of escapes such as \d; here they are what the user typed.
            return ast.literal_eval(_Spellings().visit(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return text


class _Spellings(ast.NodeTransformer):
    """Turns the words of YAML and JSON into Python's."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """`true` to `True`; other names stay, and with them the text is no literal."""
        if node.id not in _SPELLINGS:
            return node
        return ast.copy_location(ast.Constant(_SPELLINGS[node.id]), node)
