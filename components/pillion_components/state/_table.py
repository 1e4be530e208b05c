"""The rows of an embedded state store and the few statements that move them.

One table holds every collection of the file (``space``), so that no statement is built from a
setting. A row's tag is 64 random bits, drawn anew by every write: one that was seen once never
comes back, not even after the key was deleted and written again or the file came from a copy.
``expires`` is on the wall clock, because an expiry must mean the same after a restart.
"""

from __future__ import annotations

from pillion.errors import Conflict, Invalid
from pillion.kinds.state import Item, Put, Remove, Write
from pillion_components._sqlite import Row, Schema, Transaction

SCHEMA = Schema(
    what="state store",
    application_id=0x50494C53,
    steps=(
        (
            """CREATE TABLE item (
                space TEXT NOT NULL,
                key TEXT NOT NULL,
                value BLOB NOT NULL,
                etag INTEGER NOT NULL,
                expires REAL,
                PRIMARY KEY (space, key)
            )""",
            "CREATE INDEX term ON item (expires) WHERE expires IS NOT NULL",
        ),
    ),
)

CHUNK = 64
"""Keys in one read of several."""

LARGEST = 512 * 1024 * 1024
"""Bytes in a value; SQLite takes a little less than twice that."""

_MARKS = ", ".join("?" * CHUNK)
_LIVE = "(expires IS NULL OR expires > ?)"

READ_ITEM = (
    "SELECT key, value, etag, expires FROM item "  # noqa: S608 - constants
    f"WHERE space = ? AND key = ? AND {_LIVE}"
)
READ_ITEMS = (
    "SELECT key, value, etag, expires FROM item "  # noqa: S608 - constants
    f"WHERE space = ? AND key IN ({_MARKS}) AND {_LIVE}"
)
READ_TAGS = (
    "SELECT key, etag, expires FROM item "  # noqa: S608 - constants
    f"WHERE space = ? AND key IN ({_MARKS}) AND {_LIVE}"
)
_KEYS = "SELECT key FROM item WHERE space = ? AND key "
_WITHIN = f"AND key < ? AND {_LIVE} ORDER BY key LIMIT ?"
READ_KEYS_FROM = f"{_KEYS} >= ? {_WITHIN}"
READ_KEYS_BEHIND = f"{_KEYS} > ? {_WITHIN}"

_PUT = (
    "INSERT INTO item VALUES (?, ?, ?, random(), ?) ON CONFLICT (space, key) DO UPDATE "
    "SET value = excluded.value, etag = excluded.etag, expires = excluded.expires"
)
_CREATE = f"{_PUT} WHERE item.expires <= ?"
_REPLACE = (
    "UPDATE item SET value = ?, etag = random(), expires = ? "  # noqa: S608 - constants
    f"WHERE space = ? AND key = ? AND etag = ? AND {_LIVE}"
)
_REMOVE = "DELETE FROM item WHERE space = ? AND key = ?"
_REMOVE_TAGGED = f"{_REMOVE} AND etag = ? AND {_LIVE}"
_SWEEP = (
    "DELETE FROM item WHERE rowid IN "
    "(SELECT rowid FROM item WHERE expires IS NOT NULL AND expires <= ? LIMIT ?)"
)

_SIGN = 1 << 63
_WRAP = 1 << 64
_DIGITS = 16


def item_of(row: Row) -> Item:
    """Build an item from ``key, value, etag, expires``."""
    key, value, etag, expires = row
    return Item(key, value, tag_text(etag), expires)


def tag_text(etag: int) -> str:
    """Return the tag as callers see it."""
    return f"{etag & (_WRAP - 1):016x}"


def tag_number(text: str) -> int:
    """Return the tag as rows hold it.

    Raises:
        Invalid: it is none of this store's (reason ``etag-invalid``).
    """
    if len(text) == _DIGITS and text.isascii() and text.isalnum():
        try:
            number = int(text, 16)
        except ValueError:
            pass
        else:
            return number - _WRAP if number >= _SIGN else number
    raise Invalid(
        f"invalid etag value {text[:80]!r}: tags of this store have 16 hexadecimal digits; send "
        "the one that the last read returned",
        reason="etag-invalid",
    )


def check_key(key: str) -> None:
    """Refuse a key that no text column can hold.

    Raises:
        Invalid: it has half of a surrogate pair, which UTF-8 does not encode.
    """
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"the key {key!r} is not valid Unicode text") from error


def check(change: Write) -> None:
    """Refuse a change that can be seen to be wrong without the file.

    Raises:
        Invalid: the key, the tag, the ttl or the size of the value.
    """
    check_key(change.key)
    if change.etag is not None:
        tag_number(change.etag)
    if isinstance(change, Put):
        if change.ttl is not None and change.ttl <= 0:
            raise Invalid(f"the ttl of key {change.key!r} is {change.ttl} s and must be over 0")
        if len(change.value) > LARGEST:
            raise Invalid(
                f"the value of key {change.key!r} has {len(change.value)} bytes; "
                f"this store takes {LARGEST}"
            )


def apply(transaction: Transaction, space: str, change: Write, now: float) -> None:
    """Make one change that :func:`check` has passed, in one statement.

    Raises:
        Conflict: its condition does not hold; nothing has changed.
    """
    if isinstance(change, Remove):
        _remove(transaction, space, change, now)
    elif not _put(transaction, space, change, now):
        state = "is there already" if change.create_only else "has another etag or is missing"
        raise Conflict(f"possible etag mismatch: the key {change.key!r} {state}", reason="etag")


def _put(transaction: Transaction, space: str, change: Put, now: float) -> bool:
    key, value = change.key, change.value
    expires = None if change.ttl is None else now + change.ttl
    if change.etag is not None:
        if change.create_only:
            return False  # a key cannot be missing and have a tag
        condition = tag_number(change.etag), now
        cursor = transaction.execute(_REPLACE, (value, expires, space, key, *condition))
    elif change.create_only:
        cursor = transaction.execute(_CREATE, (space, key, value, expires, now))
    else:
        cursor = transaction.execute(_PUT, (space, key, value, expires))
    return cursor.rowcount == 1


def _remove(transaction: Transaction, space: str, change: Remove, now: float) -> None:
    if change.etag is None:
        transaction.execute(_REMOVE, (space, change.key))
        return
    tag = tag_number(change.etag)
    if transaction.execute(_REMOVE_TAGGED, (space, change.key, tag, now)).rowcount != 1:
        raise Conflict(
            f"possible etag mismatch: the key {change.key!r} has another etag or is missing",
            reason="etag",
        )


def sweep(transaction: Transaction, now: float, limit: int) -> int:
    """Delete at most ``limit`` expired rows; return how many there were."""
    return transaction.execute(_SWEEP, (now, limit)).rowcount


def after_prefix(prefix: str) -> str | bytes:
    """Return the first value in SQLite's order behind all texts that begin with ``prefix``.

    Texts are ordered by their code points, and every blob comes after every text.
    """
    while prefix:
        last = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if last == 0xD800:
            last = 0xE000  # surrogates are no characters
        if last <= 0x10FFFF:
            return prefix + chr(last)
    return b""
