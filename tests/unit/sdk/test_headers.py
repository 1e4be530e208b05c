"""Header fields."""

import pytest

from pillion_sdk.headers import Headers, encode, number


def test_names_compare_without_case():
    """A field is found whatever the case of the name asked for."""
    headers = Headers.of({"X-One": "1"})

    assert headers["x-one"] == headers["X-ONE"] == "1"
    assert "X-One" in headers
    assert "x-two" not in headers
    assert headers.get("x-two") is None
    assert headers.get("x-two", "default") == "default"


def test_repeated_fields_keep_their_order():
    """get_all has every value in order, indexing the first, and a mapping each name once."""
    headers = Headers.of([("Set-Cookie", "a=1"), ("x", "y"), ("set-cookie", "b=2")])

    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert headers["set-cookie"] == "a=1"
    assert dict(headers) == {"set-cookie": "a=1", "x": "y"}
    assert len(headers) == 2


def test_a_missing_field_is_a_key_error():
    """Indexing behaves as for any mapping."""
    with pytest.raises(KeyError, match="x"):
        Headers([])["x"]


def test_values_do_not_show():
    """A repr holds names only, because values may be credentials."""
    assert repr(Headers.of({"authorization": "Bearer secret"})) == "Headers(authorization)"


def test_encoding_copies():
    """Encoding headers gives a list of their own, so that adding to it changes nothing else."""
    headers = Headers.of({"a": "b"})
    encode(headers).append((b"c", b"d"))

    assert dict(headers) == {"a": "b"}
    assert encode(None) == []


def test_numbers_are_short_runs_of_digits():
    """A value is a number or nothing: signs, spaces, other digits and endless ones are nothing."""
    assert number(b"0") == 0
    assert number(b"123") == 123
    for value in (None, b"", b"-1", b"+1", b" 1", b"1.0", "٣".encode(), b"9" * 19):
        assert number(value) is None
