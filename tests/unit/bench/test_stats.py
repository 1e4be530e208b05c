"""Percentiles, medians and paired ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench.stats import Spread, paired_ratio, percentile, spread

FIGURES = st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=200)


def test_nearest_rank() -> None:
    """Each percentile of 1 to 100 is the number of that name."""
    ordered = list(range(1, 101))
    assert [percentile(ordered, at) for at in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_p99_of_few_values_is_the_worst() -> None:
    """With fewer than a hundred values p99 does not flatter: it is the largest."""
    assert percentile([1.0, 2.0, 30.0], 0.99) == 30.0


@given(FIGURES, st.floats(min_value=0.001, max_value=1))
def test_percentile_covers_its_share(values: list[float], fraction: float) -> None:
    """The asked share of the values, or more, is at or below the percentile, itself a value."""
    found = percentile(sorted(values), fraction)
    assert found in values
    assert sum(value <= found for value in values) >= fraction * len(values) - 1e-9


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01])
def test_fraction_out_of_range(fraction: float) -> None:
    """A fraction that is no share is refused."""
    with pytest.raises(ValueError, match="fraction"):
        percentile([1.0], fraction)


def test_nothing_to_summarise() -> None:
    """No values give an error, never a zero that looks like a figure."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_spread() -> None:
    """A spread is the median between the lowest and the highest value."""
    assert spread([5.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=5.0)


def test_drift_cancels_in_paired_ratios() -> None:
    """A machine that slows down tenfold between rounds leaves the ratio as it was."""
    assert paired_ratio([2.0, 20.0], [1.0, 10.0]) == Spread(2.0, 2.0, 2.0)


def test_ratio_needs_pairs_and_divisors() -> None:
    """Rounds without a partner and divisors of zero are refused."""
    with pytest.raises(ValueError, match="paired"):
        paired_ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="positive"):
        paired_ratio([1.0], [0.0])
