"""An ONNX file to an ONNX file in the asked precision, made once: the same question gets the same file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import onnx
import onnxruntime as ort
from attrs import field, frozen
from onnx import helper

from awml_deploy_core.cast.narrow import Keep, Narrowed, narrow
from awml_deploy_core.cast.peaks import peaks
from awml_deploy_core.cast.quantise import Calibration, quantise, quantised_nodes
from awml_deploy_core.errors import ArtifactError, ForeignError, LoadError
from awml_deploy_core.files import sha256_file, write_whole
from awml_deploy_core.records import Artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.build.policy import Cast
    from awml_deploy_core.cast.dtypes import Type

__all__ = ["Casted", "cast_file", "read"]

VERSION = 2
"""Of the rules by which graphs are rewritten; another number makes every file anew."""

Feeds = Callable[[], Iterable[Mapping[str, "NDArray[Any]"]]]
_DTYPES: Mapping[str, Type] = {"fp16": "float16", "bf16": "bfloat16"}


@frozen(kw_only=True)
class Casted:
    """A file in the asked precision.

    Args:
        artifact: The file.
        islands: Nodes that stay in float32, with the reasons.
        notes: What a reader of the report should know.
        reused: Whether an earlier run had made it.
    """

    artifact: Artifact
    islands: Mapping[str, str] = field(factory=dict)
    notes: tuple[str, ...] = ()
    reused: bool = False


def cast_file(
    source: Artifact,
    target: Path,
    kind: Cast,
    *,
    policy: str,
    feeds: Feeds,
    data: str,
    keep: Keep | None = None,
    calibration: Calibration | None = None,
) -> Casted:
    """Write the file's graph in another precision, unless the one that is there is just that.

    Args:
        source: The ONNX file in float32.
        target: The file to write.
        kind: `fp16`, `bf16` or `int8`.
        policy: The policy that asks for it.
        feeds: Gives the component's inputs on real samples: for the range check, or for calibration.
        data: Hash of what `feeds` gives.
        keep: What stays in float32.
        calibration: How INT8 finds its ranges.

    Raises:
        ArtifactError: The file, or one with weights beside it, cannot be read.
    """
    keep, calibration = keep or Keep(), calibration or Calibration()
    question = {
        "version": VERSION,
        "source": [source.sha256, *_beside(source.path)],
        "kind": kind,
        "data": data,
        "keep": attrs.asdict(keep),
        "calibration": [attrs.asdict(calibration), ort.__version__] if kind == "int8" else None,
    }
    key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    earlier = _earlier(target, key)
    if earlier is not None:
        return Casted(artifact=_artifact(source, target, policy, kind), reused=True, **earlier)
    model = read(source.path)
    islands: Mapping[str, str] = {}
    if kind == "int8":
        made, notes = _quantised(source.path, model, feeds, calibration, keep)
    else:
        done, seen = _narrowed(model, kind, feeds, keep)
        made, islands, notes = done.model, dict(done.islands), (*done.notes, *seen)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    properties |= {"cast": kind, "cast_key": key, "cast_islands": json.dumps(islands), "cast_notes": json.dumps(notes)}
    properties["cast_graph"] = _hash(made)
    helper.set_model_props(made, dict(sorted(properties.items())))
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    write_whole(target, made.SerializeToString(deterministic=True))
    return Casted(artifact=_artifact(source, target, policy, kind), islands=islands, notes=notes)


def read(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """The graph in a file.

    Args:
        path: The file.
        weights: Whether to read the weights that lie beside it, too.

    Raises:
        ArtifactError: There is none in it: an empty file is a valid message, so no parser objects to that one.
    """
    try:
        model = onnx.load(path, load_external_data=weights)
    except Exception as error:
        raise ArtifactError(
            f"{path} is no ONNX file, or cut short, or lacks a file with weights beside it", hint="Export it again."
        ) from error
    if not model.graph.output:
        raise ArtifactError(f"{path} is no ONNX file: there is no graph in it", hint="Export it again.")
    return model


def _beside(path: Path) -> Iterator[str]:
    """Hashes of the files in which the graph keeps its weights outside of its own."""
    tensors = read(path, weights=False).graph.initializer
    places = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    for place in sorted(places):
        try:
            yield sha256_file(path.parent / place)
        except LoadError as error:
            raise ArtifactError(
                f"{path} keeps weights in {place}, which cannot be read", hint="Export it again."
            ) from error


def _quantised(
    path: Path, model: onnx.ModelProto, feeds: Feeds, calibration: Calibration, keep: Keep
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    there = quantised_nodes(model)
    if there:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy, (f"taken as it is: it has {there} QuantizeLinear nodes",)
    made, count = quantise(path, feeds(), calibration=calibration, keep=keep)
    said = f"{quantised_nodes(made)} QuantizeLinear nodes, ranges by {calibration.method} from {count} calls"
    return made, (said,)


def _narrowed(
    model: onnx.ModelProto, kind: Literal["fp16", "bf16"], feeds: Feeds, keep: Keep
) -> tuple[Narrowed, tuple[str, ...]]:
    """The graph in the narrow type, and what is to be said of the range check."""
    calls = 0

    def counted() -> Iterator[Mapping[str, NDArray[Any]]]:
        nonlocal calls
        for feed in feeds():
            calls += 1
            yield feed

    found: Mapping[str, float] = {}
    said: tuple[str, ...] = ()
    try:
        found = peaks(model, counted())
    except ForeignError as error:
        said = (f"the ranges of its tensors were not looked at: {error.message}",)
    else:
        if not calls:
            said = ("the ranges of its tensors were not looked at: there is no recorded call",)
    return narrow(model, _DTYPES[kind], keep=keep, peaks=found), said


def _earlier(target: Path, key: str) -> dict[str, Any] | None:
    """Islands and notes of the file that is there, if it answers this question and is whole."""
    if not target.is_file():
        return None
    try:
        model = onnx.load(target)
    except Exception:  # noqa: BLE001  a broken file is made anew
        return None
    found = {entry.key: entry.value for entry in model.metadata_props}
    if found.get("cast_key") != key or found.get("cast_graph") != _hash(model):
        return None
    return {"islands": json.loads(found["cast_islands"]), "notes": tuple(json.loads(found["cast_notes"]))}


def _hash(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def _artifact(source: Artifact, path: Path, policy: str, kind: str) -> Artifact:
    return Artifact(
        component=source.component,
        format="onnx",
        path=path,
        sha256=sha256_file(path),
        size=path.stat().st_size,
        precision=policy,
        made_from=source.sha256,
        tool=f"cast to {kind}",
    )
