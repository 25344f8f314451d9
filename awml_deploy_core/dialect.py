"""What older configs say, in today's words.

The ancestor of this framework had three generations of keys. Each spelling that its documents show is accepted and
moved to the one place where the setting lives now, with a note; what cannot be carried over is refused with the remedy.
Everything here works on plain values, before they get types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from awml_deploy_core.strict import Fault

MOVED = {
    "model_cfg": "model_config",
    "tensorrt_config": "backend_config.common_config",
    "export.checkpoint_path": "checkpoint_path",
    "export.verify": "verification.enabled",
    "export.cuda_device": "devices.cuda",
    "export.tensorrt_path": "evaluation.backends.tensorrt.engine_dir",
    "onnx_config.batch_size": "model_io.batch_size",
    "onnx_config.components": "components",
    "onnx_config.input_names": "model_io.input_names",
    "onnx_config.output_names": "model_io.output_names",
}
"""Where a setting was, and where it is. A table moves whole."""

DROPPED = {
    "codebase_config": "a relic of MMDeploy without effect",
    "backend_config.type": "the backend follows from `export.mode` and `evaluation.backends`",
    "onnx_config.type": "the exporter follows from `onnx_config.exporter`",
    "onnx_config.visualize_qdq_values": "it only changed how a graph looks in a viewer",
}
"""What had no influence on the artifacts and has none here."""

REFUSED = {
    "quantization": "use `backend_config.common_config.precision_policy = 'explicit_int8'`, or export a checkpoint "
    "whose graph has QuantizeLinear nodes already",
    "backend_config.common_config.fp16_mode": "use `precision_policy = 'fp16'`",
    "backend_config.common_config.int8_mode": "use `precision_policy = 'explicit_int8'`",
    "rot_y_axis_reference": "it is a setting of the CenterPoint plugin and exists with `--model centerpoint` only",
}
"""What meant something that must not be lost in silence."""


@frozen(kw_only=True)
class Translation:
    """Plain values in today's words, what was moved or dropped on the way, and what cannot be carried over."""

    values: dict[str, Any]
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def translate(values: Mapping[str, Any], *, known: frozenset[str] = frozenset()) -> Translation:
    """Bring an older config to today's keys.

    Args:
        values: What the file holds.
        known: Top-level keys of the plugin's config, which are never touched.
    """
    notes: list[str] = []
    faults: list[Fault] = []
    now = _without_placeholders(_copy(values), "$", notes)
    for old, reason in DROPPED.items():
        if old not in known and _pop(now, old) is not _ABSENT:
            notes.append(f"`{old}` is ignored: {reason}")
    for old, remedy in REFUSED.items():
        if old not in known and _pop(now, old) is not _ABSENT:
            faults.append(Fault(path=f"$.{old}", message="is no longer a setting", hint=remedy))
    for old, new in MOVED.items():
        _move(now, old, new, notes, faults)
    _lower(now, ("export", "mode"))
    return Translation(values=now, notes=tuple(notes), faults=tuple(faults))


_ABSENT: Any = object()


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return value


def _is_placeholder(value: Any) -> bool:
    """Documents write `dynamic_axes={...}` and `model_inputs=[...]` for "as you like"."""
    return value is Ellipsis or (isinstance(value, set | list | tuple) and list(value) == [Ellipsis])


def _without_placeholders(values: dict[str, Any], path: str, notes: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, item in values.items():
        if _is_placeholder(item):
            notes.append(f"`{path}.{key}` holds `...` and counts as not given".replace("$.", ""))
        else:
            kept[key] = _without_placeholders(item, f"{path}.{key}", notes) if isinstance(item, dict) else item
    return kept


def _parent(values: dict[str, Any], path: str) -> tuple[Any, str]:
    *steps, last = path.split(".")
    parent: Any = values
    for step in steps:
        parent = parent.get(step, {}) if isinstance(parent, dict) else {}
    return parent, last


def _pop(values: dict[str, Any], path: str) -> Any:
    parent, last = _parent(values, path)
    return parent.pop(last, _ABSENT) if isinstance(parent, dict) else _ABSENT


def _move(values: dict[str, Any], old: str, new: str, notes: list[str], faults: list[Fault]) -> None:
    value = _pop(values, old)
    if value is _ABSENT:
        return
    notes.append(f"`{old}` is read as `{new}`")
    *steps, last = new.split(".")
    parent = values
    for step in steps:
        section = parent.setdefault(step, {})
        if not isinstance(section, dict):
            return  # the strict reader names the section that is no table
        parent = section
    there = parent.get(last, _ABSENT)
    if isinstance(there, dict) and isinstance(value, dict) and not there.keys() & value.keys():
        parent[last] = {**there, **value}
    elif there is _ABSENT or there == value:
        parent[last] = value
    else:
        fact = f"says {value!r} while `{new}` says {there!r}"
        faults.append(Fault(path=f"$.{old}", message=fact, hint=f"keep `{new}`, they are the same setting"))


def _lower(values: dict[str, Any], path: tuple[str, str]) -> None:
    section = values.get(path[0])
    if isinstance(section, dict) and isinstance(section.get(path[1]), str):
        section[path[1]] = section[path[1]].lower()
