"""Statistics of two tensors against plain float64 formulas and cases worked by hand."""

from __future__ import annotations

import math
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from awml_deploy_core.compare import QUANTILES, measure
from awml_deploy_core.measure import measure_finite
from awml_deploy_core.records import Stats

Numbers = np.ndarray[Any, np.dtype[Any]]

quick = settings(max_examples=60, deadline=None)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=9)
tame = st.floats(-1e6, 1e6, width=32)


@st.composite
def two_arrays(draw: st.DrawFn, elements: st.SearchStrategy[float] = tame) -> tuple[Numbers, Numbers]:
    shape = draw(shapes)
    return draw(hnp.arrays(np.float64, shape, elements=elements)), draw(
        hnp.arrays(np.float64, shape, elements=elements)
    )


def oracle(x: Numbers, y: Numbers) -> dict[str, Any]:
    x, y = x.astype(np.float64), y.astype(np.float64)
    gap = np.abs(x - y)
    size = np.maximum(np.abs(x), np.abs(y))
    relative = np.array([g / s if s else 0.0 for g, s in zip(gap.ravel(), size.ravel(), strict=True)])
    xx, yy, ee = (x * x).sum(), (y * y).sum(), (gap * gap).sum()
    return {
        "count": x.size,
        "max_abs": gap.max(),
        "mean_abs": gap.mean(),
        "max_rel": relative.max(),
        "mean_rel": relative.mean(),
        "cosine": (x * y).sum() / math.sqrt(xx) / math.sqrt(yy) if xx and yy else None,
        "snr_db": 10 * math.log10(xx / ee) if xx and ee else None,
        "worst_index": np.unravel_index(gap.argmax(), gap.shape),
        "scale": np.abs(x).max(),
    }


def agrees(stats: Stats, wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        got = getattr(stats, name)
        assert got == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value), name


# ---------------------------------------------------------------- by hand


def test_two_logits_by_hand() -> None:
    stats = measure(np.array([3.0, -4.0], np.float32), np.array([3.0, -2.0], np.float32))

    assert (stats.count, stats.max_abs, stats.mean_abs, stats.max_rel, stats.mean_rel) == (2, 2.0, 1.0, 0.5, 0.25)
    assert stats.cosine == pytest.approx(17 / (5 * math.sqrt(13)))
    assert stats.snr_db == pytest.approx(10 * math.log10(25 / 4))
    assert stats.worst_index == (1,)
    assert stats.scale == 4.0


def test_zeros_have_no_angle_and_no_signal() -> None:
    stats = measure(np.zeros(3), np.zeros(3))

    assert (stats.max_abs, stats.max_rel, stats.cosine, stats.snr_db, stats.scale) == (0.0, 0.0, None, None, 0.0)
    assert stats.quantiles == tuple((p, 0.0) for p in QUANTILES)


def test_equal_tensors_have_an_angle_but_no_noise() -> None:
    stats = measure(np.array([1.0, 2.0]), np.array([1.0, 2.0]))

    assert stats.cosine == pytest.approx(1)
    assert stats.snr_db is None


def test_a_zero_in_the_reference_is_no_division() -> None:
    stats = measure(np.array([0.0, 1.0]), np.array([0.5, 1.0]))

    assert (stats.max_rel, stats.mean_rel, stats.worst_index) == (1.0, 0.5, (0,))


def test_an_empty_tensor_has_nothing_to_measure() -> None:
    stats = measure(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))

    assert (stats.count, stats.max_abs, stats.cosine, stats.quantiles, stats.worst_index) == (0, 0.0, None, (), ())


def test_a_scalar_has_the_empty_index() -> None:
    stats = measure(torch.tensor(2.0), torch.tensor(5.0))

    assert (stats.count, stats.max_abs, stats.worst_index, stats.scale) == (1, 3.0, (), 2.0)


def test_shapes_must_be_equal_and_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(2,\)"):
        measure(np.zeros((2, 1)), np.zeros(2))


# ---------------------------------------------------------------- every type


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"])
def test_numpy_and_torch_measure_alike(dtype: str) -> None:
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    y = (x * 3 % 7).astype(dtype)

    agrees(measure(x, y), oracle(x, y))
    assert measure(torch.from_numpy(x), torch.from_numpy(y)) == measure(x, y)


def test_bfloat16_of_either_library() -> None:
    x, y = torch.randn(40).bfloat16(), torch.randn(40).bfloat16()
    wanted = oracle(x.double().numpy(), y.double().numpy())

    agrees(measure(x, y), wanted)
    agrees(measure(x.float().numpy().astype(ml_dtypes.bfloat16), y.float().numpy().astype(ml_dtypes.bfloat16)), wanted)


def test_float8_and_wide_unsigned_tensors() -> None:
    assert measure(torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn), torch.tensor([1.0, 4.0])).max_abs == 2.0
    assert measure(torch.tensor([7], dtype=torch.uint16), torch.tensor([9], dtype=torch.uint16)).max_abs == 2.0


def test_booleans_count_as_zero_and_one() -> None:
    stats = measure(torch.tensor([True, False, True, True]), torch.tensor([True, True, True, False]))

    assert (stats.max_abs, stats.mean_abs, stats.worst_index) == (1.0, 0.5, (1,))


def test_complex_numbers_show_their_parts() -> None:
    stats = measure(np.array([1 + 2j]), np.array([1 + 5j]))

    assert (stats.max_abs, stats.worst_index) == (3.0, (0, 1))


@pytest.mark.parametrize(
    ("dtype", "left", "right"),
    [
        ("int64", 2**53, 2**53 + 1),
        ("int64", -(2**63), 2**63 - 1),
        ("uint64", 2**64 - 1, 2**64 - 4),
        ("uint64", 0, 2**64 - 1),
    ],
)
def test_wide_integers_are_subtracted_exactly(dtype: str, left: int, right: int) -> None:
    x, y = np.array([5, left], dtype), np.array([5, right], dtype)

    assert measure(x, y).max_abs == measure(y, x).max_abs == float(abs(left - right))


def test_inputs_are_left_alone() -> None:
    x, y = np.array([1.0, math.nan, math.inf]), np.array([2.0, 3.0, math.inf])
    copies = x.copy(), y.copy()
    measure(x, y, chunk=2)

    np.testing.assert_array_equal((x, y), copies)


def test_a_tensor_that_needs_gradients_and_one_in_another_order() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    y = torch.randn(5, 4).t()

    agrees(measure(x, y), oracle(x.detach().numpy(), y.numpy()))


def test_places_follow_the_axes_and_not_the_memory() -> None:
    x, y = torch.zeros(3, 4).t(), torch.zeros(3, 4).t()
    y[2, 1] = 5.0

    assert measure(x, y).worst_index == (2, 1)


# ---------------------------------------------------------------- extreme numbers


def test_denormals_are_not_lost() -> None:
    x, y = np.array([5e-324, 1e-320]), np.array([0.0, 2e-320])
    stats = measure(x, y)

    assert (stats.max_abs, stats.worst_index, stats.max_rel) == (1e-320, (1,), 1.0)
    assert stats.cosine == pytest.approx(1, abs=1e-5)
    assert stats.snr_db == pytest.approx(0, abs=1e-2)


def test_squares_beyond_float64_still_have_an_angle() -> None:
    x, y = np.array([3e200, 4e200]), np.array([4e-200, 3e-200])
    stats = measure(x, y)

    assert stats.cosine == pytest.approx(24 / 25)
    assert stats.snr_db == pytest.approx(0)


def test_a_tiny_noise_on_an_enormous_signal() -> None:
    assert measure(np.array([1e160, 0.0]), np.array([1e160, 1e-160])).snr_db == pytest.approx(20 * 320)


def test_a_difference_beyond_float64_is_the_largest_number() -> None:
    largest = sys.float_info.max
    stats = measure(np.array([largest, largest]), np.array([-largest, -largest]))

    assert (stats.max_abs, stats.worst_index) == (largest, (0,))
    assert stats.cosine == pytest.approx(-1)
    assert math.isfinite(stats.mean_abs)


# ---------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_an_odd_number_on_one_side_leaves_no_figure(odd: float, side: int) -> None:
    pair = [np.zeros((3, 4)), np.zeros((3, 4))]
    pair[side][1, 2] = odd
    stats = measure(*pair)

    assert all(math.isnan(value) for value in (stats.max_abs, stats.mean_abs, stats.max_rel, stats.mean_rel))
    assert (stats.cosine, stats.snr_db, stats.quantiles, stats.worst_index) == (None, None, (), (1, 2))


def test_nan_does_not_agree_with_nan() -> None:
    assert math.isnan(measure(np.array([math.nan]), np.array([math.nan])).max_abs)


def test_equal_infinities_agree_and_opposite_ones_do_not() -> None:
    masked = np.array([-math.inf, 1.0, math.inf])

    agreeing = measure(masked, masked + np.array([0.0, 0.25, 0.0]))
    assert (agreeing.count, agreeing.max_abs) == (3, 0.25)
    assert agreeing.mean_abs == pytest.approx(0.25 / 3)
    assert agreeing.scale == 1.0
    assert math.isnan(measure(masked, -masked).max_abs)


def test_the_first_of_many_odd_numbers_is_shown() -> None:
    x = np.zeros((5, 2))
    x[1, 1] = x[4, 0] = math.nan

    assert measure(x, np.zeros((5, 2)), chunk=2).worst_index == (1, 1)


@quick
@given(two_arrays(), st.data(), st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(1, 40))
def test_an_odd_number_is_found_wherever_it_stands(
    pair: tuple[Numbers, Numbers], data: st.DataObject, odd: float, chunk: int
) -> None:
    at = data.draw(st.integers(0, pair[0].size - 1))
    side = data.draw(st.sampled_from([0, 1]))
    pair[side].flat[at] = odd
    stats = measure(*pair, chunk=chunk)

    assert math.isnan(stats.max_abs)
    assert stats.worst_index == np.unravel_index(at, pair[0].shape)
    assert stats.count == pair[0].size - 1


# ---------------------------------------------------------------- laws


@quick
@given(two_arrays(), st.integers(1, 700))
def test_every_figure_is_the_plain_formula_whatever_the_chunk(pair: tuple[Numbers, Numbers], chunk: int) -> None:
    agrees(measure(*pair, chunk=chunk), oracle(*pair))


@quick
@given(two_arrays(), st.integers(1, 50))
def test_the_chunk_changes_sums_by_rounding_only(pair: tuple[Numbers, Numbers], chunk: int) -> None:
    whole, parts = measure(*pair), measure(*pair, chunk=chunk)

    for name in ("count", "max_abs", "max_rel", "quantiles", "worst_index", "scale"):
        assert getattr(whole, name) == getattr(parts, name), name
    assert parts.mean_abs == pytest.approx(whole.mean_abs, rel=1e-12)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_last_element_is_seen_around_a_chunk_boundary(more: int) -> None:
    size = 2 * (1 << 16) + more
    x, y = np.zeros(size, np.float32), np.zeros(size, np.float32)
    y[-1] = 3.0
    stats = measure(x, y)

    assert (stats.count, stats.max_abs, stats.worst_index, stats.mean_abs) == (size, 3.0, (size - 1,), 3.0 / size)


@quick
@given(two_arrays())
def test_errors_are_the_same_from_either_side(pair: tuple[Numbers, Numbers]) -> None:
    there, back = measure(*pair), measure(*pair[::-1])

    for name in ("max_abs", "mean_abs", "max_rel", "mean_rel", "quantiles", "worst_index"):
        assert getattr(there, name) == getattr(back, name), name
    assert (there.cosine is None) == (back.cosine is None)
    assert there.cosine is None or there.cosine == pytest.approx(back.cosine)


@quick
@given(two_arrays(), st.randoms(use_true_random=False))
def test_the_order_of_elements_does_not_matter(pair: tuple[Numbers, Numbers], random: Any) -> None:
    order = random.sample(range(pair[0].size), pair[0].size)
    straight, shuffled = measure(*pair), measure(pair[0].ravel()[order], pair[1].ravel()[order])

    for name in ("max_abs", "max_rel", "quantiles", "scale"):
        assert getattr(straight, name) == getattr(shuffled, name), name
    assert shuffled.mean_abs == pytest.approx(straight.mean_abs, rel=1e-12)


@quick
@given(two_arrays(), st.integers(-100, 100))
def test_a_power_of_two_scales_errors_and_leaves_ratios(pair: tuple[Numbers, Numbers], power: int) -> None:
    factor = 2.0**power
    plain, scaled = measure(*pair), measure(pair[0] * factor, pair[1] * factor)

    assert (scaled.max_abs, scaled.scale) == (plain.max_abs * factor, plain.scale * factor)
    assert scaled.max_rel == plain.max_rel
    for name in ("cosine", "snr_db"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), abs=1e-9), name


@quick
@given(two_arrays())
def test_quantiles_are_bounds_from_above_within_one_part_in_32(pair: tuple[Numbers, Numbers]) -> None:
    gap = np.sort(np.abs(pair[0] - pair[1]).ravel())
    for p, value in measure(*pair).quantiles:
        true = gap[math.ceil(p * gap.size) - 1]
        assert true <= value <= min(true * (1 + 1 / 32), gap[-1])


@quick
@given(two_arrays(st.floats(allow_nan=False, allow_infinity=False)))
def test_no_finite_numbers_make_a_figure_that_is_none(pair: tuple[Numbers, Numbers]) -> None:
    stats = measure(*pair)

    figures = [stats.max_abs, stats.mean_abs, stats.max_rel, stats.mean_rel, stats.scale]
    assert all(math.isfinite(value) for value in figures)
    assert stats.cosine is None or -1 <= stats.cosine <= 1
    assert stats.snr_db is None or math.isfinite(stats.snr_db)
    assert 0 <= stats.max_rel <= 2


@pytest.mark.parametrize("odd", [0, 700])
@pytest.mark.parametrize("chunk", [999, 1 << 16])
def test_quantiles_of_many_elements_are_bounds_too(odd: int, chunk: int) -> None:
    rng = np.random.default_rng(3)
    gap = np.where(rng.random(20_000) < 0.3, 0.0, 10 ** rng.uniform(-12, 6, 20_000))
    x, y = np.zeros(20_000), gap.copy()
    y[rng.permutation(20_000)[:odd]] = math.nan
    kept = np.sort(gap[np.isfinite(y)])
    stats, found = measure_finite(x, y, chunk=chunk)

    assert (found.candidate if found else (0, 0)) == (odd, 0)
    for p, value in stats.quantiles:
        true = kept[math.ceil(p * kept.size) - 1]
        assert true <= value <= true * (1 + 1 / 32)
    assert stats.mean_abs == pytest.approx(kept.mean(), rel=1e-12)


def test_few_and_many_elements_fall_into_the_same_bins() -> None:
    gap = 10 ** np.random.default_rng(4).uniform(-9, 3, 4000)
    few, many = measure(np.zeros(4000), gap), measure(np.zeros(8000), np.repeat(gap, 2))

    assert few.quantiles == many.quantiles
