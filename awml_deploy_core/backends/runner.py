"""The run that a pipeline is given: checks what comes in, fits it to the session, hands the answer over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from attrs import frozen

from awml_deploy_core.backends.fit import Call, Limits, Tensors, fitted, limits_of
from awml_deploy_core.errors import PluginError, RequirementError, nearest

if TYPE_CHECKING:
    from typing_extensions import Self

    from awml_deploy_core.backends import Device
    from awml_deploy_core.records import Array, Component

__all__ = ["Runner", "Session", "check_inputs", "require_device"]


@frozen(kw_only=True, eq=False)
class Session:
    """One component made ready to run.

    Args:
        provider: What really runs it.
        call: Runs it on tensors of the session's device; neither writes its inputs nor keeps its outputs.
        accepts: Sizes that the artifact insists on.
        close: Gives the memory back.
    """

    provider: str
    call: Call
    accepts: Limits
    close: Callable[[], None]


class Runner:
    """A run over open sessions; leaving the `with` statement closes them.

    Args:
        variant: Name for messages.
        device: Where tensors live.
        components: What can be called.
        sessions: One for each component.
        opened: What is closed at the end.
    """

    def __init__(
        self,
        variant: str,
        device: Device,
        components: Mapping[str, Component],
        sessions: Mapping[str, Session],
        opened: ExitStack,
    ) -> None:
        self.variant = variant
        self.components = components
        self.notes: Counter[str] = Counter()
        self._device = torch.device(str(device))
        self._sessions = dict(sessions)
        self._limits = {name: limits_of(components[name], session.accepts) for name, session in sessions.items()}
        self._opened = opened

    @property
    def device(self) -> str:
        """Where tensors live: `cpu`, `cuda:0`."""
        return str(self._device)

    @property
    def providers(self) -> dict[str, str]:
        """What really runs each component."""
        return {name: session.provider for name, session in self._sessions.items()}

    def note(self, name: str, value: float = 1) -> None:
        """Add to a counter; whoever wants counts per sample clears `notes` between them."""
        self.notes[name] += value  # type: ignore[assignment]  # a Counter also counts in fractions

    def __call__(self, component: str, /, **inputs: Array) -> dict[str, Array]:
        """Run one component.

        Args:
            component: Its name.
            inputs: Every input by name, all torch tensors on `device` or all numpy arrays. Nothing is converted:
                a graph that was given other types than the network would be compared with something else.

        Returns:
            The outputs by name, in the kind of the inputs, owned by the caller.
        """
        declared = self._declared(component)
        plain = not any(isinstance(value, torch.Tensor) for value in inputs.values())
        tensors = {name: self._tensor(declared, name, value, plain) for name, value in inputs.items()}
        limits = self._limits[component]
        sizes = check_inputs(declared, tensors, limits)
        answer = fitted(declared, tensors, sizes, limits, self._sessions[component].call)
        return {name: value.cpu().numpy() for name, value in answer.items()} if plain else dict(answer)

    def _declared(self, name: str) -> Component:
        if name not in self.components:
            close = nearest(name, self.components)
            raise PluginError(
                f"pipeline: runs {name!r}, but the components are {', '.join(self.components)}",
                hint=f"Did you mean {close!r}?" if close else "Declare it in export_workflow.",
            )
        if name not in self._sessions:
            raise PluginError(f"pipeline: runs {name!r} after the run of variant {self.variant} was closed")
        return self.components[name]

    def _tensor(self, component: Component, name: str, value: Any, plain: bool) -> torch.Tensor:
        if plain and isinstance(value, np.ndarray):
            try:
                return torch.from_numpy(_plain(value)).to(self._device)
            except TypeError as error:
                _refuse(component, f"input {name!r} is of numpy's type {value.dtype}, which torch has not", cause=error)
        if not isinstance(value, torch.Tensor):
            wanted = "a numpy array" if plain else "a torch tensor like the others"
            _refuse(component, f"input {name!r} must be {wanted}, got {type(value).__name__}")
        if value.device != self._device:
            _refuse(component, f"input {name!r} must live on {self.device}, got {value.device}")
        return value.detach()

    def close(self) -> None:
        """Close every session; more than once is fine."""
        self._sessions.clear()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def check_inputs(component: Component, tensors: Tensors, limits: Limits) -> dict[str, int]:
    """Hold tensors against the component and read the sizes of its axes.

    Raises:
        PluginError: Naming component and tensor, what was expected and what came.
    """
    wanted = [tensor.name for tensor in component.inputs]
    for name in tensors:
        if name not in wanted:
            _refuse(component, f"there is no input {name!r}, only {', '.join(wanted)}")
    sizes: dict[str, int] = {}
    for declared in component.inputs:
        if declared.name not in tensors:
            _refuse(component, f"input {declared.name!r} is missing")
        tensor = tensors[declared.name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != declared.dtype:
            _refuse(component, f"input {declared.name!r} must be {declared.dtype}, got {dtype}")
        fits = len(tensor.shape) == len(declared.shape)
        for want, size in zip(declared.shape, tensor.shape, strict=True) if fits else ():
            fits = fits and (sizes.setdefault(want, size) if isinstance(want, str) else want) == size
        if not fits:
            known = f" with {', '.join(f'{name} = {size}' for name, size in sizes.items())}" if sizes else ""
            _refuse(
                component,
                f"input {declared.name!r} must have shape {_shown(declared.shape)}{known}, got {_shown(tensor.shape)}",
            )
    _check_limits(component, sizes, limits)
    return sizes


def _check_limits(component: Component, sizes: Mapping[str, int], limits: Limits) -> None:
    for name, size in sizes.items():
        low, high = limits[name]
        if not component.axis(name).independent and (size < low or (high is not None and size > high)):
            allowed = f"at least {low}" if high is None else f"{low}" if low == high else f"from {low} to {high}"
            _refuse(component, f"axis {name} must be {allowed}, got {size}")


def require_device(device: Device, variant: str) -> None:
    """Refuse a device that this machine lacks.

    Raises:
        RequirementError: Naming the device and how many there are.
    """
    there = torch.cuda.device_count() if device.kind == "cuda" else 1
    if device.index >= there:
        raise RequirementError(
            f"variant {variant}: device {device} does not exist here, torch sees {there} CUDA devices",
            hint="Choose another device, or install a torch built for CUDA and its driver.",
        )


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array as torch can borrow it: contiguous, writable, in this machine's byte order."""
    return np.require(array, dtype=array.dtype.newbyteorder("="), requirements=["C", "W"])


def _shown(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _refuse(component: Component, fact: str, cause: BaseException | None = None) -> NoReturn:
    raise PluginError(
        f"pipeline: component {component.name}: {fact}",
        hint="Make the pipeline hand over what export_workflow declares; nothing is converted on the way.",
    ) from cause
