"""What building costs: the second build against the first, the process of its own against none, engines by policy.

The graph is the calibration example's, exported by `init` and a run. TensorRT-RTX measures no layers while it builds,
so a second build with unchanged inputs costs what the first did; the figures say so instead of hiding it. Without the
child, everything is imported before the clock starts, so the child is charged with every import.

    python benchmarks/bench_build.py [TURNS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from awml_deploy_core.build.document import Settings
from awml_deploy_core.build.engine import build_engine
from awml_deploy_core.build.flavor import Flavor, choose
from awml_deploy_core.build.policy import plan
from awml_deploy_core.build.profiles import Range
from awml_deploy_core.cast.file import cast_file
from awml_deploy_core.files import sha256_file
from awml_deploy_core.records import Artifact
from benchmarks.frame import Cost, Row, call, compared, show, turns

POLICIES = ("fp32", "fp32_tf32", "auto", "strongly_typed", "fp16", "explicit_int8")


def example(folder: Path) -> Artifact:
    """The ONNX file of the example; its only input has a dynamic batch, height and width."""
    for words in (["init", "--model", "calibration", str(folder)], ["--model", "calibration", "config.py"]):
        where = None if words[0] == "init" else folder
        more = [] if words[0] == "init" else ["--stages", "export,report"]
        subprocess.run([sys.executable, "-m", "awml_deploy_core", *words, *more], cwd=where, check=True)
    path = next(folder.rglob("*.onnx"))
    return Artifact(component=path.stem, format="onnx", path=path, sha256=sha256_file(path), size=path.stat().st_size)


def ranges(source: Artifact) -> dict[str, Range]:
    """Sizes for every input, the dynamic ones from 1 to 4 in the batch and fixed else."""
    import onnx

    found = {}
    for value in onnx.load(source.path).graph.input:
        dims = [one.dim_value for one in value.type.tensor_type.shape.dim]
        low = tuple(size or (1 if place == 0 else 192) for place, size in enumerate(dims))
        high = tuple(size or (4 if place == 0 else 192) for place, size in enumerate(dims))
        found[value.name] = Range(min=low, opt=low, max=high)
    return found


def cast(source: Artifact, kind: str, sizes: dict[str, Range]) -> Artifact:
    import numpy as np

    rng = np.random.default_rng(0)
    feeds = [{name: rng.random(one.opt, np.float32) for name, one in sizes.items()} for _ in range(4)]
    target = source.path.with_name(f"{source.component}.{kind}.onnx")
    return cast_file(source, target, kind, policy=kind, feeds=lambda: feeds, data="b").artifact  # type: ignore[arg-type]


def build(source: Artifact, folder: Path, flavor: Flavor, sizes: dict[str, Range], *, cache: bool) -> None:
    settings = Settings(timing_cache=folder / "times" if cache else None)
    path = folder / "net.engine"
    build_engine(source, path, flavor=flavor, plan=plan("fp32", flavor), profiles=[sizes], settings=settings)


def child(source: Artifact, folder: Path, flavor: Flavor, sizes: dict[str, Range]) -> Cost:
    return call(lambda: build(source, folder, flavor, sizes, cache=False))


def inside(source: Artifact, folder: Path, flavor: Flavor, sizes: dict[str, Range]) -> Cost:
    """The same build in this very process, which no run does."""
    from awml_deploy_core.build import polygraph

    request = {
        "flavor": flavor.name,
        "component": source.component,
        "onnx": str(source.path),
        "engine": str(folder / "inside.engine"),
        "policy": "fp32",
        "strong": True,
        "flags": [],
        "profiles": [{name: {"min": r.min, "opt": r.opt, "max": r.max} for name, r in sizes.items()}],
        "workspace": 1 << 30,
        "timing_cache": None,
        "plugin_libraries": [],
        "options": {},
        "memory_pools": {},
        "hardware": None,
        "compute_capabilities": [],
        "dla_core": None,
        "extra": {},
    }
    with (folder / "inside.log").open("w", encoding="utf-8") as log, redirect_stdout(log):
        return call(lambda: polygraph.build(request, lambda *_, **__: None))


def main(count: int = 5) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = example(folder / "example")
        flavor, sizes = choose("tensorrt_rtx"), ranges(source)
        build(source, folder, flavor, sizes, cache=True)
        again = turns(
            lambda: call(lambda: build(source, folder, flavor, sizes, cache=True)),
            lambda: call(lambda: build(source, folder, flavor, sizes, cache=False)),
            count,
        )
        show("A build with layer times kept", compared("cache", again), ours="second", theirs="first")
        inside(source, folder, flavor, sizes)
        pairs = turns(
            lambda: child(source, folder, flavor, sizes), lambda: inside(source, folder, flavor, sizes), count
        )
        show("A build in a process of its own", compared("child", pairs), ours="child", theirs="in-process")
        rows = []
        for policy in POLICIES:
            asked = plan(policy, flavor)  # type: ignore[arg-type]  # a tuple of names, as the config has them
            given = cast(source, asked.cast, sizes) if asked.cast else source
            made, built = build_engine(given, folder / f"{policy}.engine", flavor=flavor, plan=asked, profiles=[sizes])
            print(f"{policy}: {built.receipt.summary}; ONNX {given.size / 1e6:.2f} MB, built in {built.seconds:.2f} s")
            rows.append(Row(name=policy, ours=made.size / 2**20, theirs=given.size / 2**20, unit="mb"))
        show("Engine size by policy", rows, ours="engine", theirs="its ONNX")


if __name__ == "__main__":
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"  # read once, when Polygraphy is imported
    main(*map(int, sys.argv[1:]))
