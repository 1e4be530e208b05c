"""What goes to etcd and what comes back, without any of the transport's types."""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias


class KeyValue(NamedTuple):
    """A key that is there.

    Attributes:
        key, value: the bytes.
        create_revision: of the write that created the key; it stays while the key stays.
        mod_revision: of the last write.
        version: writes since the key was created, from 1.
        lease: the lease the key ends with, 0 for none.
    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class Target(enum.Enum):
    """What a comparison looks at; a missing key has 0 everywhere."""

    VERSION = 0
    CREATE = 1
    MOD = 2


class Compare(NamedTuple):
    """A condition of a transaction: the key's target equals a number."""

    key: bytes
    target: Target
    number: int


class Get(NamedTuple):
    """Read a key, or the keys from ``key`` to before ``range_end``."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    serializable: bool = False


class Put(NamedTuple):
    """Write a key; a ``lease`` other than 0 ends it."""

    key: bytes
    value: bytes
    lease: int = 0


class Delete(NamedTuple):
    """Delete a key."""

    key: bytes


Operation: TypeAlias = Get | Put | Delete


class Page(NamedTuple):
    """What a range read found.

    Attributes:
        items: in the order of their keys.
        more: True when ``limit`` cut it short.
        revision: of the store when it was read.
    """

    items: list[KeyValue]
    more: bool
    revision: int


class Outcome(NamedTuple):
    """What became of a transaction.

    Attributes:
        succeeded: True when all comparisons held.
        revision: of the store after it.
        found: per operation of the branch that ran, the keys it read; empty for a write.
    """

    succeeded: bool
    revision: int
    found: list[list[KeyValue]]


class Event(NamedTuple):
    """One change; of a deleted key ``item`` has the key and the revision of the deletion."""

    item: KeyValue
    deleted: bool


class Snapshot(NamedTuple):
    """Everything that is there, at one revision; what was known before is void."""

    items: list[KeyValue]
    revision: int


class Events(NamedTuple):
    """Changes after what was told before, in their order."""

    events: list[Event]


News: TypeAlias = Snapshot | Events


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin with ``prefix``."""
    for last in range(len(prefix) - 1, -1, -1):
        if prefix[last] < 0xFF:
            return prefix[:last] + bytes((prefix[last] + 1,))
    return b"\0"


__all__ = [
    "Compare",
    "Delete",
    "Event",
    "Events",
    "Get",
    "KeyValue",
    "News",
    "Operation",
    "Outcome",
    "Page",
    "Put",
    "Snapshot",
    "Target",
    "prefix_end",
]
