"""An ONNX file to an ONNX file in the asked precision, made once: the same question gets the same file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import onnx
from attrs import field, frozen
from onnx import helper

from awml_deploy_core.cast.narrow import Keep, narrow
from awml_deploy_core.cast.peaks import peaks
from awml_deploy_core.cast.quantise import Calibration, quantise, quantised_nodes
from awml_deploy_core.errors import ArtifactError
from awml_deploy_core.files import sha256_file, write_whole
from awml_deploy_core.records import Artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from awml_deploy_core.build.policy import Cast

__all__ = ["Casted", "cast_file"]

VERSION = 1
"""Of the rules by which graphs are rewritten; another number makes every file anew."""

Feeds = Callable[[], Iterable[Mapping[str, "NDArray[Any]"]]]
_DTYPES = {"fp16": "float16", "bf16": "bfloat16"}


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
    """
    keep = keep or Keep()
    question = {
        "version": VERSION,
        "source": source.sha256,
        "kind": kind,
        "data": data,
        "keep": attrs.asdict(keep),
        "calibration": attrs.asdict(calibration or Calibration()) if kind == "int8" else None,
    }
    key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    earlier = _earlier(target, key)
    if earlier is not None:
        return Casted(artifact=_artifact(source, target, policy, kind), reused=True, **earlier)
    try:
        model = onnx.load(source.path)
    except Exception as error:
        raise ArtifactError(f"{source.path} is no ONNX file, or cut short", hint="Export it again.") from error
    islands: dict[str, str] = {}
    notes: tuple[str, ...]
    if kind == "int8" and quantised_nodes(model):
        made, notes = model, (f"taken as it is: it has {quantised_nodes(model)} QuantizeLinear nodes",)
    elif kind == "int8":
        made, count = quantise(source.path, feeds(), calibration=calibration, keep=keep)
        method = (calibration or Calibration()).method
        notes = (f"{quantised_nodes(made)} tensors quantised, ranges by {method} from {count} calls",)
    else:
        done = narrow(model, _DTYPES[kind], keep=keep, peaks=peaks(model, feeds()))  # type: ignore[arg-type]
        made, islands, notes = done.model, dict(done.islands), done.notes
    properties = {entry.key: entry.value for entry in model.metadata_props}
    properties |= {"cast": kind, "cast_key": key, "cast_islands": json.dumps(islands), "cast_notes": json.dumps(notes)}
    helper.set_model_props(made, dict(sorted(properties.items())))
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    write_whole(target, made.SerializeToString(deterministic=True))
    return Casted(artifact=_artifact(source, target, policy, kind), islands=islands, notes=tuple(notes))


def _earlier(target: Path, key: str) -> dict[str, Any] | None:
    """Islands and notes of the file that is there, if it answers this question."""
    if not target.is_file():
        return None
    try:
        found = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    except Exception:  # noqa: BLE001  a broken file is made anew
        return None
    if found.get("cast_key") != key:
        return None
    return {"islands": json.loads(found["cast_islands"]), "notes": tuple(json.loads(found["cast_notes"]))}


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
