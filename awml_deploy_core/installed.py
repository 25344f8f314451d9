"""Which models the installed distributions offer, read from metadata alone.

Nothing is imported, so a clash or an outdated plugin is seen without running any of its code. Damaged metadata never
hide the plugins of others.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata
from attrs import evolve, frozen

from awml_deploy_core.hookspecs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Plugin", "core_fits", "core_version", "installed"]

CORE = "awml-deploy-core"
_ASKS_CORE = re.compile(r"(?i:awml[-_.]+deploy[-_.]+core)(?![\w.-])(?:\[[^\]]*\])?\s*(>=\d+(?:\.\d+)*$)?")

log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Plugin:
    """One model that an installed distribution offers, as its metadata say.

    Args:
        model: Name of the entry point, the argument of `--model`.
        distribution: Who offers it.
        version: Its version; None if the metadata are damaged.
        value: What the entry point names: `module` or `module:object`.
        requires_core: The versions of the core that it asks for, None if it does not say.
        clashes_with: Distributions that offer the same model; its own name if it offers the model twice.
        location: Folder of the metadata.
    """

    model: str
    distribution: str
    version: str | None
    value: str
    requires_core: str | None = None
    clashes_with: tuple[str, ...] = ()
    location: Path

    def __str__(self) -> str:
        return f"{self.distribution} {self.version or '(no version)'}"


def installed() -> tuple[Plugin, ...]:
    """Every model that the installed distributions offer, by name; nothing is imported."""
    entries = {entry for name in _offering() for entry in _entries(name)}
    found = sorted(entries, key=lambda plugin: (plugin.model, plugin.distribution, plugin.value))
    return tuple(evolve(plugin, clashes_with=_rivals(plugin, found)) for plugin in found)


def core_version() -> str | None:
    """The installed core; None where it runs from a folder that nobody installed."""
    found = _found(CORE)
    return next(_headers(_metadata(found), "Version"), None) if found else None


def core_fits(asked: str) -> bool:
    """Whether the installed core satisfies a specifier; where it is not installed, nobody can tell."""
    core = core_version()
    if core is None:
        return True
    # Nearly every plugin asks for `>=1.2`, and importing packaging takes longer than reading all metadata.
    if re.fullmatch(r">=[\d.]+", asked) and re.fullmatch(r"[\d.]+", core):
        return _release(asked[2:]) <= _release(core)
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(asked).contains(core, prereleases=True)


def _release(version: str) -> list[int]:
    return [int(part) for part in re.sub(r"(\.0+)+$", "", version).split(".")]


def _rivals(plugin: Plugin, found: list[Plugin]) -> tuple[str, ...]:
    return tuple(sorted({other.distribution for other in found if other.model == plugin.model and other != plugin}))


def _offering() -> list[str]:
    """Names of the distributions that speak of our group; METADATA are worth reading only for those."""
    everything = importlib_metadata.distributions()
    names = {_name(each) for each in everything if PROJECT in _text(each, "entry_points.txt")}
    # pip renames what it removes to `~name`; what it leaves behind when it is interrupted is not installed.
    return sorted(name for name in names if not name.startswith("~"))


def _entries(name: str) -> Iterator[Plugin]:
    """The models of one distribution."""
    distribution = _found(name)
    if distribution is None:
        log.warning("the distribution %s offers a model but cannot be found again by its name", name)
        return
    folder = _folder(distribution)
    metadata = _metadata(distribution)
    for model, value in _pairs(_text(distribution, "entry_points.txt")):
        yield Plugin(
            model=model,
            distribution=next(_headers(metadata, "Name"), name),
            version=next(_headers(metadata, "Version"), folder.stem.partition("-")[2] or None),
            value=value,
            requires_core=_asked(_headers(metadata, "Requires-Dist")),
            location=folder,
        )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of our group; a line without `=` is kept as a name, so that it is shown and not lost."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == PROJECT and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _asked(requirements: Iterator[str]) -> str | None:
    """What the requirements say about the core, as one specifier."""
    ours = ((text, _ASKS_CORE.match(text)) for text in requirements)
    asked = filter(None, (match[1] or _specifier(text) for text, match in ours if match))
    return ",".join(asked) or None


def _specifier(text: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        log.warning("the requirement %r cannot be read and is ignored: %s", text, error)
        return ""
    applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    return str(requirement.specifier) if applies else ""


# ---------------------------------------------------------------- reading what may be damaged

# `Any` stands for a distribution: importlib_metadata's releases disagree about the name of its type.


def _found(name: str) -> Any:
    """The distribution of that name: of several copies on the path, the one that an import finds; None without any."""
    copies = list(importlib_metadata.distributions(name=name))
    whole = [copy for copy in copies if _metadata(copy)]
    return next(iter(whole or copies), None)


def _metadata(distribution: Any) -> str:
    return _text(distribution, "METADATA") or _text(distribution, "PKG-INFO")


def _headers(metadata: str, key: str) -> Iterator[str]:
    """Values of a header. The parser of `email` costs more time than the whole scan; these values are single lines."""
    head = metadata.partition("\n\n")[0]
    return (match[1] for match in re.finditer(rf"^{key}[ \t]*:[ \t]*(.*\S)", head, re.MULTILINE | re.IGNORECASE))


def _text(distribution: Any, filename: str) -> str:
    try:
        return distribution.read_text(filename) or ""
    except (OSError, UnicodeDecodeError) as error:
        log.warning("%s of %s cannot be read and is ignored: %s", filename, _folder(distribution), error)
        return ""


def _folder(distribution: Any) -> Path:
    return Path(str(getattr(distribution, "_path", None) or distribution.locate_file("")))


def _name(distribution: Any) -> str:
    """The name that a search finds: of the folder, since METADATA may be damaged, or of METADATA if there is none."""
    if hasattr(distribution, "_path"):
        name = _folder(distribution).stem.partition("-")[0]
    else:
        name = next(_headers(_metadata(distribution), "Name"), "")
    return re.sub(r"[-_.]+", "-", name).lower()
