"""Everything that is done to this repository: `nox -l` lists the sessions, `nox -s NAME` runs one.

Each session makes its own environment, so that a fresh clone needs nothing but Python and nox.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml("pyproject.toml")
PLUGINS = sorted(Path("plugins").glob("awml-*"))
MODELS = [folder.name.removeprefix("awml-") for folder in PLUGINS]
CODE = ["awml_deploy_core", "benchmarks", "docs", "noxfile.py", "plugins", "tests"]
PINNED = ("-c", "constraints.txt")
FREE = ("torch", "onnxscript")
MMENGINE = "mmengine==0.10.7"


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, name)


def develop(session: nox.Session, *groups: str) -> None:
    """Install the four distributions from their folders, with what the groups name."""
    editable = [argument for folder in (".", *PLUGINS) for argument in ("-e", str(folder))]
    session.install(*PINNED, *editable, *(package for name in groups for package in group(name)))
    if "test" in groups:
        session.install("--no-deps", MMENGINE)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the shipped examples from the trained weights to the report, in `work_dirs/demo`."""
    develop(session)
    session.run("awml-deploy", "plugins")
    root = Path("work_dirs/demo").resolve()
    shutil.rmtree(root, ignore_errors=True)
    for model in session.posargs or MODELS:
        session.run("awml-deploy", "init", "--model", model, str(root / model))
        with session.chdir(root / model):
            session.run("awml-deploy", "--model", model, "config.py")


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests of the core and the plugins; arguments after `--` go to pytest."""
    develop(session, "test")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run the tests that need an NVIDIA GPU, with a torch and an ONNX Runtime that can use it."""
    editable = [argument for folder in (".", *PLUGINS) for argument in ("-e", str(folder))]
    # Not pinned: the pinned torch is the build for CPUs. The two ONNX Runtimes share a folder, so the last one wins.
    session.install(*editable, *group("test"))
    session.install("--no-deps", MMENGINE)
    session.install("--force-reinstall", "--no-deps", "onnxruntime-gpu")
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install(*PINNED, *group("lint"))
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, tests included."""
    develop(session, "test", "types")
    session.install(*PINNED, "nox")
    session.run("mypy", *CODE)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    develop(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build all four distributions, install them as a user does, and run the tests against them."""
    shutil.rmtree("dist", ignore_errors=True)
    session.install("build")
    for folder in (".", *PLUGINS):
        session.run("python", "-m", "build", "--outdir", "dist", str(folder), silent=True)
    names = [folder.name for folder in PLUGINS]
    session.install(*PINNED, *third_party(), *group("test"))
    # What an earlier session left: our own of the same version, and mmengine, which `pip check` would object to.
    session.run("pip", "uninstall", "-y", "-q", "mmengine", "awml-deploy-core", *names, silent=True)
    session.install("--no-index", "--find-links", "dist", "awml-deploy-core", *names)
    session.run("pip", "check", silent=True)
    session.install("--no-deps", MMENGINE)
    away = Path(session.create_tmp()).resolve()
    for folder in (Path(), *PLUGINS):
        shutil.copytree(folder / "tests", away / folder.name / "tests", dirs_exist_ok=True)
    shutil.copy("pyproject.toml", away)
    session.chdir(away)  # so that nothing is imported from the checkout
    session.run("pytest", "-n", "auto", "-o", "testpaths=.", *session.posargs)


def third_party() -> list[str]:
    """What the four distributions ask for, without one another."""
    metadata = [PROJECT, *(nox.project.load_toml(folder / "pyproject.toml") for folder in PLUGINS)]
    asked = {package for each in metadata for package in each["project"]["dependencies"]}
    return sorted(package for package in asked if not package.startswith("awml-"))


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest versions that we say we support.

    torch is exempt, since its old wheels drag CUDA in, and so is onnxscript, which has to know torch's version.
    """
    oldest = [package if package.startswith(FREE) else package.replace(">=", "==") for package in third_party()]
    session.install(*PINNED, *oldest, *group("test"))
    session.install("--no-deps", MMENGINE, *(part for folder in (".", *PLUGINS) for part in ("-e", str(folder))))
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what `docs/benchmarks.md` claims; arguments after `--` choose benchmarks by name."""
    develop(session, "test")
    chosen = [path for path in sorted(Path("benchmarks").glob("bench_*.py")) if matches(path, session.posargs)]
    for path in chosen:
        session.run("python", str(path))


def matches(path: Path, words: list[str]) -> bool:
    return not words or any(word in path.stem for word in words)
