"""The references that must never be written by hand: config keys, command line, hooks.

Run as a script, it prints where it wrote.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import click

from awml_deploy_core import hookspecs, strict
from awml_deploy_core.cli import cli
from awml_deploy_core.config import Config


def write(folder: Path) -> None:
    """Write every generated page into the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.md").write_text(config_reference(), encoding="utf-8")
    (folder / "cli.md").write_text(cli_reference(), encoding="utf-8")
    (folder / "hooks.md").write_text(hooks_reference(), encoding="utf-8")


# ---------------------------------------------------------------- config


def config_reference() -> str:
    """A section for each class of settings, in the order in which a config names them."""
    return "\n".join(["# Config keys", "", *_section("", Config, set())])


def _section(path: str, cls: type, seen: set[type]) -> Iterator[str]:
    seen.add(cls)
    texts, types = strict.describe(cls), typing.get_type_hints(cls)
    title = f"`{path}`" if path else "Top level"
    yield from (f"## {title}", "", inspect.cleandoc(cls.__doc__ or "").split("\n\nArgs:")[0], "")
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    below: list[tuple[str, type]] = []
    for field in attrs.fields(cls):
        kind = types[field.name]
        yield f"| `{field.name}` | {_type(kind)} | {_default(field)} | {texts[field.name]} |"
        below += [(_below(path, field.name, kind), inner) for inner in _settings_in(kind)]
    yield ""
    for inner_path, inner in below:
        if inner not in seen:
            yield from _section(inner_path, inner, seen)


def _below(path: str, name: str, kind: Any) -> str:
    origin = typing.get_origin(kind)
    here = f"{path}.{name}" if path else name
    if origin is tuple:
        return f"{here}[]"
    if "Mapping" in str(origin):
        return _below(path, f"{name}.<name>", typing.get_args(kind)[1])
    tables = [part for part in typing.get_args(kind) if part is not type(None)]
    return _below(path, name, tables[0]) if len(tables) == 1 else here


def _settings_in(kind: Any) -> list[type]:
    if attrs.has(kind):
        return [kind]
    return [inner for part in typing.get_args(kind) for inner in _settings_in(part)]


def _type(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is type(None):
        return "`None`"
    if kind is Any:
        return "anything"
    if origin is typing.Literal:
        return " · ".join(f"`{part!r}`" for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is not None and "Mapping" in str(origin):
        return f"table of {_type(parts[1])} by {_type(parts[0])}"
    if parts:
        return " or ".join(_type(part) for part in parts if part is not type(None))
    if issubclass(kind, Enum):
        return " · ".join(f"`{member.value!r}`" for member in kind)
    if attrs.has(kind):
        return "section"
    return {bool: "bool", int: "int", float: "float", str: "text", Path: "path"}[kind]


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    made: Any = field.default
    if hasattr(made, "factory"):
        made = made.factory()
    return "" if attrs.has(type(made)) or made in ((), {}) else f"`{strict.unstructure(made)!r}`"


# ---------------------------------------------------------------- command line


def cli_reference() -> str:
    """The help of every command, as the terminal shows it."""
    return "\n".join(["# Command line", "", *_command(cli, ("awml-deploy",))])


def _command(command: click.Command, names: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(command, info_name=" ".join(names), max_content_width=100, terminal_width=100)
    yield from (f"## `{' '.join(names)}`", "", "```text", command.get_help(context), "```", "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _command(inner, (*names, name))


# ---------------------------------------------------------------- hooks


def hooks_reference() -> str:
    """Every hook with its arguments and what its specification says."""
    lines = ["# Hook signatures", ""]
    for name, function in hooks():
        text = inspect.cleandoc(function.__doc__ or "")
        summary, _, rest = text.partition("\n")
        lines += [f"## {name}({', '.join(inspect.signature(function).parameters)})", "", f"**{summary}**", ""]
        lines += ["```python", f"@hookimpl\ndef {name}{_signature(function)}: ...", "```", "", *_prose(rest), ""]
    return "\n".join(lines)


def hooks() -> list[tuple[str, Callable[..., Any]]]:
    """The hooks in the order of their module."""
    return [(name, item) for name, item in vars(hookspecs).items() if hasattr(item, "awml_deploy_spec")]


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    said = ", ".join(f"{p.name}: {p.annotation}" for p in signature.parameters.values())
    return f"({said}) -> {signature.return_annotation}"


def _prose(text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        if line in ("Args:", "Returns:"):
            yield from ("", f"**{line}**", "")
        elif line.startswith("        "):
            yield f"  {line.strip()}"
        elif line.startswith("    ") and ": " in line and line.strip().split(":")[0].isidentifier():
            name, _, rest = line.strip().partition(": ")
            yield f"- `{name}`: {rest}"
        else:
            yield line.strip()


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "_generated")
    write(target)
    sys.stdout.write(json.dumps(sorted(str(path) for path in target.iterdir())) + "\n")
