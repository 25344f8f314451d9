"""Weights into a network: all of them or none, and one error that says what does not fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from awml_deploy_core.errors import LoadError

__all__ = ["load_state"]

logger = logging.getLogger(__name__)
SHOWN = 5


def load_state(module: nn.Module, tensors: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Copy weights into a network, strictly.

    Floating-point weights are converted to the network's floating-point type, which is logged; no other type is. A
    missing `num_batches_tracked` is no fault: old files lack it and only training reads it.

    Args:
        module: The network; unchanged if this raises.
        tensors: The weights by the network's names.
        source: Where they come from, for messages.

    Raises:
        LoadError: Keys are missing, unexpected, of another shape or type, or weights are NaN or infinite.
    """
    wanted = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    faults = [*_names(wanted, tensors), *_shapes(wanted, tensors), *_types(wanted, tensors), *_values(tensors)]
    if faults:
        raise LoadError(
            f"{source}: does not fit {type(module).__name__}: {'; '.join(faults)}", hint=_hint(wanted, tensors)
        )
    converted = [name for name in tensors if tensors[name].dtype != wanted[name].dtype]
    if converted:
        kinds = sorted({f"{tensors[name].dtype} to {wanted[name].dtype}" for name in converted})
        logger.warning("%s: converted %s", source, _some("weights", converted, note=", ".join(kinds)))
    module.load_state_dict({**wanted, **tensors}, strict=False)


def _some(what: str, items: Iterable[str], note: str = "") -> str:
    """`3 missing: a, b, c`, the first few of them."""
    found = list(items)
    dots = ", ..." if len(found) > SHOWN else ""
    return f"{len(found)} {what}{f' ({note})' if note else ''}: {', '.join(found[:SHOWN])}{dots}"


def _names(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    missing = [name for name in wanted if name not in given and name.rpartition(".")[2] != "num_batches_tracked"]
    unexpected = [name for name in given if name not in wanted]
    return [_some(what, names) for what, names in (("missing", missing), ("unexpected", unexpected)) if names]


def _shapes(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    wrong = [
        f"{name} is {tuple(given[name].shape)} in the file and {tuple(value.shape)} in the network"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    return [_some("of another shape", wrong)] if wrong else []


def _types(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    wrong = [
        f"{name} is {given[name].dtype} in the file and {value.dtype} in the network"
        for name, value in wanted.items()
        if name in given
        and given[name].dtype != value.dtype
        and not (given[name].is_floating_point() and value.is_floating_point())
    ]
    return [_some("of another type", wrong)] if wrong else []


def _values(given: Mapping[str, torch.Tensor]) -> list[str]:
    # Float8 has no isfinite of its own.
    wide = {name: value for name, value in given.items() if value.is_floating_point() or value.is_complex()}
    bad = [
        name
        for name, value in wide.items()
        if not bool(torch.isfinite(value.float() if value.itemsize == 1 else value).all())
    ]
    return [_some("with NaN or infinite values", bad)] if bad else []


def _hint(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str:
    for prefix in ("module.", "model.", "_orig_mod."):
        if not set(given) <= set(wanted) and {name.removeprefix(prefix) for name in given} & set(wanted) - set(given):
            return f"Names begin with {prefix!r}; `checkpoint.state(strip={prefix!r})` takes it off."
    if {name: tensor.shape for name, tensor in given.items()} == {name: t.shape for name, t in wanted.items()}:
        return "Names and shapes fit. Take an earlier checkpoint; this training diverged."
    return "Is it the checkpoint of this model, of this size and with this number of classes?"
