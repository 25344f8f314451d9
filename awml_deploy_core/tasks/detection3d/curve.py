"""Precision over recall, as both protocols sample it: at 0, 0.01, ... 1, with low recall and low precision cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FIRST", "RECALLS", "area", "best_f1", "enveloped", "mean", "precision_recall", "sampled"]

RECALLS = np.linspace(0, 1, 101)
FIRST = 11
"""The first recall that counts, 0.11: at most 0.1 says little."""
_LEAST_PRECISION = 0.1


def precision_recall(right: Floats, wrong: Floats, truths: int) -> tuple[Floats, Floats]:
    """Precision and recall after each prediction, of which there is at least one.

    Args:
        right: What each prediction counts as a hit, highest score first; 0 if it is none.
        wrong: 1 where it is none.
        truths: How many things there are to find.
    """
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    precision = np.divide(hits, hits + misses, out=np.zeros_like(hits), where=hits + misses > 0)
    return precision, hits / truths if truths else np.zeros_like(hits)


def enveloped(precision: Floats) -> Floats:
    """The best precision at this recall or a higher one."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def sampled(precision: Floats, recall: Floats) -> Floats:
    """Precision at each of `RECALLS`, 0 where recall does not get."""
    return np.interp(RECALLS, recall, precision, right=0)


def area(samples: Floats) -> float:
    """The mean of what lies above the least precision and beyond the least recall, as a part of the most possible."""
    above = np.maximum(samples[FIRST:] - _LEAST_PRECISION, 0)
    return float(np.mean(above)) / (1 - _LEAST_PRECISION)


def best_f1(precision: Floats, recall: Floats) -> tuple[float, int] | None:
    """The largest F1 and the prediction at which it is first reached; None if nothing was hit."""
    both = precision + recall
    if not both.any():
        return None
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    place = int(np.argmax(f1))
    return float(f1[place]), place


def mean(values: Floats) -> float:
    """The mean of those that are numbers, NaN if none is."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if known.size else np.nan
