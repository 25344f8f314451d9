"""Padding and splitting on independent axes: every session gets sizes that it accepts, every caller all its rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from awml_deploy_core.backends.fit import Limits, Tensors, fitted, limits_of
from awml_deploy_core.errors import PluginError
from awml_deploy_core.records import Axis, Component, Tensor


def tensor(name: str, *shape: int | str) -> Any:
    sizes: Any = shape
    return Tensor(name=name, shape=sizes)


def component(outputs: Any, *axes: Any) -> Component:
    inputs: Any = [tensor("x", "n", 2), tensor("w", "m", 3, "n"), tensor("k", 2)]
    return Component(name="c", inputs=inputs, outputs=outputs, axes=axes)


N = Axis(name="n", independent=True)
M = Axis(name="m", independent=True)
TWO = component([tensor("y", "m", "n", 2), tensor("z", "n", "m")], N, M)


def rowwise(inputs: Tensors) -> Tensors:
    """Rows of n and of m do not influence one another."""
    x, w, k = inputs["x"], inputs["w"], inputs["k"]
    return {"y": (x * k)[None] + w.sum(1)[..., None], "z": (w.sum(1) + x.sum(1)).T}


@settings(deadline=None)
@given(n=st.integers(0, 9), m=st.integers(0, 9), data=st.data())
def test_the_answer_is_that_of_all_rows_at_once_and_every_call_fits(n: int, m: int, data: Any) -> None:
    limits = {}
    for name in "nm":
        low = data.draw(st.integers(0, 4))
        limits[name] = (low, data.draw(st.none() | st.integers(max(low, 1), 6)))
    seen: list[tuple[int, int]] = []

    def session(inputs: Tensors) -> Tensors:
        seen.append((inputs["x"].shape[0], inputs["w"].shape[0]))
        assert inputs["w"].shape[2] == inputs["x"].shape[0]
        assert inputs["k"].shape == (2,)
        return rowwise(inputs)

    inputs = {"x": torch.rand(n, 2), "w": torch.rand(m, 3, n), "k": torch.rand(2)}
    answer = fitted(TWO, inputs, {"n": n, "m": m}, limits, session)
    wanted = rowwise(inputs)
    torch.testing.assert_close(answer, wanted)
    for sizes in seen:
        for name, size in zip("nm", sizes, strict=True):
            low, high = limits[name]
            assert low <= size <= (size if high is None else high)


ONE = component([tensor("y", "n", 2)], N, Axis(name="m"))


def calls(n: int, limits: Limits) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []

    def session(inputs: Tensors) -> Tensors:
        seen.append(inputs["x"])
        return {"y": inputs["x"] * 2}

    x = torch.arange(2.0 * n).reshape(n, 2)
    sizes = {"n": n, "m": 1}
    answer = fitted(ONE, {"x": x, "w": torch.ones(1, 3, n), "k": torch.ones(2)}, sizes, limits, session)
    assert torch.equal(answer["y"], x * 2)
    return seen


def test_a_static_batch_gets_full_pieces() -> None:
    assert [piece.shape[0] for piece in calls(7, {"n": (3, 3), "m": (1, None)})] == [3, 3, 3]
    assert [piece.shape[0] for piece in calls(6, {"n": (3, 3), "m": (1, None)})] == [3, 3]


def test_padding_repeats_a_real_row_and_is_zero_only_without_one() -> None:
    assert calls(2, {"n": (4, 8), "m": (1, None)})[0].tolist() == [[0, 1], [2, 3], [2, 3], [2, 3]]
    assert calls(0, {"n": (2, 8), "m": (1, None)})[0].tolist() == [[0, 0], [0, 0]]


def test_sizes_that_fit_are_handed_over_as_they_are() -> None:
    x = torch.rand(2, 2)
    given_to_session: list[Tensors] = []

    def session(inputs: Tensors) -> Tensors:
        given_to_session.append(inputs)
        return {"y": inputs["x"]}

    inputs = {"x": x, "w": torch.rand(1, 3, 2), "k": torch.rand(2)}
    fitted(ONE, inputs, {"n": 2, "m": 1}, {"n": (1, 4), "m": (1, None)}, session)
    assert given_to_session[0]["x"] is x


def test_rows_that_cannot_be_attributed_are_refused() -> None:
    described = component([tensor("y", "n", 2), tensor("total", 1)], N, Axis(name="m"))
    inputs = {"x": torch.rand(3, 2), "w": torch.rand(1, 3, 3), "k": torch.rand(2)}
    limits: Limits = {"n": (1, 2), "m": (1, None)}
    with pytest.raises(PluginError, match="output total has no axis n, so its rows cannot be padded or split"):
        fitted(described, inputs, {"n": 3, "m": 1}, limits, lambda t: {"y": t["x"], "total": t["k"][:1]})


def test_an_answer_with_other_rows_is_refused() -> None:
    inputs = {"x": torch.rand(3, 2), "w": torch.rand(1, 3, 3), "k": torch.rand(2)}
    limits: Limits = {"n": (1, 2), "m": (1, None)}
    with pytest.raises(PluginError, match=r"output y has shape \(1, 2\) for 2 rows of the independent axis n"):
        fitted(ONE, inputs, {"n": 3, "m": 1}, limits, lambda t: {"y": t["x"][:1]})


def test_limits_are_the_narrower_of_what_is_declared_and_what_the_artifact_accepts() -> None:
    described = component([tensor("y", "n", 2)], Axis(name="n", min=2, max=9, independent=True), Axis(name="m"))
    assert limits_of(described, {}) == {"n": (2, 9), "m": (1, None)}
    assert limits_of(described, {"n": (1, 4), "m": (3, 3)}) == {"n": (2, 4), "m": (3, 3)}
