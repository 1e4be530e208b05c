"""From what a request asks (options, tag, metadata) to the change that a store makes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pillion.errors import Invalid
from pillion.kinds.state import Put, Remove

TTL = "ttlInSeconds"
PROJECTION = "outbox.projection"
_LONGEST = 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_CONCURRENCY = ("first-write", "last-write")
_CONSISTENCY = ("strong", "eventual")


def is_first_write(concurrency: str | None, consistency: str | None) -> bool:
    """Tell whether a change counts only for its tag, or for a missing key when it has none.

    ``consistency`` is a hint that no store takes for its writes; a wrong one is still wrong.

    Raises:
        Invalid: one of the two is unknown; None and empty are the default.
    """
    if concurrency and concurrency not in _CONCURRENCY:
        raise _unknown("concurrency", concurrency, _CONCURRENCY)
    if consistency and consistency not in _CONSISTENCY:
        raise _unknown("consistency", consistency, _CONSISTENCY)
    return concurrency == "first-write"


def ttl_of(metadata: Mapping[str, str]) -> int | None:
    """Return the seconds that a value lives, None for ever (0 and -1 ask for that).

    Raises:
        Invalid: ``ttlInSeconds`` is no whole number from -1 to 2^31-1.
    """
    text = metadata.get(TTL)
    if text is None:
        return None
    seconds = int(text) if _WHOLE.fullmatch(text) else -2
    if not -1 <= seconds <= _LONGEST:
        raise Invalid(
            f"incorrect value for metadata '{TTL}': it must be a whole number of seconds from -1 "
            f"to {_LONGEST}, not {text[:40]!r}"
        )
    return seconds if seconds > 0 else None


def to_put(
    key: str,
    value: bytes,
    etag: str | None,
    metadata: Mapping[str, str],
    *,
    first_write: bool,
) -> Put:
    """Return the change that saves ``value``; an empty tag is none.

    A tag always counts; a first write without one creates the key.

    Raises:
        Invalid: see :func:`ttl_of`.
    """
    etag = etag or None
    return Put(key, value, etag, first_write and etag is None, ttl_of(metadata))


def to_remove(key: str, etag: str | None) -> Remove:
    """Return the change that deletes ``key``; an empty tag is none."""
    return Remove(key, etag or None)


def is_projection(metadata: Mapping[str, str]) -> bool:
    """Tell whether an operation is what the outbox publishes, and not stored itself."""
    return metadata.get(PROJECTION, "").strip().lower() == "true"


def _unknown(option: str, value: str, known: tuple[str, ...]) -> Invalid:
    choices = " or ".join(known)
    return Invalid(f"unrecognized {option} type '{value[:40]}': it must be {choices}")


__all__ = [
    "is_first_write",
    "is_projection",
    "to_put",
    "to_remove",
    "ttl_of",
]
