"""The few file habits that every stage shares.

A file is there whole or not at all, a folder that cannot be made says why, JSON holds only what every reader takes.
Whatever the machine refuses (no space, no permission, a read-only disk) comes out as a `RequirementError` that names
the file, the reason and a remedy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from awml_deploy_core.errors import ArtifactError, DeployError, LoadError, RequirementError

__all__ = ["ensure_directory", "publish", "sha256_file", "step", "write_json", "write_whole"]

_CHUNK = 1 << 20
_REMEDIES = {
    errno.ENOSPC: "Free some space there, or choose a folder on another disk.",
    errno.EDQUOT: "Your quota is used up: free some space, or choose a folder on another disk.",
    errno.EROFS: "That file system is read-only: choose a folder on another one.",
    errno.EACCES: "Choose a folder that you may write to, or change its permissions.",
    errno.EPERM: "Choose a folder that you may write to, or change its permissions.",
    errno.ENOENT: "Make the folder first, or correct the path.",
    errno.ENOTDIR: "A file stands where a folder is needed: move it away, or choose another path.",
    errno.EEXIST: "A file stands where a folder is needed: move it away, or choose another path.",
    errno.EISDIR: "A folder of that name is in the way: move it away, or choose another path.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def write_whole(path: str | Path, data: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader finds the old content or the new one, and never a part.

    The bytes go to a hidden neighbour that takes the name only when it is on the disk. Whatever interrupts the
    writing, also Ctrl-C, leaves the old file as it was and no neighbour behind; only a killed process or a power cut
    can leave a `.awml-*.part`. A symbolic link is followed, as `open` does. Permissions are the umask's.

    Args:
        path: The file; its folder must exist.
        data: Bytes, text (written as UTF-8), or a function that writes into the open binary file.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".awml-{os.getpid()}-{secrets.token_hex(4)}.part")
    with _explained("write", Path(path), part, target):
        try:
            # Not mkstemp: its files are private to the user, and work folders are shared.
            with part.open("xb") as file:
                _fill(file, data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)  # noqa: PTH105  the tests make this very call fail
        except BaseException:
            # What went wrong first is what the user must hear, also if the neighbour cannot be removed.
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def publish(staging: str | Path, target: str | Path, names: Sequence[str]) -> None:
    """Move files that belong together into their folder, the main one last.

    A main file that is there always belongs to the files beside it: where there are several, the old main file goes
    first, then the others are replaced, then the new main file appears. A crash in between leaves no main file, which
    every reader notices, instead of an old graph beside new weights, which none would. Nothing is touched before all
    files are known to be there and on the disk.

    Args:
        staging: Folder in which the files were made; on the same disk they are moved, else copied.
        target: Folder in which they are wanted; must exist.
        names: File names, the main one last: `("model.onnx.data", "model.onnx")`.
    """
    source, folder = Path(staging), Path(target)
    if not names or any(Path(name).name != name for name in names):
        raise ValueError(f"publish wants plain file names, got {list(names)}")
    for name in names:
        if not (source / name).is_file():
            raise ArtifactError(f"{source / name} was not made, so {folder / names[-1]} is left as it is")
        with _explained("write", source / name), (source / name).open("rb") as file:
            os.fsync(file.fileno())
    if len(names) > 1:
        with _explained("replace", folder / names[-1]):
            (folder / names[-1]).unlink(missing_ok=True)
            _sync_folder(folder)
    for name in names:
        _move(source / name, folder / name)


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content in hexadecimal, read piece by piece."""
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK)
    view = memoryview(buffer)
    try:
        with Path(path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(view[:count])
    except OSError as error:
        raise LoadError(f"cannot read {path}: {error.strerror or error}", hint="Check the path.") from error
    return digest.hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON: two spaces, keys in the order given, a newline at the end.

    attrs instances become objects with all their fields, tuples lists, paths and enum members text or their value,
    numpy's scalars Python's numbers; keys may be text, whole numbers, paths or enum members. NaN and infinity are
    refused, because JSON has no word for them and readers differ in what they make of them: the caller says None.

    Raises:
        DeployError: Something that JSON cannot say, with its place: `$.metrics['car AP']`.
    """
    plain = _plain(value, "$", ())
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A path whose bytes are no UTF-8 arrives with lone surrogates; their backslash form is JSON's own escape.
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def ensure_directory(path: str | Path) -> Path:
    """Make a folder with all its parents, or say what is in the way; answer its path."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        lineage = [folder, *folder.parents]
        culprit = next(place for place in lineage if os.path.lexists(place) and not place.is_dir())
        what = "a link to nothing" if culprit.is_symlink() and not culprit.exists() else "a file"
        message = f"cannot make the folder {folder}: {culprit} is {what}"
        raise RequirementError(message, hint="Move it away, or choose another folder.") from error
    except OSError as error:
        raise _refused("make the folder", folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RequirementError(f"cannot write into the folder {folder}", hint=_REMEDIES[errno.EACCES])
    return folder


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; who dies lets go of it.

    Raises:
        RequirementError: Another process holds it.
    """
    path = folder / ".lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RequirementError(
                f"{folder}: another run, process {holder}, is writing here", hint="Wait for it, or name a --work-dir."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield  # the file stays: to remove it would let a third process lock another one of the same name


def step(key: Any) -> str:
    """How the path to a nested value names a key: `.name`, and `['odd name']` or `[3]` for all that is no name."""
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


# ---------------------------------------------------------------- bytes onto the disk


def _fill(file: BinaryIO, data: bytes | str | Callable[[BinaryIO], object]) -> None:
    if callable(data):
        data(file)
    else:
        file.write(data.encode() if isinstance(data, str) else data)


def _move(source: Path, target: Path) -> None:
    with _explained("write", target, source):
        try:
            os.replace(source, target)  # noqa: PTH105  the tests make this very call fail
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with source.open("rb") as content:
                write_whole(target, lambda file: shutil.copyfileobj(content, file, _CHUNK))
            source.unlink()
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder onto the disk, where the file system knows how."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(verb: str, path: Path, *others: Path) -> Iterator[None]:
    """Turn an `OSError` about these files into an error for the user; one about another file is not ours to explain."""
    ours = {None, *map(os.fspath, (path, *others)), os.fspath(path.parent), *(os.fspath(o.parent) for o in others)}
    try:
        yield
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) not in ours:
            raise
        raise _refused(verb, path, error) from error


def _refused(verb: str, path: Path, error: OSError) -> RequirementError:
    message = f"cannot {verb} {path}: {error.strerror or error}"
    return RequirementError(message, hint=_REMEDIES.get(error.errno or 0))


# ---------------------------------------------------------------- values that JSON can say


def _plain(value: Any, path: str, above: tuple[int, ...]) -> Any:
    """The same value in JSON's own words."""
    value = _scalar(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DeployError(
                f"{path} is {value}, and JSON has no word for it", hint="Write None where nothing is known."
            )
        return value
    if id(value) in above:
        raise DeployError(f"{path} contains itself, so it cannot be written as JSON")
    inside = (*above, id(value))
    if attrs.has(type(value)):
        names = [field.name for field in attrs.fields(type(value))]
        return {name: _plain(getattr(value, name), path + step(name), inside) for name in names}
    if isinstance(value, Mapping):
        return _plain_mapping(value, path, inside)
    if isinstance(value, (list, tuple)):
        return [_plain(child, f"{path}[{index}]", inside) for index, child in enumerate(value)]
    what = f"{type(value).__module__}.{type(value).__qualname__}"
    raise DeployError(f"{path} is a {what}, which JSON cannot say", hint="Arrays belong into a tree file (tree.save).")


def _plain_mapping(value: Mapping[Any, Any], path: str, above: tuple[int, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, child in value.items():
        name = _scalar(key)
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise DeployError(f"{path} has the key {key!r}, and keys in JSON are text")
        if str(name) in plain:
            raise DeployError(f"{path} has two keys that JSON writes as {str(name)!r}")
        plain[str(name)] = _plain(child, path + step(name), above)
    return plain


def _scalar(value: Any) -> Any:
    """Paths as text, enum members as their value, numpy's scalars as Python's."""
    if isinstance(value, Enum):
        return _scalar(value.value)
    if isinstance(value, Path):
        return os.fspath(value)
    # A numpy scalar can only be there if somebody has imported numpy.
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value
