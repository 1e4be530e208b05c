"""Durations and quantities."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.config.values import duration, quantity, show_duration
from pillion.errors import Invalid

EXACT = 2**53
"""Nanoseconds up to which a float of seconds holds every one of them."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5),
        ("300ms", 0.3),
        ("1h5m30.5s", 3930.5),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("5.s", 5),
        ("+1m", 60),
        ("1s1h", 3601),
        ("10us", 1e-5),
        ("10\u00b5s", 1e-5),
        ("10\u03bcs", 1e-5),
        ("1ns", 1e-9),
        ("0.9ns", 0),
        ("2562047h47m16s", 9223372036),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Go's notation is read, and parts of a nanosecond are dropped."""
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "5",
        "5 s",
        "5S",
        "5d",
        "1e3s",
        ".s",
        "5s ",
        "-5s",
        "--5s",
        "5s-3s",
        "\u0665s",
        "2562048h",
        "9" * 65 + "s",
        "9" * 100_000,
    ],
)
def test_not_durations(text: str) -> None:
    """Everything else is refused, and a number alone is told what it lacks."""
    with pytest.raises(Invalid):
        duration(text)


def test_integers_count_units() -> None:
    """Where bare integers have a meaning they are read, and fractions still are not."""
    assert duration("1500", unit=0.001) == 1.5
    assert duration("30", unit=1) == 30
    assert duration("2s", unit=0.001) == 2
    with pytest.raises(Invalid):
        duration("1.5", unit=1)
    with pytest.raises(Invalid, match="with a unit, such as 5s or 5ms"):
        duration("5")


def test_negative_durations() -> None:
    """A negative duration is read only where it has a meaning."""
    assert duration("-1m30s", negative=True) == -90
    assert duration("-5", unit=1, negative=True) == -5


@given(st.integers(-EXACT, EXACT))
def test_durations_round_trip(nanoseconds: int) -> None:
    """What is written is read back to the nanosecond."""
    seconds = nanoseconds / 1e9
    assert round(duration(show_duration(seconds), negative=True) * 1e9) == nanoseconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "1ns"),
        (0.0003, "300us"),
        (0.0015, "1.5ms"),
        (59.25, "59.25s"),
        (60, "1m"),
        (3600, "1h"),
        (3930.5, "1h5m30.5s"),
        (-90, "-1m30s"),
    ],
)
def test_shown_durations(seconds: float, text: str) -> None:
    """Durations are written with the largest units that fit."""
    assert show_duration(seconds) == text


PARTS = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.integers(0, 999),
        st.sampled_from([("h", 3600), ("m", 60), ("s", 1), ("ms", Fraction(1, 1000))]),
    ),
    min_size=1,
    max_size=4,
)


@given(PARTS)
def test_durations_are_the_sum_of_their_parts(parts) -> None:
    """Every part counts, in any order and number."""
    text = "".join(f"{whole}.{part:03}{unit}" for whole, part, (unit, _) in parts)
    exact = sum((whole + Fraction(part, 1000)) * scale for whole, part, (_, scale) in parts)
    assert duration(text) == pytest.approx(float(exact), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("512", 512),
        ("-1", -1),
        ("+3", 3),
        ("4Mi", 4 * 2**20),
        ("64Ki", 65536),
        ("1Gi", 2**30),
        ("1G", 10**9),
        ("1.5k", 1500),
        (".5Ki", 512),
        ("5.", 5),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1e-3", 1),
        ("1E", 10**18),
        ("7Ei", 7 * 2**60),
        ("100m", 1),
        ("-100m", -1),
        ("1500m", 2),
        ("1n", 1),
        ("0.0", 0),
    ],
)
def test_quantities(text: str, number: int) -> None:
    """Kubernetes' notation is read, fractions rounded away from zero."""
    assert quantity(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mi",
        "4MB",
        "4mi",
        "4K",
        "4 Mi",
        "4Mib",
        "1e",
        "1e3k",
        "1ki",
        "nan",
        "inf",
        "0x10",
        "8Ei",
        "1e999",
        "1e99",
        "\uff14Mi",
        "1_000",
        "9" * 65,
        "-",
        ".",
    ],
)
def test_not_quantities(text: str) -> None:
    """Everything else is refused, as is what does not fit into 63 bits."""
    with pytest.raises(Invalid):
        quantity(text)


@given(st.integers(-(2**20), 2**20), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi"]))
def test_whole_quantities(count: int, suffix: str) -> None:
    """A whole count of a unit is that many of it."""
    base = 1024 if suffix.endswith("i") else 1000
    assert quantity(f"{count}{suffix}") == count * base ** (" kmg".index(suffix[:1].lower() or " "))


@given(st.text(max_size=80))
def test_nothing_but_invalid(text: str) -> None:
    """Whatever the text, it is a value or Invalid."""
    for read in (duration, quantity):
        with contextlib.suppress(Invalid):
            assert abs(read(text)) < 2**63
