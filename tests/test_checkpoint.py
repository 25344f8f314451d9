from __future__ import annotations

import argparse
import builtins
import datetime as dt
import errno
import hashlib
import io
import json
import os
import pickle
import random
import time
import zipfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from torch import nn

from awml_deploy_core.checkpoint import Inert, load_state, read_checkpoint, read_info
from awml_deploy_core.errors import ExitCode, LoadError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
FLOAT8 = torch.float8_e4m3fn


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()


def weights() -> dict[str, torch.Tensor]:
    net = network()
    net(torch.zeros(1, 3, 5, 5))
    return dict(net.state_dict())


def save(path: Path, value: Any, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def same(ours: Any, theirs: Any) -> bool:
    return list(ours) == list(theirs) and all(
        ours[name].dtype == theirs[name].dtype
        and ours[name].shape == theirs[name].shape
        and ours[name].stride() == theirs[name].stride()
        and bytes(ours[name].contiguous().flatten().view(torch.uint8).numpy())
        == bytes(theirs[name].contiguous().flatten().view(torch.uint8).numpy())
        for name in ours
    )


# ---------------------------------------------------------------- tensors, as torch and safetensors read them


@FORMATS
def test_every_kind_of_tensor_is_read_as_torch_reads_it(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    odd = nn.Parameter(torch.ones(2))
    odd.is_bias = True  # type: ignore[attr-defined]
    value = {
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.float64, torch.float16, torch.bfloat16, FLOAT8)},
        **{str(kind): torch.arange(3).to(kind) for kind in (torch.int64, torch.int8, torch.uint8, torch.uint16)},
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "base": base,
        "transposed": base.transpose(0, 2),
        "slice": base[1, :, 1:3],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "parameter": nn.Parameter(torch.ones(2)),
        "odd": odd,
    }
    if not zipped:  # torch writes these into its old format and cannot read them back
        del value[str(FLOAT8)], value["torch.uint16"]
    path = save(tmp_path / "all.pth", value, zipped)
    read = read_checkpoint(path)
    assert same(read.tensors, {name: tensor.detach() for name, tensor in value.items()})
    assert same(read.tensors, torch.load(path, weights_only=True))
    assert read.layout == "plain"
    assert not any(tensor.requires_grad for tensor in read.tensors.values())
    shared = {read.tensors[name].untyped_storage().data_ptr() for name in ("base", "transposed", "slice")}
    assert len(shared) == 1


def test_writing_to_a_tensor_does_not_reach_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", weights())
    before = path.read_bytes()
    for tensor in read_checkpoint(path).tensors.values():
        tensor.zero_()
    assert path.read_bytes() == before
    assert read_checkpoint(path).tensors["0.weight"].abs().sum() > 0


NAMES = st.text(min_size=1).filter(lambda name: name != "__metadata__")
NUMBERS = st.sampled_from(["float32", "float16", "bfloat16", "int64", "int8", "bool", "uint8", "float64"])


@given(st.dictionaries(NAMES, st.tuples(NUMBERS, st.lists(st.integers(0, 4), max_size=4)), min_size=1))
def test_safetensors_are_read_as_their_own_package_reads_them(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[str, list[int]]]
) -> None:
    value = {name: (torch.rand(shape) * 100).to(getattr(torch, kind)) for name, (kind, shape) in shapes.items()}
    path = tmp_path_factory.getbasetemp() / "given.safetensors"
    safetensors.torch.save_file(value, path, {"epoch": "3"})
    read = read_checkpoint(path)
    theirs = safetensors.torch.load_file(path)
    assert same(dict(sorted(read.tensors.items())), dict(sorted(theirs.items())))
    assert (read.layout, read.meta) == ("safetensors", {"epoch": "3"})


def packed(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(kind: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (packed({"a": entry(offsets=(0, 16), shape=(4,))}), "less data than its tensors claim"),
        (packed({"a": entry(), "b": entry()}), "a gap or an overlap before the tensor 'b'"),
        (packed({"a": entry(offsets=(4, 12))}, b"\0" * 12), "a gap or an overlap before the tensor 'a'"),
        (packed({"a": entry(shape=(3,))}), "other bytes than its shape needs"),
        (packed({"a": entry(shape=(2**60, 2**60))}), "sizes that are none"),
        (packed({"a": entry(shape=(-2, -1))}), "sizes that are none"),
        (packed({"a": entry("Q9")}), "a type that is not supported"),
        (packed({"a": entry()}, b"\0" * 12), "12 bytes of data where its header claims 8"),
        (packed({"a": [1]}), "other things than dtype"),
        (packed(b'{"a": 1, "a": 2}'), "names something twice"),
        (packed(b"{" + b"[" * 100_000), "no JSON"),
        (packed(b'{"a"'), "no JSON"),
        (packed({"__metadata__": {"a": 1}}), "metadata that are no text"),
        (packed({}, b""), "holds no tensors"),
        ((2**20).to_bytes(8, "little") + b"{}", "ends inside of its header"),
    ],
)
def test_a_safetensors_header_is_held_against_the_file(tmp_path: Path, content: bytes, fact: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=fact) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message


# ---------------------------------------------------------------- who wrote it


@FORMATS
def test_mmengine_checkpoint_with_averaged_weights(tmp_path: Path, zipped: bool) -> None:
    averaged = weights()
    raw = {name: value + 1 for name, value in averaged.items()}
    net = network()
    net(torch.zeros(1, 3, 5, 5))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    value = {
        "meta": {"epoch": 49, "iter": 1000, "dataset_meta": {"classes": ("car",)}, "seed": np.int64(3), "cfg": "a = 1"},
        "state_dict": OrderedDict(averaged),
        "message_hub": {"log_scalars": OrderedDict(loss=HistoryBuffer([1.0, 2.0], [1, 1])), "runtime_info": {}},
        "optimizer": optimizer.state_dict(),
        "param_schedulers": [{"milestones": Counter([3, 4])}],
        "ema_state_dict": {**{f"module.{name}": value for name, value in raw.items()}, "steps": torch.tensor(7)},
    }
    read = read_checkpoint(save(tmp_path / "epoch_49.pth", value, zipped))
    assert (read.layout, read.second_name) == ("mmengine", "ema_state_dict")
    assert read.parts == tuple(value)
    assert same(read.tensors, averaged)
    assert same(read.state(), averaged)
    assert same(read.state("ema"), averaged)
    assert same(read.state("raw"), raw)
    assert read.meta == value["meta"]


def test_torchs_own_small_values_are_kept(tmp_path: Path) -> None:
    value = {"kind": torch.float16, "device": torch.device("cuda:0"), "size": torch.Size([1, 2])}
    read = read_checkpoint(save(tmp_path / "a.pth", {"state_dict": weights(), **value}))
    assert read.meta == value | {"device": "cuda:0"}


def test_averaged_weights_that_lie_apart(tmp_path: Path) -> None:
    raw = weights()
    averaged = {name: value + 1 for name, value in raw.items()}
    read = read_checkpoint(save(tmp_path / "a.pth", {"model": raw, "model_ema": averaged, "epoch": 3}))
    assert same(read.state("ema"), averaged)
    assert same(read.state("raw"), raw)
    assert read.meta == {"epoch": 3}
    with pytest.raises(LoadError, match=r"no averaged weights; it holds 0\.weight"):
        read_checkpoint(save(tmp_path / "b.pth", raw)).state("ema")


LAYOUTS: dict[str, dict[str, Any]] = {
    "megvii": {"start_epoch": 5, "model": weights(), "optimizer": {"state": {}}, "best_ap": 0.4, "curr_ap": None},
    "lightning": {
        "epoch": 2,
        "pytorch-lightning_version": "2.4",
        "state_dict": weights(),
        "callbacks": {"a": {}},
        "hyper_parameters": {"lr": 0.1, "args": argparse.Namespace(lr=0.1), "path": Path("/data/a")},
    },
    "state_dict": {"state_dict": weights()},
    "model": {"model": weights()},
    "plain": weights(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    read = read_checkpoint(save(tmp_path / "a.pth", LAYOUTS[layout]))
    assert read.layout == layout
    assert same(read.tensors, weights())
    if layout == "megvii":
        assert read.meta == {"start_epoch": 5, "best_ap": 0.4, "curr_ap": None}
    if layout == "lightning":
        assert read.meta["hyper_parameters"] == {
            "lr": 0.1,
            "args": Inert("argparse.Namespace"),
            "path": PurePosixPath("/data/a"),
        }


def test_prefixes_stay_unless_asked(tmp_path: Path) -> None:
    value = {f"module.{name}": tensor for name, tensor in weights().items()}
    read = read_checkpoint(save(tmp_path / "a.pth", value))
    assert list(read.state()) == list(value)
    assert same(read.state(strip="module."), weights())
    clash = save(tmp_path / "b.pth", {"a": torch.ones(1), "module.a": torch.ones(1)})
    with pytest.raises(LoadError, match="two of its tensors have one name"):
        read_checkpoint(clash).state(strip="module.")


def test_the_hash_is_that_of_the_file_that_was_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", weights())
    read = read_checkpoint(path)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    late = read_checkpoint(path)
    other = tmp_path / "b.pth"
    other.write_bytes(path.read_bytes() + b"\0")
    other.replace(path)
    assert read.sha256  # known already
    with pytest.raises(LoadError, match="has changed since it was read"):
        _ = late.sha256


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"this is a note, not a network\n" * 9, "text file"),
        (b"\0" * 4096, "begins with zeros"),
        (b"\x1f\x8b\x08\x00\x01\x02\x03", "is no checkpoint"),
        (pickle.dumps({"a": 1}), "pickle but no torch checkpoint"),
        (b"a" * 257 + b"ustar" + b"\0" * 250, "tar archive"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path: Path, content: bytes, fact: str) -> None:
    path = tmp_path / "latest.pth"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=fact) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == ExitCode.EXPORT
    if fact not in ("is no checkpoint", "pickle but no torch checkpoint"):
        with pytest.raises(LoadError, match=fact):
            read_info(path)


@pytest.mark.parametrize("reader", [read_checkpoint, read_info])
def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any) -> None:
    with pytest.raises(LoadError, match=r"gone\.pth: there is no such file"):
        reader(tmp_path / "gone.pth")
    with pytest.raises(LoadError, match="is a directory"):
        reader(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LoadError, match="a device or a pipe"):
        reader(tmp_path / "pipe")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = save(tmp_path / "a.pth", weights())
    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no permission stops
    with pytest.raises(LoadError, match=r"a\.pth: cannot be read: Permission denied"):
        reader(path)


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ({"epoch": 3, "state_dict": {}}, "holds no tensors; at its top are epoch, state_dict"),
        ([torch.ones(2)], "holds a list, not a dictionary"),
        (torch.ones(2), "holds a Tensor, not a dictionary"),
        ({}, "holds no tensors"),
    ],
)
def test_a_checkpoint_without_tensors_says_so(tmp_path: Path, value: Any, fact: str) -> None:
    with pytest.raises(LoadError, match=fact):
        read_checkpoint(save(tmp_path / "a.pth", value))


def test_a_program_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/a.py"):
            archive.writestr(f"a/{name}", b"\x80\x02).")
    with pytest.raises(LoadError, match="TorchScript archive"):
        read_checkpoint(path)


def written(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "safetensors":
        return safetensors.torch.save(weights())
    value = {"meta": {"epoch": 1, "hub": HistoryBuffer([1.0], [1])}, "state_dict": weights()}
    torch.save(value if kind == "zip" else weights(), stream, _use_new_zipfile_serialization=kind == "zip")
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    whole = written(kind)
    path = tmp_path / "cut.pth"
    started = time.monotonic()
    for length in sorted({*range(0, len(whole), max(1, len(whole) // 200)), *range(40), len(whole) - 1}):
        path.write_bytes(whole[:length])
        with pytest.raises(LoadError, match=r"cut\.pth"):
            read_checkpoint(path)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_with_a_wrong_byte_is_refused_or_read_right(tmp_path: Path, kind: str) -> None:
    whole = written(kind)
    path = tmp_path / "flipped.pth"
    dice = random.Random(kind)
    refused = 0
    for _ in range(200):
        # The header is where a byte can mean something, and the tensors are most of a file.
        at = dice.randrange(len(whole) if dice.random() < 0.5 else min(len(whole), 1500))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ dice.randrange(1, 256)]) + whole[at + 1 :])
        try:
            read = read_checkpoint(path)
        except LoadError:
            refused += 1
            continue
        if kind == "zip":
            assert same(read.tensors, weights())  # its checksums see every byte that matters
        elif kind == "safetensors":
            theirs = safetensors.torch.load_file(path)
            assert same(dict(sorted(read.tensors.items())), dict(sorted(theirs.items())))
        else:
            try:
                theirs = torch.load(path, weights_only=True)
            except Exception:  # noqa: BLE001  torch refuses some that we read, by any exception
                continue
            assert same(read.tensors, theirs)
    assert refused > 30


# ---------------------------------------------------------------- info files

INFO: dict[Any, Any] = {
    "metainfo": {"classes": ["car", "bus"], "version": "1.0"},
    "data_list": [
        {
            "token": "ab" * 16,
            "timestamp": 1.5e9,
            "ego2global": np.eye(4),
            "names": np.array(["car", "bicycle"]),
            "objects": np.array(["car", None, 3], dtype=object),
            "velocity": np.array([[1.0, np.nan]], dtype=">f4"),
            "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
            "flags": np.array([True, False]),
            "none": np.zeros((0, 7), np.float32),
            "when": np.array(["2020-01-01"], "datetime64[ns]"),
            "lasts": np.array([5], "timedelta64[ms]"),
            "raw": np.array([b"ab"]),
            "scalar": np.float32(1.5),
            "word": np.str_("hi"),
            "yes": np.bool_(True),
            "date": dt.datetime(2024, 5, 1, 2, 3, tzinfo=dt.timezone.utc),
            "also": dt.datetime(2024, 5, 1, tzinfo=dt.timezone.utc),
            "day": dt.date(2024, 5, 1),
            "length": dt.timedelta(1, 2, 3),
            "local": dt.timezone(dt.timedelta(hours=9), "JST"),
        }
    ],
    "bytes": b"\x00\xff\x80",
    "array": bytearray(b"\x00\xff"),
    "sets": ({1, 2}, frozenset({"a", (1, 2)}), set()),
    "ordered": OrderedDict([("b", 1), ("a", [2])]),
    "default": defaultdict(list, {"a": [1]}),
    "counts": Counter("aab"),
    "complex": 1 - 2j,
    "paths": [PurePosixPath("/a/b"), PureWindowsPath("C:/x")],
    "numbers": [0, -1, 255, 256, 65536, 2**31, -(2**70), 2**2100, 1e308, float("inf"), True, None],
    "text": "日本\n\\u0041\x00\ud800",
    (1, "a", (2,)): "tuple key",
    "many": list(range(2500)),
}


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, np.ndarray):
        return (
            type(ours) is np.ndarray
            and ours.dtype == theirs.dtype
            and ours.flags.f_contiguous == theirs.flags.f_contiguous
            and np.array_equal(ours, theirs, equal_nan=theirs.dtype.kind == "f")
        )
    if isinstance(theirs, (dict, list, tuple)):
        inner = (
            [(ours[key], theirs[key]) for key in theirs] if isinstance(theirs, dict) else zip(ours, theirs, strict=True)
        )
        return isinstance(ours, type(theirs)) and len(ours) == len(theirs) and all(equal(*pair) for pair in inner)
    return type(ours) is type(theirs) and bool(ours == theirs)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("core", [b"numpy._core.", b"numpy.core."])
def test_info_files_are_read_as_pickle_reads_them(tmp_path: Path, protocol: int, core: bytes) -> None:
    content = pickle.dumps(INFO, protocol)
    if protocol < 4:  # there the name is a line, later it has a length
        content = content.replace(b"numpy._core.", core)
    path = tmp_path / "info.pkl"
    path.write_bytes(content)
    read = read_info(path)
    assert equal(read, pickle.loads(pickle.dumps(INFO, protocol)))
    assert list(read) == list(INFO)
    assert list(read["ordered"]) == ["b", "a"]
    read["default"]["new"].append(1)
    read["data_list"][0]["ego2global"][0, 0] = 5  # arrays can be written to
    assert pickle.loads(pickle.dumps(read))["bytes"] == INFO["bytes"]  # and go to worker processes


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 5))
def test_any_plain_value_survives(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "given.pkl"
    content = pickle.dumps(value, protocol)
    path.write_bytes(content)
    assert equal(read_info(path), value)


def test_an_info_file_cut_or_damaged_is_refused_or_read(tmp_path: Path) -> None:
    whole = pickle.dumps(INFO)
    path = tmp_path / "info.pkl"
    for length in range(0, len(whole), len(whole) // 200):
        path.write_bytes(whole[:length])
        with pytest.raises(LoadError, match=r"info\.pkl"):
            read_info(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(LoadError, match="goes on for 1 bytes after its end"):
        read_info(path)
    dice = random.Random(1)
    refused = 0
    for _ in range(200):
        at = dice.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([dice.randrange(256)]) + whole[at + 1 :])
        try:
            read_info(path)
        except LoadError:
            refused += 1
    assert refused > 50


def test_trust_is_the_only_way_around(tmp_path: Path) -> None:
    value = {"range": range(3)}
    info = tmp_path / "info.pkl"
    info.write_bytes(pickle.dumps(value))
    path = save(tmp_path / "a.pth", {"state_dict": weights(), **value})
    for reader, file in ((read_info, info), (read_checkpoint, path)):
        with pytest.raises(LoadError, match=r"builtins\.(x)?range") as caught:
            reader(file)
        assert "--trust-checkpoint" in str(caught.value.hint)
    assert read_info(info, trust=True) == value
    trusted = read_checkpoint(path, trust=True)
    assert trusted.trusted
    assert trusted.meta["range"] == range(3)
    assert same(trusted.tensors, weights())
    info.write_bytes(b"\x80\x04cnowhere\nthing\n.")
    with pytest.raises(LoadError, match="even when trusted: ModuleNotFoundError"):
        read_info(info, trust=True)


# ---------------------------------------------------------------- into a network


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_weights_arrive() -> None:
    given_, net = {name: value + 1 for name, value in small().state_dict().items()}, small()
    load_state(net, given_, source="a.pth")
    assert same(net.state_dict(), given_)


def test_one_error_names_all_that_does_not_fit() -> None:
    net = small()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    given_ = small().state_dict()
    del given_["0.bias"]
    given_ |= {f"extra.{number}": torch.ones(1) for number in range(7)}
    given_["0.weight"] = torch.ones(2, 5)
    given_["1.running_mean"] = torch.zeros(2, dtype=torch.int64)
    given_["1.weight"] = torch.tensor([1.0, float("nan")])
    given_["1.bias"] = torch.tensor([1.0, float("inf")])
    with pytest.raises(LoadError) as caught:
        load_state(net, given_, source="a.pth")
    message = caught.value.message
    assert message.startswith("a.pth: does not fit Sequential: ")
    for part in (
        "1 missing: 0.bias",
        "7 unexpected: extra.0, extra.1, extra.2, extra.3, extra.4, ...",
        "1 of another shape: 0.weight is (2, 5) in the file and (2, 3) in the network",
        "1 of another type: 1.running_mean is torch.int64 in the file and torch.float32 in the network",
        "2 with NaN or infinite values: 1.weight, 1.bias",
    ):
        assert part in message
    assert same(net.state_dict(), before)


def test_half_weights_are_converted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    net, half = small(), {name: value.half() for name, value in small().state_dict().items() if "num" not in name}
    load_state(net, half, source="a.pth")
    assert torch.equal(net.state_dict()["0.weight"], half["0.weight"].float())
    assert "a.pth: converted 6 weights (torch.float16 to torch.float32): 0.weight" in caplog.text


def test_a_prefix_is_pointed_out() -> None:
    wrapped = {f"module.{name}": value for name, value in small().state_dict().items()}
    with pytest.raises(LoadError) as caught:
        load_state(small(), wrapped, source="a.pth")
    assert "state(strip='module.')" in str(caught.value.hint)


def test_nothing_is_imported_for_a_placeholder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.pth", {"state_dict": weights(), "hub": HistoryBuffer([1.0], [1])})
    real = builtins.__import__

    def watched(name: str, *args: Any, **kwargs: Any) -> Any:
        assert not name.startswith("mmengine")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", watched)
    assert read_checkpoint(path).meta["hub"] == Inert("mmengine.logging.history_buffer.HistoryBuffer")
