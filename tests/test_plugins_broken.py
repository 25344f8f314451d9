"""Plugins that cannot be used: each says why, and none disturbs its neighbours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from awml_deploy_core import DeployError, ExitCode, LoadError, PluginError, hookimpl
from awml_deploy_core.installed import core_fits, core_version
from awml_deploy_core.plugins import Description, HookError, describe, installed, load

Install = Callable[..., Path]


def status(model: str, *, load: bool = True) -> Description:
    """What the listing says about one model."""
    (found,) = [each for each in describe(load=load) if each.model == model]
    return found


def refused(model: str) -> PluginError:
    """The error that loading the model raises."""
    with pytest.raises(PluginError) as caught:
        load(model)
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert caught.value.hint
    return caught.value


# ---------------------------------------------------------------- importing fails


def test_exception_at_import_names_the_line(fake_distribution: Install) -> None:
    source = "import json\n\nx = 1\njson.loads('{')\n"
    info = fake_distribution("awml-red", "1.2", entry_points={"red": "awml_red"}, modules={"awml_red": source})
    error = refused("red")
    where = f"importing awml_red failed at {info.parent / 'awml_red.py'}:4: json.decoder.JSONDecodeError: Expecting"
    assert error.message.startswith(f"awml-red 1.2: {where}")
    assert "Traceback" not in str(error)
    assert "\n" not in error.message
    assert type(error.__cause__).__name__ == "JSONDecodeError"
    assert status("red").status == "broken"
    assert status("red").detail.startswith(where)
    assert status("red").hint == "Report it to its authors, or try another release: `pip install --upgrade awml-red`."


def test_the_line_is_in_the_file_that_failed(fake_distribution: Install) -> None:
    modules = {"awml_red.hooks": "\nfrom awml_red import network\n", "awml_red.network": "x = 1\n1 / 0\n"}
    info = fake_distribution("awml-red", entry_points={"red": "awml_red.hooks"}, modules=modules)
    assert f"failed at {info.parent / 'awml_red' / 'network.py'}:2: ZeroDivisionError" in refused("red").message


def test_missing_dependency_is_named(fake_distribution: Install) -> None:
    source = "\nimport no_such_package.part\n"
    info = fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": source})
    error = refused("red")
    where = f"{info.parent / 'awml_red.py'}:2"
    assert error.message == (
        f"awml-red 1.0: it needs the package no_such_package, imported at {where}, which is not installed"
    )
    assert error.hint == "Install what provides 'no_such_package', for instance with `pip install --upgrade awml-red`."


def test_module_of_the_entry_point_is_missing(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red.hooks"}, modules={"awml_red.other": ""})
    assert refused("red").message == (
        "awml-red 1.0: its entry point is awml_red.hooks, but there is no module awml_red.hooks"
    )
    fake_distribution("awml-blue", entry_points={"blue": "awml_blue.hooks"})
    assert refused("blue").message.endswith("but there is no module awml_blue")
    assert "--force-reinstall" in str(refused("blue").hint)


def test_a_module_of_its_own_is_missing(fake_distribution: Install) -> None:
    modules = {"awml_red.hooks": "from awml_red.network import x"}
    fake_distribution("awml-red", entry_points={"red": "awml_red.hooks"}, modules=modules)
    assert "ModuleNotFoundError: No module named 'awml_red.network'" in refused("red").message


def test_syntax_error_names_the_line(fake_distribution: Install) -> None:
    source = "x = 1\ndef load_model(config:\n    pass\n"
    info = fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": source})
    assert f"failed at {info.parent / 'awml_red.py'}:2: SyntaxError" in refused("red").message


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("class Odd(BaseException): pass\nraise Odd('no')", "awml_red.Odd: no"),
        ("class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute", "awml_red.Mute: "),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    ],
)
def test_whatever_is_raised_at_import_is_one_sentence(fake_distribution: Install, source: str, said: str) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": source})
    assert said in refused("red").message
    assert "\n" not in refused("red").message
    assert status("red").status == "broken"


def test_interrupt_at_import_passes(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load("red")
    with pytest.raises(KeyboardInterrupt):
        describe(load=True)


def test_what_a_plugin_prints_at_import_stays_off_stdout(
    fake_distribution: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "print('hello from red')\nimport sys\nsys.stdout.write('{}')\n"
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": source})
    describe(load=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "hello from red\n{}" in err


# ---------------------------------------------------------------- the entry point


def test_missing_object_with_the_nearest(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red:plugin"}, modules={"awml_red": "plugins = 1"})
    assert refused("red").message == (
        "awml-red 1.0: its entry point is awml_red:plugin, but that module has no 'plugin', plugins may be meant"
    )


@pytest.mark.parametrize("value", ["", "awml-red.hooks", "awml_red.", ":x", "awml_red:", "a b", "awml_red:x:y", "1red"])
def test_value_that_is_no_reference(fake_distribution: Install, value: str) -> None:
    info = fake_distribution("awml-red", entry_points={"red": value})
    error = refused("red")
    assert error.message == (f"awml-red 1.0: its entry point 'red' is {value!r}, not `module` or `module:object`")
    assert str(info / "entry_points.txt") in str(error.hint)
    assert status("red", load=False).status == "broken"


def test_line_without_a_value_is_shown(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points="[awml_deploy]\nred awml_red.hooks\nblue = awml_red.hooks\n")
    assert status("red awml_red.hooks", load=False).status == "broken"
    assert status("blue", load=False).status == "unchecked"


# ---------------------------------------------------------------- the core's version


@pytest.mark.parametrize(
    "requirement",
    [
        "awml-deploy-core>=99.1",
        "AWML_Deploy.Core (>=99.1)",
        "awml-deploy-core[testing] >= 99.1",
        'awml-deploy-core>=99.1; python_version >= "3"',
    ],
)
def test_outdated_core(fake_distribution: Install, required_hooks: str, requirement: str) -> None:
    from awml_deploy_core import __version__ as core

    fake_distribution(
        "awml-red",
        "3.0",
        entry_points={"red": "awml_red"},
        modules={"awml_red": required_hooks},
        requires=["numpy>=1", requirement],
    )
    error = refused("red")
    assert error.message == f"awml-red 3.0: it asks for awml-deploy-core>=99.1, installed is awml-deploy-core {core}"
    assert '`pip install "awml-deploy-core>=99.1"`' in str(error.hint)
    assert "awml_red" not in sys.modules
    assert status("red", load=False).status == "outdated"


@pytest.mark.parametrize(
    "requires",
    [
        ["awml-deploy-core"],
        ["awml-deploy-core>=0.0.1"],
        ["Awml_Deploy.Core (>=0.0.1)"],
        ['awml-deploy-core>=99; python_version < "3"'],
        ['awml-deploy-core>=99; extra == "later"'],
        ["awml-deploy-core-extras>=99"],
        ["awml-deploy-core >= what?"],
    ],
)
def test_core_that_is_new_enough(fake_distribution: Install, required_hooks: str, requires: list[str]) -> None:
    fake_distribution(
        "awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": required_hooks}, requires=requires
    )
    assert status("red").status == "ok"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.integers(0, 2), min_size=1, max_size=4), core=st.lists(st.integers(0, 2), min_size=1, max_size=4)
)
def test_comparing_versions_agrees_with_packaging(
    asked: list[int], core: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    least, version = (".".join(map(str, parts)) for parts in (asked, core))
    monkeypatch.setattr("awml_deploy_core.installed.core_version", lambda: version)
    assert core_fits(f">={least}") == SpecifierSet(f">={least}").contains(version, prereleases=True)


def test_a_development_version_of_the_core_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awml_deploy_core.installed.core_version", lambda: "2.0.dev3+local")
    assert core_fits(">=1.9")
    assert not core_fits(">=2.0")
    assert not core_fits(">=1.9,<2.0.dev0")


def test_a_core_that_nobody_installed_is_not_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert core_version() is None
    assert core_fits(">=99")


def test_every_requirement_on_the_core_counts(fake_distribution: Install) -> None:
    fake_distribution(
        "awml-red", entry_points={"red": "awml_red"}, requires=["awml-deploy-core>=0.0.1", "awml-deploy-core<0.0.2"]
    )
    assert status("red").status == "outdated"


# ---------------------------------------------------------------- what it offers


def test_skeleton_says_what_is_missing(fake_distribution: Install) -> None:
    source = '''
        """red cannot run yet.

        More.
        """
        from awml_deploy_core import hookimpl

        @hookimpl
        def load_model(config): ...
    '''
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": source})
    assert refused("red").message == (
        "awml-red 1.0: it lacks 3 required hooks: load_samples, export_workflow, build_pipeline; "
        'it says "red cannot run yet."'
    )
    assert (status("red").status, status("red").hooks) == ("incomplete", ("load_model",))
    assert load("red", incomplete=True).hooks == ("load_model",)


def test_skeleton_without_a_docstring(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": ""})
    assert refused("red").message.endswith("build_pipeline")


@pytest.mark.parametrize(
    ("metadata", "version"), [(None, "4.2"), ("", "4.2"), ("Name: awml-red\n", "4.2"), ("Version: 7\n", "7")]
)
def test_damaged_metadata_do_not_hide_a_plugin(
    fake_distribution: Install, required_hooks: str, metadata: str | None, version: str
) -> None:
    info = fake_distribution("awml-red", "4.2", entry_points={"red": "awml_red"}, modules={"awml_red": required_hooks})
    (info / "METADATA").unlink()
    if metadata is not None:
        (info / "METADATA").write_text(metadata)
    (plugin,) = [plugin for plugin in installed() if plugin.model == "red"]
    assert (plugin.distribution, plugin.version) == ("awml-red", version)
    assert load("red").plugin == plugin


def test_unreadable_entry_points_are_logged(fake_distribution: Install, caplog: pytest.LogCaptureFixture) -> None:
    info = fake_distribution("awml-red", entry_points={"red": "awml_red"})
    (info / "entry_points.txt").write_bytes(b"[awml_deploy]\nred = \xff\n")
    assert "red" not in {plugin.model for plugin in installed()}
    assert f"entry_points.txt of {info} cannot be read" in caplog.text


def test_one_listing_with_every_status(fake_distribution: Install, required_hooks: str) -> None:
    fake_distribution("awml-ok", entry_points={"a-ok": "awml_ok"}, modules={"awml_ok": required_hooks})
    fake_distribution("awml-bad", entry_points={"a-bad": "awml_bad"}, modules={"awml_bad": "import sys; sys.exit(9)"})
    fake_distribution("awml-old", entry_points={"a-old": "awml_old"}, requires=["awml-deploy-core>=99"])
    fake_distribution("awml-half", entry_points={"a-half": "awml_half"}, modules={"awml_half": ""})
    fake_distribution("awml-one", entry_points={"a-twin": "awml_ok"})
    fake_distribution("awml-two", entry_points={"a-twin": "awml_ok"})

    def statuses(*, load: bool) -> list[tuple[str, str]]:
        return [(each.distribution, each.status) for each in describe(load=load) if each.model.startswith("a-")]

    assert statuses(load=False) == [
        ("awml-bad", "unchecked"),
        ("awml-half", "unchecked"),
        ("awml-ok", "unchecked"),
        ("awml-old", "outdated"),
        ("awml-one", "clash"),
        ("awml-two", "clash"),
    ]
    assert {"awml_ok", "awml_bad", "awml_half"}.isdisjoint(sys.modules)
    assert statuses(load=True) == [
        ("awml-bad", "broken"),
        ("awml-half", "incomplete"),
        ("awml-ok", "ok"),
        ("awml-old", "outdated"),
        ("awml-one", "clash"),
        ("awml-two", "clash"),
    ]
    assert status("a-ok").detail == "implements 4 hooks"
    assert load("a-ok").plugin.distribution == "awml-ok"


# ---------------------------------------------------------------- a hook fails


HOOKS = """
    import sys
    from awml_deploy_core import LoadError, hookimpl

    def deeper(config):
        return config["missing"]

    @hookimpl
    def load_model(config):
        return deeper({})

    @hookimpl
    def load_samples(purpose, config):
        raise LoadError("no data at /data", hint="Mount it.")

    @hookimpl
    def export_workflow(config):
        sys.exit(0)

    @hookimpl
    def build_pipeline(device, config):
        raise KeyboardInterrupt
"""


def test_a_bug_in_a_hook_is_the_plugins(fake_distribution: Install) -> None:
    info = fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HOOKS})
    with pytest.raises(HookError) as caught:
        load("red").call("load_model", config=None)
    assert caught.value.exit_code == ExitCode.BUG
    assert caught.value.message == (
        f"awml-red 1.0: its hook load_model failed at {info.parent / 'awml_red.py'}:6: KeyError: 'missing'"
    )
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_hook_that_exits_is_a_bug(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HOOKS})
    with pytest.raises(HookError, match="SystemExit: 0"):
        load("red").ask("export_workflow", config=None)


def test_a_bug_in_a_default_is_not_the_plugins(fake_distribution: Install) -> None:
    defaults = ModuleType("defaults")

    def hand_over(target: str) -> None:
        raise ZeroDivisionError

    defaults.hand_over = hookimpl(hand_over, trylast=True)  # type: ignore[attr-defined]
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HOOKS})
    with pytest.raises(ZeroDivisionError):
        load("red", defaults=defaults).ask("hand_over", target="autoware", artifacts=(), config=None)


def test_what_a_plugin_says_passes_unchanged(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HOOKS})
    with pytest.raises(DeployError) as caught:
        load("red").call("load_samples", purpose="evaluate", config=None)
    assert type(caught.value) is LoadError
    assert caught.value.message == "no data at /data"


def test_interrupt_in_a_hook_passes(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HOOKS})
    with pytest.raises(KeyboardInterrupt):
        load("red").call("build_pipeline", device="cpu", config=None)


def test_asking_with_wrong_arguments_is_a_bug_of_the_core(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HOOKS})
    loaded = load("red")
    with pytest.raises(TypeError, match="load_samples takes"):
        loaded.ask("load_samples", config=None)
    with pytest.raises(TypeError, match="load_model takes"):
        loaded.ask("load_model", config=None, device="cpu")
