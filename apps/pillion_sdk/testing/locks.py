"""A lock store for tests: the runtime's lock API, kept in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from pillion_sdk.problems import NotFound
from pillion_sdk.response import Response

SOMEBODY = "somebody else"
"""The owner of a lock that a test took."""


@dataclass(frozen=True, slots=True)
class _Holding:
    owner: str
    until: float


class _Request(msgspec.Struct, rename="camel"):
    resource_id: str
    lock_owner: str
    expiry_in_seconds: int = 0


class LockDouble:
    """A lock store that a test looks into and interferes with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holdings: dict[str, _Holding] = {}
        self._token = 0

    # What a test does.

    def holder(self, resource: str) -> str | None:
        """Return who holds a lock, None when nobody does."""
        holding = self._find(resource)
        return None if holding is None else holding.owner

    def take(self, resource: str) -> int:
        """Take a lock away from whoever holds it, for good; return the fencing token.

        The app notices when it renews the lock next, or gives it up.
        """
        return self._hold(resource, SOMEBODY, float("inf"))

    def release(self, resource: str) -> None:
        """Make a lock free, whoever holds it."""
        self._holdings.pop(resource, None)

    def __repr__(self) -> str:
        return f"<LockDouble {self.name}>"

    # What the runtime's API does.

    def answer(self, path: list[str], body: bytes) -> Response:
        """Answer one request.

        Args:
            path: ``lock``, the store, and perhaps ``renew``; or ``unlock`` and the store.
            body: the whole body.

        Raises:
            Problem: it is refused.
        """
        asked = msgspec.json.decode(body, type=_Request)
        match path:
            case ["lock", _]:
                return Response(200, self._lock(asked))
            case ["lock", _, "renew"]:
                return Response(200, {"success": self._renew(asked)})
            case ["unlock", _]:
                return Response(200, {"status": self._unlock(asked)})
        raise NotFound("the lock API has no such path")

    def _lock(self, asked: _Request) -> dict[str, object]:
        if self._find(asked.resource_id) is not None:
            return {"success": False}
        token = self._hold(asked.resource_id, asked.lock_owner, asked.expiry_in_seconds)
        return {"success": True, "fencingToken": token}

    def _renew(self, asked: _Request) -> bool:
        if self.holder(asked.resource_id) != asked.lock_owner:
            return False
        until = time.monotonic() + asked.expiry_in_seconds
        self._holdings[asked.resource_id] = _Holding(asked.lock_owner, until)
        return True

    def _unlock(self, asked: _Request) -> int:
        holder = self.holder(asked.resource_id)
        if holder is None:
            return 1
        if holder != asked.lock_owner:
            return 2
        self.release(asked.resource_id)
        return 0

    def _hold(self, resource: str, owner: str, seconds: float) -> int:
        self._token += 1
        self._holdings[resource] = _Holding(owner, time.monotonic() + seconds)
        return self._token

    def _find(self, resource: str) -> _Holding | None:
        holding = self._holdings.get(resource)
        return None if holding is None or holding.until <= time.monotonic() else holding
