"""What `awml_deploy_core` offers by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

import awml_deploy_core


@pytest.mark.parametrize("name", awml_deploy_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(getattr(awml_deploy_core, name), "__name__", name) == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        awml_deploy_core.nothing  # noqa: B018


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import awml_deploy_core; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "attr" not in done.stdout
    assert "torch" not in done.stdout


def test_deploy_stays_a_function_whatever_was_imported_before() -> None:
    code = "import awml_deploy_core.story, awml_deploy_core; print(callable(awml_deploy_core.deploy))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
