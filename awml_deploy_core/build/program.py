"""The program `trtexec`: where it is, what it can do, and the command line for a build.

Which options there are differs between 8.6, 10 and 11, so the program's own help is asked and no version is compared.
Nobody here has run it: the command lines are tested against a program that checks its arguments.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from awml_deploy_core.build.flavor import Flavor
from awml_deploy_core.errors import RequirementError

if TYPE_CHECKING:
    from awml_deploy_core.build.document import Settings
    from awml_deploy_core.build.policy import Plan
    from awml_deploy_core.build.profiles import Range

__all__ = ["Program", "command", "find"]

_VERSION = re.compile(r"TensorRT[. ]v(\d+)|TensorRT version: (\d+(?:\.\d+)+)")
_FLAGS = {"FP16": "--fp16", "BF16": "--bf16", "INT8": "--int8", "FP8": "--fp8"}
_POOLS = {
    "DLA_GLOBAL_DRAM": "dlaGlobalDRAM",
    "DLA_LOCAL_DRAM": "dlaLocalDRAM",
    "DLA_MANAGED_SRAM": "dlaSRAM",
    "TACTIC_DRAM": "tacticMem",
    "TACTIC_SHARED_MEMORY": "tacticSharedMem",
}
_LEVELS = {"AMPERE_PLUS": "ampere+", "NONE": "none", "SAME_COMPUTE_CAPABILITY": "sameComputeCapability"}
_OPTIONS = {"builder_optimization_level": "--builderOptimizationLevel", "max_aux_streams": "--maxAuxStreams"}
_SWITCHES = {
    "allow_gpu_fallback": "--allowGPUFallback",
    "exclude_lean_runtime": "--excludeLeanRuntime",
    "version_compatible": "--versionCompatible",
}


@frozen(kw_only=True)
class Program:
    """The program that was found.

    Args:
        path: Where it lies.
        version: Of its TensorRT.
        options: What its help lists.
    """

    path: str
    version: str
    options: frozenset[str] = field(converter=frozenset)

    @property
    def flavor(self) -> Flavor:
        """What it can do, as the flags that the same TensorRT has in Python."""
        flags = [name for name, option in _FLAGS.items() if option in self.options]
        strong = ["STRONGLY_TYPED"] if "--stronglyTyped" in self.options else []
        return Flavor(name="tensorrt", version=self.version, builder_flags=[*flags, "TF32"], network_flags=strong)


def find(name: str = "trtexec") -> Program:
    """The program, asked what it can do.

    Raises:
        RequirementError: It is not there, or does not run.
    """
    path = shutil.which(name)
    if path is None:
        raise RequirementError(
            "`builder = 'trtexec'`, but there is no program trtexec on the PATH",
            hint="It lies in the bin folder of TensorRT (JetPack: /usr/src/tensorrt/bin); add that to PATH.",
        )
    try:
        # It answers its help with an exit code of its own, so only the words count.
        said = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RequirementError(f"{path} cannot be run: {error}", hint="Reinstall TensorRT.") from error
    text = said.stdout + said.stderr
    version = _version(text)
    if version is None:
        last = " ".join(text.split())[-200:]
        raise RequirementError(f"{path} does not say its version: {last}", hint="Does it find its libraries?")
    return Program(path=path, version=version, options=re.findall(r"(?<![\w-])--[A-Za-z]\w+", text))


def _version(text: str) -> str | None:
    found = _VERSION.search(text)
    if found is None:
        return None
    if found[2]:
        return found[2]
    number = int(found[1])  # 8601 is 8.6.1, 100300 is 10.3.0
    wide = 10_000 if number >= 100_000 else 1_000
    narrow = 100
    return f"{number // wide}.{number % wide // narrow}.{number % narrow}"


def command(
    program: Program,
    source: Path,
    engine: Path,
    *,
    plan: Plan,
    profiles: Sequence[Mapping[str, Range]] = (),
    settings: Settings,
) -> list[str]:
    """The command line for a build.

    Raises:
        RequirementError: The program has no option for something that was asked for.
    """
    words = [program.path, f"--onnx={source}", f"--saveEngine={engine}"]
    words.append(_first(program, "do no more than build", "--skipInference", "--buildOnly"))
    words += _typing(program, plan)
    words += _limits(program, settings)
    words += _profiles(program, profiles)
    plugins = settings.plugin_libraries
    option = _first(program, "plugin_libraries", "--staticPlugins", "--plugins") if plugins else ""
    words += [f"{option}={path}" for path in plugins]
    if settings.timing_cache:
        words.append(f"{_need(program, 'timing_cache', '--timingCacheFile')}={settings.timing_cache}")
    words += _options(program, settings)
    return words


def _typing(program: Program, plan: Plan) -> Iterator[str]:
    if plan.strong and "--stronglyTyped" in program.options:
        yield "--stronglyTyped"
    elif plan.strong and program.flavor.weak:
        raise RequirementError(f"trtexec {program.version} cannot be held to the types of the graph")
    for name in plan.flags:
        if name != "TF32":
            yield _need(program, f"precision_policy = {plan.policy!r}", _FLAGS[name])
    if "TF32" not in plan.flags:
        yield _need(program, "TF32 off", "--noTF32")


def _limits(program: Program, settings: Settings) -> Iterator[str]:
    pools = {"workspace": settings.workspace}
    for name, size in settings.memory_pools.items():
        if name not in _POOLS:
            raise RequirementError(f"trtexec has no memory pool {name}", hint=f"It has {', '.join(_POOLS)}.")
        pools[_POOLS[name]] = size
    if "--memPoolSize" in program.options:
        yield "--memPoolSize=" + ",".join(f"{name}:{size / (1 << 20):g}" for name, size in pools.items())
    elif len(pools) == 1:
        yield f"{_need(program, 'max_workspace_size', '--workspace')}={settings.workspace >> 20}"
    else:
        raise RequirementError(f"trtexec {program.version} limits no memory but the workspace")


def _profiles(program: Program, profiles: Sequence[Mapping[str, Range]]) -> Iterator[str]:
    for number, profile in enumerate(profiles):
        if len(profiles) > 1:
            yield f"{_need(program, 'several profiles', '--profile')}={number}"
        for option, which in (("--minShapes", "min"), ("--optShapes", "opt"), ("--maxShapes", "max")):
            shapes = [f"{name}:{'x'.join(map(str, getattr(one, which)))}" for name, one in profile.items()]
            yield f"{_need(program, 'profiles', option)}={','.join(shapes)}"


def _options(program: Program, settings: Settings) -> Iterator[str]:
    if settings.extra or settings.compute_capabilities:
        raise RequirementError(
            "`extra` and `compute_capabilities` are options of Polygraphy", hint="Use builder = 'polygraphy'."
        )
    if settings.dla_core is not None:
        yield f"{_need(program, 'dla_core', '--useDLACore')}={settings.dla_core}"
    if settings.hardware:
        level = _LEVELS.get(settings.hardware, settings.hardware)
        yield f"{_need(program, 'hardware_compatibility', '--hardwareCompatibilityLevel')}={level}"
    for name, value in settings.options.items():
        if name in _OPTIONS:
            yield f"{_need(program, name, _OPTIONS[name])}={value}"
        elif name in _SWITCHES and value:
            yield _need(program, name, _SWITCHES[name])
        elif name == "sparse_weights" and value:
            yield f"{_need(program, name, '--sparsity')}=enable"


def _need(program: Program, what: str, option: str) -> str:
    return _first(program, what, option)


def _first(program: Program, what: str, *options: str) -> str:
    found = next((option for option in options if option in program.options), None)
    if found is None:
        raise RequirementError(
            f"trtexec {program.version} has no option for {what}: {' or '.join(options)}",
            hint="Leave it out, or use builder = 'polygraphy'.",
        )
    return found
