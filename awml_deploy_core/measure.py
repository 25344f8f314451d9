"""Two tensors to statistics.

Arithmetic is float64 whatever the tensors hold, except that 64-bit integers are subtracted exactly. Tensors are walked
in chunks, so the memory used does not grow with them; only types that numpy lacks, such as bfloat16, are widened whole.

A NaN never agrees with anything, another NaN included: two networks that both fail have not proved one another.
Infinities of one sign at one place do agree, with error 0: masks are made of them. Any other pair with a number that is
not finite has no error; it is a finding with its place, and the statistics are those of the other pairs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen

from awml_deploy_core.records import Array, Stats
from awml_deploy_core.tree.bits import NARROW, is_tensor

__all__ = ["QUANTILES", "Oddities", "dtype_name", "measure", "measure_finite"]

CHUNK = 1 << 16
"""Elements taken at a time: a few buffers of this many float64 stay in the processor's cache."""

QUANTILES = (0.5, 0.9, 0.99, 0.999)
"""Probabilities at which the absolute error is given."""

_LARGEST = sys.float_info.max
_TINIEST = 5e-324
_SHIFT = 47
"""Bits dropped from a float64 to name its histogram bin: the exponent and five bits of the fraction stay."""

_FEW = 1 << 12
"""Up to so many elements are sorted by bin, since a histogram costs as much as many thousand of them."""

_Numbers = np.ndarray[Any, np.dtype[Any]]


@frozen(kw_only=True)
class Oddities:
    """Numbers that are not finite and have no equal at the same place of the other side.

    Args:
        reference: How many NaN and how many infinities the reference has.
        candidate: The same of the candidate.
        first: Place of the first pair.
    """

    reference: tuple[int, int]
    candidate: tuple[int, int]
    first: tuple[int, ...]


def measure(reference: Array, candidate: Array, *, chunk: int = CHUNK) -> Stats:
    """Measure how far two tensors of one shape lie apart.

    `max_rel` and `mean_rel` divide by the larger magnitude of each pair (0 where both are 0), so they lie between 0 and
    2. `cosine` is None where a side is all zero, `snr_db` where there is no signal or no error. A quantile is read from
    a histogram whose bins are 1/32 wide in relation to their lower edge: it is never below the true one and at most
    that much above it (errors below 1e-308 count as 0). What exceeds float64 is given as its largest number.

    Args:
        reference: The side that is trusted; its magnitude is the scale.
        candidate: The side under test.
        chunk: Elements taken at a time; changes sums by rounding only.

    Returns:
        The statistics. If a pair has no error (see the module), the figures are NaN, so that no limit is ever met,
        and `worst_index` is the first such place.
    """
    stats, odd = measure_finite(reference, candidate, chunk=chunk)
    if odd is None:
        return stats
    void = math.nan
    stats = evolve(stats, max_abs=void, mean_abs=void, max_rel=void, mean_rel=void, worst_index=odd.first)
    return evolve(stats, cosine=None, snr_db=None, quantiles=())


def measure_finite(reference: Array, candidate: Array, *, chunk: int = CHUNK) -> tuple[Stats, Oddities | None]:
    """Measure like `measure`, but answer the statistics of the pairs that have an error, and what the others are."""
    left, right = _numpy(reference), _numpy(candidate)
    if left.shape != right.shape:
        raise ValueError(f"tensors of one shape are needed, got {left.shape} and {right.shape}")
    tally = _tally(left, right, chunk)
    stats = _stats(tally, left, right, chunk)
    if not tally.bad:
        return stats, None
    first = _index(tally.first_bad, left.shape)
    (nan, inf), (other_nan, other_inf) = tally.odd.tolist()
    return stats, Oddities(reference=(nan, inf), candidate=(other_nan, other_inf), first=first)


def _numpy(value: Array) -> _Numbers:
    """The value as numpy, without a copy where it lies in the host's memory."""
    narrow = dtype_name(value) in NARROW
    if is_tensor(value):
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        array = (tensor.float() if narrow else tensor).numpy()
    else:
        array = np.asarray(value, np.float32 if narrow else None)
    return np.stack([array.real, array.imag], -1) if array.dtype.kind == "c" else array


def dtype_name(value: Any) -> str:
    """Numpy's name of the element type, for tensors of either library and for plain numbers."""
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    return getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(flat, shape))


def _pairs(left: _Numbers, right: _Numbers, chunk: int) -> Iterator[tuple[_Numbers, _Numbers]]:
    """Chunks of both in C order, as float64; 64-bit integers as they are."""
    shared = np.result_type(left, right)
    exact = shared.kind in "iu" and shared.itemsize == 8
    if left.size:
        yield from np.nditer(
            [left, right], ["external_loop", "buffered"], op_dtypes=[shared if exact else np.dtype(float)] * 2,
            order="C", casting="same_kind", buffersize=chunk,
        )  # fmt: skip


def _gap(x: _Numbers, y: _Numbers, out: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Both sides as float64; their distance goes into `out`."""
    if x.dtype.kind == "f":
        np.abs(np.subtract(x, y, out=out), out=out)
        return x, y
    # The larger minus the smaller may wrap, but its bits read as an unsigned number are the distance.
    out[:] = np.where(x > y, x - y, y - x).view(np.uint64)
    return x.astype(float), y.astype(float)


@define
class _Tally:
    """What the chunks seen so far add up to.

    `work` is memory to calculate in: asking the system for fresh pages costs several times the arithmetic.
    """

    work: _Numbers
    seen: int = 0
    bad: int = 0
    first_bad: int = 0
    odd: _Numbers = field(factory=lambda: np.zeros((2, 2), int))
    tops: tuple[float, float] = (0.0, 0.0)
    max_abs: float = -1.0
    worst: int = 0
    max_rel: float = 0.0
    sums: _Numbers = field(factory=lambda: np.zeros(6))
    bins: _Numbers | None = None
    keys: list[_Numbers] = field(factory=list)

    def add(self, x: _Numbers, y: _Numbers) -> None:
        """Take one chunk."""
        gap, size, spare = self.work[:, : x.size]
        x, y = _gap(x, y, gap)
        bad = 0
        if not math.isfinite(gap.sum()):
            x, y, bad = self.set_aside(x, y, gap)
        at = int(gap.argmax())
        if gap[at] > self.max_abs:
            self.max_abs, self.worst = float(gap[at]), self.seen + at
        np.abs(x, out=size)
        np.abs(y, out=spare)
        self.tops = max(self.tops[0], float(size.max())), max(self.tops[1], float(spare.max()))
        np.maximum(size, spare, out=size)
        relative = np.divide(gap, np.maximum(size, _TINIEST, out=size), out=size)
        self.max_rel = max(self.max_rel, float(relative.max()))
        self.sums += gap.sum(), relative.sum(), _dot(x, x), _dot(y, y), _dot(x, y), _dot(gap, gap)
        self.add_bins(gap, spare.view(np.int64))
        self.seen += x.size
        self.bad += bad

    def add_bins(self, gap: _Numbers, keys: _Numbers) -> None:
        """Count the errors by exponent and leading bits."""
        np.right_shift(gap.view(np.int64), _SHIFT, out=keys)
        if self.bins is None:
            self.keys.append(keys.copy())
            return
        low = int(keys.min())
        keys -= low
        found = np.bincount(keys)
        self.bins[low : low + found.size] += found

    def set_aside(self, x: _Numbers, y: _Numbers, gap: _Numbers) -> tuple[_Numbers, _Numbers, int]:
        """Note the pairs without an error and put zeros in the place of all that is not finite."""
        odd = ~(np.isfinite(x) & np.isfinite(y))
        bad = odd & (x != y)
        count = int(bad.sum())
        if count and not self.bad:
            self.first_bad = self.seen + int(bad.argmax())
        self.odd += [[np.isnan(side).sum(), np.isinf(side).sum()] for side in (x[bad], y[bad])]
        gap[odd] = 0.0
        np.minimum(gap, _LARGEST, out=gap)
        return np.where(odd, 0.0, x), np.where(odd, 0.0, y), count


def _dot(x: _Numbers, y: _Numbers) -> float:
    # Not `x @ y`: on chunks of this size BLAS wakes its threads, which costs more than the sum where cores are shared.
    return float(np.einsum("i,i->", x, y))


def _tally(left: _Numbers, right: _Numbers, chunk: int) -> _Tally:
    bins = np.zeros(1 << 16, np.int64) if left.size > _FEW else None
    tally = _Tally(np.empty((3, min(chunk, max(left.size, 1)))), bins=bins)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for x, y in _pairs(left, right, chunk):
            tally.add(x, y)
    return tally


def _stats(tally: _Tally, left: _Numbers, right: _Numbers, chunk: int) -> Stats:
    """The statistics of the pairs that have an error."""
    count = tally.seen - tally.bad
    if not count:
        return Stats(count=0, max_abs=0.0, mean_abs=0.0, max_rel=0.0, mean_rel=0.0, cosine=None, snr_db=None)
    cosine, snr_db = _likeness(tally, left, right, chunk)
    return Stats(
        count=count,
        max_abs=tally.max_abs,
        mean_abs=min(float(tally.sums[0]), _LARGEST) / count,
        max_rel=tally.max_rel,
        mean_rel=float(tally.sums[1]) / count,
        cosine=cosine,
        snr_db=snr_db,
        quantiles=_quantiles(tally, count),
        worst_index=_index(tally.worst, left.shape),
        scale=tally.tops[0],
    )


def _quantiles(tally: _Tally, count: int) -> tuple[tuple[float, float], ...]:
    """Upper edges of the bins in which the quantiles lie; pairs without an error stand in the lowest bin."""
    ranks = np.array([tally.bad + math.ceil(p * count) for p in QUANTILES])
    if tally.bins is None:
        at = np.sort(np.concatenate(tally.keys))[ranks - 1]
    else:
        at = np.searchsorted(np.cumsum(tally.bins), ranks)
    edges = np.where(at, (at + 1) << _SHIFT, 0).view(np.float64)
    return tuple((p, min(float(edge), tally.max_abs)) for p, edge in zip(QUANTILES, edges, strict=True))


def _likeness(tally: _Tally, left: _Numbers, right: _Numbers, chunk: int) -> tuple[float | None, float | None]:
    """Cosine and signal-to-noise ratio; squares that leave the range of float64 cost a second, scaled pass."""
    tops = (*tally.tops, tally.max_abs)
    xx, yy, xy, ee = (float(total) for total in tally.sums[2:])
    units = [1.0, 1.0, 1.0]
    if any(top and not 1e-280 < energy < math.inf for top, energy in zip(tops, (xx, yy, ee), strict=True)):
        units = [top or 1.0 for top in tops]
        xx, yy, xy, ee = _products(left, right, units, chunk)
    cosine = max(-1.0, min(1.0, xy / math.sqrt(xx) / math.sqrt(yy))) if xx and yy else None
    if not (xx and ee):
        return cosine, None
    return cosine, 10 * math.log10(xx) - 10 * math.log10(ee) + 20 * (math.log10(units[0]) - math.log10(units[2]))


def _products(left: _Numbers, right: _Numbers, units: list[float], chunk: int) -> list[float]:
    """Scalar products of reference, candidate and error, each in its unit."""
    sums = np.zeros(4)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for pair in _pairs(left, right, chunk):
            gap = np.empty(pair[0].shape)
            x, y = _gap(*pair, gap)
            sides = np.array([x, y, np.minimum(gap, _LARGEST)])
            x, y, gap = np.where(np.isfinite(x) & np.isfinite(y), sides, 0.0) / np.array(units)[:, None]
            sums += _dot(x, x), _dot(y, y), _dot(x, y), _dot(gap, gap)
    return [float(total) for total in sums]
