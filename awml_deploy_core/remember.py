"""A run around a run that answers a question only once.

Verification asks the same of a variant several times: alone on recorded inputs, within the pipeline, against its parent
and against the trained network. A forward pass may take half a minute; the answer on disk takes milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from awml_deploy_core import tree
from awml_deploy_core.around import Around

if TYPE_CHECKING:
    from awml_deploy_core.records import Array, Run

__all__ = ["Remembering"]


class Remembering(Around):
    """Keeps every answer in a file named by a digest of the question.

    Args:
        run: What really runs; equal inputs must give equal outputs.
        folder: Where answers lie; one folder for each variant and device.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        super().__init__(run)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component, or say what it said to the same inputs before."""
        path = self._folder / f"{tree.digest({'component': component, 'inputs': inputs})}.npz"
        if path.exists():
            plain = not any(isinstance(value, torch.Tensor) for value in inputs.values())
            return {name: value if plain else self._tensor(value) for name, value in tree.load(path).items()}
        outputs = super().__call__(component, **inputs)
        if all(_shared(value) for value in outputs.values()):
            tree.save(outputs, path)
        return outputs

    def _tensor(self, value: Array) -> torch.Tensor:
        return torch.from_numpy(value).to(self.device)


def _shared(value: Array) -> bool:
    """Whether torch and numpy both know the element type, so that an answer can be given in either kind."""
    return not isinstance(value, torch.Tensor) or value.dtype not in (torch.bfloat16, torch.complex32)
