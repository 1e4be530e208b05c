"""From the changes of a transaction to what etcd takes: one operation and one condition per key.

etcd refuses a transaction that writes a key twice, so changes of one key are folded into the last
one, and the conditions of the later ones are settled here: a key that this transaction wrote has a
tag nobody can know yet.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pillion.errors import Conflict, Invalid
from pillion.kinds.state import Put, Write

_TAG = re.compile(r"([1-9]\d{0,18})(?:-(\d{1,18}))?")
_LARGEST = 2**63 - 1


@dataclass(slots=True)
class Step:
    """What happens to one key.

    Attributes:
        key: which.
        change: the last one.
        revision: the key's revision must be this one, 0 for a missing key; None for any.
        creates: the key must be missing, and one whose value has expired is.
    """

    key: str
    change: Write
    revision: int | None
    creates: bool = False


def tag_of(revision: int, expires: float | None) -> str:
    """Return the tag of a value: its revision, and its end in milliseconds when it has one."""
    return str(revision) if expires is None else f"{revision}-{round(expires * 1000)}"


def revision_of(tag: str, key: str, now: float) -> int:
    """Return the revision in a tag.

    The tag says when its value expires because etcd removes the key somewhat later, and must not
    take a write that builds on a value that is missing already.

    Raises:
        Invalid: it is no tag of this store.
        Conflict: the value it stands for has expired.
    """
    match = _TAG.fullmatch(tag)
    revision = int(match[1]) if match else 0
    if match is None or revision > _LARGEST:
        raise Invalid(
            f"{tag[:40]!r} is no etag of this store; use the one that came with the value of {key}",
            reason="etag-invalid",
        )
    if match[2] is not None and int(match[2]) <= now * 1000:
        raise moved(key)
    return revision


def fold(changes: Sequence[Write], now: float) -> list[Step]:
    """Return one step per key, in the order of their first changes.

    Raises:
        Conflict: a later change of a key cannot hold after an earlier one.
        Invalid: a tag is none of this store's.
    """
    steps: dict[str, Step] = {}
    for change in changes:
        create_only = isinstance(change, Put) and change.create_only
        wanted = None if change.etag is None else revision_of(change.etag, change.key, now)
        if create_only:
            if wanted is not None:
                raise moved(change.key)  # a missing key has no tag
            wanted = 0
        step = steps.get(change.key)
        if step is None:
            steps[change.key] = Step(change.key, change, wanted, create_only)
            continue
        if wanted is not None and (wanted or isinstance(step.change, Put)):
            raise moved(change.key)
        step.change = change
    return list(steps.values())


def moved(key: str) -> Conflict:
    """Return the failure of a change whose condition does not hold."""
    return Conflict(
        f"the key {key} was changed, or is there or missing, against what the request expects; "
        "read it again",
        reason="etag-mismatch",
    )


__all__ = ["Step", "fold", "moved", "revision_of", "tag_of"]
