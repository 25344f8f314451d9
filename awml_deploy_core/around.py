"""A run around a run. What records, remembers or listens overrides the call and passes everything else on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from awml_deploy_core.records import Array, Component, Run

__all__ = ["Around"]


class Around:
    """Looks to a pipeline like the run inside it.

    Args:
        run: What really runs.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def device(self) -> str:
        """Where tensors live."""
        return self._run.device

    @property
    def components(self) -> Mapping[str, Component]:
        """The components that can be called."""
        return self._run.components

    def note(self, name: str, value: float = 1) -> None:
        """Count something about this sample."""
        self._run.note(name, value)

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component."""
        return self._run(component, **inputs)
