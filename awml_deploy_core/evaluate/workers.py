"""Spawned processes that walk the samples together.

A worker opens everything for itself, sends how far it is, and in the end what it found. A worker that dies closes its
end of the pipe, which is how the parent learns of it at once.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch
from attrs import frozen

from awml_deploy_core.errors import DeployError, RequirementError
from awml_deploy_core.evaluate.walk import Part, Plan, Progress, walk
from awml_deploy_core.records import Pipeline, Run, Sample

__all__ = ["Opened", "Opener", "share"]

log = logging.getLogger(__name__)

Opened = tuple[Run, Sequence[Sample], Callable[[], Pipeline]]
Opener = Callable[[], AbstractContextManager[Opened]]

_ALONE = "evaluation.workers = 1 does the same in one process; the log has the worker's own account."


@frozen(kw_only=True)
class _Crash:
    """What a worker says of an exception that is nobody's known mistake."""

    reason: str
    trace: str


def share(opener: Opener, plans: Sequence[Plan], threads: int, on_progress: Progress | None) -> list[Part]:
    """Carry out each plan in a process of its own; all are gone when this returns or raises.

    Raises:
        RequirementError: A worker was killed or left without an answer.
        DeployError: What a worker raised.
    """
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        for plan in plans:
            workers.append(_spawn(opener, plan, threads))  # noqa: PERF401  those that have started must be known
        return _listen(workers, plans, on_progress)
    except BaseException:
        for process, _ in workers:
            process.terminate()
        raise
    finally:
        for process, connection in workers:
            _end(process, connection)


def _spawn(opener: Opener, plan: Plan, threads: int) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, opener, plan, threads), name="awml-evaluate")
    process.start()
    theirs.close()  # so that a dead worker is an end of file here
    return process, ours


def _work(connection: Connection, opener: Opener, plan: Plan, threads: int) -> None:
    """Runs in the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    torch.set_num_threads(threads)

    def tell(done: int, _: int) -> None:
        connection.send_bytes(pickle.dumps(done))

    # Bytes of plain pickle: sending objects would pass tensors as shared memory, which dies with this process.
    try:
        with opener() as (run, samples, build_pipeline):
            part = walk(plan, run, samples, build_pipeline, tell)
        message = pickle.dumps(part)
    except BrokenPipeError:
        return  # the parent is gone
    except DeployError as error:
        message = pickle.dumps(error)
    except Exception as error:  # noqa: BLE001  told to the parent, which raises
        message = pickle.dumps(_Crash(reason=f"{type(error).__name__}: {error}", trace=traceback.format_exc()))
    connection.send_bytes(message)


def _listen(
    workers: Sequence[tuple[BaseProcess, Connection]], plans: Sequence[Plan], on_progress: Progress | None
) -> list[Part]:
    """Hear all workers out; the first that fails ends it."""
    waiting = {connection: process for process, connection in workers}
    total = sum(len(plan.indices) for plan in plans)
    done: dict[Connection, int] = {}
    parts: list[Part] = []
    while waiting:
        for connection in wait(list(waiting)):
            assert isinstance(connection, Connection)
            answer = _hear(connection, waiting[connection], plans[0].variant)
            if isinstance(answer, Part):
                parts.append(answer)
                del waiting[connection]
            else:
                done[connection] = answer
                if on_progress is not None:
                    on_progress(sum(done.values()), total)
    return parts


def _hear(connection: Connection, process: BaseProcess, variant: str) -> Part | int:
    """The next thing that a worker says: a part, or how many samples are done."""
    try:
        message: Part | DeployError | _Crash | int = pickle.loads(connection.recv_bytes())  # noqa: S301  our own child
    except (EOFError, OSError):  # before a message, or in the middle of one
        raise _lost(variant, process) from None
    if isinstance(message, DeployError):
        raise message
    if isinstance(message, _Crash):
        log.error("evaluation of %r: a worker failed:\n%s", variant, message.trace)
        raise DeployError(f"evaluation of {variant!r}: a worker failed with {message.reason}", hint=_ALONE)
    return message


def _lost(variant: str, process: BaseProcess) -> RequirementError:
    process.join(10)
    code = process.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "SIGKILL often means that memory ran out: lower evaluation.workers." if code == -signal.SIGKILL else _ALONE
    return RequirementError(f"evaluation of {variant!r}: a worker process {how} before it had answered", hint=hint)


def _end(process: BaseProcess, connection: Connection) -> None:
    """See a worker out; who does not leave is made to."""
    connection.close()
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()
