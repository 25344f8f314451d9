"""What the documentation says is held against the code: commands, keys, tables, links, and examples that run."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

import awml_deploy_core
from awml_deploy_core import Config, defaults, dialect, hookspecs, judge
from awml_deploy_core.cli import cli
from awml_deploy_core.configfile import read_config
from awml_deploy_core.dialect import translate
from awml_deploy_core.errors import ConfigError, ExitCode
from awml_deploy_core.plugins import load
from awml_deploy_core.records import Artifact, Frame, Handover, Picture, Skip
from awml_deploy_core.strict import structure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CORE = Path(awml_deploy_core.__file__).parent
GENERATED = {"_generated/config.md", "_generated/cli.md", "_generated/hooks.md"}

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation does not lie beside these tests")

PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table(text: str, first_header: str) -> list[list[str]]:
    """The rows of the first table whose header begins so, cells without their backticks."""
    lines = text[text.index(f"| {first_header} |") :].partition("\n\n")[0].splitlines()
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines[2:]]
    return [[cell.strip() for cell in row] for row in rows]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def blocks(text: str, *languages: str) -> list[str]:
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def files(text: str) -> dict[str, str]:
    """Blocks under a file name in bold."""
    return dict(re.findall(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def modules(sources: Mapping[str, str]) -> dict[str, str]:
    return {name.removesuffix(".py").replace("/", "."): text for name, text in sources.items() if name.endswith(".py")}


# ---------------------------------------------------------------- commands


def commands(path: Path) -> Iterator[str]:
    """Every `awml-deploy` command line of a page: in shell blocks, and in running text. Brackets mean optional."""
    text = path.read_text(encoding="utf-8")
    for block in blocks(text, "sh", "console", "bash", "yaml"):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|[\s/])awml-deploy\s+(?=\S)([^>|;#&]*)", line)
            if found and "pip install" not in line:
                yield re.sub(r"[\[\]]", "", found[1])
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`awml-deploy\s+([^`]+)`", outside)


def parse(words: list[str]) -> None:
    """Let click read a command line, and run nothing."""
    context, command = click.Context(cli, info_name="awml-deploy"), typing.cast("click.Command", cli)
    rest = ["run", *words] if words[0] not in cli.commands and words[0] not in ("--help", "--version") else words
    while isinstance(command, click.Group) and rest:
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    if "--help" not in words:
        command.make_context(context.info_name, rest, parent=context.parent)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_parses(path: Path) -> None:
    for line in commands(path):
        try:
            parse(shlex.split(line))
        except click.MissingParameter:  # a text that speaks of a command need not repeat its arguments
            continue
        except click.ClickException as error:
            pytest.fail(f"{path.name}: awml-deploy {line}: {error.format_message()}")


def test_commands_are_found_and_a_wrong_one_is_seen() -> None:
    assert "plugins\n".strip() in [line.strip() for line in commands(DOCS / "start.md")]
    with pytest.raises(click.ClickException):
        parse(["--modle", "x", "config.py"])
    with pytest.raises(click.ClickException):
        parse(["config", "shwo", "config.py"])


# ---------------------------------------------------------------- links


def anchors(text: str) -> set[str]:
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r"^\((\S+)\)=$", outside, re.MULTILINE))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_inside_the_repository_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if re.match(r"\w+:", target) or file in GENERATED:
            continue
        there = (path.parent / file) if file else path
        assert there.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), f"{path.name}: {target}"


def test_every_page_stands_in_the_contents() -> None:
    listed = {
        line for block in re.findall(r"```\{toctree\}\n(.*?)```", page("index.md"), re.DOTALL) for line in block.split()
    }
    assert {path.stem for path in PAGES} - {"index"} <= listed
    assert {name.removesuffix(".md") for name in GENERATED} <= listed


# ---------------------------------------------------------------- config


def exists(kind: Any, steps: list[str]) -> bool:
    """Whether a path of keys leads somewhere in a class of settings."""
    if not steps:
        return True
    origin = typing.get_origin(kind)
    if attrs.has(kind):
        types = typing.get_type_hints(kind)
        return steps[0] in types and exists(types[steps[0]], steps[1:])
    if origin is tuple:
        return steps[0].isdigit() and exists(typing.get_args(kind)[0], steps[1:])
    if origin is not None and "Mapping" in str(origin):
        return exists(typing.get_args(kind)[1], steps[1:])
    return any(exists(part, steps) for part in typing.get_args(kind))


SECTIONS = {field.name for field in attrs.fields(Config)}
OLDER = {*dialect.MOVED, *dialect.DROPPED, *dialect.REFUSED}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_key_that_is_mentioned_exists(path: Path) -> None:
    for said in re.findall(r"`([a-z_]+\.[\w.<>]+)(?:\s?=[^`]*)?`", path.read_text(encoding="utf-8")):
        steps = said.split(".")
        if steps[0] in SECTIONS and said not in OLDER and steps[-1] not in ("py", "md", "onnx"):
            assert exists(Config, steps), f"{path.name}: {said}"


def test_a_key_that_does_not_exist_is_seen() -> None:
    assert exists(Config, ["evaluation", "backends", "onnx", "device"])
    assert exists(Config, ["components", "<name>", "io", "inputs", "0", "dtype"])
    assert not exists(Config, ["evaluation", "backends", "onnx", "divice"])
    assert not exists(Config, ["export", "work_dir", "x"])


def test_the_examples_of_configs_are_configs(tmp_path: Path) -> None:
    first, faulty, *others = blocks(page("config.md"), "python")
    (tmp_path / "config.py").write_text(first)
    path = tmp_path / "bad.py"
    path.write_text(faulty)
    with pytest.raises(ConfigError) as caught:
        structure(read_config(path).values, Config, where="bad.py")
    assert f"error: {caught.value.message}\nhint: {caught.value.hint}\n" == blocks(page("config.md"), "text")[0]
    assert len(others) >= 8
    for number, text in enumerate([first, *others]):
        path = tmp_path / f"example{number}.py"
        path.write_text(text)
        structure(translate(read_config(path).values).values, Config, where=str(path))


def test_the_table_of_tolerances_is_the_judge_s() -> None:
    rows = table(page("config.md"), "Format")
    assert {code(name)[0]: float(share) for name, share, _ in rows} == judge.SHARES
    assert {code(name)[0]: float(part) for name, _, part in rows} == judge.DISAGREEMENT


def test_keys_said_to_have_no_effect_are_read_nowhere() -> None:
    section = page("config.md").partition("without effect yet")[2]
    said = {key.rpartition(".")[2] for key in code(section)}
    assert len(said) > 1
    sources = [path for path in CORE.rglob("*.py") if path.name not in ("config.py", "dialect.py", "settings.py")]
    read = {
        node.attr
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    assert said & read == set()


@pytest.mark.parametrize(
    ("header", "expected"),
    [("In AWML | Here", dialect.MOVED), ("In AWML | Why", dialect.DROPPED), ("In AWML | Instead", dialect.REFUSED)],
)
def test_the_tables_of_older_keys_are_complete(header: str, expected: Mapping[str, str]) -> None:
    rows = table(page("from-awml.md"), header)
    found = {code(old)[0]: code(new)[0] if expected is dialect.MOVED else new for old, new in rows}
    assert found == expected


# ---------------------------------------------------------------- results and architecture


def test_the_table_of_exit_codes_is_the_enum() -> None:
    rows = table(page("results.md"), "Code")
    assert {code(name)[0]: int(number) for number, name, _ in rows} == {one.name: one.value for one in ExitCode}


def test_the_fields_of_the_documents_are_those_of_their_schemas() -> None:
    from awml_deploy_core.report import Report
    from awml_deploy_core.report.manifest import Manifest

    sections = page("results.md").split("\n## ")
    for title, kind in (("`report.json`", Report), ("`manifest.json`", Manifest)):
        section = next(section for section in sections if section.startswith(title))
        said = {name for row in table(section, "Field") for name in code(row[0])}
        assert said == {field.name for field in attrs.fields(kind)}


def test_statuses_and_reasons_are_those_of_the_code() -> None:
    text = page("results.md")
    assert {code(row[0])[0] for row in table(text, "Status")} == set(typing.get_args(judge.Status))
    sentence = text[text.index("The reasons of a skip") :].partition("\n\n")[0]
    assert set(code(sentence)) == set(typing.get_args(typing.get_type_hints(Skip)["reason"]))


def test_every_room_is_described_on_its_floor() -> None:
    rooms = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    tree = ast.parse((ROOT / "tests/test_architecture.py").read_text())
    floors = next(node.value for node in tree.body if isinstance(node, ast.Assign) and "FLOORS" in ast.unparse(node))
    expected = {floor: set(names) & rooms for floor, names in ast.literal_eval(floors).items()}
    sections = page("architecture.md").split("\n### ")[1:]
    found = {
        part.split("\n", 1)[0].lower().removesuffix("s"): {code(row[0])[0] for row in table(part, "Room")}
        for part in sections
    }
    assert found == {floor: names for floor, names in expected.items() if names}


def test_the_sessions_of_nox_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sessions = set(re.findall(r"^@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    assert {code(row[0])[0] for row in table(text, "Session")} == sessions


# ---------------------------------------------------------------- error messages


def constants() -> str:
    """All text of the core's sources, formatted values cut out."""
    nodes = (node for path in CORE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_message_that_is_explained_is_one_of_ours() -> None:
    titles = re.findall(r"^### (.*)$", page("troubleshooting.md"), re.MULTILINE)
    assert len(titles) >= 15
    text = constants()
    parts = [(title, part.strip(" ;:.@>$")) for title in titles for part in re.split(r"…|, ", title)]
    assert [title for title, part in parts if part not in text] == []


# ---------------------------------------------------------------- hooks


def hooks() -> dict[str, list[str]]:
    specified = {name: item for name, item in vars(hookspecs).items() if hasattr(item, "awml_deploy_spec")}
    return {name: list(inspect.signature(item).parameters) for name, item in specified.items()}


def test_every_hook_has_its_heading() -> None:
    headings = re.findall(r"^## (\w+\(.*\))$", page("hooks.md"), re.MULTILINE)
    assert headings == [f"{name}({', '.join(arguments)})" for name, arguments in hooks().items()]


def test_every_hook_has_an_example() -> None:
    sections = page("hooks.md").split("\n## ")
    for name in hooks():
        section = next(section for section in sections if section.startswith(f"{name}("))
        assert f"@hookimpl\ndef {name}(" in "".join(blocks(section, "python")), name


@pytest.fixture
def rings(fake_distribution: Callable[..., Path]) -> str:
    text = page("hooks.md")
    named = files(text)
    hooks_module = "\n\n".join(block for block in blocks(text, "python") if block not in named.values())
    sources = {"awml_rings/__init__.py": "", "awml_rings/hooks.py": hooks_module, **named}
    fake_distribution("awml-rings", entry_points={"rings": "awml_rings.hooks"}, modules=modules(sources))
    return "rings"


def test_the_examples_of_the_hooks_are_a_plugin_that_works(
    rings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(rings).hooks == tuple(hooks())
    load(rings).call("write_example", directory=tmp_path)
    monkeypatch.chdir(tmp_path)
    report = awml_deploy_core.deploy("config.py", model=rings, sets=["onnx_config.exporter=torchscript"])
    assert (report.status, report.exit_code) == ("passed", 0)
    assert sorted(path.name for path in (tmp_path / "work_dir/onnx").iterdir()) == ["encoder.onnx", "head.onnx"]
    scopes = {verdict.comparison.scope for check in report.verification.checks for verdict in check.verdicts}
    assert scopes == {"component", "chained", "prediction"}
    assert all(one.metrics and one.metrics.values == {"accuracy": 1.0} for one in report.evaluations)


def test_the_examples_of_hooks_that_nothing_calls_yet_answer(rings: str, tmp_path: Path) -> None:
    plugin = load(rings, defaults=defaults)
    config = plugin.config_class()
    frame: Frame = plugin.call("load_samples", purpose="evaluate", config=config)[0].load()
    picture = plugin.call("draw_sample", frame=frame, predictions={"onnx": {"disc": True}}, config=config)
    assert isinstance(picture, Picture)
    assert picture.png.startswith(b"\x89PNG")
    assert picture.caption == "onnx: disc"
    artifact = Artifact(component="head", format="onnx", path=tmp_path / "head.onnx", sha256="0", size=200_000_000)
    handover = plugin.call("hand_over", target="autoware", artifacts=[artifact], config=config)
    assert isinstance(handover, Handover)
    assert [finding.subject for finding in handover.findings] == ["head.onnx"]
    assert plugin.ask("hand_over", target="triton", artifacts=[], config=config) is None


# ---------------------------------------------------------------- the first plugin


def test_the_first_plugin_works_from_example_to_report(
    fake_distribution: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = files(page("plugin.md"))
    project = tomllib.loads(sources["pyproject.toml"])["project"]
    fake_distribution(
        project["name"],
        project["version"],
        entry_points=project["entry-points"]["awml_deploy"],
        requires=project["dependencies"],
        modules=modules({name: text for name, text in sources.items() if not name.startswith("tests/")}),
    )
    (model,) = project["entry-points"]["awml_deploy"]
    assert load(model).own_config is not None
    test: dict[str, Any] = {}
    exec(sources["tests/test_stripes.py"], test)
    test["test_the_example_is_proved_and_right"](tmp_path, monkeypatch)
    assert (tmp_path / "work_dir/onnx/stripes.onnx").is_file()
