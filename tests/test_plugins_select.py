"""Which plugins exist, and loading exactly one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import importlib_metadata
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from awml_deploy_core import PluginError, hookimpl
from awml_deploy_core.config import Config
from awml_deploy_core.plugins import Plugin, describe, installed, load

Install = Callable[..., Path]


def one(model: str) -> Plugin:
    """The plugin of that model, which must be there exactly once."""
    (plugin,) = [plugin for plugin in installed() if plugin.model == model]
    return plugin


def test_installed_tells_what_the_metadata_say(fake_distribution: Install) -> None:
    location = fake_distribution(
        "awml-red", "1.2.3", entry_points={"red": "awml_red.hooks"}, requires=["numpy", "awml_deploy.core >= 0.1, <9"]
    )
    assert one("red") == Plugin(
        model="red",
        distribution="awml-red",
        version="1.2.3",
        value="awml_red.hooks",
        requires_core="<9,>=0.1",
        clashes_with=(),
        location=location,
    )


def test_installed_imports_nothing(fake_distribution: Install) -> None:
    fake_distribution(
        "awml-red", entry_points={"red": "awml_red.hooks"}, modules={"awml_red.hooks": "raise SystemExit(7)"}
    )
    assert one("red").model == "red"
    assert not [name for name in sys.modules if name.startswith("awml_red")]


def test_other_groups_and_comments_are_passed_over(fake_distribution: Install) -> None:
    text = (
        "[console_scripts]\nblue = a:b\n[awml_deploy]\n# green = c\n; grey = c\nred=awml_red.hooks\n[pytest11]\nx = y\n"
    )
    fake_distribution("awml-red", entry_points=text)
    models = {plugin.model for plugin in installed()}
    assert "red" in models
    assert models.isdisjoint({"blue", "green", "grey", "# green", "; grey", "x"})


def test_several_models_of_one_distribution(fake_distribution: Install, required_hooks: str) -> None:
    fake_distribution(
        "awml-pair",
        entry_points={"left": "awml_pair.left", "right": "awml_pair.right"},
        modules={"awml_pair.left": required_hooks, "awml_pair.right": required_hooks},
    )
    assert load("right").plugin.value == "awml_pair.right"
    assert "awml_pair.right" in sys.modules
    assert "awml_pair.left" not in sys.modules


def test_two_models_share_a_module(fake_distribution: Install) -> None:
    source = """
        from attrs import frozen
        from awml_deploy_core import config, hookimpl

        class Hooks:
            def __init__(self, name):
                self.name = name
            @hookimpl
            def load_model(self, config):
                return self.name

        @frozen(kw_only=True)
        class Config(config.Config):
            shared: int = 1

        big, small = Hooks("big"), Hooks("small")
        class nested:
            tiny = Hooks("tiny")

        @frozen(kw_only=True)
        class Small(config.Config):
            own: int = 1

        nested.tiny.Config = Small
    """
    fake_distribution(
        "awml-sizes",
        entry_points={"big": "awml_sizes:big", "small": "awml_sizes : small [gpu]", "tiny": "awml_sizes:nested.tiny"},
        modules={"awml_sizes": source},
    )
    for model in ("big", "small", "tiny"):
        loaded = load(model, incomplete=True)
        assert loaded.call("load_model", config=None) == model
        module = sys.modules["awml_sizes"]
        assert loaded.config_class is (module.Small if model == "tiny" else module.Config)


def test_the_same_distribution_twice_on_the_path_is_no_clash(fake_distribution: Install) -> None:
    first = fake_distribution("awml-red", "1.0", entry_points={"red": "awml_red.hooks"}, site="first")
    fake_distribution("awml-red", "2.0", entry_points={"red": "awml_red.hooks", "gone": "awml_red.gone"}, site="second")
    assert (one("red").location, one("red").clashes_with) == (first, ())
    assert "gone" not in {plugin.model for plugin in installed()}  # an import would find the first copy only


def test_a_copy_with_metadata_is_preferred(fake_distribution: Install) -> None:
    leftover = fake_distribution("awml-red", "1.0", entry_points={"red": "awml_red.hooks"}, site="first")
    (leftover / "METADATA").unlink()
    whole = fake_distribution("awml-red", "2.0", entry_points={"red": "awml_red.hooks"}, site="second")
    assert one("red").location == whole


def test_what_an_interrupted_pip_leaves_is_no_clash(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red.hooks"})
    fake_distribution("~wml-red", entry_points={"red": "awml_red.hooks"})
    assert one("red").distribution == "awml-red"


def test_distributions_that_are_no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(importlib_metadata.Distribution):
        files_in_memory: ClassVar = {
            "METADATA": "Name: awml-frozen\nVersion: 5\n\nRequires-Dist: awml-deploy-core>=99\n",
            "entry_points.txt": "[awml_deploy]\nfrozen = awml_frozen\n",
        }

        def read_text(self, filename: str | os.PathLike[str]) -> str | None:
            return self.files_in_memory.get(str(filename))

        def locate_file(self, path: str | os.PathLike[str]) -> Path:
            return Path("/frozen") / path

    class Finder(importlib_metadata.DistributionFinder):
        def find_distributions(self, context: Any = None) -> Iterator[Frozen]:
            if context.name in {None, "awml-frozen"}:
                yield Frozen()

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert one("frozen") == Plugin(
        model="frozen", distribution="awml-frozen", version="5", value="awml_frozen", location=Path("/frozen")
    )


def test_clash_is_seen_without_importing(fake_distribution: Install, required_hooks: str) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": required_hooks})
    fake_distribution("other-red", entry_points={"red": "other_red", "blue": "other_red"}, modules={"other_red": ""})
    fake_distribution("awml-sound", entry_points={"sound": "awml_sound"}, modules={"awml_sound": required_hooks})
    with pytest.raises(PluginError) as caught:
        load("red")
    assert caught.value.exit_code == 3
    assert caught.value.message == "awml-red and other-red offer the same model 'red', so none can be chosen"
    assert caught.value.hint == "Keep one of them: `pip uninstall awml-red` or `pip uninstall other-red`."
    assert {"awml_red", "other_red"}.isdisjoint(sys.modules)
    assert load("sound").plugin.clashes_with == ()
    assert {each.distribution: each.status for each in describe(load=False) if each.model == "red"} == {
        "awml-red": "clash",
        "other-red": "clash",
    }


def test_one_distribution_that_offers_a_model_twice(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points="[awml_deploy]\nred = awml_red.a\nred = awml_red.b\n")
    with pytest.raises(PluginError, match=r"awml-red 1\.0: it offers the model 'red' twice"):
        load("red")


def test_the_same_line_twice_is_one_entry_point(fake_distribution: Install) -> None:
    fake_distribution("awml-red", entry_points="[awml_deploy]\nred = awml_red.a\nred = awml_red.a\n")
    assert one("red").clashes_with == ()


def test_unknown_model_with_a_near_name(fake_distribution: Install) -> None:
    fake_distribution("awml-crimson", entry_points={"crimson": "awml_crimson"})
    with pytest.raises(PluginError) as caught:
        load("crimsom")
    assert caught.value.exit_code == 3
    assert "no installed plugin offers the model 'crimsom': installed are " in caught.value.message
    assert "crimson" in caught.value.message
    assert caught.value.hint == "Did you mean crimson? Otherwise install it: `pip install awml-crimsom`."


def test_unknown_model_where_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed() == ()
    assert describe(load=True) == ()
    with pytest.raises(PluginError, match="no model plugin is installed at all") as caught:
        load("bevfusion")
    assert caught.value.hint == "Install it: `pip install awml-bevfusion`."
    with pytest.raises(PluginError) as caught:
        load("no; such")
    assert caught.value.hint == "Install it: `pip install awml-<name>`."


def test_config_class_is_the_plugins_or_the_cores(fake_distribution: Install, required_hooks: str) -> None:
    own = """
        from attrs import frozen
        from awml_deploy_core.config import Config as Core

        @frozen(kw_only=True)
        class Config(Core):
            anchors: int = 3
    """
    fake_distribution("awml-own", entry_points={"own": "awml_own"}, modules={"awml_own": own})
    fake_distribution("awml-plain", entry_points={"plain": "awml_plain"}, modules={"awml_plain": required_hooks})
    assert load("own", incomplete=True).config_class is sys.modules["awml_own"].Config
    assert load("plain").config_class is Config


def test_defaults_are_asked_after_the_plugin(fake_distribution: Install, required_hooks: str) -> None:
    defaults = ModuleType("defaults")

    def load_model(config: object) -> str:
        return "network of the core"

    def compute_metrics(records: object, config: object) -> str:
        return "metrics of the core"

    defaults.load_model = hookimpl(load_model, trylast=True)  # type: ignore[attr-defined]
    defaults.compute_metrics = hookimpl(compute_metrics, trylast=True)  # type: ignore[attr-defined]
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": required_hooks})
    loaded = load("red", defaults=defaults)
    assert loaded.call("load_model", config=None) == "network"
    assert loaded.call("compute_metrics", records=(), config=None) == "metrics of the core"
    assert loaded.hooks == ("load_model", "load_samples", "export_workflow", "build_pipeline")
    assert load("red").ask("compute_metrics", records=(), config=None) is None


def test_each_load_has_its_own_manager(fake_distribution: Install, required_hooks: str) -> None:
    fake_distribution("awml-red", entry_points={"red": "awml_red"}, modules={"awml_red": required_hooks})
    assert load("red").manager is not load("red").manager


def test_metadata_of_strangers_are_not_read(fake_distribution: Install, caplog: pytest.LogCaptureFixture) -> None:
    stranger = fake_distribution("stranger", entry_points="[console_scripts]\nx = y:z\n")
    (stranger / "METADATA").write_bytes(b"\xff\xfe damaged")
    with caplog.at_level(logging.WARNING):
        installed()
    assert not caplog.records


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entry_points=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: f"[awml_deploy]\n{text}".encode()),
    metadata=st.none() | st.binary(max_size=80) | st.text(max_size=80).map(lambda text: f"Name: {text}".encode()),
    requires=st.text(max_size=30),
)
def test_damaged_metadata_hide_nobody(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry_points: bytes,
    metadata: bytes | None,
    requires: str,
) -> None:
    sound, damaged = tmp_path / "awml_sound-1.0.dist-info", tmp_path / "awml_damaged-1.0.dist-info"
    for info in (sound, damaged):
        info.mkdir(exist_ok=True)
    (sound / "METADATA").write_text("Name: awml-sound\nVersion: 1.0\n")
    (sound / "entry_points.txt").write_text("[awml_deploy]\nsound-of-it = awml_sound\n")
    (damaged / "entry_points.txt").write_bytes(entry_points)
    (damaged / "METADATA").unlink(missing_ok=True)
    if metadata is not None:
        (damaged / "METADATA").write_bytes(metadata + f"\nRequires-Dist: awml-deploy-core {requires}\n".encode())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path), *sys.path])
        assert [plugin.distribution for plugin in installed() if plugin.model == "sound-of-it"] == ["awml-sound"]
        assert any(each.model == "sound-of-it" for each in describe(load=False))


def test_neither_torch_nor_a_neighbour_is_imported(fake_distribution: Install, required_hooks: str) -> None:
    site = fake_distribution(
        "awml-red",
        entry_points={"red": "awml_red.hooks"},
        modules={"awml_red.hooks": required_hooks},
        requires=["awml-deploy-core[coco]>=0.1.0"],
    ).parent
    fake_distribution("awml-blue", entry_points={"blue": "awml_blue.hooks"}, modules={"awml_blue.hooks": ""})
    code = f"""
import sys
sys.path.append({str(site)!r})
import awml_deploy_core.plugins as plugins
assert {{"red", "blue"}} <= {{plugin.model for plugin in plugins.installed()}}
before = set(sys.modules)
assert plugins.load("red").call("load_model", config=None) == "network"
plugins.describe(load=False)
heavy = {{"torch", "numpy", "onnx", "onnxruntime", "tensorrt", "polygraphy", "packaging"}} & set(sys.modules)
assert not heavy, heavy
assert "awml_red.hooks" in sys.modules
others = {{plugin.value.partition(".")[0] for plugin in plugins.installed()}} - {{"awml_red"}}
assert not others & set(sys.modules), others & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
