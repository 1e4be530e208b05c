"""The few statistics the measurements quote: percentiles, medians and round-by-round ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the lowest and the highest value it was taken from."""

    median: float
    low: float
    high: float


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the nearest-rank percentile of an ascending sequence.

    Args:
        ordered: values in ascending order, at least one.
        fraction: above 0 and at most 1; 0.99 for p99.

    Raises:
        ValueError: there are no values, or the fraction is out of range.
    """
    if not ordered:
        raise ValueError("no values to take a percentile of")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, not {fraction}")
    return ordered[math.ceil(fraction * len(ordered)) - 1]


def spread(values: Iterable[float]) -> Spread:
    """Summarise values as median, lowest and highest.

    Raises:
        ValueError: there are no values.
    """
    kept = list(values)
    if not kept:
        raise ValueError("no values to summarise")
    return Spread(statistics.median(kept), min(kept), max(kept))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Divide ``ours`` by ``theirs`` round by round, then summarise the quotients.

    Both halves of a pair come from the same round, so a drift of the machine cancels.

    Raises:
        ValueError: the lengths differ, are zero, or a divisor is not positive.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds cannot be paired with {len(theirs)}")
    if any(value <= 0 for value in theirs):
        raise ValueError("a ratio needs positive figures to divide by")
    return spread(mine / other for mine, other in zip(ours, theirs, strict=True))
