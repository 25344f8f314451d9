"""awml-centerpoint announces its model and its config; it cannot run one yet."""

from __future__ import annotations
