"""How figures are written for people, in one place, so that the terminal and the Markdown say the same.

Every function answers `ABSENT` for what is not known. No figure loses its meaning by rounding: a tolerance that would
pass is rounded up, and a difference that is not zero never reads as zero.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context

__all__ = ["ABSENT", "count", "counted", "delta", "duration", "error", "figure", "ms", "needed", "rate", "size"]

ABSENT = "\N{EN DASH}"


def error(value: float | None) -> str:
    """An error or a tolerance: three significant digits."""
    return ABSENT if value is None else f"{value:.3g}"


def needed(value: float | None) -> str:
    """A tolerance that would pass: three significant digits, rounded up, so that it can be copied into a config."""
    if value is None or not math.isfinite(value):
        return error(value)
    return f"{float(Context(prec=3, rounding=ROUND_CEILING).create_decimal_from_float(value)):.3g}"


def figure(value: float | None) -> str:
    """A metric: four decimals, or four significant digits where it is larger than ten or almost nothing."""
    if value is None:
        return ABSENT
    fixed = f"{value:.4f}"
    return fixed if value == 0 or (abs(value) < 10 and float(fixed)) else f"{value:.4g}"


def delta(value: float | None, base: float | None) -> str:
    """How far a metric lies from its base, with its sign."""
    if value is None or base is None:
        return ABSENT
    difference = value - base
    if difference == 0:
        return "0"
    fixed = f"{difference:+.4f}"
    return fixed if float(fixed) else f"{difference:+.1e}"


def ms(value: float | None) -> str:
    """Milliseconds without their unit: two decimals below 10, one below 100."""
    if value is None:
        return ABSENT
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def rate(mean_ms: float | None) -> str:
    """Samples per second at a mean time in milliseconds."""
    if not mean_ms:
        return ABSENT
    return ms(1e3 / mean_ms)


def size(octets: int) -> str:
    """The size of a file; MB are millions of bytes."""
    if octets < 1_000:
        return f"{octets} B"
    if octets < 100_000:
        return f"{octets / 1e3:.1f} kB"
    return f"{ms(octets / 1e6)} MB"


def duration(seconds: float) -> str:
    """How long something took."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def count(value: float) -> str:
    """How many, with commas; counters of samples may be fractions."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def counted(number: int, what: str) -> str:
    """How many of what."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"
