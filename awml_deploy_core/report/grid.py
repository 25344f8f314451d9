"""A table of text, between what knows what it means and what knows how it looks."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Grid"]


@frozen(kw_only=True)
class Grid:
    """A table of text: a status word stands bare in its cell, and whoever prints it gives it a colour or a sign.

    Args:
        title: What it shows.
        columns: Their names; at a line feed a narrow table may break one.
        rows: Cells.
        figures: Which columns hold figures and stand flush right.
        names: Which columns hold names that stand for themselves.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: frozenset[int] = frozenset()
    names: frozenset[int] = frozenset({0})
