"""What several test files need: distributions that exist only as folders on a temporary path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

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


TOY = (Path(__file__).parent / "toy_hooks.txt").read_text(encoding="utf-8")


@pytest.fixture
def toy_files(fake_distribution: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Install the toy plugin under a new name and write weights and a config for it. Answers config and model.

    `broken` is how it misbehaves, `edit` a line of its `wrap_for_onnx`, `more` is appended and so replaces what stands
    above it.
    """
    import torch

    torch.manual_seed(0)
    parts = {"conv": torch.nn.Conv2d(3, 8, 3, padding=1), "norm": torch.nn.BatchNorm2d(8), "fc": torch.nn.Linear(8, 2)}
    torch.save(torch.nn.ModuleDict(parts).state_dict(), tmp_path / "toy.pth")
    number = count()

    def write(
        config: Mapping[str, Any] | None = None, *, broken: str = "", edit: str = "pass", more: str = ""
    ) -> tuple[Path, str]:
        name = f"toy{next(number)}"
        source = TOY.replace('BREAK = ""', f"BREAK = {broken!r}").replace(
            '    if BREAK == "wrong epsilon":', f'    {edit}\n    if BREAK == "wrong epsilon":'
        )
        modules = {f"{name}.hooks": source + more, f"{name}.__init__": ""}
        fake_distribution(f"awml-{name}", entry_points={name: f"{name}.hooks"}, modules=modules)
        values: dict[str, Any] = {
            "task_type": "classification",
            "class_names": ["down", "up"],
            "checkpoint_path": str(tmp_path / "toy.pth"),
            "export": {"mode": "onnx", "work_dir": str(tmp_path / "work")},
            "onnx_config": {"exporter": "torchscript"},  # the quicker one; test_export has both
        }
        for key, value in (config or {}).items():
            values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
        path = tmp_path / "config.py"
        path.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()), encoding="utf-8")
        return path, name

    return write
