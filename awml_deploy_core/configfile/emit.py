"""Values to the text of a config file that reads back as the same values."""

from __future__ import annotations

import json
import keyword
import math
import re
from typing import Any, Literal

import yaml

from awml_deploy_core.configfile.formats import FLOAT
from awml_deploy_core.configfile.plain import plain
from awml_deploy_core.configfile.source import RESERVED
from awml_deploy_core.errors import ConfigError

_WIDTH = 100
_STEP = 4
_SHADOWING = {"dict", "float"}
"""Assigned at the top level, these would break the text below them."""


def dump_config(values: dict[str, Any], form: Literal["py", "json", "yaml"]) -> str:
    """The text of a config file with these values, the same text for the same values.

    Only `py` knows tuples; in `json` and `yaml` they become lists. JSON cannot hold NaN nor keys that are not text.

    Args:
        values: As `read_config` gives them.
        form: The file format.

    Raises:
        ConfigError: The format cannot hold the values such that they read back: a top-level name that is reserved,
            begins with an underscore or, for `py`, cannot be assigned to; what JSON cannot hold.
    """
    top: dict[Any, Any] = plain(values)
    for name in top:
        if not isinstance(name, str) or name.startswith("_") or name in RESERVED:
            raise ConfigError(f"{name!r} cannot be a top-level name of a config file", hint="Rename it")
    if form == "py":
        return _python(top)
    return _json(top) if form == "json" else _yaml(top)


# ---------------------------------------------------------------- Python


def _python(values: dict[str, Any]) -> str:
    for name in values:
        if not _assignable(name) or name in _SHADOWING:
            raise ConfigError(
                f"{name!r} cannot be assigned to in a Python config", hint="Use YAML or JSON, or rename it"
            )
    lines = (f"{name} = {_laid_out(value, 0, len(name) + 3)}\n" for name, value in values.items())
    return "".join(lines)


def _assignable(name: Any) -> bool:
    return isinstance(name, str) and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _laid_out(value: Any, indent: int, column: int) -> str:
    """The value's text, on one line if it fits behind the column, else spread over lines that are indented."""
    line = _one_line(value)
    if column + len(line) + 1 <= _WIDTH or not isinstance(value, (str, dict, list, tuple)) or not value:
        return line
    pad = " " * (indent + _STEP)
    if isinstance(value, str):
        pieces = _pieces(value, _WIDTH - len(pad))
        return "(\n" + "".join(f"{pad}{piece}\n" for piece in pieces) + " " * indent + ")"
    opening, closing = _brackets(value)
    if not isinstance(value, dict) and not any(isinstance(item, (str, dict, list, tuple)) for item in value):
        return f"{opening}\n{_filled(value, pad)}{' ' * indent}{closing}"
    labelled = _labelled(value)
    items = (f"{pad}{label}{_laid_out(item, len(pad), len(pad) + len(label))},\n" for label, item in labelled)
    return f"{opening}\n{''.join(items)}{' ' * indent}{closing}"


def _one_line(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, str):
        return _quoted(value)
    if not isinstance(value, (dict, list, tuple)):
        return repr(value)
    opening, closing = _brackets(value)
    inner = ", ".join(f"{label}{_one_line(item)}" for label, item in _labelled(value))
    return f"{opening}{inner}{',' if isinstance(value, tuple) and len(value) == 1 else ''}{closing}"


def _quoted(text: str) -> str:
    """The literal, with no `{{` in it that a reader would take for a variable."""
    return repr(text).replace("{{", "{\\x7b")


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        return ("dict(", ")") if all(map(_assignable, value)) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")


def _labelled(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [("", item) for item in value]
    if all(map(_assignable, value)):
        return [(f"{key}=", item) for key, item in value.items()]
    return [(f"{_one_line(key)}: ", item) for key, item in value.items()]


def _filled(values: Any, pad: str) -> str:
    """Scalars, as many on a line as fit."""
    lines = [pad.rstrip()]
    for word in (f" {_one_line(item)}," for item in values):
        if len(lines[-1]) + len(word) > _WIDTH and lines[-1].strip():
            lines.append("")
        lines[-1] = pad + word.strip() if not lines[-1].strip() else lines[-1] + word
    return "\n".join(lines) + "\n"


def _pieces(text: str, room: int) -> list[str]:
    """Literals of at most that many columns, which Python joins to the text."""
    pieces, start = [], 0
    while start < len(text):
        end = start + 1
        while end < len(text) and len(_quoted(text[start : end + 1])) <= room:
            end += 1
        pieces.append(_quoted(text[start:end]))
        start = end
    return pieces


# ---------------------------------------------------------------- JSON and YAML


def _json(values: dict[str, Any]) -> str:
    _check_json(values, "")
    text = json.dumps(values, indent=2, ensure_ascii=False)
    # Infinity is no JSON; a number beyond the range of doubles is, and every reader makes infinity of it.
    outside = re.compile(r'"(?:\\.|[^"\\])*"|Infinity')
    text = outside.sub(lambda found: "1e999" if found[0] == "Infinity" else found[0], text)
    return _escaped(text, "\\u007b")


def _check_json(value: Any, trail: str) -> None:
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"`{trail}` is NaN, which JSON cannot hold", hint="Use Python or YAML")
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None or None in value:
            raise ConfigError(f"`{trail}` has the key {odd!r}; JSON's keys are text", hint="Use Python or YAML")
    for key, item in (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, (list, tuple)) else ())
    ):
        _check_json(item, f"{trail}.{key}" if trail else str(key))


def _escaped(text: str, code: str) -> str:
    return text.replace("{{", "{" + code)


def _style(text: str) -> str | None:
    """Double quotes where something has to be escaped: PyYAML would write some line breaks bare and lose them."""
    return '"' if "{{" in text or not text.isprintable() else None


class _Dumper(yaml.SafeDumper):
    """Writes what the reader of this package takes for the same."""

    def ignore_aliases(self, _: Any) -> bool:
        """No anchors: a value that occurs twice is written twice."""
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text)),
)


def _yaml(values: dict[str, Any]) -> str:
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=_WIDTH)
    return _escaped(str(text), "\\x7b")
