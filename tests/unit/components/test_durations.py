"""Durations in metadata."""

from __future__ import annotations

import pytest

from pillion_components._durations import duration, positive_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("5s", 5.0),
        ("1h5m30.5s", 3930.5),
        ("300ms", 0.3),
        (".5s", 0.5),
        ("2us", 2e-6),
        ("2\u00b5s", 2e-6),
        ("7ns", 7e-9),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    """Units add up; a bare zero needs none."""
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "-1s", "5 s", "s", "1d", "1e3s", "9" * 70 + "h", "\u0665s"]
)
def test_other_texts_are_refused(text: str) -> None:
    """No unit, a sign, a space, another unit, or more than anyone waits."""
    with pytest.raises(ValueError, match="a duration such as 30s"):
        duration(text)


def test_a_time_to_wait_is_not_zero() -> None:
    """Where waiting is meant, nothing is a mistake."""
    assert positive_duration("1ms") == 0.001
    with pytest.raises(ValueError, match="over 0"):
        positive_duration("0")
