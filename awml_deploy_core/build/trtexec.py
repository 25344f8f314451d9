"""`trtexec` as another builder: the same plan, profiles and settings, run as a program, its output read back."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from awml_deploy_core.build import machine
from awml_deploy_core.build.document import Built, Settings
from awml_deploy_core.build.engine import Progress, finish, phases, staging
from awml_deploy_core.build.listen import wrong
from awml_deploy_core.build.process import HEARTBEAT, died, open_log
from awml_deploy_core.build.program import Program, command, find
from awml_deploy_core.errors import BuildError, RequirementError
from awml_deploy_core.files import sha256_file

if TYPE_CHECKING:
    from awml_deploy_core.build.policy import Plan
    from awml_deploy_core.build.profiles import Range
    from awml_deploy_core.records import Artifact

__all__ = ["Program", "build_engine", "find"]

_SECONDS = re.compile(r"Engine (?:built|generated) in ([\d.]+) sec")
_ERROR = re.compile(r"\[E\]\s*(?:\[TRT\]\s*)?(?:Error\[\d+\]:\s*)?(.*)")


def build_engine(
    source: Artifact,
    path: Path,
    *,
    program: Program,
    plan: Plan,
    profiles: Sequence[Mapping[str, Range]] = (),
    settings: Settings | None = None,
    islands: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, Built]:
    """Build an engine with trtexec; as `engine.build_engine`, with the program in place of the flavor.

    Raises:
        BuildError: trtexec refuses or dies; its own reason is given, everything it said lies in `<path>.log`.
        RequirementError: It has no option for something that was asked for.
    """
    from awml_deploy_core.build import graph

    settings = settings or Settings()
    model = graph.read(source.component, source.path)
    filed = graph.facts(model)
    graph.require_opset(source.component, source.path, model)
    graph.require_policy(source.component, source.path, plan.policy, filed)
    shapes = [{n: {"min": r.min, "opt": r.opt, "max": r.max} for n, r in one.items()} for one in profiles]
    graph.require_profiles(source.component, model, shapes)
    with staging(path, settings) as staged:
        words = command(program, source.path, staged, plan=plan, profiles=profiles, settings=settings)
        libraries = [
            {"path": str(one), "sha256": sha256_file(one), "creators": ()} for one in settings.plugin_libraries
        ]
        began = time.monotonic()
        log = path.with_name(f"{path.name}.log")
        said = _run(words, source.component, log, phases(source, path, progress), staged)
        seconds = _SECONDS.search(said)
        answer = {
            "builder": "trtexec",
            "version": program.version,
            "seconds": float(seconds[1]) if seconds else time.monotonic() - began,
            "size": staged.stat().st_size,
            "libraries": libraries,
            "facts": {**_facts(plan, graph.typed_layers(model), filed), **filed},
            "timing_cache": "trtexec keeps it" if settings.timing_cache else "not asked for",
            "gpu": next((f"{gpu.name} ({gpu.capability})" for gpu in machine.gpus()), None),
            "driver": machine.driver(),
        }
        return finish(source, path, staged, answer, (program.flavor, plan, tuple(profiles), settings, islands or {}))


def _facts(plan: Plan, layers: list[dict[str, str]], filed: Mapping[str, Any]) -> dict[str, Any]:
    """The program shows no network; one that is strongly typed has the types of the graph."""
    return {
        "strong": plan.strong,
        "flags": plan.flags,
        "tensors": filed["graph_tensors"],
        "compute": layers,
        "quantized": filed["graph_quantized"],
        "dequantized": filed["graph_dequantized"],
        "capabilities": [],
        "read_from": "graph",
    }


def _run(
    words: Sequence[str], component: str, log: Path, told: Callable[[Mapping[str, Any]], None] | None, engine: Path
) -> str:
    """Run to the end and answer what was said.

    Raises:
        BuildError: It failed, or there is no engine.
    """
    with open_log(log) as out:
        out.write((" ".join(words) + "\n").encode())
        out.flush()
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)  # noqa: S603
        except OSError as error:
            raise RequirementError(f"{words[0]} cannot be run: {error}", hint="Reinstall TensorRT.") from error
        code = _wait(process, told)
        said = _all(out)
        if code < 0:
            raise died(component, code, out)
        if code or not engine.is_file():
            heard = [found.strip() for found in _ERROR.findall(said) if found.strip()]
            raise wrong(
                f"component {component}", heard, "build", lambda _, kind: kind, f"trtexec ended with code {code}"
            )
        if not engine.stat().st_size:
            raise BuildError(f"component {component}: trtexec wrote an empty engine", hint="Is the disk full?")
        return said


def _wait(process: subprocess.Popen[bytes], told: Callable[[Mapping[str, Any]], None] | None) -> int:
    began = time.monotonic()
    try:
        while True:
            try:
                return process.wait(HEARTBEAT)
            except subprocess.TimeoutExpired:
                if told is not None:
                    told({"event": "alive", "seconds": time.monotonic() - began})
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _all(out: IO[bytes]) -> str:
    out.seek(0)
    return out.read().decode("utf-8", "replace")
