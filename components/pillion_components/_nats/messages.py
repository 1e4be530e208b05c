"""What a message in a bucket says of its key. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Entry(NamedTuple):
    """The last message of a key.

    Attributes:
        sequence: its number in the stream.
        value: what was stored.
        gone: True when the message says that the key was deleted or has expired.
        expires: seconds since the epoch, or None.
    """

    sequence: int
    value: bytes
    gone: bool
    expires: float | None


def is_gone(headers: Mapping[str, str]) -> bool:
    """Tell whether headers say that the key was deleted, purged or has expired."""
    return headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers


def entry_of(
    sequence: str, value: bytes, headers: Mapping[str, str], written: str, max_age: float
) -> Entry:
    """Return the entry of a message.

    Args:
        sequence, value, headers: the message's.
        written: when it was stored, as RFC 3339 writes it.
        max_age: seconds after which the bucket drops every message, 0 for never.
    """
    gone = is_gone(headers)
    if gone or not (max_age or "Nats-TTL" in headers):
        return Entry(int(sequence), value, gone, None)
    lives = [max_age] if max_age else []
    if (ttl := _seconds(headers.get("Nats-TTL", ""))) is not None:
        lives.append(ttl)
    expires = datetime.fromisoformat(written).timestamp() + min(lives) if lives else None
    return Entry(int(sequence), value, gone, expires)


def entry_in(found: Mapping[str, Any], max_age: float) -> Entry:
    """Return the entry of a message as JetStream's API gives it, in JSON."""
    headers: dict[str, str] = {}
    for line in base64.b64decode(found.get("hdrs", "")).decode(errors="replace").split("\r\n")[1:]:
        name, separator, text = line.partition(":")
        if separator:
            headers[name.strip()] = text.strip()
    value = base64.b64decode(found.get("data", ""))
    return entry_of(str(found["seq"]), value, headers, str(found["time"]), max_age)


def _seconds(text: str) -> float | None:
    if text.isdecimal():
        return float(text)
    parts = _PART.findall(text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else None


__all__ = ["Entry", "entry_in", "entry_of", "is_gone"]
