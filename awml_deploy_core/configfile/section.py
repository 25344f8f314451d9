"""Dicts as the code of a config sees those of its bases: keys are also attributes."""

from __future__ import annotations

from typing import Any

from awml_deploy_core.errors import nearest

DELETE = "_delete_"


class Section(dict[str, Any]):
    """A dict from a base: `model.backbone.depth = 50`, with an `update` and a `merge` that go into depth."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, sections(value))

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            close = nearest(name, map(str, self))
            raise AttributeError(f"the base has no {name!r} here" + (f", did you mean {close!r}?" if close else ""))
        return self[name]

    __setattr__ = __setitem__

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(name)
        del self[name]

    def copy(self) -> Section:
        """A shallow copy that is a section again."""
        return Section(self)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take over values; a dict into a dict goes into depth."""
        for key, value in dict(*args, **kwargs).items():
            mine = self.get(key)
            if isinstance(mine, Section) and isinstance(value, dict):
                mine.update(value)
            else:
                self[key] = value

    def merge(self, other: dict[str, Any]) -> None:
        """Take over values in depth, where `_delete_=True` empties the dict first."""
        merged = _blend(self, other)
        self.clear()
        for key, value in merged.items():
            self[key] = value


def _blend(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    result = {} if override.get(DELETE) else dict(base)
    for key, value in override.items():
        mine = result.get(key)
        if isinstance(value, dict) and isinstance(mine, dict):
            result[key] = _blend(mine, value)
        elif isinstance(value, dict):
            result[key] = {name: item for name, item in value.items() if name != DELETE}
        else:
            result[key] = value
    result.pop(DELETE, None)
    return result


def sections(value: Any) -> Any:
    """The value with every dict in it a `Section`."""
    if type(value) is dict:
        return Section(value)
    if type(value) in (list, tuple):
        return type(value)(sections(item) for item in value)
    return value


def settled(value: Any) -> Any:
    """The value without the `_delete_` keys that had nothing to delete."""
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items() if key != DELETE}
    if isinstance(value, (list, tuple)):
        return type(value)(settled(item) for item in value)
    return value
