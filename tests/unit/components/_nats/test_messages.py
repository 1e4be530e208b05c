"""What messages in a bucket say of their keys."""

from __future__ import annotations

import base64

import pytest

from pillion_components._nats.messages import Entry, entry_in, entry_of, is_gone

WRITTEN = "2026-01-02T03:04:05.123456789Z"
SECONDS = 1767323045.123456


@pytest.mark.parametrize(
    ("headers", "gone"),
    [
        ({}, False),
        ({"KV-Operation": "PUT"}, False),
        ({"KV-Operation": "DEL"}, True),
        ({"KV-Operation": "PURGE"}, True),
        ({"Nats-Marker-Reason": "MaxAge"}, True),
    ],
)
def test_gone(headers: dict[str, str], gone: bool) -> None:
    """Deletions, purges and the server's markers of expiry say that a key is gone."""
    assert is_gone(headers) is gone
    assert entry_of("7", b"", headers, WRITTEN, 0) == Entry(7, b"", gone, None)


@pytest.mark.parametrize(
    ("ttl", "max_age", "seconds"),
    [
        ("10s", 0, 10),
        ("1m30s", 0, 90),
        ("10", 0, 10),
        ("10s", 4, 4),
        (None, 4, 4),
        ("never", 0, None),
    ],
)
def test_expiry(ttl: str | None, max_age: float, seconds: float | None) -> None:
    """A value ends with its own time or the bucket's, whichever is sooner."""
    headers = {"Nats-TTL": ttl} if ttl else {}
    expires = entry_of("1", b"", headers, WRITTEN, max_age).expires
    assert expires == (None if seconds is None else pytest.approx(SECONDS + seconds, abs=1e-3))


def test_entry_of_the_api() -> None:
    """A message in JSON, as servers give it that do not allow direct reads, says the same."""
    headers = base64.b64encode(b"NATS/1.0\r\nKV-Operation: DEL\r\nX: 1\r\n\r\n").decode()
    data = base64.b64encode(b"\x00value").decode()
    message = {"seq": 3, "data": data, "time": WRITTEN}
    assert entry_in(message, 0) == Entry(3, b"\x00value", False, None)
    assert entry_in({**message, "hdrs": headers}, 0).gone
    assert entry_in({"seq": 3, "time": WRITTEN}, 0).value == b""
