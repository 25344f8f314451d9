"""A report onto the disk: each file whole or not at all."""

from __future__ import annotations

from pathlib import Path

from awml_deploy_core.files import ensure_directory, write_json, write_whole
from awml_deploy_core.report import Report, document, manifest, markdown
from awml_deploy_core.report.provenance import git_state

__all__ = ["write"]


def write(report: Report) -> tuple[Path, ...]:
    """Write `report.json`, `report.md` and `manifest.json` into the work folder.

    Returns:
        Their paths.
    """
    folder = ensure_directory(report.work_dir)
    paths = folder / "report.json", folder / "report.md", folder / "manifest.json"
    described = manifest.describe(report, git_state(Path.cwd()))
    write_json(paths[0], document.report(report))
    write_whole(paths[1], markdown.render(report).encode("utf-8", "backslashreplace"))
    write_json(paths[2], document.document("manifest", manifest.MANIFEST_VERSION, described))
    return paths
