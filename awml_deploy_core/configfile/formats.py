"""YAML, TOML and JSON texts to values; every fault with its line and column."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import yaml

from awml_deploy_core.configfile.text import fault
from awml_deploy_core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path

FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?|[0-9]*\.[0-9]+)[eE][-+]?[0-9]+\Z")
"""Numbers as `1e-3`, which YAML 1.1 takes for text."""

_MAX_PAIRS = 100_000


def parse(text: str, path: Path, form: str) -> dict[str, Any]:
    """The mapping that the text of a `yaml`, `toml` or `json` file stands for."""
    readers: dict[str, Callable[[str, Path], Any]] = {"yaml": _yaml, "toml": _toml, "json": _json}
    try:
        values = readers[form](text, path)
    except RecursionError as error:
        raise ConfigError(
            f"{path}: nested too deeply", hint="A config is a few levels deep; is it the right file?"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: the top level is a {type(values).__name__}, not a mapping", hint="Write `key: value` pairs"
        )
    return values


# ---------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """Safe, strict about keys, and of YAML 1.2's mind about numbers and dates."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that the text gives twice; merge keys come later and may repeat."""
        node = super().compose_mapping_node(anchor)
        _refuse_twice(node)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Carry out merge keys, within bounds."""
        super().flatten_mapping(node)
        if len(node.value) > _MAX_PAIRS:
            raise yaml.constructor.ConstructorError(
                None, None, "merge keys make it grow without bound", node.start_mark
            )


def _refuse_twice(node: yaml.MappingNode) -> None:
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if (key.tag, key.value) in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
        seen.add((key.tag, key.value))


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _yaml(text: str, path: Path) -> Any:
    try:
        values = yaml.load(text, _Loader)  # noqa: S506  a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        parts = [part for part in (error.context, error.problem) if part and not part.startswith("while ")]
        what = ", ".join(parts)
        hint = "A config holds plain values: drop the tag" if "constructor for the tag" in what else "Correct the YAML"
        raise ConfigError(fault(path, text, line, column, f"YAML: {what}"), hint=hint) from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:
        # A character that YAML forbids, or what PyYAML lets through for `!!bool x` and the like: without a place.
        what = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        raise ConfigError(f"{path}: YAML: {what}", hint="Correct the YAML") from error
    return {} if values is None else values


# ---------------------------------------------------------------- TOML and JSON


def _toml(text: str, path: Path) -> Any:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and what int() says of endless digits.
        found = re.search(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        what, line, column = (found[1], int(found[2]), int(found[3])) if found else (str(error), None, None)
        raise ConfigError(fault(path, text, line, column, f"TOML: {what}"), hint="Correct the TOML") from error


def _json(text: str, path: Path) -> Any:
    def constant(name: str) -> Any:
        raise ConfigError(
            f"{path}: JSON has no {name}", hint="Write a number or null, or use YAML, which has .inf and .nan"
        )

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in found]
        twice = (
            next((key for index, key in enumerate(keys) if key in keys[:index]), None)
            if len(set(keys)) < len(keys)
            else None
        )
        if twice is not None:
            raise ConfigError(f"{path}: JSON: the key {twice!r} is given twice", hint="Keep one of them")
        return dict(found)

    try:
        return json.loads(text, parse_constant=constant, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise ConfigError(
            fault(path, text, error.lineno, error.colno, f"JSON: {error.msg}"), hint="Correct the JSON"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path}: JSON: {error}", hint="Correct the number") from error
