"""Sizes that a session accepts: padding and splitting on independent axes, once for all backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from awml_deploy_core.errors import PluginError

if TYPE_CHECKING:
    from awml_deploy_core.records import Component
    from awml_deploy_core.records import Tensor as Declared

__all__ = ["Call", "Limits", "cut", "fitted", "join", "limits_of", "pad"]

Tensors: TypeAlias = "dict[str, torch.Tensor]"
Call: TypeAlias = "Callable[[Tensors], Tensors]"
Limits: TypeAlias = "Mapping[str, tuple[int, int | None]]"
"""Smallest and largest size by the name of the axis; None is no upper limit."""


def limits_of(component: Component, accepted: Limits) -> dict[str, tuple[int, int | None]]:
    """What the component declares, narrowed by what the artifact accepts."""
    narrowed = {}
    for axis in component.axes:
        low, high = accepted.get(axis.name, (0, None))
        highs = [size for size in (axis.max, high) if size is not None]
        narrowed[axis.name] = (max(axis.min, low), min(highs, default=None))
    return narrowed


def fitted(component: Component, inputs: Tensors, sizes: Mapping[str, int], limits: Limits, call: Call) -> Tensors:
    """Run in pieces that the session accepts.

    Rows are padded by repeating the last one (zeros if there is none), because real values cannot make a NaN that
    a session would warn about. The padding is cut off again and the pieces are joined in order.

    Args:
        component: Says which axes are independent.
        inputs: Checked tensors.
        sizes: Size of every axis in `inputs`.
        limits: What the session accepts.
        call: Runs the session on sizes that fit.

    Returns:
        Outputs of the size of the inputs.
    """
    for axis in component.axes:
        low, high = limits[axis.name]
        size = sizes.get(axis.name, low)
        if not axis.independent or (low <= size and (high is None or size <= high)):
            continue
        answers = []
        for start, stop in _pieces(size, high):
            rows = stop - start
            piece = pad(component, cut(component.inputs, inputs, axis.name, start, stop), axis.name, low)
            now = {**sizes, axis.name: max(rows, low)}
            answer = fitted(component, piece, now, limits, call)
            _require_rows(component, answer, axis.name, max(rows, low))
            answers.append(cut(component.outputs, answer, axis.name, 0, rows))
        return join(component.outputs, answers, axis.name)
    return call(inputs)


def cut(declared: tuple[Declared, ...], tensors: Tensors, axis: str, start: int, stop: int) -> Tensors:
    """Rows `start` to `stop` of every tensor that has the axis; the others whole."""
    spots = dict(_places(declared, axis))
    return {
        name: tensor.narrow(spots[name], start, stop - start) if name in spots else tensor
        for name, tensor in tensors.items()
    }


def pad(component: Component, inputs: Tensors, axis: str, least: int) -> Tensors:
    """The inputs with at least so many rows on the axis."""
    padded = dict(inputs)
    for name, spot in _places(component.inputs, axis):
        tensor = inputs[name]
        rows = tensor.shape[spot]
        if rows >= least:
            continue
        shape = (*tensor.shape[:spot], least - rows, *tensor.shape[spot + 1 :])
        more = tensor.narrow(spot, rows - 1, 1).expand(shape) if rows else tensor.new_zeros(shape)
        padded[name] = torch.cat([tensor, more], dim=spot)
    return padded


def join(declared: tuple[Declared, ...], pieces: list[Tensors], axis: str) -> Tensors:
    """The pieces one after another on the axis."""
    spots = dict(_places(declared, axis))
    return {name: torch.cat([piece[name] for piece in pieces], dim=spots[name]) for name in pieces[0] if name in spots}


def _places(declared: tuple[Declared, ...], axis: str) -> Iterator[tuple[str, int]]:
    return ((tensor.name, tensor.shape.index(axis)) for tensor in declared if axis in tensor.shape)


def _pieces(size: int, high: int | None) -> list[tuple[int, int]]:
    step = high or max(size, 1)
    return [(start, min(start + step, size)) for start in range(0, max(size, 1), step)]


def _require_rows(component: Component, answer: Tensors, axis: str, rows: int) -> None:
    """Refuse an answer that cannot be cut: its rows would be attributed to the wrong inputs."""
    spots = dict(_places(component.outputs, axis))
    for name, tensor in answer.items():
        spot = spots.get(name)
        if spot is None:
            raise PluginError(
                f"component {component.name}: output {name} has no axis {axis}, so its rows cannot be padded or split",
                hint=f"Declare {axis} on every output, or declare it not independent.",
            )
        if tensor.dim() <= spot or tensor.shape[spot] != rows:
            raise PluginError(
                f"component {component.name}: output {name} has shape {tuple(tensor.shape)} for {rows} rows "
                f"of the independent axis {axis}",
                hint=f"Is {axis} traced into the graph as a fixed size, or is it not independent?",
            )
