"""Suggestions for misspelt names."""

from __future__ import annotations

import pytest

from pillion.nearest import did_you_mean, nearest

NAMES = ("baseUrl", "headers", "clientTLS")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("baseUri", "baseUrl"),
        ("BASEURL", "baseUrl"),
        ("header", "headers"),
        ("clienttls", "clientTLS"),
        ("zone", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_nearest(word: str, meant: str | None) -> None:
    """The closest name is found, in its own spelling, and nothing where none is close."""
    assert nearest(word, NAMES) == meant


def test_no_names() -> None:
    """Nothing is suggested where there is nothing to suggest."""
    assert nearest("a", ()) is None


def test_did_you_mean() -> None:
    """The suggestion is the end of a sentence, or empty."""
    assert did_you_mean("baseUri", NAMES) == '; did you mean "baseUrl"?'
    assert did_you_mean("zone", NAMES) == ""
