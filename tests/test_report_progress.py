"""How far the work is: a bar where there is a terminal, a few lines where there is a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from awml_deploy_core.report.terminal import progress


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=80, _environ={}), file


def test_a_log_has_a_line_at_every_quarter() -> None:
    where, file = console(terminal=False)
    with progress(where) as told:
        for done in range(201):
            told("evaluate onnx", done, 200)
        told("verify", 1, 1)
    assert file.getvalue().splitlines() == [
        "evaluate onnx: 50 of 200 (25 %)",
        "evaluate onnx: 100 of 200 (50 %)",
        "evaluate onnx: 150 of 200 (75 %)",
        "evaluate onnx: 200 of 200 (100 %)",
        "verify: 1 of 1 (100 %)",
    ]


def test_a_log_has_no_more_lines_than_quarters_however_the_work_is_counted() -> None:
    where, file = console(terminal=False)
    with progress(where) as told:
        for done in (0, 70, 70, 199, 200, 200):
            told("evaluate onnx:fp16 [bold]", done, 200)
        told("nothing to do", 0, 0)
    assert file.getvalue().splitlines() == [
        "evaluate onnx:fp16 [bold]: 70 of 200 (35 %)",
        "evaluate onnx:fp16 [bold]: 199 of 200 (99 %)",
        "evaluate onnx:fp16 [bold]: 200 of 200 (100 %)",
        "nothing to do",
    ]


def test_a_terminal_has_a_bar_that_leaves_nothing_behind() -> None:
    where, file = console(terminal=True)
    with progress(where) as told:
        for title in ("evaluate trained", "evaluate onnx"):
            for done in range(5):
                told(title, done, 4)
        told("nothing to do", 0, 0)
    text = file.getvalue()
    assert "evaluate trained" in text
    assert "4/4" in text
    assert "\x1b[2K" in text, "the line of the bar is erased"
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 3, "the cursor is there again after each"


def test_the_cursor_is_there_again_after_an_error() -> None:
    where, file = console(terminal=True)

    def interrupted() -> None:
        with progress(where) as told:
            told("evaluate", 1, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1


def test_what_is_printed_for_programs_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    where, file = console(terminal=True)
    with progress(where) as told:
        told("evaluate", 1, 4)
        print("document")  # noqa: T201  what a program reads
    assert capsys.readouterr().out == "document\n"
    assert "document" not in file.getvalue()
