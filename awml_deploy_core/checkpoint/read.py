"""Checkpoints and info files from disk: what kind of file it is, what is in it, or one sentence why not."""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from attrs import field, frozen

from awml_deploy_core.checkpoint.archive import read_legacy, read_zip
from awml_deploy_core.checkpoint.files import mapped, opened, refuse_other, stamped
from awml_deploy_core.checkpoint.machine import Machine, Malformed
from awml_deploy_core.checkpoint.names import Names, give_state, plain_names
from awml_deploy_core.checkpoint.opcodes import unpickle
from awml_deploy_core.checkpoint.safetensors import looks_like, read_safetensors
from awml_deploy_core.checkpoint.tensors import tensor_names
from awml_deploy_core.errors import LoadError

__all__ = ["Checkpoint", "read_checkpoint", "read_info"]

Tensors = Mapping[str, torch.Tensor]
WEIGHTS = ("state_dict", "model", "model_state_dict")
SECOND = ("ema_state_dict", "ema", "model_ema", "ema_model", "state_dict_ema")
BOOKKEEPING = ("optim", "scheduler", "lr_sched", "param_sched", "message_hub", "callbacks", "loops", "scaler")
TRUST = "If you trust where the file comes from, pass --trust-checkpoint, which lets it run any code; or re-save its "
TRUST_CHECKPOINT = TRUST + "weights as safetensors."
TRUST_INFO = TRUST + "content as lists, dicts and numpy arrays."


@frozen(kw_only=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    The tensors lie on the CPU, need no gradient and are views of a private mapping of the file: writing to one never
    reaches the file, and only what is touched is read. Do not overwrite the file in place while they are in use.

    Args:
        path: The file.
        layout: Who wrote it: `mmengine`, `lightning`, `megvii`, `state_dict`, `model`, `plain`, `safetensors`.
        tensors: The weights by name, in the order of the file, names as they are.
        second: The second copy of the weights that trainers with a moving average keep; empty if there is none.
        second_name: Its key in the file.
        parts: Every key at the top of the file.
        meta: The harmless rest: epoch, iteration, dataset_meta. Optimizer and scheduler state is left out.
        trusted: Whether the file was allowed to run code.
    """

    path: Path
    layout: str
    tensors: Tensors = field(repr=False)
    second: Tensors = field(factory=dict, repr=False)
    second_name: str | None = None
    parts: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(factory=dict, repr=False)
    trusted: bool = False
    _stamp: tuple[int, int] = field(default=(0, 0), repr=False)

    @cached_property
    def sha256(self) -> str:
        """Hash of the file, computed when first asked for.

        Raises:
            LoadError: The file is not the one that was read any more.
        """
        with opened(self.path) as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            if stamped(file) != self._stamp:
                raise LoadError(f"{self.path}: has changed since it was read", hint="Keep it still while deploying.")
        return digest.hexdigest()

    def state(self, which: Literal["weights", "ema", "raw"] = "weights", *, strip: str = "") -> dict[str, torch.Tensor]:
        """One copy of the weights.

        mmengine's EMA hook swaps the copies when it saves: `state_dict` holds the averaged weights and
        `ema_state_dict` the raw ones under `module.`, beside a counter `steps`. Other trainers keep the averaged ones
        apart. The answer follows the meaning, not the key.

        Args:
            which: `weights` for the main entry of the file, `ema` for averaged ones, `raw` for those that are not.
            strip: Prefix to take off the names that have it, such as `module.`; nothing is taken off by itself.

        Raises:
            LoadError: The file has no such copy, or two names fall together.
        """
        swapped = self.second_name == "ema_state_dict"
        if which == "ema" and self.second_name is None:
            raise LoadError(f"{self.path}: holds no averaged weights; it holds {_listed(self.parts)}")
        aside = self.second_name is not None and which == ("raw" if swapped else "ema")
        chosen = self.second if aside else self.tensors
        if aside and swapped:
            chosen = {name.removeprefix("module."): value for name, value in chosen.items() if name != "steps"}
        stripped = {name.removeprefix(strip): value for name, value in chosen.items()}
        if len(stripped) != len(chosen):
            raise LoadError(f"{self.path}: without the prefix {strip!r} two of its tensors have one name")
        return stripped


# ---------------------------------------------------------------- checkpoints


def _refuse_names(path: Path, names: Names, hint: str) -> None:
    if names.refused:
        raise LoadError(f"{path}: asks for code that is not allowed: {_listed(names.refused)}", hint=hint)


def _listed(names: Any, most: int = 20) -> str:
    """Names for a message: a file may hold anything as a name, of any length."""
    shown = [ascii(name)[1:-1][:120] for name, _ in zip(names, range(most), strict=False)]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def _trusted(path: Path, load: Any) -> Any:
    try:
        return load()
    except Exception as error:  # the file runs any code, so anything can be raised
        raise LoadError(f"{path}: could not be read even when trusted: {type(error).__name__}: {error}") from error


def read_checkpoint(path: str | os.PathLike[str], *, trust: bool = False) -> Checkpoint:
    """Read the tensors of a checkpoint; nothing of it is executed.

    Reads torch's zip files, the older row of pickles, and safetensors.

    Args:
        path: The file.
        trust: Let the file run any code, by torch's own unpickler.

    Raises:
        LoadError: It cannot be read, is damaged, asks for code, or holds no tensors.
    """
    path = Path(path)
    with opened(path) as file:
        mapping, stamp = mapped(file), stamped(file)
        head = mapping[:512]
        if looks_like(head):
            tensors, meta = read_safetensors(mapping)
            found: dict[str, Any] = {"layout": "safetensors", "tensors": tensors, "meta": meta}
        else:
            refuse_other(head, stamp[0])
            found = _layout(_root(path, mapping, head, trust=trust))
    if not found["tensors"]:
        parts = _listed(found.get("parts", ()))
        raise LoadError(f"{path}: holds no tensors" + (f"; at its top are {parts}" if parts else ""))
    return Checkpoint(path=path, trusted=trust, stamp=stamp, **found)


def _root(path: Path, mapping: mmap.mmap, head: bytes, *, trust: bool) -> Any:
    if trust:
        return _trusted(path, lambda: torch.load(path, map_location="cpu", weights_only=False))
    names = Names(plain_names() | tensor_names())
    if not head.startswith((b"PK", b"\x80")):
        raise Malformed("is no checkpoint: neither torch's zip or pickle format nor safetensors")
    try:
        root = (read_zip if head.startswith(b"PK") else read_legacy)(mapping, names)
    except Malformed:
        # What a file asks for says more than that it also stumbles over not getting it.
        _refuse_names(path, names, TRUST_CHECKPOINT)
        raise
    _refuse_names(path, names, TRUST_CHECKPOINT)
    return root


def _tensors(value: Any) -> dict[str, torch.Tensor]:
    if isinstance(value, torch.nn.Module):  # only where the file is trusted
        value = value.state_dict()
    if not isinstance(value, Mapping):
        return {}
    return {
        name: tensor.detach()
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }


def _layout(root: Any) -> dict[str, Any]:
    """Fields of the checkpoint from the object in the file."""
    if isinstance(root, torch.nn.Module):
        root = {"model": root}
    if not isinstance(root, Mapping):
        raise Malformed(f"holds a {type(root).__name__}, not a dictionary of tensors")
    parts = tuple(name for name in root if isinstance(name, str))
    main = next((key for key in WEIGHTS if _tensors(root.get(key))), None)
    if main is None:
        return {"layout": "plain", "tensors": _tensors(root), "parts": parts}
    second = next((key for key in SECOND if _tensors(root.get(key))), None)
    return {
        "layout": _writer(main, parts),
        "tensors": _tensors(root[main]),
        "second": _tensors(root.get(second)),
        "second_name": second,
        "parts": parts,
        "meta": _meta(root),
    }


def _writer(main: str, parts: tuple[str, ...]) -> str:
    if main == "state_dict":
        if "pytorch-lightning_version" in parts:
            return "lightning"
        return "mmengine" if "meta" in parts else "state_dict"
    return "megvii" if main == "model" and "start_epoch" in parts else "model"


def _meta(root: Mapping[Any, Any]) -> Mapping[str, Any]:
    """What is neither weights nor the trainer's bookkeeping; mmengine's own `meta` is opened."""
    rest = {
        name: value
        for name, value in root.items()
        if isinstance(name, str) and name not in WEIGHTS + SECOND and not name.startswith(BOOKKEEPING)
    }
    opened = rest.pop("meta", {})
    return MappingProxyType(rest | (dict(opened) if isinstance(opened, Mapping) else {"meta": opened}))


# ---------------------------------------------------------------- info files


def read_info(path: str | os.PathLike[str], *, trust: bool = False) -> Any:
    """Read a data set's info file, a pickle of containers and numpy arrays; nothing of it is executed.

    Args:
        path: The file.
        trust: Let the file run any code, by the standard unpickler.

    Returns:
        What was pickled, free of cycles and of bounded depth; paths come back as pure paths.

    Raises:
        LoadError: It cannot be read, is damaged or asks for code.
    """
    path = Path(path)
    names = Names(plain_names())
    with opened(path) as file, mapped(file) as mapping:
        if trust:
            return _trusted(path, lambda: pickle.load(file))  # noqa: S301  what the caller asked for
        if mapping[:2] == b"PK":
            raise Malformed("is a zip archive, as torch writes them, not a pickle")
        machine = Machine(mapping[:], 0, names.find, give_state)
        try:
            value = unpickle(machine)
        except Malformed:
            _refuse_names(path, names, TRUST_INFO)
            # Not earlier: the oldest pickles are text themselves.
            refuse_other(mapping[:512], len(mapping))
            raise
        _refuse_names(path, names, TRUST_INFO)
        if machine.at != len(mapping):
            raise Malformed(f"goes on for {len(mapping) - machine.at} bytes after its end")
        return value
