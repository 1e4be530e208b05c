"""Values that people write with a unit: durations and quantities."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from pillion.errors import Invalid

_SECOND = 10**9
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # micro sign
    "\u03bcs": 10**3,  # Greek mu
    "ms": 10**6,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PART = re.compile(rf"({_NUMBER})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION = re.compile(rf"([-+]?)((?:{_PART.pattern})+)")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_LONGEST = 2**63 - 1
"""Nanoseconds in the longest duration that Go can hold, about 292 years."""

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_QUANTITY = re.compile(rf"([-+]?{_NUMBER})(?:([eE])([-+]?[0-9]{{1,3}})|([numkKMGTPE]i?|))")
_TOO_LONG = 64
"""Characters; nobody writes a longer number, and converting one takes time."""


def duration(text: str, *, unit: float | None = None, negative: bool = False) -> float:
    """Return the seconds that a Go duration such as ``1h5m30.5s`` or ``300ms`` stands for.

    Args:
        text: the duration, without spaces (Go, ``time.ParseDuration``).
        unit: seconds that a bare integer counts, such as 0.001 where integers are milliseconds;
            None where a bare integer is not allowed. ``0`` always is.
        negative: True where a negative duration has a meaning.

    Raises:
        Invalid: it is not a duration.
    """
    if len(text) > _TOO_LONG:
        raise Invalid("must be a duration such as 30s, 1h5m or 300ms")
    if _INTEGER.fullmatch(text) and (unit is not None or int(text) == 0):
        nanoseconds = round(int(text) * Fraction(unit or 1) * _SECOND)
    else:
        match = _DURATION.fullmatch(text)
        if match is None:
            raise Invalid(_why_no_duration(text, unit))
        exact = sum(Fraction(n) * _UNITS[name] for n, name in _PART.findall(match[2]))
        nanoseconds = math.floor(exact) * (-1 if match[1] == "-" else 1)
    if abs(nanoseconds) > _LONGEST:
        raise Invalid("must be a duration of at most 292 years")
    if nanoseconds < 0 and not negative:
        raise Invalid("must be a duration of zero or more")
    return nanoseconds / _SECOND


def _why_no_duration(text: str, unit: float | None) -> str:
    if unit is None and _INTEGER.fullmatch(text):
        return f"must be a duration with a unit, such as {text}s or {text}ms"
    return "must be a duration such as 30s, 1h5m or 300ms"


def show_duration(seconds: float) -> str:
    """Write ``seconds`` as a Go duration: ``1h5m30.5s``, ``300ms``, ``0s``.

    ``duration`` reads it back, to the nanosecond up to 100 days.
    """
    nanoseconds = round(seconds * _SECOND)
    sign, nanoseconds = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < _SECOND:
        for name in ("ms", "us", "ns"):
            if nanoseconds >= _UNITS[name]:
                return f"{sign}{_decimal(nanoseconds, _UNITS[name])}{name}"
    text = sign
    for name in ("h", "m"):
        count, nanoseconds = divmod(nanoseconds, _UNITS[name])
        text += f"{count}{name}" if count else ""
    return text + (f"{_decimal(nanoseconds, _SECOND)}s" if nanoseconds else "")


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    digits = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def quantity(text: str) -> int:
    """Return the whole number, often bytes, that a quantity such as ``4Mi`` or ``1.5k`` stands for.

    The notation is that of Kubernetes (``resource.Quantity``): a number with ``k M G T P E``
    (powers of 1000), ``Ki Mi Gi Ti Pi Ei`` (powers of 1024), ``m u n`` (fractions) or an
    exponent; a fraction is rounded away from zero. ``-1`` is valid: callers give it a meaning.

    Raises:
        Invalid: it is not a quantity, or does not fit into 63 bits.
    """
    match = _QUANTITY.fullmatch(text) if len(text) <= _TOO_LONG else None
    exponent, suffix = (match[3], match[4] or "") if match else (None, "")
    if match is None or suffix not in _SUFFIXES:
        raise Invalid(
            "must be a quantity such as 512, 64Ki, 4Mi or 1.5G"
            " (Ki, Mi and Gi count 1024s; k, M and G count 1000s)"
        )
    scale = Fraction(10) ** int(exponent) if exponent is not None else _SUFFIXES[suffix]
    exact = Fraction(match[1]) * scale
    whole = math.ceil(exact) if exact >= 0 else math.floor(exact)
    if abs(whole) > _LONGEST:
        raise Invalid("must be a quantity below 2^63")
    return whole
