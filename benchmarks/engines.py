"""Engines of TensorRT-RTX as a user builds them: by the command, from ONNX files that lie there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.frame import Row, process

DEPLOY = (str(Path(sys.executable).parent / "awml-deploy"), "--model")
POLICIES = ("fp32", "fp16")


@frozen(kw_only=True)
class Engine:
    """What building one took."""

    seconds: float
    size_mb: float


def engines(folder: Path, model: str, policies: Sequence[str] = POLICIES, **words: str) -> list[Row]:
    """Rows that hold each precision against the first.

    Args:
        folder: Has `config.py`, and the ONNX files in `work_dir/onnx`; each precision gets a work dir of its name.
        model: Of the plugin.
        policies: What to build.
        words: Further settings.
    """
    made = [built(folder, model, policy, words) for policy in policies]
    rows = []
    for policy, found in zip(policies[1:], made[1:], strict=True):
        for name, engine in found.items():
            plain = made[0][name]
            rows.append(Row(name=f"build-{policy}-{name}", ours=engine.seconds, theirs=plain.seconds))
            rows.append(Row(name=f"size-{policy}-{name}", ours=engine.size_mb, theirs=plain.size_mb, unit="mb"))
    return rows


def built(folder: Path, model: str, policy: str, words: Mapping[str, str]) -> dict[str, Engine]:
    """The engines of one precision by component; seconds, size and receipt of each are told."""
    said = {
        "export.mode": "trt",
        "export.onnx_path": "work_dir/onnx",
        "export.work_dir": policy,
        "verification.enabled": "false",
        "evaluation.enabled": "false",
        "backend_config.common_config.precision_policy": policy,
        "backend_config.common_config.flavor": "tensorrt_rtx",
        **words,
    }
    sets = (f"--set={key}={value}" for key, value in said.items())
    cost = process((*DEPLOY, model, "config.py", *sets), cwd=folder)
    report: dict[str, Any] = json.loads((folder / policy / "report.json").read_text())
    sizes = {one["component"]: one["size"] / 2**20 for one in report["artifacts"] if one["format"] == "engine"}
    print(f"{policy}: the command took {cost.wall_s:.1f} s and at most {cost.peak_mb:,.0f} MB")
    for one in report["engines"]:
        size = f"{sizes[one['component']]:.1f} MB"
        print(f"  {one['component']}: {one['seconds']:.1f} s, {size}, {one['version']}, {one['receipt']}")
    return {
        one["component"]: Engine(seconds=one["seconds"], size_mb=sizes[one["component"]]) for one in report["engines"]
    }
