"""From what Redis and its client library say to our failures."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, RedisError

from pillion.errors import Failure, Invalid, NotAllowed, Unavailable

BROKEN = "connection-lost"
"""The reason of an Unavailable that another connection may cure."""

_DENIED = ("NOAUTH", "WRONGPASS", "NOPERM", "invalid password", "invalid username-password")
_FULL = ("OOM ", "MISCONF")
_CLUSTER = ("MOVED ", "ASK ", "CROSSSLOT")


def refused(place: str, error: BaseException) -> Failure:
    """Return what an error reply, or a failure to connect, means."""
    words = str(error)[:300] or type(error).__name__
    if isinstance(error, AuthenticationError) or any(one in words for one in _DENIED):
        return NotAllowed(
            f"{place} refuses: {words}; check redisUsername, redisPassword and the user's rights"
        )
    if any(one in words for one in _FULL):
        return Unavailable(f"{place} takes no writes: {words}", reason="no-space")
    if words.startswith(_CLUSTER):
        return Invalid(f"{place} is a cluster, which is not supported: {words}")
    if isinstance(error, TimeoutError):
        words = "it did not answer while connecting"
    told = isinstance(error, RedisError)
    return Unavailable(f"{place}: {words}" if told else f"{place} cannot be reached: {words}")


def broken(place: str, *, sent: bool) -> Unavailable:
    """Return the failure of an operation whose connection broke off."""
    return Unavailable(f"{place} closed the connection", reason=BROKEN, reached=sent)


def too_late(place: str, *, sent: bool) -> Unavailable:
    """Return the failure of an operation whose time is over."""
    return Unavailable(f"{place} did not answer in time", reason="deadline", reached=sent)


__all__ = ["BROKEN", "broken", "refused", "too_late"]
