"""Durations in component metadata, as Go writes them."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = 100 * 365 * 86_400.0
_LENGTH = 64


def duration(text: str) -> float:
    """Return the seconds in a Go duration such as ``1h5m30.5s`` or ``300ms``; ``0`` is one too.

    Raises:
        ValueError: it is not one, or negative, or over a hundred years.
    """
    if text == "0":
        return 0.0
    seconds = -1.0
    if len(text) <= _LENGTH and _WHOLE.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if not 0.0 <= seconds <= _LONGEST:
        raise ValueError("a duration such as 30s, 1h5m or 300ms")
    return seconds


def positive_duration(text: str) -> float:
    """Return the seconds in a Go duration that is not zero.

    Raises:
        ValueError: it is not one.
    """
    seconds = duration(text)
    if seconds == 0.0:
        raise ValueError("a duration over 0, such as 30s, 1h5m or 300ms")
    return seconds


__all__ = ["duration", "positive_duration"]
