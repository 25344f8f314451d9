"""A Python config: looked at as a tree first, then run with its bases and imports in place."""

from __future__ import annotations

import ast
import os
import sys
import traceback
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from attrs import frozen

from awml_deploy_core.configfile.names import (
    LAZY,
    Imports,
    Lazy,
    imported_names,
    refuse_ancestor,
)
from awml_deploy_core.configfile.text import REFERENCE, absolute, beside, fault
from awml_deploy_core.errors import ConfigError, DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BASE = "_base_"


@frozen(kw_only=True)
class Wanted:
    """Names that a `with read_base():` block takes from another config; (`*`, `*`) is all of them."""

    path: Path
    line: int
    names: tuple[tuple[str, str], ...]


@frozen(kw_only=True)
class Script:
    """A Python config that was understood and not yet run.

    Args:
        code: What is to be run, without the parts that name bases.
        bases: The value of `_base_`, None where it is not set, and the line that sets it.
        wanted: What `with read_base():` asks for.
        imported: Names that imports bind and nothing else.
    """

    code: CodeType
    bases: Any
    line: int
    wanted: tuple[Wanted, ...]
    imported: frozenset[str]


def understand(text: str, path: Path) -> Script:
    """Parse the text, refuse what cannot be meant, and take out what names bases.

    Args:
        text: With its variables filled in.
        path: The file, for messages and for what is relative to it.
    """
    with _syntax(text, path):
        tree = ast.parse(text, str(path))
    refuse_ancestor(tree, path)
    _refuse_quoted(tree, path)
    bases, line = _take_bases(tree, path)
    wanted = tuple(_take_wanted(tree, path))
    if wanted and bases is not None:
        raise ConfigError(
            f"{path}:{line}: `{BASE}` and `with read_base():` in one file",
            hint="Name all bases in one of the two ways",
        )
    imported = frozenset(imported_names(tree))
    with _syntax(text, path):
        code = compile(Imports(path).visit(tree), str(path), "exec", dont_inherit=True)
    return Script(code=code, bases=bases, line=line, wanted=wanted, imported=imported)


@contextmanager
def _syntax(text: str, path: Path) -> Iterator[None]:
    """Say where Python does not understand the text; some faults it finds only when it compiles."""
    try:
        yield
    except SyntaxError as error:
        message = fault(path, text, error.lineno, error.offset, f"syntax error: {error.msg}")
        raise ConfigError(message, hint="Correct the Python") from error
    except (RecursionError, MemoryError) as error:
        raise ConfigError(
            f"{path}: nested too deeply", hint="A config is a few levels deep; is it the right file?"
        ) from error


def _refuse_quoted(tree: ast.Module, path: Path) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and REFERENCE in node.value:
            shown = node.value.replace(REFERENCE, BASE)
            raise ConfigError(
                f"{path}:{node.lineno}: a reference to the base within quotes, {shown!r:.80}",
                hint="Write {{ _base_.name }} without quotes; it is an expression",
            )


def _take_bases(tree: ast.Module, path: Path) -> tuple[Any, int]:
    """The value of the one assignment to `_base_` and its line; the assignment leaves the tree."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == BASE]
    stored = [node for node in found if isinstance(node.ctx, ast.Store)]
    if not stored:
        return None, 0
    line = stored[0].lineno
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        target = node.target if isinstance(node, ast.AnnAssign) and node.value is not None else target
        if target is stored[0] and len(stored) == 1:
            assert isinstance(node, (ast.Assign, ast.AnnAssign))
            tree.body.remove(node)
            return _evaluated(node.value, path, line), line
    raise ConfigError(
        f"{path}:{line}: `{BASE}` is not set by one plain assignment at the top level",
        hint=f"Write `{BASE} = 'other.py'` or `{BASE} = ['one.py', 'two.py']` once",
    )


def _evaluated(expression: ast.expr | None, path: Path, line: int) -> Any:
    """The value of `_base_`, which is needed before the file runs and so cannot use its names."""
    assert expression is not None
    try:
        code = compile(ast.Expression(expression), str(path), "eval", dont_inherit=True)
        with _undisturbed():
            return eval(code, {})  # noqa: S307  a Python config is code; `safe` refuses it before this
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{path}:{line}: `{BASE}` cannot be evaluated, {type(error).__name__}: {error}",
            hint=f"`{BASE}` is read before the rest of the file and can use none of its names",
        ) from error


# ---------------------------------------------------------------- with read_base()


def _take_wanted(tree: ast.Module, path: Path) -> Iterator[Wanted]:
    """What the blocks at the top level ask for; the blocks leave the tree."""
    blocks = [node for node in tree.body if isinstance(node, ast.With) and _marks_bases(node)]
    tree.body = [node for node in tree.body if node not in blocks]
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and _marks_bases(node):
            raise ConfigError(f"{path}:{node.lineno}: `with read_base():` is nested", hint="Move it to the top level")
    for block in blocks:
        for node in block.body:
            if not isinstance(node, ast.ImportFrom) or not node.module:
                raise ConfigError(
                    f"{path}:{node.lineno}: only `from module import names` can stand under `with read_base():`",
                    hint="Write `from .base import *` there and everything else outside",
                )
            names = tuple((alias.name, alias.asname or alias.name) for alias in node.names)
            yield Wanted(path=_module_file(node, path), line=node.lineno, names=names)


def _marks_bases(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == "read_base"


def _module_file(node: ast.ImportFrom, path: Path) -> Path:
    """The file that an import under `with read_base():` means; no package is imported to find it."""
    where, parts = f"{path}:{node.lineno}", (node.module or "").split(".")
    if node.level:
        folder = path.parent.joinpath(*[os.pardir] * (node.level - 1))
    elif len(parts) > 1:
        folder, parts = _package_folder(parts[0], where), parts[1:]
    else:
        raise ConfigError(
            f"{where}: {node.module!r} is a whole package, not a config in one",
            hint=f"For the file beside this one write `from .{node.module} import *`",
        )
    return beside(folder, *parts[:-1], f"{parts[-1]}.py")


def _package_folder(name: str, where: str) -> Path:
    spec = find_spec(name) if name not in sys.modules else getattr(sys.modules[name], "__spec__", None)
    if spec is None:
        raise ConfigError(
            f"{where}: there is no package {name!r}",
            hint=f"Install it, or write `from .{name} import *` for a file beside this one",
        )
    locations = spec.submodule_search_locations
    return Path(next(iter(locations))) if locations else Path(spec.origin or name)


# ---------------------------------------------------------------- running


def run(script: Script, path: Path, base: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Run the config and answer what it defines at its top level.

    Args:
        script: The config.
        path: Its file.
        base: The merged bases, which the code sees as `_base_`.
        names: What `with read_base():` gave.
    """
    given = {"__file__": str(absolute(path)), "__name__": "__config__", LAZY: Lazy, BASE: base, REFERENCE: base}
    namespace: dict[str, Any] = {**given, **names}
    try:
        with _undisturbed():
            exec(script.code, namespace)  # noqa: S102  a Python config is code; `safe` refuses it before this
    except (Exception, SystemExit) as error:
        raise _failure(error, path) from error
    return {name: value for name, value in namespace.items() if not name.startswith("__") and name != BASE}


def _failure(error: BaseException, path: Path) -> ConfigError:
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(path)]
    where = f"{path}:{lines[-1]}" if lines else str(path)
    if isinstance(error, DeployError):
        return ConfigError(f"{where}: {error.message}", hint=error.hint)
    hint = "A config must not end the process" if isinstance(error, SystemExit) else "Correct the config at that line"
    return ConfigError(f"{where}: {type(error).__name__}: {error}".rstrip(": "), hint=hint)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Undo what a config does to the process, and keep its prints out of our output."""
    path, entries, modules, folder = sys.path, list(sys.path), dict(sys.modules), Path.cwd()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path = path
        sys.path[:] = entries
        os.chdir(folder)
        _restore(modules)


def _restore(modules: dict[str, Any]) -> None:
    """Put back modules that were replaced; of the new ones, keep those that the import system made.

    To unload a module that was really imported would give its classes twice to those who import it next.
    """
    for name in [name for name in sys.modules if name not in modules]:
        spec = getattr(sys.modules[name], "__spec__", None)
        if getattr(spec, "name", None) != name:
            del sys.modules[name]
    sys.modules.update(modules)
