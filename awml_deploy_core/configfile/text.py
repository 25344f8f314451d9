"""The text of a config file: read whole, with its variables filled in."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from awml_deploy_core.errors import ConfigError, nearest

FORMATS = {".py": "py", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
REFERENCE = f"__base_{secrets.token_hex(8)}__"
"""Stands in a text for `_base_` of `{{ _base_.a }}`: an identifier that no text holds by chance."""

_MAX_BYTES = 2 * 2**20
_PREDEFINED = re.compile(r"\{\{\s*(fileDirname|fileBasename|fileBasenameNoExtension|fileExtname)\s*\}\}")
_ENVIRONMENT = re.compile(r"""\{\{['"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['"]?\}\}""")
_REFERENCE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")


def absolute(path: Path) -> Path:
    """The path from the root, without `..`, links left alone."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() follows links, and mmengine does not


def beside(folder: Path, *parts: str) -> Path:
    """The path that the parts lead to from the folder, without `..`."""
    return Path(os.path.normpath(folder.joinpath(*parts)))


def format_of(path: Path) -> str:
    """`py`, `yaml`, `json` or `toml`, by the file's extension."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{path}: {path.suffix or 'no extension'} is no config format",
            hint=f"Known extensions: {', '.join(FORMATS)}",
        )
    return FORMATS[path.suffix.lower()]


def read_text(path: Path, asked: str | None = None) -> str:
    """The file's text, without a byte order mark.

    Args:
        path: The file.
        asked: Which line of which file wanted it, for a base.
    """
    wanted = _wanted(asked)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error, wanted) from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{path}: {len(data)} bytes are too large for a config{wanted}", hint="Is it the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text, byte {error.object[error.start]:#04x} at offset {error.start}{wanted}",
            hint="Name a text file and save it as UTF-8",
        ) from error
    if "\0" in text:
        raise ConfigError(f"{path}: a binary file, not a config{wanted}", hint="Name a text file saved as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def require(path: Path, asked: str | None = None) -> None:
    """Raise unless the path leads to a regular file; the arguments are those of `read_text`."""
    wanted = _wanted(asked)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{path}: no such file{wanted}", hint=_near(path)) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, wanted) from error
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{path}: a directory, not a config file{wanted}", hint=_inside(path))
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{path}: not a regular file{wanted}", hint="Name a config file on disk")


def _wanted(asked: str | None) -> str:
    return f", wanted by {asked}" if asked else ""


def _unreadable(path: Path, error: OSError | ValueError, wanted: str) -> ConfigError:
    reason = getattr(error, "strerror", None) or error
    return ConfigError(f"{path}: cannot be read, {reason}{wanted}", hint="Check the path and its permissions")


def _inside(folder: Path) -> str:
    found = [name for name in _names(folder) if Path(name).suffix.lower() in FORMATS]
    return f"Name a file in it: {', '.join(found[:5])}" if found else "It holds no config file"


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either"
    names = _names(path.parent)
    # The same stem with another extension is a likelier slip than any spelling.
    close = next((name for name in names if name.startswith(path.stem + ".")), None) or nearest(path.name, names)
    return (
        f"Did you mean {path.parent / close}?" if close else "Check the path; it is relative to the working directory"
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:  # A folder that may be entered and not listed: the hint is then shorter.
        return []


def fill(text: str, path: Path) -> str:
    """The text with predefined and environment variables in place, and references to bases marked.

    A marked reference is an expression in a Python text and a quoted string in the others.
    """
    file = absolute(path)
    known = {
        "fileDirname": file.parent.as_posix(),
        "fileBasename": file.name,
        "fileBasenameNoExtension": file.stem,
        "fileExtname": file.suffix,
    }
    text = _PREDEFINED.sub(lambda found: known[found[1]], text)
    text = _ENVIRONMENT.sub(lambda found: _environment(found, path), text)
    quote = "" if format_of(path) == "py" else '"'
    return _REFERENCE.sub(lambda found: f"{quote}{REFERENCE}.{found[1]}{quote}", text)


def _environment(found: re.Match[str], path: Path) -> str:
    name, default = found.groups()
    value = os.environ.get(name, default)
    if not value:
        line = found.string.count("\n", 0, found.start()) + 1
        raise ConfigError(
            f"{path}:{line}: the environment variable {name} is not set and has no default here",
            hint=f"Set {name}, or write {{{{${name}:default}}}}",
        )
    return str(value)


def fault(path: Path, text: str, line: int | None, column: int | None, what: str) -> str:
    """`file:line:column: what`, and the line of the text with a caret under the column (both count from 1)."""
    if line is None:
        return f"{path}: {what}"
    where = f"{path}:{line}:{column}" if column else f"{path}:{line}"
    lines = text.split("\n")
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    if not source.strip() or len(source) > 200:
        return f"{where}: {what}"
    pointer = f"\n    {' ' * (column - 1)}^" if column else ""
    return f"{where}: {what}\n    {source}{pointer}"
