"""Imports point downward, each room has one floor, and what is heavy stays off the path of the small commands."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import awml_deploy_core

ROOT = Path(awml_deploy_core.__file__).parent

FLOORS = {
    "edge": {"__main__", "cli", "ending", "testing"},
    "story": {"bundle", "defaults", "example", "ladder", "plan", "report", "stages", "story", "text"},
    "registry": {"audit", "hookspecs", "installed", "plugins"},
    "verb": {
        "backends",
        "build",
        "cast",
        "checkpoint",
        "compare",
        "configfile",
        "dialect",
        "evaluate",
        "export",
        "judge",
        "measure",
        "overrides",
        "preprocess",
        "record",
        "remember",
        "settings",
        "tasks",
        "twin",
        "verify",
    },
    "noun": {"around", "config", "errors", "files", "logs", "records", "strict", "tree"},
    "alone": {"replay"},
}
BELOW = {
    "edge": {"story", "registry", "verb", "noun"},
    "story": {"registry", "verb", "noun"},
    "registry": {"noun"},
    "verb": {"noun"},
    "noun": set(),
    "alone": set(),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}


def rooms() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def imports(path: Path) -> Iterator[str]:
    """The rooms of the core that a file imports, wherever in the file, except for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the floor"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("awml_deploy_core."))


def graph() -> dict[str, set[str]]:
    found = rooms()
    edges = {room: {name for path in paths for name in imports(path)} & found.keys() for room, paths in found.items()}
    return {room: targets - {room} for room, targets in edges.items()}


def test_every_room_stands_on_a_floor() -> None:
    assert sorted(set(rooms()) - set(FLOOR)) == []


def test_imports_point_downward() -> None:
    wrong = [
        f"{room} ({FLOOR[room]}) imports {target} ({FLOOR[target]})"
        for room, targets in graph().items()
        for target in targets
        if FLOOR[target] != FLOOR[room] and FLOOR[target] not in BELOW[FLOOR[room]]
    ]
    assert wrong == []


def test_rooms_do_not_import_in_a_circle() -> None:
    TopologicalSorter(graph()).prepare()


def test_plugins_import_the_core_and_never_each_other() -> None:
    folder = ROOT.parent / "plugins"
    packages = {path.parent.name for path in folder.glob("awml-*/awml_*/__init__.py")}
    for path in folder.glob("awml-*/awml_*/**/*.py"):
        mine = path.relative_to(folder).parts[1]
        text = path.read_text()
        assert not [other for other in packages - {mine} if f"import {other}" in text or f"from {other}" in text], path


def loaded(*arguments: str) -> set[str]:
    code = (
        "import sys\n"
        f"sys.argv = ['awml-deploy', *{list(arguments)}]\n"
        "from awml_deploy_core.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('\\n' + ' '.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


HEAVY = {"cv2", "numpy", "onnx", "onnxruntime", "onnxslim", "polygraphy", "rich", "tensorrt_rtx", "torch", "yaml"}


def test_the_small_commands_load_nothing_heavy() -> None:
    for arguments in (["--help"], ["run", "--help"], ["--version"], ["plugins"], ["plugins", "--no-load", "--json"]):
        assert loaded(*arguments) & HEAVY == set(), arguments


def test_checking_a_config_loads_no_framework(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("export = dict(mode='none')\n")
    assert loaded("config", "check", str(config)) & (HEAVY - {"yaml"}) == set()


def test_there_is_one_place_that_exports() -> None:
    calls = [
        f"{path.relative_to(ROOT)}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.onnx.export"
    ]
    assert len(calls) <= 1, calls
