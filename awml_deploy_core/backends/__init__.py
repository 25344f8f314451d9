"""Artifact -> run: the same call on every backend.

Nothing heavy is imported here: which backend is needed is known only when a variant is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from awml_deploy_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from awml_deploy_core.backends.runner import Runner, Session
    from awml_deploy_core.records import Component, Variant

__all__ = ["Device", "open_run", "parse_device"]


@frozen(kw_only=True)
class Device:
    """Where tensors live: the kind of memory and which one of that kind."""

    kind: Literal["cpu", "cuda"]
    index: int = 0

    def __str__(self) -> str:
        """The spelling that torch understands."""
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def parse_device(text: str) -> Device:
    """Read `cpu`, `cuda` or `cuda:1`.

    Raises:
        ConfigError: If it is none of them.
    """
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", text)
    if not found:
        raise ConfigError(f"device {text!r} is not known", hint="Write cpu, cuda or cuda:N.")
    return Device(kind="cpu") if text == "cpu" else Device(kind="cuda", index=int(found[1] or 0))


def open_run(
    variant: Variant,
    components: Iterable[Component],
    *,
    modules: Mapping[str, nn.Module] | None = None,
    threads: int | None = None,
) -> Runner:
    """Make every component of a variant ready to run.

    Args:
        variant: Which backend, where, and the artifacts.
        components: What can be called.
        modules: The networks by component; what the `pytorch` backend runs.
        threads: Threads for one operator on the CPU; None leaves the choice to the backend.

    Returns:
        A run to be used in a `with` statement, which closes its sessions.

    Raises:
        RequirementError: If the device or the provider is not there.
        ArtifactError: If a file is missing, broken, or is not what the component describes.
    """
    from awml_deploy_core.backends import onnxruntime, pytorch, tensorrt
    from awml_deploy_core.backends.runner import Runner, require_device

    device = parse_device(variant.device)
    sessions: dict[str, Session] = {}
    declared = {component.name: component for component in components}
    with ExitStack() as opened:
        if variant.backend == "tensorrt":
            tensorrt.require_driver(variant.name)
        require_device(device, variant.name)
        if variant.backend == "pytorch":
            opened.enter_context(pytorch.thread_limit(threads))
        for component in declared.values():
            if variant.backend == "pytorch":
                session = pytorch.open_session(variant, component, device, modules or {})
            elif variant.backend == "tensorrt":
                session = tensorrt.open_session(variant, component, device, graphs=variant.cuda_graphs)
            else:
                session = onnxruntime.open_session(variant, component, device, threads)
            sessions[component.name] = session
            opened.callback(session.close)
        return Runner(variant.name, device, declared, sessions, opened.pop_all())
