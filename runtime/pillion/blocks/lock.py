"""Locks: one holder for a resource, under ``/v1.0-alpha1/lock`` and ``/v1.0-alpha1/unlock``.

Beyond Dapr, an acquired lock answers with its fencing token, and ``lock/{store}/renew`` holds on
to it.
"""

from __future__ import annotations

import sys

from pillion.blocks.retelling import retold
from pillion.body import read_all
from pillion.call import Reply
from pillion.errors import Failure, Invalid
from pillion.kinds.lock import LockStore
from pillion.kinds.opened import Components, Opened
from pillion.operation import Operation, Request
from pillion.policy.state_keys import KeyPrefix, is_legal, why_illegal
from pillion.wire.errors_json import json_reply
from pillion.wire.lock_json import LockRequest, read_lock

_VERSIONS = ("v1.0-alpha1",)
_MALFORMED = "ERR_MALFORMED_REQUEST"


class Lock:
    """The block.

    Args:
        components: what is open.
        app_id, namespace: the runtime's app, which key prefixes are made of.
        max_body: bytes of a request's body; -1 for no limit.
    """

    __slots__ = ("_app_id", "_components", "_max_body", "_namespace")

    def __init__(
        self, components: Components, *, app_id: str, namespace: str, max_body: int
    ) -> None:
        self._components = components
        self._app_id = app_id
        self._namespace = namespace
        self._max_body = max_body if max_body >= 0 else sys.maxsize

    def operations(self) -> list[Operation]:
        """Return the block's rows."""
        rows = (
            ("lock", "lock/{store}", self.lock, "lock", "take a lock"),
            ("lock.renew", "lock/{store}/renew", self.renew, "lock", "hold on to a lock"),
            ("unlock", "unlock/{store}", self.unlock, "unlock", "give a lock up"),
        )
        return [
            Operation(name, ("POST",), path, endpoint, group, _VERSIONS, summary=summary)
            for name, path, endpoint, group, summary in rows
        ]

    async def lock(self, request: Request) -> Reply:
        """Answer whether the lock is the owner's now, and with its fencing token if it is."""
        asked = await self._asked(request)
        _check_expiry(asked, request)
        opened, resource = self._find(request, asked)
        try:
            token = await opened.component.lock(resource, asked.owner, asked.expiry)
        except Failure as failure:
            raise _failed(failure, "ERR_TRY_LOCK", "failed to try acquiring lock") from None
        if token is None:
            return json_reply({"success": False})
        return json_reply({"success": True, "fencingToken": token})

    async def renew(self, request: Request) -> Reply:
        """Answer whether the owner holds the lock for another ``expiryInSeconds``."""
        asked = await self._asked(request)
        _check_expiry(asked, request)
        opened, resource = self._find(request, asked)
        try:
            held = await opened.component.renew(resource, asked.owner, asked.expiry)
        except Failure as failure:
            raise _failed(failure, "ERR_TRY_LOCK", "failed to renew lock") from None
        return json_reply({"success": held})

    async def unlock(self, request: Request) -> Reply:
        """Answer what became of it, by Dapr's numbers."""
        asked = await self._asked(request)
        opened, resource = self._find(request, asked)
        try:
            outcome = await opened.component.unlock(resource, asked.owner)
        except Failure as failure:
            raise _failed(failure, "ERR_UNLOCK", "failed to release lock") from None
        return json_reply({"status": outcome.value})

    async def _asked(self, request: Request) -> LockRequest:
        return read_lock(await read_all(request.body, self._max_body))

    def _find(self, request: Request, asked: LockRequest) -> tuple[Opened[LockStore], str]:
        """Return the store and what it knows the resource as; checks go in Dapr's order."""
        name = request.params["store"]
        if not self._components.names(LockStore):
            raise Failure(
                "lock store is not configured",
                code="ERR_LOCK_STORE_NOT_CONFIGURED",
                reason="no-component",
            )
        if not asked.resource:
            raise _malformed(f"ResourceId is empty in lock store {name}")
        if not asked.owner:
            raise _malformed(f"LockOwner is empty in lock store {name}")
        if not is_legal(asked.resource):
            raise _malformed(why_illegal(asked.resource))
        opened = self._components.find(LockStore, name)
        if opened is None:
            raise Invalid(
                f"lock store {name} not found",
                code="ERR_LOCK_STORE_NOT_FOUND",
                reason="no-component",
            )
        prefix = KeyPrefix.of(
            opened.runtime_metadata.get("keyPrefix", ""),
            app_id=self._app_id,
            namespace=self._namespace,
            component=name,
        )
        return opened, prefix.lock(asked.resource)


def _check_expiry(asked: LockRequest, request: Request) -> None:
    if asked.expiry <= 0:
        raise _malformed(f"ExpiryInSeconds is not positive in lock store {request.params['store']}")


def _malformed(message: str) -> Invalid:
    return Invalid(message, code=_MALFORMED)


def _failed(failure: Failure, code: str, what: str) -> Failure:
    return retold(failure, code, f"{what}: {failure.message}")


__all__ = ["Lock"]
