"""From gRPC's status to our failures. Pure: told the status by name, and the server's words.

The words are those of etcd 3.4 and 3.5 (``api/v3rpc/rpctypes``). Where they decide, not knowing
them is safe: a call then counts as one that may have been carried out.
"""

from __future__ import annotations

from typing import NamedTuple

from pillion.errors import (
    Conflict,
    Failure,
    Invalid,
    NotAllowed,
    NotFound,
    TooLarge,
    Unavailable,
)

_TOKEN_WORDS = ("invalid auth token", "revision of auth store is old", "user name is empty")
_LOGIN_WORDS = ("authentication failed", "permission denied", "permission is not granted")
_SIZE_WORDS = ("request is too large", "larger than max")
_UNSENT_WORDS = ("failed to connect to all addresses", "DNS resolution failed")
_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED")


class Trouble(NamedTuple):
    """What went wrong with a call.

    Attributes:
        kind, message, reason: of the failure.
        unsent: True when the request has certainly not left this process.
        token: True when a new authentication token may help; the request was not carried out.
        endpoint: True when another endpoint may do better.
    """

    kind: type[Failure]
    message: str
    reason: str | None = None
    unsent: bool = False
    token: bool = False
    endpoint: bool = False

    def failure(self) -> Failure:
        """Return a new failure, for whoever asked.

        It is made where it is raised: one that a frame of its own traceback refers to would keep
        the call and its connection until the next garbage collection.
        """
        return self.kind(self.message, reason=self.reason, reached=not self.unsent)


def trouble(place: str, status: str, words: str) -> Trouble:
    """Say what ``status``, such as ``UNAVAILABLE``, means for a call to ``place``."""
    if any(known in words for known in _TOKEN_WORDS):
        return Trouble(NotAllowed, f"{place} asks for authentication: {words}", token=True)
    if status in _DENIED or any(known in words for known in _LOGIN_WORDS):
        return Trouble(NotAllowed, f"{place} refuses: {words}; check user, password and roles")
    if any(known in words for known in _SIZE_WORDS):
        return Trouble(TooLarge, f"{place} takes no message of this size: {words}")
    match status:
        case "DEADLINE_EXCEEDED":
            return Trouble(Unavailable, _late(place), "deadline", endpoint=True)
        case "NOT_FOUND":
            return Trouble(NotFound, f"{place}: {words}")
        case "FAILED_PRECONDITION" | "ALREADY_EXISTS":
            return Trouble(Conflict, f"{place}: {words}")
        case "OUT_OF_RANGE":
            return Trouble(Conflict, f"{place}: {words}", "compacted")
        case "INVALID_ARGUMENT":
            return Trouble(Invalid, f"{place}: {words}")
        case "RESOURCE_EXHAUSTED":
            reason = "no-space" if "space" in words else "overloaded"
            return Trouble(Unavailable, f"{place}: {words}", reason, endpoint=True)
    unsent = any(known in words for known in _UNSENT_WORDS)
    return Trouble(Unavailable, f"{place} cannot be reached: {words}", unsent=unsent, endpoint=True)


def too_late(place: str) -> Unavailable:
    """Return the failure of an operation whose time is over."""
    return Unavailable(_late(place), reason="deadline")


def _late(place: str) -> str:
    return f"{place} did not answer in time"


__all__ = ["Trouble", "too_late", "trouble"]
