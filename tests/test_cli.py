"""The command line as a user meets it: words, streams, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from awml_deploy_core import logs
from awml_deploy_core.cli import cli
from awml_deploy_core.ending import Terminated, Unread, end
from awml_deploy_core.errors import ConfigError, DeployError, ExitCode

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str | Path) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        logs.set_up(verbose="-v" in words)
        code = end(lambda: cli.main(words, prog_name="awml-deploy", standalone_mode=False), as_json="--json" in words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text("export = dict(mode='none')\nevaluation = dict(num_samples=5)\n")
    return path


def test_help_names_the_commands_and_the_exit_codes(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for word in ("config", "plugins", "Exit codes: 0 all passed", "awml-deploy --model yolox config.py"):
        assert word in out


def test_every_command_and_option_explains_itself() -> None:
    def walk(command: click.Command, path: str) -> None:
        assert command.help, path
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.help, f"{path} {parameter.name}"
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, f"{path} {name}")

    walk(cli, "awml-deploy")


def test_the_version_is_that_of_the_distribution(run: Run) -> None:
    import awml_deploy_core

    assert run("--version")[1].split()[-1] == awml_deploy_core.__version__


def test_config_check_says_ok_and_what_is_not_there(run: Run, config: Path) -> None:
    code, out, _ = run("config", "check", config, "--set", "checkpoint_path=nowhere.pth")
    assert code == 0
    assert f"{config}: ok" in out
    assert "checkpoint_path: nowhere.pth does not exist" in out


def test_config_check_names_every_fault_with_its_place(run: Run, config: Path) -> None:
    config.write_text("export = dict(mode='onxx')\nevalution = dict()\nverification = dict(tolerance='big')\n")
    code, out, err = run("config", "check", config)
    assert (code, out) == (2, "")
    assert "3 faults" in err
    for words in ("@ $.export.mode", "did you mean 'evaluation'?", "@ $.verification.tolerance"):
        assert words in err
    assert "Traceback" not in err


def test_options_may_stand_before_and_after_the_positionals(run: Run, config: Path) -> None:
    before = run("config", "show", "--set", "evaluation.num_samples=9", "--changed", config, "m.py", "c.pth")
    after = run("config", "show", config, "m.py", "c.pth", "--changed", "--set", "evaluation.num_samples=9")
    assert before == after
    assert before[0] == 0
    assert "num_samples=9" in before[1]


def test_a_second_positional_that_is_a_weights_file_is_the_checkpoint(run: Run, config: Path) -> None:
    assert "checkpoint_path = 'epoch_24.pth'" in run("config", "show", config, "epoch_24.pth", "--changed")[1]
    assert "model_config = 'model.py'" in run("config", "show", config, "model.py", "--changed")[1]


def test_config_show_can_be_read_back(run: Run, config: Path, tmp_path: Path) -> None:
    shown = run("config", "show", config)[1]
    again = tmp_path / "again.py"
    again.write_text(shown)
    assert run("config", "show", again)[1] == shown


def test_config_schema_is_json(run: Run) -> None:
    assert "evaluation" in json.loads(run("config", "schema")[1])["properties"]


def test_an_error_goes_to_stderr_and_as_json_to_stdout_too(run: Run) -> None:
    code, out, err = run("--model", "nothing_like_it", "config.py", "--json")
    assert code == 3
    error = json.loads(out)
    assert error["schema"] == "awml-deploy/error"
    assert error["error"]["exit_code"] == 3
    assert error["error"]["message"] in err


@pytest.mark.parametrize("arguments", [["--modle", "x", "--json"], ["run", "--json"]])
def test_a_script_finds_one_document_also_after_a_wrong_command_line(run: Run, arguments: list[str]) -> None:
    code, out, _ = run(*arguments)
    assert code == json.loads(out)["error"]["exit_code"] == 2


def test_v_shows_the_cause_and_only_v_does(run: Run, config: Path) -> None:
    config.write_text("x = 1 / 0\n")
    quiet = run("config", "check", config)
    assert quiet[0] == 2
    assert "ZeroDivisionError" in quiet[2]
    assert "Traceback" not in quiet[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--modle", "x", "c.py"], "--model"),
        (["run"], "Missing argument"),
        (["config", "shwo"], "No such command 'shwo'"),
        (["--model"], "requires an argument"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_a_pointer(run: Run, arguments: list[str], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_word_that_is_neither_command_nor_file_is_explained(run: Run) -> None:
    code, _, err = run("plugin")
    assert code == 2
    assert "plugin" in err


def raising(error: BaseException) -> Callable[[], Any]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("a.py: wrong", hint="Right it."), 2, "error: a.py: wrong\nhint: Right it.\n"),
        (DeployError("no hint here"), 1, "error: no hint here\n"),
        (ZeroDivisionError("x"), 1, "bug: ZeroDivisionError: x\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (Terminated(), 143, "terminated"),
        (click.UsageError("bad"), 2, "bad"),
        (Unread(), 0, ""),
        (Unread(7), 7, ""),
    ],
)
def test_every_ending_has_its_code_and_its_words(
    error: BaseException, code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.set_up()
    assert end(raising(error)) == code
    assert words in capfd.readouterr().err


def test_the_classes_of_failure_have_different_codes() -> None:
    codes = {cls.__name__: cls.exit_code for cls in DeployError.__subclasses__() if cls.__module__.endswith("errors")}
    assert len(set(codes.values())) == len(codes)
    assert ExitCode.BUG not in codes.values()


# ---------------------------------------------------------------- whole processes


def awml(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "awml_deploy_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def test_the_module_is_the_command(config: Path) -> None:
    done = awml("config", "check", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{config}: ok")


def test_a_reader_that_closes_early_is_no_error() -> None:
    command = f"{sys.executable} -m awml_deploy_core config schema | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_with_their_codes(tmp_path: Path, number: int, code: int) -> None:
    ready = tmp_path / "ready"
    config = tmp_path / "slow.py"
    config.write_text(f"import time, pathlib\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(30)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "awml_deploy_core", "config", "check", str(config)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_complete(shell: str) -> None:
    script = awml(env={**os.environ, "_AWML_DEPLOY_COMPLETE": f"{shell}_source"})
    assert "awml-deploy" in script.stdout


def completions(words: str, current: str) -> set[str]:
    environment = {
        **os.environ,
        "_AWML_DEPLOY_COMPLETE": "bash_complete",
        "COMP_WORDS": f"awml-deploy {words}",
        "COMP_CWORD": str(len(words.split()) + (not current)),
    }
    return {line.partition(",")[2] for line in awml(env=environment).stdout.splitlines()}


def test_completion_offers_commands_options_and_models() -> None:
    assert {"plugins", "config", "run"} <= completions("", "")
    assert "--model" in completions("--mo", "--mo")
    assert "yolox" in completions("--model yo", "yo")
