"""The plugin says honestly that it cannot run yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def awml(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "awml_deploy_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_model_is_listed_as_incomplete() -> None:
    assert any(line.split()[0] == "yolox" and "incomplete" in line for line in awml("plugins").stdout.splitlines()[1:4])


def test_a_config_can_be_checked_but_not_run(tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("checkpoint_path = 'epoch_24.pth'\nexport = dict(mode='onnx')\n")
    assert awml("config", "check", "--model", "yolox", config).returncode == 0
    done = awml("--model", "yolox", config)
    assert done.returncode == 3
    assert "cannot be run yet" in done.stderr
    assert "Traceback" not in done.stderr
