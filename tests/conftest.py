"""What several test files need: distributions that exist only as folders on a temporary path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from awml_deploy_core import logs

REQUIRED = """
from awml_deploy_core import hookimpl

@hookimpl
def load_model(config):
    return "network"

@hookimpl
def load_samples(purpose, config):
    return ()

@hookimpl
def export_workflow(config):
    return ()

@hookimpl
def build_pipeline(device, config):
    return "pipeline"
"""


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Undo what a command line set up, so that no test hears another's messages."""
    before = (*logs.ROOT.handlers,), logs.ROOT.propagate, logs.ROOT.level
    yield
    logs.ROOT.handlers[:], logs.ROOT.propagate = before[0], before[1]
    logs.ROOT.setLevel(before[2])


@pytest.fixture
def required_hooks() -> str:
    """Source of a module with every required hook."""
    return REQUIRED


@pytest.fixture
def fake_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install a distribution as pip leaves it: a `dist-info` folder beside its modules. Answers the `dist-info`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    packages: set[str] = set()

    def install(
        name: str,
        version: str = "1.0",
        *,
        entry_points: Mapping[str, str] | str,
        modules: Mapping[str, str] | None = None,
        requires: Iterable[str] = (),
        site: str = "site",
    ) -> Path:
        root = tmp_path / site
        info = root / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        headers = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
        (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *headers, ""]), encoding="utf-8")
        if not isinstance(entry_points, str):
            lines = [f"{model} = {value}" for model, value in entry_points.items()]
            entry_points = "\n".join(["[awml_deploy]", *lines, ""])
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        for module, source in (modules or {}).items():
            file = root / f"{module.replace('.', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(source), encoding="utf-8")
            packages.add(module.partition(".")[0])
        if str(root) not in sys.path:
            sys.path.append(str(root))
        importlib.invalidate_caches()
        return info

    yield install
    for module in set(sys.modules) - before:
        if module.partition(".")[0] in packages:
            del sys.modules[module]
    importlib.invalidate_caches()
