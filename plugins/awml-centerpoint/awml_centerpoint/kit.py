"""What numpy and torch do under different names, so that the rule of pillars is written once.

On the CPU numpy does it: single-threaded, which is as quick for a frame of points and does not stall where other
threads keep the cores busy. On a GPU torch does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

__all__ = ["DEVICE", "HOST", "Kit", "kit_of"]

Values = Any
"""An array of numpy or a tensor."""


@frozen(kw_only=True)
class Kit:
    """The operations that differ.

    Args:
        own: A tensor as what the kit works on.
        tensor: The way back.
        number: A float32 of its own kind beside some values.
        ints: As int32.
        floats: As float32.
        taken: Chosen rows.
        column: One column of rows, contiguous.
        floor: Whole numbers below.
        count: 0, 1, 2 and so on in int32, one beside each value.
        where: Values where a mask holds, else 0.
        rows: Where a mask holds.
        first: For every number, which are all below a bound, the first row that has it.
        order: Rows by their number below a bound, of equal ones the earlier first.
        counted: How often each number below a bound occurs.
        spread: Each value as often as its count says.
        sums: Sums of as many values in turn as each count says; no count is 0.
        stacked: Columns side by side.
        empty: Float32 still to be written, beside some values.
        zeros: The same with zeros in it.
        placed: Zeros of so many rows with some rows put where they belong.
    """

    own: Callable[[Tensor], Values]
    tensor: Callable[[Values], Tensor]
    number: Callable[[Values, float], Values]
    ints: Callable[[Values], Values]
    floats: Callable[[Values], Values]
    taken: Callable[[Values, Values], Values]
    column: Callable[[Values, int], Values]
    floor: Callable[[Values], Values]
    count: Callable[[Values], Values]
    where: Callable[[Values, Values], Values]
    rows: Callable[[Values], Values]
    first: Callable[[Values, int], Values]
    order: Callable[[Values, int], Values]
    counted: Callable[[Values, int], Values]
    spread: Callable[[Values, Values], Values]
    sums: Callable[[Values, Values], Values]
    stacked: Callable[[list[Values]], Values]
    empty: Callable[[Values, tuple[int, ...]], Values]
    zeros: Callable[[Values, tuple[int, ...]], Values]
    placed: Callable[[int, Values, Values], Values]


def kit_of(values: Tensor) -> Kit:
    """The one for where they lie."""
    return HOST if values.device.type == "cpu" else DEVICE


# ---------------------------------------------------------------- numpy


def _first(numbers: Values, bound: int) -> Values:
    rows, table = np.arange(len(numbers), dtype=np.int32), np.empty(bound, np.int32)
    table[numbers[::-1]] = rows[::-1]  # numpy keeps the last that is written
    return table[numbers]


def _order(numbers: Values, bound: int) -> Values:
    """Only numbers of 16 bits are sorted by counting, so it takes two rounds for more."""
    order = np.argsort(numbers.astype(np.uint16), kind="stable")
    if bound > 2**16:
        order = order[np.argsort((numbers >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def _placed(count: int, positions: Values, rows: Values) -> Values:
    """Numpy asks the system for large pages; a row is moved as one value."""
    found, whole = np.zeros((count, rows.shape[1]), np.float32), f"V{4 * rows.shape[1]}"
    found.view(whole)[positions] = rows.view(whole)
    return found


HOST = Kit(
    own=Tensor.numpy,
    tensor=torch.from_numpy,
    number=lambda _, value: np.float32(value),
    ints=lambda values: values.astype(np.int32),
    floats=lambda values: values.astype(np.float32),
    taken=lambda values, rows: values.take(rows, 0),
    column=lambda rows, index: np.ascontiguousarray(rows[:, index]),
    floor=np.floor,
    count=lambda values: np.arange(len(values), dtype=np.int32),
    where=lambda mask, values: np.where(mask, values, np.float32(0)),
    rows=np.flatnonzero,
    first=_first,
    order=_order,
    counted=lambda numbers, bound: np.bincount(numbers, minlength=bound),
    spread=np.repeat,
    sums=lambda values, counts: np.add.reduceat(values, np.cumsum(counts) - counts),
    stacked=lambda columns: np.stack(columns, 1),
    empty=lambda _, shape: np.empty(shape, np.float32),
    zeros=lambda _, shape: np.zeros(shape, np.float32),
    placed=_placed,
)

# ---------------------------------------------------------------- torch


def _first_on_device(numbers: Tensor, bound: int) -> Tensor:
    rows = torch.arange(len(numbers), dtype=torch.int32, device=numbers.device)
    table = rows.new_full((bound,), len(numbers)).scatter_reduce_(0, numbers.long(), rows, "amin")
    return table.index_select(0, numbers)


def _sums_on_device(values: Tensor, counts: Tensor) -> Tensor:
    """Sums of atomic additions differ from run to run; those of segments do not."""
    return torch.segment_reduce(values, "sum", lengths=counts.long(), unsafe=True)


DEVICE = Kit(
    own=lambda values: values,
    tensor=lambda values: values,
    # A tensor, never a number: a GPU multiplies by a number's reciprocal, which is another cell now and then.
    number=lambda beside, value: beside.new_tensor(value, dtype=torch.float32),
    ints=Tensor.int,
    floats=Tensor.float,
    taken=lambda values, rows: values.index_select(0, rows),
    column=lambda rows, index: rows[:, index].contiguous(),
    floor=torch.floor,
    count=lambda values: torch.arange(len(values), dtype=torch.int32, device=values.device),
    where=lambda mask, values: torch.where(mask, values, 0),
    rows=lambda mask: mask.nonzero()[:, 0],
    first=_first_on_device,
    order=lambda numbers, _: torch.sort(numbers, stable=True)[1],
    counted=lambda numbers, bound: torch.bincount(numbers, minlength=bound),
    spread=torch.repeat_interleave,
    sums=_sums_on_device,
    stacked=lambda columns: torch.stack(columns, 1),
    empty=lambda beside, shape: beside.new_empty(shape, dtype=torch.float32),
    zeros=lambda beside, shape: beside.new_zeros(shape, dtype=torch.float32),
    placed=lambda count, positions, rows: rows.new_zeros((count, rows.shape[1])).index_copy_(0, positions.long(), rows),
)
