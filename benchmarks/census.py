"""What a run cannot do without, counted: which networks ran on which shapes, and how often files were made.

The run is made once, in this process, with counters around torch's modules, ONNX Runtime's sessions, the exporter and
the simplifier. Nothing is timed here. `bare.py` then does as much again with nothing around it. Arguments: the folder
of the deployment, and the file to write.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import onnxslim
import torch
from torch.nn.modules import module as modules

from awml_calibration.network import Classifier
from awml_deploy_core import deploy

STAGES = "awml_deploy_core.stages."


def callers() -> list[str]:
    """Modules on the stack, the innermost first."""
    return [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_stack(None)]


def stage() -> str:
    """The stage that is at work: the outermost module of the stages on the stack."""
    found = [name.removeprefix(STAGES) for name in callers() if name.startswith(STAGES)]
    return found[-1] if found else "other"


def around(owner: Any, name: str, note: Callable[..., None]) -> None:
    """Call `note` with the arguments of each call of a function."""
    real = getattr(owner, name)

    def noted(*arguments: Any, **named: Any) -> Any:
        note(*arguments, **named)
        return real(*arguments, **named)

    setattr(owner, name, noted)


def census() -> dict[str, Any]:
    """Make the run and count.

    Raises:
        SystemExit: The run fails.
    """
    forwards: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    made = {"torch.onnx.export": 0, "onnxslim.slim": 0, "sessions": 0}

    def forward(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        # What the exporter runs is in the exporter's time.
        if isinstance(module, Classifier) and not any(name.startswith("torch.onnx") for name in callers()):
            forwards.append({"stage": stage(), "shape": list(arguments[0].shape)})

    def run(_session: Any, _names: Any, inputs: dict[str, Any], *_: Any) -> None:
        runs.append({"stage": stage(), "shape": list(next(iter(inputs.values())).shape)})

    def counted(name: str) -> Callable[..., None]:
        return lambda *_, **__: made.update({name: made[name] + 1})

    modules.register_module_forward_pre_hook(forward)
    around(onnxruntime.InferenceSession, "run", run)
    around(onnxruntime.InferenceSession, "__init__", counted("sessions"))
    around(torch.onnx, "export", counted("torch.onnx.export"))
    around(onnxslim, "slim", counted("onnxslim.slim"))
    report = deploy("config.py", model="calibration")
    if report.exit_code:
        raise SystemExit(f"the run ends with {report.exit_code}")
    verified = len(report.verification.samples)
    kept = {"forwards": needed(forwards, verified), "runs": needed(runs, verified)}
    made["answers asked for twice"] = len(forwards) + len(runs) - len(kept["forwards"]) - len(kept["runs"])
    return {**kept, "made": made}


def needed(calls: list[dict[str, Any]], verified: int) -> list[dict[str, Any]]:
    """The calls without those of verification that ask what another one has asked before.

    Verification cannot do without one answer of each variant to each sample; the recording has those of the trained
    network.
    """
    asked = [call for call in calls if call["stage"] == "verify"]
    return [call for call in calls if call["stage"] != "verify"] + asked[:verified]


if __name__ == "__main__":
    target = Path(sys.argv[2]).resolve()
    os.chdir(sys.argv[1])
    target.write_text(json.dumps(census()))
