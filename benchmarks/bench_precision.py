"""What a narrower type costs and brings: the shipped examples in FP16 and INT8 against FP32.

For each example and policy one `awml-deploy` run in mode `both`: it casts the graphs, evaluates them on ONNX Runtime on
this processor beside those in FP32, and builds engines for TensorRT-RTX, which needs no GPU. Then sessions over the
files take turns on one random input of the profile's optimum. Ours is the narrower type, theirs FP32: a ratio of 0.5
means twice as fast, or half as large. The lines above the table say how far the primary figure fell.

    python benchmarks/bench_precision.py [--models calibration,yolox,centerpoint] [--policies fp16,explicit_int8]
                                         [--repeats 20] [--threads 1]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.frame import Cost, Row, call, compared, limit, process, show, turns

DEPLOY = str(Path(sys.executable).parent / "awml-deploy")


def run(folder: Path, model: str, policy: str) -> dict[str, Any]:
    """The report of one run of an example, in a work folder of its own."""
    settings = {
        "export.mode": "both",
        "verification.enabled": False,  # its tolerances are those of FP32
        "export.work_dir": policy,
        "backend_config.common_config.precision_policy": policy,
        "backend_config.common_config.flavor": "tensorrt_rtx",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    process([DEPLOY, "--model", model, "config.py", *words], cwd=folder)
    report: dict[str, Any] = json.loads((folder / policy / "report.json").read_text())
    return report


def figures(report: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """The primary figure of every variant that was evaluated."""
    given = {each["variant"]: each["metrics"] for each in report["evaluations"] if each["metrics"]}
    return {name: (metrics["primary"], metrics["values"][metrics["primary"]]) for name, metrics in given.items()}


def tell(model: str, policy: str, report: dict[str, Any]) -> None:
    found = figures(report)
    (name, wide), (_, narrow) = found["onnx"], found[f"onnx:{policy}"]
    print(f"{model} {policy}: {name} {wide:.4f} in FP32, {narrow:.4f} so, a drop of {wide - narrow:+.4f}")


# ---------------------------------------------------------------- speed and size


def session(path: Path, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed(of: Any, engine: Path) -> dict[str, Any]:
    """Random values in the sizes that the engine was optimised for."""
    import numpy as np

    profiles = json.loads(engine.with_name(f"{engine.name}.json").read_text())["profiles"]
    sizes = {name: given["opt"] for name, given in profiles[0].items()} if profiles else {}
    rng = np.random.default_rng(0)
    # Whole numbers that point somewhere point to the beginning.
    return {
        one.name: rng.random(sizes.get(one.name, one.shape), np.float32)
        if one.type == "tensor(float)"
        else np.zeros(sizes.get(one.name, one.shape), one.type.removeprefix("tensor(").removesuffix(")"))
        for one in of.get_inputs()
    }


def files(folder: Path, report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Path]]]:
    """Each component with its files: `fp32`, `cast` and `engine`."""
    found: dict[str, dict[str, Path]] = {}
    for artifact in report["artifacts"]:
        kind = artifact["format"] if artifact["format"] == "engine" else "cast"
        kind = "fp32" if artifact["precision"] == "fp32" and kind == "cast" else kind
        found.setdefault(artifact["component"], {})[kind] = folder / artifact["path"]
    yield from found.items()


def timed(of: Any, given: dict[str, Any]) -> Cost:
    return call(lambda: of.run(None, given))


def rows(folder: Path, title: str, report: dict[str, Any], repeats: int, threads: int) -> Iterator[Row]:
    for component, paths in files(folder, report):
        wide, narrow = (session(paths[kind], threads) for kind in ("fp32", "cast"))
        given = feed(wide, paths["engine"])
        sides: list[Callable[[], Cost]] = [partial(timed, one, given) for one in (narrow, wide)]
        for side in sides:
            side()
        yield from compared(f"{title} {component}", turns(sides[0], sides[1], repeats))
        sizes = [paths[kind].stat().st_size / 1e6 for kind in ("cast", "fp32")]
        yield Row(name=f"{title} {component} file", ours=sizes[0], theirs=sizes[1], unit="mb")


def engine_rows(folder: Path, model: str, reports: dict[str, dict[str, Any]]) -> Iterator[Row]:
    wide = dict(files(folder, reports["fp32"]))
    for policy, report in reports.items():
        for component, paths in files(folder, report):
            sizes = [each["engine"].stat().st_size / 1e6 for each in (paths, wide[component])]
            yield Row(name=f"{model} {policy} {component} engine", ours=sizes[0], theirs=sizes[1], unit="mb")


def measure(model: str, policies: list[str], repeats: int, threads: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / model
        process([DEPLOY, "init", "--model", model, str(folder)])
        reports = {policy: run(folder, model, policy) for policy in ("fp32", *policies)}
        found: list[Row] = []
        for policy in policies:
            tell(model, policy, reports[policy])
            found += rows(folder, f"{model} {policy}", reports[policy], repeats, threads)
        return [*found, *engine_rows(folder, model, reports)]


def main() -> None:
    parser = argparse.ArgumentParser(description="The shipped examples in FP16 and INT8 against FP32.")
    parser.add_argument("--models", default="calibration,yolox,centerpoint", help="examples, with commas")
    parser.add_argument("--policies", default="fp16,explicit_int8", help="policies, with commas")
    parser.add_argument("--repeats", type=int, default=20, help="turns of the sessions")
    parser.add_argument("--threads", type=int, default=1, help="cores for each side")
    asked = parser.parse_args()
    limit(asked.threads)
    for model in asked.models.split(","):
        found = measure(model, asked.policies.split(","), asked.repeats, asked.threads)
        show(f"precision: {model}", found, ours="narrow", theirs="fp32")


if __name__ == "__main__":
    main()
