"""What the small commands print: plain text without colours, and the same as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from awml_deploy_core.plugins import Description
    from awml_deploy_core.settings import Settings


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with aligned columns; the last one may be long."""
    lines = [list(header), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def plugins(found: Sequence[Description]) -> str:
    """The installed models, and below them what is wrong with any."""
    if not found:
        return "no model is installed; try: pip install awml-yolox"
    rows = [(one.model, one.distribution, one.version or "?", one.status, ", ".join(one.hooks)) for one in found]
    table = columns(("MODEL", "DISTRIBUTION", "VERSION", "STATUS", "HOOKS"), rows)
    faulty = [one for one in found if one.status not in ("ok", "unchecked")]
    notes = [f"{one.model}: {one.detail}" + (f"\n  {one.hint}" if one.hint else "") for one in faulty]
    return "\n".join([table, *(["", *notes] if notes else [])])


def plugins_json(found: Sequence[Description]) -> str:
    """The same for programs."""
    import attrs

    return _document("plugins", plugins=[attrs.asdict(one) for one in found])


def started(model: str, config: Path, *, preset: str | None) -> str:
    """What `init` says when it is done."""
    if preset:
        return f"{config}: fill in the paths, then: awml-deploy config check --model {model} {config}"
    return f"{config} is ready: cd {shlex.quote(str(config.parent))} && awml-deploy --model {model} {config.name}"


def planned(steps: Sequence[tuple[str, str]]) -> str:
    """What a run would do, a line per step."""
    return columns(("STAGE", "WOULD DO"), steps)


def planned_json(steps: Sequence[tuple[str, str]]) -> str:
    """The same for programs."""
    return _document("plan", steps=[{"stage": stage, "does": does} for stage, does in steps])


def checked(settings: Settings) -> str:
    """What `config check` says when nothing is wrong."""
    from awml_deploy_core.strict import unstructure

    said = unstructure(settings.config, defaults=False)
    lines = [f"{settings.files[-1]}: ok, {len(said)} sections or keys differ from their defaults"]
    lines += [f"  read: {path}" for path in settings.files[:-1]]
    lines += [f"  note: {note}" for note in settings.notes]
    lines += [f"  note: {path} does not exist" for path in missing_files(settings)]
    return "\n".join(lines)


def missing_files(settings: Settings) -> list[str]:
    """The files that the config names as input and that are not there; a run would stop with code 4 or 8."""
    config = settings.config
    named = {
        "checkpoint_path": config.checkpoint_path,
        "model_config": config.model_config,
        "export.onnx_path": config.export.onnx_path,
        "runtime_io.info_file": config.runtime_io.info_file,
        "runtime_io.info_pkl": config.runtime_io.info_pkl,
        "runtime_io.ann_file": config.runtime_io.ann_file,
    }
    return [f"{key}: {path}" for key, path in named.items() if path is not None and not path.exists()]


def _document(schema: str, **content: Any) -> str:
    return json.dumps({"schema": f"awml-deploy/{schema}", "schema_version": 1, **content}, indent=2)
