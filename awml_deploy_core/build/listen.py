"""What TensorRT says while it works, and how its own reason gets into our error.

Polygraphy's exceptions say only that something went wrong; the parser's and the builder's words go to a logger.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from awml_deploy_core.errors import BuildError, DeployError

__all__ = ["explained", "listening", "remedy", "wrong"]

Operator = Callable[[int, str], str]

_FAULT = re.compile(r"In node (-?\d+) with name: (.*?) and operator: (\S+) \((\w+)\): (\w+): (.*)", re.DOTALL)
_NO_DRIVER = re.compile(r"\[\S+\] Error Code \d+: Cuda Runtime \(In [^()]*\(cudaError 35:[^()]*\)\)")
_EMPTY = ('File "', "Could not parse", "Invalid Engine", "Invalid engine")
_VERBS = {"parse": "cannot parse it", "build": "cannot build it"}


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect the errors that TensorRT logs; everything goes into the log of the build."""
    from polygraphy.logger import G_LOGGER

    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            with contextlib.suppress(OSError):  # a full disk ends the log, not the build
                print(text, flush=True)  # noqa: T201  this process's output is the log
            if record.levelno >= logging.ERROR:
                heard.append(re.sub(r"^\[.\]\s*", "", text).strip())

    G_LOGGER.use_python_logging_system = True
    logger, ear = logging.getLogger("Polygraphy"), Ear()
    logger.addHandler(ear)
    logger.setLevel(1)
    logger.propagate = False
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


@contextmanager
def explained(where: str, heard: Sequence[str], step: str, operator: Operator) -> Iterator[None]:
    """Turn what TensorRT raises into its own reason.

    Args:
        where: Component and file.
        heard: What it has logged as errors.
        step: `parse` or `build`.
        operator: Gives the operator of a node by its number, with the domain.

    Raises:
        BuildError: With the reason.
    """
    before = len(heard)
    try:
        yield
    except DeployError:
        raise
    except Exception as error:
        raise wrong(where, heard[before:], step, operator, f"{type(error).__name__}: {error}") from error


def wrong(where: str, heard: Sequence[str], step: str, operator: Operator, otherwise: str) -> BuildError:
    """The error for what was heard."""
    faults = [found for text in heard if (found := _FAULT.search(text))]
    if faults:
        number, name, kind, _, code, reason = faults[0].groups()
        return BuildError(
            f"{where}: TensorRT's parser refuses node {name or number} ({operator(int(number), kind)}): "
            f"{code}: {_line(reason)}",
            hint=remedy(code, reason),
        )
    reasons = [text for text in dict.fromkeys(heard) if not text.startswith(_EMPTY)]
    reason = _line("; ".join(reasons[-3:]) or otherwise)
    return BuildError(f"{where}: TensorRT {_VERBS[step]}: {reason}", hint=remedy("", reason))


def remedy(code: str, reason: str = "") -> str:
    """What to do about a code of the parser or a sentence of the builder."""
    if code.startswith("UNSUPPORTED"):
        return "Write the network without this operator, or try another onnx_config.opset_version."
    if code == "FOREIGN" or re.search("plugin", reason, re.IGNORECASE):
        return "If a library has this operator, name it in backend_config.common_config.plugin_libraries."
    if code.startswith("INVALID"):
        return "The graph does not fit together here: does it run on ONNX Runtime? Then export it again."
    if re.search(r"out of memory|OutOfMemory|workspace", reason, re.IGNORECASE):
        return "Lower or raise max_workspace_size, or lower optimization_level; the log beside the engine has more."
    return "The log of the build beside the engine has all that TensorRT said."


def _line(value: str) -> str:
    """One line, without the complaint that there is no driver, which is no fault of a build."""
    return " ".join(_NO_DRIVER.sub("", value).split())
