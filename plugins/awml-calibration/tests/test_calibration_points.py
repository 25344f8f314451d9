"""A points file that says nothing, or no places, is refused with its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from awml_calibration.data import read_points
from awml_deploy_core.errors import LoadError


def test_an_empty_scan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.pcd.bin"
    path.touch()
    with pytest.raises(LoadError, match=r"scan\.pcd\.bin: has no points"):
        read_points(path, 5)


@pytest.mark.parametrize("wrong", [float("nan"), float("-inf")])
def test_a_point_without_a_place_is_named(tmp_path: Path, wrong: float) -> None:
    points = np.zeros((4, 5), "<f4")
    points[2, 1] = wrong
    path = tmp_path / "scan.pcd.bin"
    points.tofile(path)
    with pytest.raises(LoadError, match="1 of 4 points have no finite place, the first is point 2"):
        read_points(path, 5)
