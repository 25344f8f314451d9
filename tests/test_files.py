"""Files that are there whole or not at all, and errors that say what to do."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import signal
import stat
import subprocess
import sys
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import numpy as np
import pytest

from awml_deploy_core import files
from awml_deploy_core.errors import ArtifactError, DeployError, ExitCode, LoadError, RequirementError


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    return path


def untouched(path: Path) -> bool:
    """The old file stands and nothing lies beside it."""
    return path.read_bytes() == b"old" and [entry.name for entry in path.parent.iterdir()] == [path.name]


# ---------------------------------------------------------------- one whole file


@pytest.mark.parametrize(
    "data", [b"n\xc3\xa9w", "néw", lambda file: file.write(b"n\xc3\xa9w")], ids=["bytes", "text", "call"]
)
def test_a_file_is_replaced_and_nothing_is_left_beside_it(old: Path, data: Any) -> None:
    files.write_whole(old, data)
    assert old.read_bytes() == "néw".encode()
    assert [entry.name for entry in old.parent.iterdir()] == [old.name]


def test_the_old_content_is_there_until_the_new_one_is_complete(old: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        file.flush()
        assert old.read_bytes() == b"old"

    files.write_whole(old, write)
    assert old.read_bytes() == b"half"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write_whole(tmp_path / "whole", b"")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_is_followed(old: Path) -> None:
    link = old.with_name("latest.json")
    link.symlink_to(old.name)
    files.write_whole(link, b"new")
    assert link.is_symlink()
    assert old.read_bytes() == b"new"


def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    files.write_whole(path, b"1")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("mine"), LoadError("mine"), SystemExit(3)])
def test_whatever_interrupts_the_writing_leaves_the_old_file(old: Path, error: BaseException) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)) as caught:
        files.write_whole(old, write)
    assert caught.value is error
    assert untouched(old)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_what_the_disk_refuses_is_explained(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, remedy: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RequirementError) as caught:
        files.write_whole(old, b"new")
    monkeypatch.undo()
    assert caught.value.exit_code == ExitCode.ENVIRONMENT
    assert str(old) in caught.value.message
    assert os.strerror(code) in caught.value.message
    assert remedy in (caught.value.hint or "")
    assert untouched(old)


def test_a_write_that_fails_is_explained(old: Path) -> None:
    # A limit on the size of files stands in for a full disk: the kernel itself refuses the write.
    script = """
        import resource, sys
        from awml_deploy_core import errors, files
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            files.write_whole(sys.argv[1], b"x" * 10_000)
        except errors.RequirementError as error:
            print(error.message)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(old)], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == f"cannot write {old}: {os.strerror(errno.EFBIG)}"
    assert untouched(old)


def test_an_error_about_another_file_is_not_explained_as_ours(old: Path) -> None:
    with pytest.raises(FileNotFoundError, match="another"):
        files.write_whole(old, lambda file: file.write(Path("another").read_bytes()))
    assert untouched(old)


def test_a_folder_that_is_missing_or_in_the_way_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RequirementError, match=r"cannot write .*/none/a: No such file") as caught:
        files.write_whole(tmp_path / "none" / "a", b"")
    assert "Make the folder" in (caught.value.hint or "")
    with pytest.raises(RequirementError, match="directory"):
        files.write_whole(tmp_path, b"")
    assert list(tmp_path.iterdir()) == []


def test_file_and_folder_are_brought_onto_the_disk_in_that_order(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, fsync, replace = [], os.fsync, os.replace

    def synced(handle: int) -> None:
        seen.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def replaced(source: Path, target: Path) -> None:
        seen.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write_whole(old, b"new")
    assert seen == ["file", "replace", "folder"]


def test_a_file_system_that_cannot_sync_folders_is_enough(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def synced(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    files.write_whole(old, b"new")
    assert old.read_bytes() == b"new"


def test_a_process_killed_in_the_middle_leaves_the_old_file(old: Path) -> None:
    script = """
        import os, signal, sys
        from awml_deploy_core import files
        def write(file):
            file.write(b"x" * 1_000_000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        files.write_whole(sys.argv[1], write)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(old)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old"
    left = [entry.name for entry in old.parent.iterdir() if entry != old]
    assert len(left) == 1
    assert left[0].startswith(".awml-")
    assert left[0].endswith(".part")


# ---------------------------------------------------------------- files that belong together

PAIR = ("model.onnx.data", "model.onnx")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    staging, target = tmp_path / "staging", tmp_path / "target"
    for folder, content in ((staging, "new"), (target, "old")):
        folder.mkdir()
        for name in PAIR:
            (folder / name).write_text(f"{content} {name}")
    return staging, target


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


NEW = {"model.onnx": "new model.onnx", "model.onnx.data": "new model.onnx.data"}


def test_files_that_belong_together_are_published_together(folders: tuple[Path, Path]) -> None:
    files.publish(*folders, PAIR)
    assert contents(folders[1]) == NEW
    assert contents(folders[0]) == {}


def test_publishing_from_another_disk_copies(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def across(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, "another disk", str(source), None, str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", across)
    files.publish(*folders, PAIR)
    assert contents(folders[1]) == NEW
    assert contents(folders[0]) == {}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_main_file_that_is_there_belongs_to_its_data(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    replace, count = os.replace, iter(range(9))

    def fail(source: Path, target: Path) -> None:
        if next(count) == failing:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RequirementError, match=f"cannot write .*{PAIR[failing]}: Input/output"):
        files.publish(*folders, PAIR)
    assert "model.onnx" not in contents(folders[1])


def test_nothing_is_touched_before_all_files_are_there(folders: tuple[Path, Path]) -> None:
    (folders[0] / "model.onnx").unlink()
    before = contents(folders[1])
    with pytest.raises(ArtifactError, match=r"model\.onnx was not made"):
        files.publish(*folders, PAIR)
    assert contents(folders[1]) == before


def test_a_single_file_replaces_the_old_one_without_a_gap(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RequirementError):
        files.publish(*folders, PAIR[1:])
    assert contents(folders[1])["model.onnx"] == "old model.onnx"


@pytest.mark.parametrize("names", [(), ("../model.onnx",), ("a/b",)])
def test_only_plain_names_are_published(folders: tuple[Path, Path], names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="plain file names"):
        files.publish(*folders, names)


# ---------------------------------------------------------------- hashes


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 5])
def test_a_file_is_hashed_whatever_its_size(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(content[:size]).hexdigest()


def test_a_file_that_cannot_be_hashed_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(LoadError, match=f"cannot read {path}"):
            files.sha256_file(path)


# ---------------------------------------------------------------- JSON


@attrs.frozen(kw_only=True)
class Row:
    name: str
    values: tuple[Any, ...] = ()


class Kind(Enum):
    CAR = "car"
    TRUCK = 2


def test_json_keeps_the_order_and_says_everything_in_plain_words(tmp_path: Path) -> None:
    value = {
        "z": Row(name="ü", values=(1, 2.5, None, True)),
        "a": [Path("x/y"), Kind.CAR, Kind.TRUCK, np.float32(0.5), np.int64(3), np.bool_(True), np.float64(2)],
        3: {Kind.CAR: 1, Path("p"): 2},
    }
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == (
        '{\n  "z": {\n    "name": "ü",\n    "values": [\n      1,\n      2.5,\n      null,\n      true\n    ]\n  },\n'
        '  "a": [\n    "x/y",\n    "car",\n    2,\n    0.5,\n    3,\n    true,\n    2.0\n  ],\n'
        '  "3": {\n    "car": 1,\n    "p": 2\n  }\n}\n'
    )


def test_a_path_that_is_no_utf8_comes_back_from_json(tmp_path: Path) -> None:
    strange = Path(os.fsdecode(b"a\xff"))
    files.write_json(tmp_path / "a.json", {"path": strange})
    assert Path(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["path"]) == strange


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"metrics": {"car AP": math.nan}}, r"\$\.metrics\['car AP'\] is nan"),
        (Row(name="x", values=(1, math.inf)), r"\$\.values\[1\] is inf"),
        ([np.float32("-inf")], r"\$\[0\] is -inf"),
        ([np.zeros(2)], r"\$\[0\] is a numpy.ndarray"),
        ({"a": {1, 2}}, r"\$\.a is a builtins.set"),
        ({"a": object()}, r"\$\.a is a builtins.object"),
        ({"a": {None: 1}}, r"\$\.a has the key None"),
        ({True: 1}, r"\$ has the key True"),
        ({1: 1, "1": 2}, r"\$ has two keys"),
        (LOOP, r"\$\[0\] contains itself"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(old: Path, value: Any, place: str) -> None:
    with pytest.raises(DeployError, match=place):
        files.write_json(old, value)
    assert untouched(old)


# ---------------------------------------------------------------- folders


def test_a_folder_is_made_with_its_parents_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        assert files.ensure_directory(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["", "b", "b/c"])
def test_a_file_in_the_way_is_named(old: Path, below: str) -> None:
    with pytest.raises(RequirementError, match=f"{old} is a file") as caught:
        files.ensure_directory(old / below)
    assert "Move it away" in (caught.value.hint or "")


def test_a_link_to_nothing_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(RequirementError, match="link is a link to nothing"):
        files.ensure_directory(tmp_path / "link")


@pytest.mark.parametrize(("code", "remedy"), [(errno.EROFS, "read-only"), (errno.EACCES, "permissions")])
def test_a_folder_that_may_not_be_made_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(RequirementError, match=os.strerror(code)) as caught:
        files.ensure_directory(tmp_path / "a")
    assert remedy in (caught.value.hint or "")


def test_a_folder_that_may_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(RequirementError, match=r"cannot write into the folder"):
        files.ensure_directory(tmp_path)


def test_a_kernel_folder_that_nobody_may_write_is_refused() -> None:
    # Also root, who may write everywhere else.
    with pytest.raises(RequirementError, match="/proc/self"):
        files.ensure_directory("/proc/self/none")


@pytest.mark.parametrize(("key", "said"), [("a", ".a"), ("a b", "['a b']"), ("", "['']"), (3, "[3]"), (None, "[None]")])
def test_a_step_names_a_key(key: Any, said: str) -> None:
    assert files.step(key) == said


def test_a_folder_is_held_by_one_process_and_let_go_of(tmp_path: Path) -> None:
    from awml_deploy_core.files import alone_in

    code = "from pathlib import Path; from awml_deploy_core.files import alone_in\nwith alone_in(Path('.')): ..."

    def another() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    with alone_in(tmp_path):
        refused = another()
        assert refused.returncode == 1
        assert f"another run, process {os.getpid()}, is writing here" in refused.stderr
    assert another().returncode == 0
