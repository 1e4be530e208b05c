"""What the status of a call means."""

from __future__ import annotations

import pytest

from pillion.errors import (
    Conflict,
    Failure,
    Invalid,
    NotAllowed,
    NotFound,
    TooLarge,
    Unavailable,
)
from pillion_components._etcd.failures import trouble

REFUSED = "failed to connect to all addresses; last error: Connection refused"


@pytest.mark.parametrize(
    ("status", "words", "kind", "reason"),
    [
        ("UNAVAILABLE", REFUSED, Unavailable, "unavailable"),
        ("UNAVAILABLE", "etcdserver: no leader", Unavailable, "unavailable"),
        ("UNKNOWN", "anything", Unavailable, "unavailable"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Unavailable, "deadline"),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", Unavailable, "overloaded"),
        ("RESOURCE_EXHAUSTED", "mvcc: database space exceeded", Unavailable, "no-space"),
        ("RESOURCE_EXHAUSTED", "message larger than max (3 vs. 2)", TooLarge, "too-large"),
        ("INVALID_ARGUMENT", "etcdserver: request is too large", TooLarge, "too-large"),
        ("INVALID_ARGUMENT", "duplicate key given", Invalid, "invalid"),
        ("INVALID_ARGUMENT", "authentication failed, invalid user", NotAllowed, "denied"),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", NotAllowed, "denied"),
        ("PERMISSION_DENIED", "etcdserver: permission denied", NotAllowed, "denied"),
        ("NOT_FOUND", "requested lease not found", NotFound, "not-found"),
        ("FAILED_PRECONDITION", "lease already exists", Conflict, "conflict"),
        ("OUT_OF_RANGE", "required revision has been compacted", Conflict, "compacted"),
    ],
)
def test_status_becomes_a_failure(
    status: str, words: str, kind: type[Failure], reason: str
) -> None:
    """Each status and wording has one class and one reason, and the message names the place."""
    failure = trouble("the place", status, words).failure()
    assert type(failure) is kind
    assert failure.reason == reason
    assert "the place" in failure.message


def test_only_a_refused_connection_is_certainly_unsent() -> None:
    """A write is repeated elsewhere only when nothing can have received it."""
    assert trouble("p", "UNAVAILABLE", REFUSED).unsent
    assert not trouble("p", "UNAVAILABLE", REFUSED).failure().reached
    for words in ("Socket closed", "etcdserver: leader changed", "GOAWAY received"):
        assert not trouble("p", "UNAVAILABLE", words).unsent
        assert trouble("p", "UNAVAILABLE", words).failure().reached


@pytest.mark.parametrize(
    "words",
    [
        "etcdserver: invalid auth token",
        "etcdserver: user name is empty",
        "etcdserver: revision of auth store is old",
    ],
)
def test_void_token_is_told_from_a_refusal(words: str) -> None:
    """A new token is worth a try for these, and for nothing else."""
    assert trouble("p", "INVALID_ARGUMENT", words).token
    assert not trouble("p", "PERMISSION_DENIED", "etcdserver: permission denied").token
