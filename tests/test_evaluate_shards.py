from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from awml_deploy_core.errors import ConfigError, DeployError, LoadError, RequirementError
from awml_deploy_core.evaluate import Evaluated, evaluate, evaluate_sharded, shard
from awml_deploy_core.records import Frame, Metrics, Record, Sample
from awml_deploy_core.tree import equal

WORLD = """
import os
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn

from awml_deploy_core.errors import ConfigError
from awml_deploy_core.records import Frame, Sample


class Run:
    device = "cpu"
    components = {}

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 4))

    def __call__(self, component, /, **inputs):
        return {"logits": self.network(inputs["x"])}

    def note(self, name, value=1):
        raise AssertionError


class Pipeline:
    def __init__(self):
        self.memory = torch.zeros(4)

    def predict(self, inputs, run):
        run.note("weight", 0.1 * float(inputs["image"][0, 0, 0]))
        kept = 0.9 if inputs["chained"] else 0.0
        self.memory = kept * self.memory + run("net", x=inputs["image"][None])["logits"][0]
        return {"label": int(self.memory.argmax()), "scores": self.memory}

    def predict_batch(self, inputs, run):
        rows = run("net", x=torch.stack([each["image"] for each in inputs]))["logits"]
        return [{"label": int(row.argmax()), "scores": row} for row in rows]


def load(index):
    if index in (13, 14):
        raise FileNotFoundError(f"camera_{index}.png")
    image = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index))
    return Frame(inputs={"image": image, "chained": index < 12}, ground_truth={"label": index % 4})


def samples():
    names = {index: f"drive{index % 3}" for index in range(12)}
    return [Sample(id=f"s{i}", load=partial(load, i), sequence=names.get(i)) for i in range(30)]


def act(wish, folder):
    if wish == "crash":
        raise RuntimeError("segment table is odd")
    if wish == "mistake":
        raise ConfigError("no such variant", hint="Choose another.")
    if wish == "kill" and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == "leave":
        os._exit(7)


def leave_politely(folder):
    (folder / f"asked-{os.getpid()}").touch()
    os._exit(0)


@contextmanager
def open_world(folder, wish="work"):
    signal.signal(signal.SIGTERM, lambda *_: leave_politely(folder))
    (folder / f"opened-{os.getpid()}").touch()
    act(wish, folder)
    if wish == "hang":
        time.sleep(600)
    yield Run(), samples(), Pipeline
    (folder / f"closed-{os.getpid()}").touch()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module that workers import by name."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "sharded_world.py").write_text(dedent(WORLD), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("sharded_world")
    sys.modules.pop("sharded_world", None)


def score(records: Sequence[Record]) -> Metrics:
    right = sum(record.prediction["label"] == record.ground_truth["label"] for record in records)
    far = sum(float(record.prediction["scores"].sum()) for record in records)
    return Metrics(primary="accuracy", values={"accuracy": right / len(records), "far": far})


def alone(world: ModuleType, batch_size: int = 1) -> Evaluated:
    return evaluate(
        "onnx",
        world.Run(),
        world.samples(),
        world.Pipeline,
        score=score,
        num_warmup=1,
        batch_size=batch_size,
        max_failed_samples=2,
    )


def sample_of(index: int, sequence: str | None) -> Sample:
    return Sample(id=f"s{index}", load=lambda: Frame(inputs=0), sequence=sequence)


NAMES = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), max_size=60)


@given(NAMES, st.integers(1, 9), st.integers(1, 4))
def test_shards_are_whole_disjoint_and_even(names: list[str | None], workers: int, batch_size: int) -> None:
    samples = [sample_of(index, name) for index, name in enumerate(names)]
    shards = shard(samples, workers, batch_size=batch_size)

    assert sorted(index for each in shards for index in each) == list(range(len(samples)))
    assert all(each == tuple(sorted(each)) and each for each in shards)
    assert len(shards) <= workers
    for name in {name for name in names if name}:
        assert sum(any(names[index] == name for index in each) for each in shards) == 1
    pieces = [sum(name == each for name in names) for each in "abcd"]
    loads = [*map(len, shards), *[0] * (workers - len(shards))]
    assert max(loads) - min(loads) <= max(*pieces, batch_size)


@given(NAMES, st.integers(1, 5), st.integers(1, 4))
def test_a_worker_forms_the_batches_that_one_process_forms(
    names: list[str | None], workers: int, batch_size: int
) -> None:
    from awml_deploy_core.evaluate.walk import units

    samples = [sample_of(index, name) for index, name in enumerate(names)]
    whole = units(samples, range(len(samples)), batch_size)
    shards = shard(samples, workers, batch_size=batch_size)
    assert sorted(unit for each in shards for unit in units(samples, each, batch_size)) == whole


def test_shards_of_some_samples_only() -> None:
    samples = [sample_of(index, None) for index in range(10)]
    assert shard(samples, 2, indices=(1, 3, 5, 7)) == ((1, 5), (3, 7))
    assert shard(samples, 3, indices=()) == ()


@pytest.mark.parametrize(("workers", "batch_size"), [(2, 1), (2, 4)])
def test_spawned_workers_find_exactly_what_one_process_finds(
    world: ModuleType, tmp_path: Path, workers: int, batch_size: int
) -> None:
    seen: list[tuple[int, int]] = []
    one = alone(world, batch_size)
    many = evaluate_sharded(
        "onnx",
        partial(world.open_world, tmp_path),
        shard(world.samples(), workers, batch_size=batch_size),
        score=score,
        num_warmup=1,
        batch_size=batch_size,
        max_failed_samples=2,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert many.evaluation.metrics == one.evaluation.metrics
    assert [(record.id, record.index) for record in many.records] == [
        (record.id, record.index) for record in one.records
    ]
    assert equal([record.prediction for record in many.records], [record.prediction for record in one.records])
    assert many.evaluation.failures == one.evaluation.failures
    assert [failure.id for failure in many.evaluation.failures] == ["s13", "s14"]
    assert many.evaluation.notes == one.evaluation.notes
    assert many.digests == one.digests
    assert many.evaluation.timings.keys() == one.evaluation.timings.keys()
    assert many.evaluation.timings["total"].count == 28
    assert many.evaluation.protocol == {**one.evaluation.protocol, "workers": workers}
    assert seen[-1] == (30, 30)
    assert [done for done, _ in seen] == list(range(1, 31))
    assert len(list(tmp_path.glob("opened-*"))) == len(list(tmp_path.glob("closed-*"))) == workers
    assert multiprocessing.active_children() == []


def sharded(world: ModuleType, folder: Path, wish: str, *shards: tuple[int, ...]) -> Evaluated:
    opener = partial(world.open_world, folder, wish)
    return evaluate_sharded("onnx", opener, shards, score=score, max_failed_samples=1)


def test_a_killed_worker_is_a_clear_failure_and_no_hang(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match="'onnx': a worker process was killed by SIGKILL") as caught:
        sharded(world, tmp_path, "kill", (0, 3), (1, 4))
    assert caught.value.hint is not None
    assert "evaluation.workers" in caught.value.hint
    assert multiprocessing.active_children() == []


def test_a_worker_that_leaves_without_an_answer_is_named(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match="ended with exit code 7 before it had answered"):
        sharded(world, tmp_path, "leave", (0,))


def test_a_known_mistake_in_a_worker_arrives_as_itself(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such variant") as caught:
        sharded(world, tmp_path, "mistake", (0,))
    assert caught.value.hint == "Choose another."


def test_a_crash_in_a_worker_says_what_happened(
    world: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DeployError, match="a worker failed with RuntimeError: segment table is odd"):
        sharded(world, tmp_path, "crash", (0,))
    assert "in act" in caplog.text


def test_failures_of_all_workers_together_are_held_against_the_limit(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"'s1\d' failed at load .*; 2 failed, at most 1 may"):
        sharded(world, tmp_path, "work", (13, 15), (14, 16))


def test_ctrl_c_ends_the_workers(world: ModuleType, tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.glob("opened-*"))) < 2:
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sharded(world, tmp_path, "hang", (0,), (1,))
    thread.join()
    assert multiprocessing.active_children() == []
    assert len(list(tmp_path.glob("asked-*"))) == 2
    for file in tmp_path.glob("opened-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name.removeprefix("opened-")), 0)
