"""Whatever names, messages and terminals there are, the text stays readable and says the verdict."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from awml_deploy_core.errors import ExitCode
from awml_deploy_core.judge import Check, Verification
from awml_deploy_core.records import Artifact, Evaluation, Failure, Skip, Variant
from awml_deploy_core.report import Report, Stage, advice, markdown, terminal

ODD = "a|b `c` <d> *e* _f_ &lt; [g](h) \\ ~~i~~"


def report(**more: Any) -> Report:
    said: dict[str, Any] = {"model": "toy", "plugin": "awml-toy 1", "status": "passed", "started": "now"}
    return Report(**{**said, "work_dir": Path("out"), **more})


def printed(done: Report, *, encoding: str = "utf-8", on_terminal: bool = False, width: int = 80) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=file, width=width, force_terminal=on_terminal, color_system=None, _environ={})
    terminal.show(done, console)
    file.flush()
    return raw.getvalue().decode(encoding)


# ---------------------------------------------------------------- Markdown


def cells(text: str) -> list[str]:
    """What a reader sees in the cells of all tables, as another implementation reads them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "td_open"]
    return ["".join(child.content for child in token.children or ()) for token in inside]


lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)


@example(ODD)
@example("1. one")
@example("# two")
@example("__init__ and _x_")
@given(lines)
def test_any_text_reads_in_a_table_as_it_was_written(text: str) -> None:
    stage = Stage(name="load", status="passed", detail=text)
    assert cells(markdown.render(report(stages=(stage,)))) == ["load", "✅ passed", "0.0 s", " ".join(text.split())]


@example(ODD)
@given(lines.filter(lambda text: text.split()))
def test_any_name_of_a_file_reads_in_a_table_as_it_was_written(text: str) -> None:
    name = " ".join(text.replace("/", "-").split())
    # In code a backslash before a bar cannot be told from the bar's escape, and a bare status word has its sign.
    assume("\\" not in name and name not in {".", "..", "passed", "failed", "skipped", "unverified", "verified"})
    artifact = Artifact(component="c", format="onnx", path=Path("out") / name, sha256="aa", size=1)
    variant = Variant(name="onnx", backend="onnx", artifacts=(artifact,))
    assert cells(markdown.render(report(artifacts=(artifact,), variants=(variant,))))[0] == name


@example("# heading")
@example("- item")
@example("1) item")
@example("--")
@given(lines.filter(lambda text: text.split()))
def test_any_note_is_one_line_of_a_list(text: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(report(notes=(text, "last"))))
    kinds = [token.type for token in tokens]
    items = kinds[kinds.index("bullet_list_open") : kinds.index("bullet_list_close")]
    item = ["list_item_open", "paragraph_open", "inline", "paragraph_close", "list_item_close"]
    assert items[1:] == [*item, *item]


def test_a_command_cannot_end_its_own_block() -> None:
    text = markdown.render(report(command=("run.py", "x\n```\n# not a heading\n"), config={"note": "```\nx"}))
    fences = [token for token in MarkdownIt("commonmark").parse(text) if token.type == "fence"]
    assert len(fences) == 2
    assert "# not a heading" in fences[0].content


def test_the_same_report_gives_the_same_bytes() -> None:
    done = report(environment={"b": "1", "a": "2"}, config={"z": 1, "y": {"x": 2}})
    assert markdown.render(done) == markdown.render(done)


# ---------------------------------------------------------------- the terminal


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("on_terminal", [False, True])
def test_any_encoding_can_show_any_text(encoding: str, on_terminal: bool) -> None:
    text = printed(report(notes=("Größe → 猫 \x1b[31mred",)), encoding=encoding, on_terminal=on_terminal, width=200)
    assert "PASSED" in text
    assert "\x1b" not in text
    assert ("猫" in text) == (encoding == "utf-8")
    assert ("→" in text) == (encoding == "utf-8" and on_terminal)


def test_markup_and_emoji_codes_are_not_interpreted() -> None:
    text = printed(report(notes=("[bold]x[/bold] [/nothing] :warning: :-1:",)))
    assert "[bold]x[/bold] [/nothing] :warning: :-1:" in text


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("on_terminal", [False, True])
def test_no_line_is_wider_than_the_terminal_except_what_is_copied(width: int, on_terminal: bool) -> None:
    artifact = Artifact(component="c", format="onnx", path=Path("out") / ("Q" * 150 + ".onnx"), sha256="aa", size=1)
    reason = "word " * 60
    done = report(
        artifacts=(artifact,),
        stages=(Stage(name="load", status="failed", detail=reason),),
        evaluations=(
            Evaluation(variant="v" * 40, records=1, failures=(Failure(id="i", index=0, step="run", reason=reason),)),
        ),
        notes=(reason,),
    )
    text = printed(done, on_terminal=on_terminal, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("Q") == 150, "no part of a name is lost"


def test_a_log_has_no_spaces_at_the_end_of_a_line() -> None:
    text = printed(report(stages=(Stage(name="load", status="passed"), Stage(name="verify", status="unverified"))))
    assert text.splitlines() == [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_an_unverified_run_says_so_loudly_and_never_that_it_passed(on_terminal: bool) -> None:
    done = report(status="unverified", stages=(Stage(name="verify", status="unverified"),))
    text = printed(done, on_terminal=on_terminal)
    assert "UNVERIFIED" in text.splitlines()[-2]
    assert "do not ship" in text
    assert "PASSED" not in text
    assert "**UNVERIFIED.**" in markdown.render(done)


def test_long_lists_are_cut_on_the_terminal_and_whole_in_the_report() -> None:
    failures = tuple(Failure(id=f"sample-{index}", index=index, step="run", reason="broken") for index in range(12))
    done = report(evaluations=(Evaluation(variant="onnx", records=3, failures=failures),))
    text = printed(done)
    assert text.count("sample-") == terminal.SHOWN
    assert f"and {12 - terminal.SHOWN} more" in text
    assert markdown.render(done).count("sample-") == 12
    many = attrs.evolve(done.evaluations[0], failures=failures * 10)
    text = markdown.render(attrs.evolve(done, evaluations=(many,)))
    assert text.count("sample-") == markdown.LISTED
    assert f"and {120 - markdown.LISTED} more, see `report.json`" in text


# ---------------------------------------------------------------- what next


OFF = Stage(name="verify", status="skipped", skipped=Skip(reason="disabled"))
ONNX = Artifact(component="c", format="onnx", path=Path("c.onnx"), sha256="aa", size=1)


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        (("/usr/bin/awml-deploy", "--model", "m", "my config.py"), "awml-deploy --model m 'my config.py'"),
        (("/x/awml_deploy_core/__main__.py", "run", "c.py"), "python -m awml_deploy_core run c.py"),
        (
            (
                "awml-deploy",
                "--set",
                "a=1",
                "--set",
                "verification.enabled=false",
                "--set=verification.enabled=0",
                "c.py",
            ),
            "awml-deploy --set a=1 c.py",
        ),
    ],
)
def test_the_next_command_is_this_one_with_verification(command: tuple[str, ...], begins: str) -> None:
    step = advice.following(report(status="unverified", command=command, stages=(OFF,), artifacts=(ONNX,)))
    assert step is not None
    assert step[1] == f"{begins} --set verification.enabled=true"


def test_no_command_is_made_up() -> None:
    for command in ((), ("train.py", "x")):
        assert advice.following(report(command=command, stages=(OFF,), artifacts=(ONNX,))) is None
    failed = report(status="failed", exit_code=4, command=("awml-deploy", "c.py"), stages=(OFF,), artifacts=(ONNX,))
    assert advice.following(failed) is None


def test_the_report_is_named_only_if_it_was_written(tmp_path: Path) -> None:
    assert "report.md" not in printed(report(work_dir=tmp_path), width=500)
    (tmp_path / "report.md").write_text("x")
    assert f"cat {tmp_path}/report.md" in printed(report(work_dir=tmp_path), width=500)


@pytest.mark.parametrize("code", [code for code in ExitCode if code not in (0, 130, 143)])
def test_every_class_of_failure_has_its_words(code: ExitCode) -> None:
    said = advice.sentence(report(status="failed", exit_code=int(code)))
    assert said.startswith(f"exit code {int(code)}: ")
    assert "a stage failed" not in said


def test_a_skipped_check_is_shown_with_its_reason() -> None:
    skipped = Check(reference="trained", candidate="engine", skipped=Skip(reason="no driver", detail="no libcuda"))
    done = report(verification=Verification(checks=(skipped,)))
    assert "trained -> engine: no driver: no libcuda" in printed(done)
    assert "no driver: no libcuda" in markdown.render(done)


def test_only_the_terminal_needs_rich() -> None:
    code = "import sys, awml_deploy_core.report.writing; print(sorted({'numpy', 'rich', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
