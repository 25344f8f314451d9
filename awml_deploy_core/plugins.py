"""Which plugins exist; load exactly one, or say precisely why not.

The name of an entry point is the name of a model. Only the module of the chosen model is imported, so a broken
neighbour cannot break a run.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import pluggy
from attrs import frozen

from awml_deploy_core import hookspecs
from awml_deploy_core.audit import audit_config, audit_hooks
from awml_deploy_core.errors import DeployError, PluginError, nearest
from awml_deploy_core.hookspecs import PROJECT, REQUIRED
from awml_deploy_core.installed import CORE, Plugin, core_fits, core_version, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from awml_deploy_core.config import Config  # noqa: TC004  attrs does not resolve it, and importing it costs

__all__ = ["Description", "HookError", "Loaded", "Plugin", "describe", "installed", "load"]

Status = Literal["ok", "clash", "broken", "outdated", "incomplete", "unchecked"]

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(rf"({_DOTTED})\s*(?::\s*({_DOTTED}))?\s*(?:\[.*\])?")


class HookError(DeployError):
    """A hook of a plugin failed by a fault of the plugin's code."""


class _RefusalError(PluginError):
    """Why a plugin cannot be used, with the word that `describe` has for it."""

    def __init__(self, status: Status, message: str, *, hint: str, hooks: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.status: Status = status
        self.hooks = hooks


@frozen(kw_only=True)
class Description:
    """What `awml-deploy plugins` says about one model.

    Args:
        model: Its name.
        distribution: Who offers it.
        version: Of the distribution, None if its metadata are damaged.
        status: Whether it can be used; `unchecked` if it was not imported.
        detail: The same in a sentence.
        hooks: What it implements, as far as that could be found out.
        hint: What to do about a fault.
    """

    model: str
    distribution: str
    version: str | None
    status: Status
    detail: str
    hooks: tuple[str, ...] = ()
    hint: str | None = None


@frozen(kw_only=True, eq=False)
class Loaded:
    """The one plugin that was chosen, ready to be asked.

    Args:
        plugin: Where it came from.
        manager: A manager with this plugin and the core's defaults.
        hooks: What the plugin itself implements.
        own_config: The plugin's `Config`, None if it has none.
    """

    plugin: Plugin
    manager: pluggy.PluginManager
    hooks: tuple[str, ...]
    own_config: type[Config] | None = None

    @property
    def config_class(self) -> type[Config]:
        """The class of the settings: the plugin's, else the core's."""
        from awml_deploy_core.config import Config

        return self.own_config or Config

    def ask(self, hook: str, /, **arguments: Any) -> Any:
        """The answer of a hook, None if nobody has one.

        Raises:
            HookError: The plugin's code failed; a `DeployError` that it raised passes as it is.
        """
        caller = getattr(self.manager.hook, hook)
        if set(arguments) != set(caller.spec.argnames):
            raise TypeError(f"{hook} takes {caller.spec.argnames}, not {tuple(arguments)}")
        try:
            return caller(**arguments)
        except DeployError:
            raise
        except (Exception, SystemExit) as error:
            if hook not in self.hooks:
                raise  # a default failed, which is no fault of the plugin
            raise HookError(
                f"{self.plugin}: its hook {hook} failed{_where(self.plugin, error)}: {_said(error)}",
                hint=f"This is a bug in {self.plugin.distribution}; -v shows the traceback that its authors need.",
            ) from error

    def call(self, hook: str, /, **arguments: Any) -> Any:
        """The answer of a hook that must have one.

        Raises:
            PluginError: The answer is None.
            HookError: As for `ask`.
        """
        answer = self.ask(hook, **arguments)
        if answer is None:
            fact = f"its hook {hook} answered None" if hook in self.hooks else f"it does not implement the hook {hook}"
            raise PluginError(f"{self.plugin}: {fact}", hint=f"Let {hook} in {self.plugin.value} return its value.")
        return answer


def load(model: str, *, defaults: ModuleType | None = None, incomplete: bool = False) -> Loaded:
    """Import and register the plugin of one model, and no other.

    Args:
        model: Name of the model.
        defaults: Hook implementations of the core, asked where the plugin has no answer.
        incomplete: Whether required hooks may be missing, which does no harm where only a config is checked.

    Raises:
        PluginError: The plugin is not installed, clashes, is outdated, broken or incomplete.
    """
    plugin = _choose(model)
    _check_metadata(plugin)
    loaded = _open(plugin, defaults)
    if not incomplete:
        _check_complete(loaded)
    return loaded


def describe(*, load: bool) -> tuple[Description, ...]:
    """What can be said about every installed plugin.

    Args:
        load: Whether to import each of them. A plugin that ends the process without raising (`os._exit`, a crash in
            compiled code) then ends the listing with it.
    """
    return tuple(_describe(plugin, load=load) for plugin in installed())


def _describe(plugin: Plugin, *, load: bool) -> Description:
    say = functools.partial(Description, model=plugin.model, distribution=plugin.distribution, version=plugin.version)
    try:
        _check_metadata(plugin)
        if not load:
            return say(status="unchecked", detail="not imported")
        loaded = _open(plugin, None)
        _check_complete(loaded)
    except _RefusalError as refusal:
        detail = refusal.message.removeprefix(f"{plugin}: ")
        return say(status=refusal.status, detail=detail, hint=refusal.hint, hooks=refusal.hooks)
    return say(status="ok", detail=f"implements {_plural('hook', loaded.hooks)}", hooks=loaded.hooks)


# ---------------------------------------------------------------- what can be refused without importing


def _choose(model: str) -> Plugin:
    found = {plugin.model: plugin for plugin in installed()}
    if model in found:
        return found[model]
    close = nearest(model, found)
    package = f"awml-{model}" if re.fullmatch(r"\w+([.-]\w+)*", model) else "awml-<name>"
    raise PluginError(
        f"no installed plugin offers the model {model!r}: "
        + (f"installed are {', '.join(found)}" if found else "no model plugin is installed at all"),
        hint=f"{f'Did you mean {close}? Otherwise install' if close else 'Install'} it: `pip install {package}`.",
    )


def _check_metadata(plugin: Plugin) -> None:
    if plugin.clashes_with:
        raise _clash(plugin)
    if not _TARGET.fullmatch(plugin.value):
        raise _RefusalError(
            "broken",
            f"{plugin}: its entry point {plugin.model!r} is {plugin.value!r}, not `module` or `module:object`",
            hint=f"Correct {plugin.location / 'entry_points.txt'}, or the plugin's pyproject.toml and reinstall it.",
        )
    if plugin.requires_core and not core_fits(plugin.requires_core):
        raise _RefusalError(
            "outdated",
            f"{plugin}: it asks for {CORE}{plugin.requires_core}, installed is {CORE} {core_version()}",
            hint=f'`pip install "{CORE}{plugin.requires_core}"`, '
            f"or a release of the plugin for this core: `pip install --upgrade {plugin.distribution}`.",
        )


def _clash(plugin: Plugin) -> _RefusalError:
    names = sorted({plugin.distribution, *plugin.clashes_with})
    if len(names) > 1:
        message = f"{' and '.join(names)} offer the same model {plugin.model!r}, so none can be chosen"
        hint = f"Keep one of them: {' or '.join(f'`pip uninstall {name}`' for name in names)}."
    else:
        message = f"{plugin}: it offers the model {plugin.model!r} twice, so none can be chosen"
        hint = f"Its authors must give the entry points different names ({plugin.location / 'entry_points.txt'})."
    return _RefusalError("clash", message, hint=hint)


# ---------------------------------------------------------------- what shows when it is imported


def _open(plugin: Plugin, defaults: ModuleType | None) -> Loaded:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    with _guarded(plugin):
        target = _imported(plugin)
        hooks, faults = audit_hooks(manager, target)
        owner = target if hasattr(target, "Config") else sys.modules[_module(plugin)]
        faults += audit_config(owner.Config) if hasattr(owner, "Config") else []
    if faults:
        raise _RefusalError(
            "broken",
            f"{plugin}: {plugin.value} has {_plural('fault', faults)}: {'; '.join(faults)}",
            hint="`python -m pydoc awml_deploy_core.hookspecs` shows every hook and its arguments.",
            hooks=hooks,
        )
    if defaults is not None:
        manager.register(defaults, name="defaults of the core")
    manager.register(target, name=plugin.distribution)
    return Loaded(plugin=plugin, manager=manager, hooks=hooks, own_config=getattr(owner, "Config", None))


def _check_complete(loaded: Loaded) -> None:
    missing = [hook for hook in REQUIRED if not getattr(loaded.manager.hook, hook).get_hookimpls()]
    if not missing:
        return
    says = (inspect.getdoc(sys.modules[_module(loaded.plugin)]) or "").partition("\n")[0]
    raise _RefusalError(
        "incomplete",
        f"{loaded.plugin}: it lacks {_plural('required hook', missing)}: {', '.join(missing)}"
        + (f'; it says "{says}"' if says else ""),
        hint=f"Look for a newer release of {loaded.plugin.distribution}; "
        f"its authors implement them in {loaded.plugin.value}.",
        hooks=loaded.hooks,
    )


@contextmanager
def _guarded(plugin: Plugin) -> Iterator[None]:
    """Turn whatever a plugin does while it is imported into one sentence; stdout stays ours."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, _RefusalError):
        raise
    except BaseException as error:  # a module may call sys.exit, or raise anything else, and is still only broken
        raise _import_failure(plugin, error) from error


def _imported(plugin: Plugin) -> Any:
    target: Any = import_module(_module(plugin))
    path = plugin.value.partition("[")[0].partition(":")[2].strip()
    for name in filter(None, path.split(".")):
        if not hasattr(target, name):
            close = nearest(name, dir(target))
            raise _RefusalError(
                "broken",
                f"{plugin}: its entry point is {plugin.value}, but that module has no {name!r}"
                + (f", {close} may be meant" if close else ""),
                hint=_report(plugin),
            )
        target = getattr(target, name)
    return target


def _module(plugin: Plugin) -> str:
    return plugin.value.partition("[")[0].partition(":")[0].strip()


def _import_failure(plugin: Plugin, error: BaseException) -> _RefusalError:
    package = _module(plugin).partition(".")[0]
    lacks = (isinstance(error, ModuleNotFoundError) and error.name) or ""
    fact = f"importing {plugin.value} failed{_where(plugin, error)}: {_said(error)}"
    hint = _report(plugin)
    if lacks and lacks.partition(".")[0] != package:
        fact = (
            f"it needs the package {lacks.partition('.')[0]}, imported{_where(plugin, error)}, which is not installed"
        )
        hint = f"Install what provides {lacks!r}, for instance with `pip install --upgrade {plugin.distribution}`."
    elif lacks and f"{_module(plugin)}.".startswith(f"{lacks}."):
        fact = f"its entry point is {plugin.value}, but there is no module {lacks}"
        hint = f"Install it anew: `pip install --force-reinstall --no-deps {plugin.distribution}`."
    return _RefusalError("broken", f"{plugin}: {fact}", hint=hint)


def _report(plugin: Plugin) -> str:
    return f"Report it to its authors, or try another release: `pip install --upgrade {plugin.distribution}`."


def _where(plugin: Plugin, error: BaseException) -> str:
    """The last line of the plugin's own code that led to the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    package = _module(plugin).partition(".")[0]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            return f" at {frame.f_code.co_filename}:{line}"
    return ""


def _said(error: BaseException) -> str:
    """Type and text of an exception in one line, also if its own `__str__` fails."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


def _plural(word: str, things: tuple[str, ...] | list[str]) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
