"""The JSON schemas of what is written, made from the classes; those in the wheel are copies that a test keeps equal.

Anything that a document does not always have would be a trap for its readers, so every property is required, and
nothing is there that the schema does not name. A figure may be null: see `document`.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Literal

from awml_deploy_core import strict
from awml_deploy_core.report import SCHEMA_VERSION, Report
from awml_deploy_core.report.document import Checked, Verified
from awml_deploy_core.report.manifest import MANIFEST_VERSION, Manifest

__all__ = ["Name", "make", "shipped"]

Name = Literal["manifest", "report"]


def shipped(name: Name) -> dict[str, Any]:
    """The schema as the distribution brings it."""
    text = (
        files("awml_deploy_core.report").joinpath("schema").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    )
    schema: dict[str, Any] = json.loads(text)
    return schema


def make(name: Name) -> dict[str, Any]:
    """The schema as the classes have it."""
    if name == "manifest":
        return _document(name, MANIFEST_VERSION, strict.schema(Manifest))
    schema = strict.schema(Report)
    verification = schema["properties"]["verification"]
    check = verification["properties"]["checks"]["items"]
    for node, more in ((verification, Verified), (check, Checked)):
        node["properties"] |= strict.schema(more)["properties"]
    return _document(name, SCHEMA_VERSION, schema)


def _document(name: str, version: int, schema: dict[str, Any]) -> dict[str, Any]:
    head = {"schema": {"const": f"awml-deploy/{name}"}, "schema_version": {"const": version}}
    odd = {
        "description": "Places of figures that are null because they are no finite numbers, and what they are.",
        "type": "object",
        "additionalProperties": {"enum": ["nan", "inf", "-inf"]},
    }
    schema["title"] = f"awml-deploy/{name}"
    schema["properties"] = {**head, **schema["properties"], "not_finite": odd}
    _complete(schema)
    return schema


def _complete(node: Any) -> None:
    """Require every property, allow null for a figure, and leave out what says nothing."""
    if isinstance(node, list):
        for child in node:
            _complete(child)
    if not isinstance(node, dict):
        return
    for child in node.values():
        _complete(child)
    if node.get("type") == "number":
        node["type"] = ["number", "null"]
    if isinstance(node.get("properties"), dict) and "additionalProperties" in node:
        node["required"] = list(node["properties"])
    if node.get("description") == "":
        del node["description"]
    if "type" in node or "anyOf" in node or "enum" in node:
        node.pop("default", None)
