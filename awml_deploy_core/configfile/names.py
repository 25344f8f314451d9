"""Names that a config takes from other modules: really imported, kept as a name, or refused."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING, Any

from awml_deploy_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAZY = "__lazy_name__"
"""What an import that is not carried out is rewritten to call."""

_OURS = "awml_deploy_core"
_ANCESTOR = {"deployment", "autoware_ml", "projects"}
_SUCCESSORS = {
    "ONNXExportConfig": "OnnxConfig",
    "TensorRTExportConfig": "CommonConfig",
    "TensorRTModelInputConfig": "ModelInput",
    "TensorRTProfileConfig": "Profile",
}
_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
_MARKERS = {"mmengine", "mmengine.config", _OURS, f"{_OURS}.configfile"}


class Lazy:
    """The dotted name of something in a package that a config mentions and nobody imports."""

    __slots__ = ("__dotted__",)
    __dotted__: str

    def __init__(self, dotted: str) -> None:
        object.__setattr__(self, "__dotted__", dotted)

    def __getattr__(self, name: str) -> Lazy:
        if name.startswith("__"):  # Protocols such as copying ask for these and must hear no.
            raise AttributeError(name)
        return Lazy(f"{self.__dotted__}.{name}")

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Say that there is nothing to call."""
        raise ConfigError(
            f"{self.__dotted__} is called, but configs do not import packages",
            hint="Use it as a value only (type=...), or write the result of the call",
        )

    def __repr__(self) -> str:
        return self.__dotted__


def refuse_ancestor(tree: ast.Module, path: Path) -> None:
    """Raise if the config imports the package that this one succeeds."""
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules = [node.module]
        for module in modules:
            if module.partition(".")[0] in _ANCESTOR:
                raise ConfigError(
                    f"{path}:{_line(node)}: imports {module}, which is not part of this package", hint=_instead(node)
                )


def _instead(node: ast.AST) -> str:
    names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
    ours = [f"{_OURS}.{_SUCCESSORS[name]}" for name in names if name in _SUCCESSORS]
    advice = ["write `from awml_deploy_core import Backend`"] if "Backend" in names else []
    advice += [f"use {', '.join(ours)}, or a plain dict"] if ours else []
    if not advice:
        advice = [
            "write plain dicts, or take Backend, OnnxConfig, CommonConfig, ModelInput, Profile from awml_deploy_core"
        ]
    text = "; ".join(advice)
    return text[0].upper() + text[1:]


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def imported_names(tree: ast.Module) -> set[str]:
    """Names of the top level that imports bind and no assignment does."""
    bound: set[str] = set()
    stored: set[str] = set()
    for node in _top_level(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored.add(node.id)
    return bound - stored


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those that have names of their own: functions, classes, comprehensions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, _SCOPES)]


class Imports(ast.NodeTransformer):
    """Rewrites imports that are not to be carried out into assignments of a `Lazy` name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        """`import a.b as c` to `c = Lazy("a.b")`."""
        return [
            ast.copy_location(ast.Import([alias]), node)
            if _carried_out(alias.name)
            else _assignment(alias.asname or top, alias.name if alias.asname else top, node)
            for alias in node.names
            for top in [alias.name.partition(".")[0]]
        ]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:
        """`from a import b as c` to `c = Lazy("a.b")`."""
        module = node.module or ""
        if node.level:
            raise ConfigError(
                f"{self.path}:{node.lineno}: a relative import outside `with read_base():`",
                hint="Put it under `with read_base():`; only other configs can be imported relatively",
            )
        if any(alias.name == "*" for alias in node.names):
            raise ConfigError(
                f"{self.path}:{node.lineno}: `from {module} import *` outside `with read_base():`",
                hint="Name what you need; `*` is for base configs",
            )
        # The marker of base imports does not need the package that defines it, and outside a block it means nothing.
        marker = module in _MARKERS
        names = [alias for alias in node.names if not (marker and alias.name == "read_base")]
        if not names:
            return ast.copy_location(ast.Pass(), node)
        if _carried_out(module):
            return ast.copy_location(ast.ImportFrom(module, names, 0), node)
        return [_assignment(alias.asname or alias.name, f"{module}.{alias.name}", node) for alias in names]


def _carried_out(module: str) -> bool:
    top = module.partition(".")[0]
    return top == _OURS or top in sys.stdlib_module_names


def _assignment(name: str, dotted: str, node: ast.stmt) -> ast.stmt:
    call = ast.Call(ast.Name(LAZY, ast.Load()), [ast.Constant(dotted)], [])
    return ast.fix_missing_locations(ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], call), node))
