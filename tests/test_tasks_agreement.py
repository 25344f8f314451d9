"""Scores that are no numbers agree with nothing."""

from __future__ import annotations

import numpy as np
import pytest

from awml_deploy_core.tasks.classification import agree


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_two_predictions_without_numbers_have_not_proved_one_another(wrong: float) -> None:
    broken = {"label": 0, "scores": np.array([wrong, 0.5])}
    sound = {"label": 0, "scores": np.array([0.5, 0.5])}
    assert agree(broken, broken).score == 0
    assert agree(sound, broken).score == 0
    assert agree(sound, sound).score == 1
