"""Which TensorRT there is and what it can do, asked by capability and never by version."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal

from attrs import field, frozen

from awml_deploy_core.build.process import ask
from awml_deploy_core.errors import RequirementError

__all__ = ["MODULES", "TITLES", "Flavor", "choose", "installed", "probe"]

Name = Literal["tensorrt", "tensorrt_rtx"]

MODULES: tuple[Name, ...] = ("tensorrt", "tensorrt_rtx")
"""In the order in which `auto` takes them: the one that has layers by hand for this GPU before the portable one."""

TITLES: dict[str, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""How people write them."""

_EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def _words(given: object) -> tuple[str, ...]:
    return tuple(map(str, given))  # type: ignore[call-overload]  # a list out of JSON


@frozen(kw_only=True)
class Flavor:
    """One TensorRT.

    Args:
        name: Its module.
        version: Its version.
        builder_flags: Names of the flags that its builder knows.
        network_flags: Names of the flags that a network can be made with.
        dtypes: Names of the element types that it knows.
    """

    name: Name
    version: str
    builder_flags: tuple[str, ...] = field(default=(), converter=_words)
    network_flags: tuple[str, ...] = field(default=(), converter=_words)
    dtypes: tuple[str, ...] = field(default=(), converter=_words)

    @property
    def weak(self) -> bool:
        """Whether its builder chooses precisions by flags."""
        return "FP16" in self.builder_flags

    @property
    def strong(self) -> bool:
        """Whether it can be held to the types that stand in the graph; without weak typing it always is."""
        return "STRONGLY_TYPED" in self.network_flags or not self.weak

    def __str__(self) -> str:
        """Name and version, as people write them."""
        return f"{TITLES[self.name]} {self.version}"


def installed() -> tuple[Name, ...]:
    """The modules that can be found; whether they can be imported is another matter."""
    return tuple(name for name in MODULES if find_spec(name) is not None)


def choose(wanted: Literal["auto", "tensorrt", "tensorrt_rtx"]) -> Flavor:
    """The TensorRT that a config means.

    Raises:
        RequirementError: It is not installed, or cannot be imported.
    """
    there = installed()
    if wanted != "auto" and wanted not in there:
        raise RequirementError(
            f"`flavor = {wanted!r}`, but the package {wanted} is not installed",
            hint=f"Install it: `pip install 'awml-deploy-core[{_EXTRAS[wanted]}]'`.",
        )
    if not there:
        raise RequirementError(
            "no TensorRT is installed",
            hint="`pip install 'awml-deploy-core[tensorrt-rtx]'` installs TensorRT-RTX, which builds without a GPU; "
            "TensorRT itself comes from NVIDIA's own package index, or with JetPack.",
        )
    if wanted != "auto":
        return probe(wanted)
    faults = []
    for name in there:
        try:
            return probe(name)
        except RequirementError as error:
            faults.append(error)
    raise faults[0]


@cache
def probe(name: Name) -> Flavor:
    """Import a TensorRT in a process of its own and ask what it has.

    Raises:
        RequirementError: It cannot be imported, with the reason.
    """
    answer = ask({"task": "probe", "flavor": name})
    return Flavor(name=name, **answer)
