"""The branches of a tree: what lies in each, and the one walk behind all that `tree` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, TypeVar

import attrs

from awml_deploy_core.errors import DeployError
from awml_deploy_core.files import step
from awml_deploy_core.tree.bits import atom, class_name, fault, is_array

__all__ = ["DEPTH", "Branch", "arguments", "fold", "rebuild"]

T = TypeVar("T")

DEPTH = 100


@attrs.frozen(kw_only=True)
class Branch:
    """A node with what lies in it; the keys are plain scalars, also where the node's own are not."""

    node: Any
    kind: Literal["dict", "list", "tuple"]
    keys: tuple[Any, ...]
    children: tuple[Any, ...]
    name: str | None = None  # of an attrs class or a named tuple

    def step(self, key: Any) -> str:
        """How a path goes on from here."""
        return step(key) if self.kind == "dict" else f"[{key}]"


def fold(
    node: Any,
    leaf: Callable[[Any, str], T],
    branch: Callable[[Branch, list[T]], T],
    path: str = "$",
    above: tuple[int, ...] = (),
) -> T:
    """From the leaves upwards: what `branch` makes of the answers of its children."""
    here = _open(node, path)
    if here is None:
        wrong = fault(node)
        if wrong:
            hint = (
                "Use attrs classes, dicts, lists, tuples, dense arrays or tensors, numbers, text, bytes, None, enums."
            )
            raise DeployError(f"{path} is {wrong}, which a tree cannot hold", hint=hint)
        return leaf(node, path)
    if id(node) in above:
        raise DeployError(f"{path} contains itself, so it is not a tree")
    if len(above) == DEPTH:
        raise DeployError(f"{path} lies deeper than {DEPTH} levels, which is more than a tree may have")
    inside = (*above, id(node))
    answers = [
        fold(child, leaf, branch, path + here.step(key), inside)
        for key, child in zip(here.keys, here.children, strict=True)
    ]
    return branch(here, answers)


def rebuild(branch: Branch, answers: list[Any]) -> Any:
    """The node of a branch with other children."""
    cls = type(branch.node)
    if attrs.has(cls):
        return attrs.evolve(branch.node, **arguments(cls, dict(zip(branch.keys, answers, strict=True))))
    if branch.kind == "dict":
        return dict(zip(branch.node, answers, strict=True))
    if branch.kind == "list":
        return answers
    return cls._make(answers) if branch.name else tuple(answers)


def arguments(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Field values under the names that the constructor knows them by (`_x` is `x` there)."""
    return {attrs.fields_dict(cls)[name].alias or name: value for name, value in values.items()}


def _open(node: Any, path: str) -> Branch | None:
    """The node with its children, or None if it is a leaf."""
    cls = type(node)
    if attrs.has(cls):
        names = tuple(field.name for field in attrs.fields(cls) if field.init)
        children = tuple(getattr(node, name) for name in names)
        return Branch(node=node, kind="dict", keys=names, children=children, name=class_name(cls))
    if isinstance(node, Mapping):
        return Branch(node=node, kind="dict", keys=_keys(node, path), children=tuple(node.values()))
    if isinstance(node, tuple):
        name = class_name(cls) if hasattr(cls, "_fields") else None
        return Branch(node=node, kind="tuple", keys=tuple(range(len(node))), children=tuple(node), name=name)
    if isinstance(node, list):
        return Branch(node=node, kind="list", keys=tuple(range(len(node))), children=tuple(node))
    return None


def _keys(node: Mapping[Any, Any], path: str) -> tuple[Any, ...]:
    """The keys as plain scalars, which can be written down and looked up again."""
    keys = []
    for key in node:
        plain = key.value if isinstance(key, Enum) else key.item() if is_array(key) else key
        if not (plain is None or isinstance(plain, (bool, int, float, str))) or plain != plain:  # noqa: PLR0124  NaN
            raise DeployError(f"{path} has the key {key!r}, and keys are text, numbers, None or enums of these")
        keys.append(plain)
    if len(set(map(atom, keys))) < len(keys):
        raise DeployError(f"{path} has two keys that say the same: {', '.join(map(repr, node))}")
    return tuple(keys)
