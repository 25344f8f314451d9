"""Sphinx configuration; the references are generated from the code before each build."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generate  # type: ignore[import-not-found]  # noqa: E402  found through the path above

project = "awml-deploy"
author = "The awml-deploy authors"
copyright = "2026, The awml-deploy authors"  # noqa: A001  Sphinx's name
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "awml-deploy"
nitpicky = True

generate.write(HERE / "_generated")
