"""What pluggy lets through in silence is refused with a name, all faults of a plugin at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from awml_deploy_core import PluginError
from awml_deploy_core.plugins import describe, load

Install = Callable[..., Path]

HEAD = """
import functools
import pluggy
from attrs import field, frozen
from awml_deploy_core import config as core, hookimpl
"""


def faults(fake_distribution: Install, source: str) -> str:
    """The faults that loading such a module names."""
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HEAD + source})
    with pytest.raises(PluginError) as caught:
        load("red")
    (listed,) = [each for each in describe(load=True) if each.model == "red"]
    assert (listed.status, caught.value.exit_code) == ("broken", 3)
    assert listed.detail == caught.value.message.removeprefix("awml-red 1.0: ")
    return listed.detail.partition(": ")[2]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def load_model(config): ...", "load_model is called like a hook but is not marked with @hookimpl"),
        ("load_model = lambda config: 1", "load_model is called like a hook but is not marked with @hookimpl"),
        (
            "load_model = functools.partial(print, 1)",
            "load_model is a partial, a hook must be a function marked with @hookimpl",
        ),
        ("@hookimpl\ndef load_modle(config): ...", "load_modle is no hook, load_model may be meant"),
        (
            "@hookimpl(specname='compute_metric')\ndef x(records): ...",
            "compute_metric is no hook, compute_metrics may be meant",
        ),
        ("@hookimpl(optionalhook=True)\ndef zzz(config): ...", "zzz is no hook"),
        (
            "@pluggy.HookimplMarker('awml')\ndef load_model(config): ...",
            "load_model is marked for the project 'awml' instead of 'awml_deploy'",
        ),
        (
            "@hookimpl\ndef compute_metrics(results, config): ...",
            "compute_metrics takes 'results', but the hook has: records, config",
        ),
        (
            "@hookimpl\ndef load_model(*, config): ...",
            "load_model takes 'config' by keyword only, but it is passed by position",
        ),
        ("@hookimpl\ndef load_model(*args): ...", "load_model takes *args, which is never filled"),
        (
            "@hookimpl\ndef load_model(config, **rest: int): ...",
            "load_model takes **rest, which is never filled",
        ),
        (
            "@hookimpl\ndef load_model(config=None): ...",
            "load_model gives 'config' a default, so pluggy would never pass it",
        ),
        ("@hookimpl\ndef load_model(config):\n    yield 1", "load_model is a generator, it must return its answer"),
        (
            "@hookimpl(wrapper=True)\ndef load_model(config):\n    return (yield)",
            "load_model is a wrapper, a plugin only answers",
        ),
        (
            "@hookimpl(hookwrapper=True)\ndef load_model(config):\n    yield",
            "load_model is a wrapper, a plugin only answers",
        ),
        ("@hookimpl\nasync def load_model(config): ...", "load_model is async, it must return its answer"),
        ("@hookimpl\nasync def load_model(config):\n    yield", "load_model is async, it must return its answer"),
        (
            "@hookimpl(trylast=True)\ndef load_model(config): ...",
            "load_model asks for trylast=True, a plugin has no say",
        ),
        (
            "@hookimpl(tryfirst=True)\ndef load_model(config): ...",
            "load_model asks for tryfirst=True, a plugin has no say",
        ),
        (
            "@hookimpl\ndef load_model(config): ...\n@hookimpl(specname='load_model')\ndef other(config): ...",
            "load_model and other both implement load_model",
        ),
    ],
)
def test_one_fault(fake_distribution: Install, source: str, fault: str) -> None:
    assert faults(fake_distribution, source) == fault


def test_all_faults_at_once(fake_distribution: Install) -> None:
    source = """
@hookimpl(trylast=True)
def load_model(path, *more):
    yield path

def load_samples(purpose, config): ...

@hookimpl
def biuld_pipeline(device, config): ...

@frozen(kw_only=True)
class Config(core.Config):
    checkpoint_path: int = 3
"""
    assert faults(fake_distribution, source).split("; ") == [
        "biuld_pipeline is no hook, build_pipeline may be meant",
        "load_model asks for trylast=True, a plugin has no say",
        "load_model is a generator, it must return its answer",
        "load_model takes 'path', but the hook has: config",
        "load_model takes *more, which is never filled",
        "load_samples is called like a hook but is not marked with @hookimpl",
        "its Config redefines the core's field 'checkpoint_path'",
    ]
    (listed,) = [each for each in describe(load=True) if each.model == "red"]
    assert listed.detail.startswith("awml_red has 7 faults: ")
    assert listed.hooks == ("load_model",)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ("class Config: ...", "its Config is not an attrs class"),
        ("Config = None", "its Config is not an attrs class"),
        ("@frozen(kw_only=True)\nclass Config:\n    checkpoint_path: str = ''", "its Config is not an attrs class"),
        ("class Config(core.Config):\n    extra: int = 1", "its Config is not an attrs class"),
        (
            "@frozen(kw_only=True)\nclass Config(core.Config):\n    devices: int = 1\n    onnx_config: int = 1",
            "its Config redefines the core's field 'devices'; its Config redefines the core's field 'onnx_config'",
        ),
        (
            "class Mixed:\n    class_names = ('a',)\n@frozen(kw_only=True)\nclass Config(Mixed, core.Config): ...",
            "its Config redefines the core's field 'class_names'",
        ),
        (
            (
                "@frozen(kw_only=True)\nclass Own(core.Config):\n    devices: int = 1\n"
                "@frozen(kw_only=True)\nclass Config(Own):\n    mine: int = 1"
            ),
            "its Config redefines the core's field 'devices'",
        ),
    ],
)
def test_config_only_adds_fields(fake_distribution: Install, config: str, fault: str) -> None:
    assert faults(fake_distribution, config).startswith(fault)


@pytest.mark.parametrize(
    "hooks",
    [
        "@hookimpl\ndef load_model(): return 'network'",
        "@hookimpl\ndef load_model(config): return 'network'",
        "@hookimpl\ndef load_model(config, /): return 'network'",
        "@hookimpl(specname='load_model')\ndef other(config): return 'network'",
        "load_model = None\n@hookimpl(specname='load_model')\ndef other(config): return 'network'",
        "def load_models(): ...\n@hookimpl\ndef load_model(config): return 'network'",
        "from awml_deploy_core import hookspecs, Config\n@hookimpl\ndef load_model(config): return 'network'",
    ],
)
def test_what_is_sound_passes(fake_distribution: Install, hooks: str) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": HEAD + hooks})
    loaded = load("red", incomplete=True)
    assert loaded.hooks == ("load_model",)
    assert loaded.call("load_model", config=None) == "network"


@pytest.mark.parametrize("path", ["Static", "bound", "namespace"])
def test_objects_that_carry_hooks(fake_distribution: Install, path: str) -> None:
    source = """
from types import SimpleNamespace

class Static:
    @staticmethod
    @hookimpl
    def load_model(config):
        return "network"

class Bound:
    @hookimpl
    def load_model(self, config):
        return "network"

@hookimpl
def load(config):
    return "network"

bound = Bound()
namespace = SimpleNamespace(load_model=load)
"""
    fake_distribution("awml-red", entry_points={"red": f"awml_red:{path}"}, modules={"awml_red": HEAD + source})
    assert load("red", incomplete=True).call("load_model", config=None) == "network"


def test_class_whose_methods_want_an_instance(fake_distribution: Install) -> None:
    source = "class Hooks:\n    @hookimpl\n    def load_model(self, config): ..."
    fake_distribution("awml-red", entry_points={"red": "awml_red:Hooks"}, modules={"awml_red": HEAD + source})
    with pytest.raises(PluginError, match="load_model takes 'self', but the hook has: config"):
        load("red", incomplete=True)
