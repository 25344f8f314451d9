from __future__ import annotations

import copyreg
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from awml_deploy_core.checkpoint import Inert, read_checkpoint, read_info
from awml_deploy_core.errors import LoadError


class Calls:
    """Pickles as a call of anything with anything."""

    def __init__(self, target: Any, *args: Any, state: Any = None) -> None:
        self.answer = (target, args, state) if state is not None else (target, args)

    def __reduce__(self) -> Any:
        return self.answer


def info(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "info.pkl"
    path.write_bytes(content)
    return read_info(path)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """A hostile file of a few bytes may take neither long nor much memory."""
    started, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 1_000_000  # kilobytes


# ---------------------------------------------------------------- code


@pytest.mark.parametrize("protocol", range(6))
def test_an_info_file_that_wants_to_run_something_is_refused(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    bomb = [{"a": 1}, Calls(os.system, f"touch {marker}"), Calls(eval, "1"), Calls(open, str(marker), "w")]
    with pytest.raises(LoadError) as caught:
        info(tmp_path, pickle.dumps(bomb, protocol))
    for name in ("posix.system", "builtins.eval", "open"):
        assert name in caught.value.message
    assert "--trust-checkpoint" in str(caught.value.hint)
    assert not marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_wants_to_run_something_is_refused(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "ran"
    value = {"state_dict": {"a": torch.ones(2)}, "x": Calls(os.system, f"touch {marker}"), "y": Calls(eval, "1")}
    path = tmp_path / "bomb.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(LoadError, match=r"bomb\.pth: asks for code that is not allowed: posix\.system, builtins\.eval"):
        read_checkpoint(path)
    assert not marker.exists()


def test_a_whole_network_is_refused_by_its_class(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / "net.pth"
        torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(LoadError, match=r"torch\.nn\.modules\.container\.Sequential.*torch\.nn\.modules\.linear"):
            read_checkpoint(path)
        assert list(read_checkpoint(path, trust=True).tensors) == ["0.weight", "0.bias"]


def test_names_behind_the_damage_are_listed_too(tmp_path: Path) -> None:
    content = b"\x80\x04(" + named("os", "system") + b"\xff" + named("nt", "system") + b"cshutil\nrmtree\n."
    # genops stops at an unknown opcode, so what is behind it stays unknown; a wrong call is no such thing.
    with pytest.raises(LoadError, match=r"allowed: os\.system$|allowed: os\.system\n"):
        info(tmp_path, content)
    content = content.replace(b"\xff", b"N)R")
    with pytest.raises(LoadError, match=r"os\.system, nt\.system, shutil\.rmtree"):
        info(tmp_path, content)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("collections", "OrderedDict.__init__"),
        ("collections.OrderedDict", "__class__"),
        ("builtins", "list.__class__"),
        ("numpy", "dtype.type"),
        ("numpy._core", "multiarray.scalar"),
        ("mmengines", "Config"),
        ("builtins", "__import__"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("numpy", "load"),
        ("numpy._core.multiarray", "fromfile"),
    ],
)
def test_names_that_nearly_are_allowed_are_not(tmp_path: Path, module: str, name: str) -> None:
    with pytest.raises(LoadError, match="not allowed: " + f"{module}.{name}".replace(".", r"\.")):
        info(tmp_path, b"\x80\x04" + named(module, name) + b"(" + text("x") + b"tR.")


def test_names_in_messages_are_short_and_printable(tmp_path: Path) -> None:
    names = b"".join(named("a" * 1000, f"\x1b[31m\n{number}") + b"0" for number in range(100))
    with pytest.raises(LoadError) as caught:
        info(tmp_path, b"\x80\x04" + names + b"N.")
    assert len(caught.value.message) < 5000
    assert caught.value.message.replace("/", "").isprintable()
    assert caught.value.message.endswith("and 80 more")


def test_a_trainers_object_is_a_placeholder_whatever_it_says(tmp_path: Path) -> None:
    owner = named("lightning.nothing.of_this", "Name")
    content = (
        b"\x80\x04(" + owner + b")\x81(" + text("a") + b"K\x01u(K\x01K\x02eK\x03a" + b"}" + text("a") + b"K\x01sb"
        + owner + b"(" + text("x") + b"t}" + text("k") + b"K\x01s\x92"
        + named("builtins", "getattr") + owner + text("method") + b"\x86R" + b"l."
    )  # fmt: skip
    name = "lightning.nothing.of_this.Name"
    assert info(tmp_path, content) == [Inert(name), Inert(name), Inert(f"{name}.method")]
    assert not any(module.startswith("lightning") for module in sys.modules)


@pytest.mark.parametrize("owner", [b"N", named("builtins", "list"), named("numpy", "ndarray"), text("a")])
def test_getattr_serves_placeholders_only(tmp_path: Path, owner: bytes) -> None:
    with pytest.raises(LoadError, match=r"calls builtins\.getattr"):
        info(tmp_path, b"\x80\x04" + named("builtins", "getattr") + owner + text("append") + b"\x86R.")


def test_the_extension_registry_is_not_asked(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 77)
    try:
        pickle.loads(b"\x80\x02\x82M.")  # fills the cache that answers before any check
        with pytest.raises(LoadError, match="opcode 0x82"):
            info(tmp_path, b"\x80\x02\x82M" + text("true") + b"\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 77)
        copyreg.clear_extension_cache()


# ---------------------------------------------------------------- sound pickles of unsound things

STATES: list[Callable[[], bytes]] = [
    lambda: b"]}" + text("append") + b"K\x01sb.",
    lambda: b"}}" + text("items") + b"K\x01sb.",
    lambda: b"\x8f)b.",
    lambda: named("builtins", "set") + b")R}b.",
    lambda: named("datetime", "timedelta") + b"K\x01\x85R}b.",
    lambda: text("a") + b"Nb.",
]


@pytest.mark.parametrize("content", STATES)
def test_states_are_given_to_nothing_but_arrays(tmp_path: Path, content: Callable[[], bytes]) -> None:
    with pytest.raises(LoadError, match="gives a state to a"):
        info(tmp_path, b"\x80\x04" + content())


def test_attributes_of_an_ordered_dict_are_dropped(tmp_path: Path) -> None:
    value: Any = OrderedDict(a=1)
    value.values = 3
    read = info(tmp_path, pickle.dumps(value))
    assert list(read.values()) == [1]


MULTIARRAY: Any = getattr(np, "_core", None) or import_module("numpy.core")  # numpy 2 and 1
RECONSTRUCT = MULTIARRAY.multiarray._reconstruct


def array(shape: Any, dtype: Any, payload: Any, fortran: bool = False) -> bytes:
    state = (1, shape, dtype, fortran, payload)
    return pickle.dumps(Calls(RECONSTRUCT, np.ndarray, (0,), b"b", state=state))


def lying_dtype(*state: Any) -> Calls:
    return Calls(np.dtype, "f8", False, True, state=state)


@pytest.mark.parametrize(
    "content",
    [
        lambda: array((100,), np.dtype("f8"), b"\0" * 8),
        lambda: array((2**61,), np.dtype("f8"), b"\0" * 8),
        lambda: array((-1,), np.dtype("f8"), b""),
        lambda: array((2**40, 0, 2**40), np.dtype("V0"), b"a"),
        lambda: array((1,), np.dtype("O"), b"\x41" * 8),
        lambda: array((2,), np.dtype("O"), [1]),
        lambda: array((1,), np.dtype([("a", "O")]), b"\x41" * 8),
        lambda: array((1,), np.dtype([("a", "f8")]), b"\x41" * 8),
        lambda: array((1,), "f8", b"\x41" * 8),
        lambda: array(1, np.dtype("f8"), b"\x41" * 8),
        lambda: array((1,), lying_dtype(3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 63), b"\x41" * 8),
        lambda: array((1,), lying_dtype(3, "x", None, None, None, -1, -1, 0), b"\x41" * 8),
        lambda: pickle.dumps(Calls(MULTIARRAY.multiarray.scalar, np.dtype("O"), "a")),
        lambda: pickle.dumps(Calls(MULTIARRAY.multiarray.scalar, np.dtype("f8"), b"a")),
        lambda: pickle.dumps(Calls(np.dtype, "O,O")),
        lambda: pickle.dumps(Calls(np.ndarray, (10**6,), "O")),
        lambda: pickle.dumps(Calls(bytearray, 10**10)),
        lambda: pickle.dumps(Calls(bytes, 10**10)),
        lambda: pickle.dumps(Calls(list, "abc")),
    ],
)
def test_arrays_that_lie_about_themselves_are_refused(tmp_path: Path, content: Callable[[], bytes]) -> None:
    with pytest.raises(LoadError, match=r"info\.pkl: "):
        info(tmp_path, content())


def test_flags_and_sizes_of_a_type_are_not_taken_from_the_file(tmp_path: Path) -> None:
    """The object flag on floats would make numpy read the payload as pointers."""
    lies = lying_dtype(3, "<", None, None, None, 1, 1, 63)
    read = info(tmp_path, array((1,), lies, struct.pack("<d", 1.5)))
    assert (read.dtype, read.dtype.flags, read.tolist()) == (np.dtype("f8"), 0, [1.5])
    assert np.dtype("f8").flags == 0  # numpy's own type is untouched
    lies = Calls(np.dtype, "U2", False, True, state=(3, ">", None, None, None, 400, 4, 8))
    assert info(tmp_path, array((1,), lies, "hi".encode("utf-32-be"))).tolist() == ["hi"]
    assert np.dtype("U2").byteorder == "="


# ---------------------------------------------------------------- bombs


def nested(depth: int) -> list[bytes]:
    return [
        b"]" * depth + b"a" * (depth - 1) + b".",
        b")" + b"\x85" * depth + b".",
        b"}" + b")" + b"\x85" * depth + b"Ns.",
        b"(" * depth + b"l" * depth + b".",
        b"(" * depth + b")" + b"\x91" * depth + b".",
        b"]q\x00" + b"0]h\x00aq\x00" * depth + b".",
    ]


@pytest.mark.parametrize("content", nested(50_000))
def test_bottomless_nesting_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LoadError, match="nested more than 100 levels deep"):
        info(tmp_path, b"\x80\x04" + content)


def test_nested_object_arrays_are_refused(tmp_path: Path) -> None:
    value: Any = None
    for _ in range(150):
        inner, value = value, np.empty(1, object)
        value[0] = inner
    with pytest.raises(LoadError, match="levels deep"):
        info(tmp_path, pickle.dumps(value))


@pytest.mark.parametrize(
    "content",
    [
        b"]q\x00h\x00a.",
        b"]q\x00}" + text("a") + b"h\x00sa.",
        b"]]q\x00ah\x00K\x01a.",
    ],
)
def test_cycles_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LoadError, match="as only a cycle would"):
        info(tmp_path, b"\x80\x04" + content)


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        # A tuple of two of the same, ninety levels up: hashing it takes 2**90 steps.
        (b"})" + b"2\x86" * 90 + b"Ns.", "huge tuple as a key"),
        (b"\x8f()" + b"2\x86" * 90 + b"\x90.", "huge tuple as a key"),
        # The memo of the standard unpickler grows to the largest index: 64 GiB here.
        (b"Nr\xff\xff\xff\xff0]\x94h\x07.", "not a sound pickle"),
        # Lengths of what is not there.
        (b"\x8e" + b"\xff" * 7 + b"\x7f", "middle of a value"),
        (b"\x96" + b"\xff" * 8, "middle of a value"),
        (b"B\xff\xff\xff\xff", "middle of a value"),
        (b"\x8b\xff\xff\xff\x7f", "middle of a value"),
        (b"L" + b"9" * 100_000 + b"L\n.", "more than 4000 digits"),
        (b"I" + b"9" * 100_000 + b"\n.", "more than 4000 digits"),
        # The same text encoded again and again.
        (
            text("a" * 100_000) + b"q\x00" + named("_codecs", "encode") + b"q\x01" + text("latin1") + b"q\x02000("
            + b"h\x01h\x00h\x02\x86R" * 20_000 + b"t.",
            "copies the same data",
        ),
        (b"P1\n.", "opcode 0x50"),
        (text("storage") + b"Q.", "data outside of itself"),
        (b"\x97.", "opcode 0x97"),
        (b"\x80\x09N.", "protocol newer than 5"),
        (b"0.", "more values than there are"),
        (b"}]K\x01s.", "not a sound pickle"),
        (b"K\x01)R.", "calls a int"),
        (named("builtins", "list") + b"K\x01R.", "arguments that are no tuple"),
        (b"K\x01K\x02\x93.", "no string"),
    ],
)  # fmt: skip
def test_bombs_and_nonsense_are_refused(tmp_path: Path, content: bytes, fact: str) -> None:
    with pytest.raises(LoadError, match=fact):
        info(tmp_path, b"\x80\x04" + content)


def test_shared_values_are_no_bomb(tmp_path: Path) -> None:
    """Sharing is what pickles are for: 2**60 ends, and a few bytes of memory."""
    read = info(tmp_path, b"\x80\x04]" + b"q\x00(h\x00h\x00l" * 60 + b".")
    assert len(read) == 2
    assert read[0] is read[1]


# ---------------------------------------------------------------- tensors


def tensor(rebuild: Any = torch._utils._rebuild_tensor_v2, *, count: int = 4, **changed: Any) -> Calls:
    storage = torch.arange(float(count))._typed_storage()  # type: ignore[no-untyped-call]
    values = {"offset": 0, "size": (4,), "stride": (1,)} | changed
    more: tuple[Any, ...] = (False, OrderedDict()) if rebuild is not torch._utils._rebuild_tensor else ()
    return Calls(rebuild, values.get("storage", storage), values["offset"], values["size"], values["stride"], *more)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"offset": 1}, "reaches to element 5 of a storage of 4"),
        ({"size": (5,)}, "reaches to element 5 of a storage of 4"),
        ({"size": (2, 2), "stride": (2**40, 1)}, "reaches to element"),
        ({"offset": -1}, "no sizes"),
        ({"stride": (-1,)}, "no sizes"),
        ({"size": (-4,)}, "no sizes"),
        ({"size": (2**62, 4), "stride": (0, 1)}, "no sizes"),
        ({"size": (2**40, 4), "stride": (0, 1)}, "elements over a storage of 4"),
        ({"size": (True,)}, "no sizes"),
        ({"size": (4.0,)}, "no sizes"),
        ({"size": (2, 2)}, "more sizes than strides"),
        ({"size": (1,) * 65, "stride": (1,) * 65}, "without a shape"),
        ({"storage": "abc"}, "no storage"),
        ({"storage": None}, "no storage"),
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(
    tmp_path: Path, zipped: bool, changed: dict[str, Any], fact: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": tensor(**changed)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(LoadError, match=fact):
        read_checkpoint(path)
    torch.save({"a": tensor()}, path, _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(path).tensors["a"].tolist() == [0, 1, 2, 3]


def rewritten(tmp_path: Path, change: Callable[[str, bytes], tuple[str, bytes, int]]) -> Path:
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "whole.pth")
    path = tmp_path / "changed.pth"
    with zipfile.ZipFile(tmp_path / "whole.pth") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            changed, content, how = change(name, old.read(name))
            new.writestr(changed, content, how)
    return path


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda name, content: (name, content, DEFLATED), "compressed or encrypted"),
        (lambda name, content: (name, content[:-4] if "/data/" in name else content, STORED), "no entry of 4000 bytes"),
        (lambda name, content: (name.replace("/data/0", "/data/../0"), content, STORED), "no entry of 4000 bytes"),
        (lambda name, content: (name.replace("data.pkl", "other.pkl"), content, STORED), "has no data.pkl"),
        (lambda name, content: (name, b"big" if "byteorder" in name else content, STORED), "another byte order"),
        (lambda name, content: (name, content.replace(b"M\xe8\x03", b"J\xff\xff\xff\x7f", 1), STORED), "no entry of"),
        (lambda name, content: (name, content.replace(b"storage", b"foreign"), STORED), "no tensor storage"),
        (lambda name, content: (name, content.replace(b"FloatStorage", b"QInt8Storage"), STORED), "QInt8Storage"),
        (
            lambda name, content: (name, content.replace(b"FloatStorage", b"Tensor"), STORED),
            "unknown or quantised|sound",
        ),
    ],
)
def test_an_archive_that_torch_would_not_write_is_refused(tmp_path: Path, change: Any, fact: str) -> None:
    path = rewritten(tmp_path, change)
    with pytest.raises(LoadError, match=fact):
        read_checkpoint(path)


def test_an_archive_written_by_another_zip_program_is_read(tmp_path: Path) -> None:
    """Its entries lie on odd addresses, so they are copied; nothing else is different."""
    path = rewritten(tmp_path, lambda name, content: (name, content, STORED))
    read = read_checkpoint(path).tensors["a"]
    assert torch.equal(read, torch.arange(1000.0))
    assert read.data_ptr() % 16 == 0


def test_an_archive_with_two_entries_of_one_name_is_refused(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda name, content: (name, content, STORED))
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"\x80\x02}.")
    with pytest.raises(LoadError, match="two entries of one name"):
        read_checkpoint(path)


def test_a_damaged_weight_is_noticed(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda name, content: (name, content, STORED))
    content = path.read_bytes()
    value = struct.pack("<f", 500.0)
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, struct.pack("<f", 501.0)))
    with pytest.raises(LoadError, match=r"checksum of its entry '.*/data/0' does not match"):
        read_checkpoint(path)


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(2)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "a.pth").tensors["a"].tolist() == [1, 1]


def test_json_in_place_of_an_info_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "infos.pkl"
    path.write_text('{"data_list":[],"metainfo":{}}')
    with pytest.raises(LoadError, match="is JSON, not a pickle"):
        read_info(path)
