"""`init` writes an example or a preset, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from awml_deploy_core import example
from awml_deploy_core.errors import ConfigError, DeployError, PluginError

WRITES = """
@hookimpl
def write_example(directory):
    (directory / "config.py").write_text("model = 'toy'\\n")
    (directory / "data").mkdir()
    return True
"""
BREAKS = """
@hookimpl
def write_example(directory):
    (directory / "config.py").write_text("half")
    raise ValueError("no more disk")
"""


@pytest.fixture
def toy(fake_distribution: Callable[..., Path], required_hooks: str) -> Callable[..., None]:
    def install(extra: str = WRITES) -> None:
        modules = {
            "toy.__init__": "",
            "toy.hooks": required_hooks + extra,
            "toy.presets.__init__": "",
            "toy.presets.large_960": "model = 'toy'  # large\n",
        }
        fake_distribution("awml-toy", entry_points={"toy": "toy.hooks"}, modules=modules)

    return install


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_an_example_is_written_into_a_new_or_empty_folder(toy: Any, tmp_path: Path, there: bool) -> None:
    toy()
    target = tmp_path / "out" / "mine"
    if there:
        target.mkdir(parents=True)
    assert example.write("toy", target) == target / "config.py"
    assert names(target) == ["config.py", "data"]
    assert names(target.parent) == ["mine"]


def test_a_preset_is_copied_with_its_comments(toy: Any, tmp_path: Path) -> None:
    toy()
    assert example.write("toy", tmp_path / "big", preset="large_960").read_text() == "model = 'toy'  # large\n"


def test_an_unknown_preset_names_the_nearest(toy: Any, tmp_path: Path) -> None:
    toy()
    with pytest.raises(ConfigError, match="Did you mean 'large_960'"):
        example.write("toy", tmp_path / "big", preset="large_906")
    assert not (tmp_path / "big").exists()


def test_what_is_there_is_never_touched(toy: Any, tmp_path: Path) -> None:
    toy()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work").touch()
    for target in (tmp_path / "mine", tmp_path / "mine" / "work"):
        with pytest.raises(ConfigError, match="not an empty folder"):
            example.write("toy", target)
    assert names(tmp_path / "mine") == ["work"]


def test_a_failing_plugin_leaves_nothing_behind(toy: Any, tmp_path: Path) -> None:
    toy(BREAKS)
    with pytest.raises(DeployError, match="no more disk"):
        example.write("toy", tmp_path / "mine")
    assert "mine" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith(".mine")]


def test_a_plugin_without_example_says_so(toy: Any, tmp_path: Path) -> None:
    toy("")
    with pytest.raises(PluginError, match="does not implement the hook write_example"):
        example.write("toy", tmp_path / "mine")


def test_an_example_without_config_is_a_fault_of_the_plugin(toy: Any, tmp_path: Path) -> None:
    toy("@hookimpl\ndef write_example(directory):\n    return True\n")
    with pytest.raises(PluginError, match=r"wrote no config\.py"):
        example.write("toy", tmp_path / "mine")
