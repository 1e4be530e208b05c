"""Locks: one holder for a resource, among all apps that ask for it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import msgspec

from pillion_sdk.backoff import jittered
from pillion_sdk.invocation import InvokeError
from pillion_sdk.runtime_api import ApiError, RuntimeApi, segment, whole_seconds

RELEASE_LIMIT = 5.0
"""Seconds that giving a lock up may take; it ends by itself if it is not given up."""

_log = logging.getLogger("pillion_sdk")


class LockError(ApiError):
    """A lock store did not do what it was asked for; see :class:`ApiError`.

    Attributes:
        store: its name.
        resource: what was to be locked.
    """

    def __init__(
        self, store: str, resource: str, status: int, error_code: str, message: str
    ) -> None:
        self.store = store
        self.resource = resource
        super().__init__(f"lock {resource!r} of {store}", status, error_code, message)


class LockHeld(LockError):
    """Somebody else holds the lock, and went on to for all of ``wait``."""


class LockLost(LockError):
    """The lock ended while the body of the ``async with`` ran, which was cancelled."""


class HeldLock:
    """A lock that is held inside its ``async with``.

    Attributes:
        store: the lock store.
        resource: what is locked.
        owner: who holds it: an id of this one holding.
        lost: True once the lock is somebody else's, or may be.
    """

    __slots__ = ("_fencing_token", "lost", "owner", "resource", "store")

    def __init__(self, store: str, resource: str, owner: str, fencing_token: int | None) -> None:
        self.store = store
        self.resource = resource
        self.owner = owner
        self.lost = False
        self._fencing_token = fencing_token

    @property
    def fencing_token(self) -> int:
        """A number that is greater than that of every earlier holder.

        Send it along to what the lock protects, which refuses a number below the greatest it has
        seen: so a holder that slept past the end of its lock can do no harm.

        Raises:
            LockError: the runtime gives none, as Dapr's does not.
        """
        if self._fencing_token is None:
            text = "the runtime gives no fencing tokens"
            raise LockError(self.store, self.resource, 501, "ERR_API_UNIMPLEMENTED", text)
        return self._fencing_token

    def __repr__(self) -> str:
        return f"<HeldLock {self.resource} of {self.store}{', lost' if self.lost else ''}>"


class _Answer(msgspec.Struct):
    success: bool = False
    fencing_token: int | None = msgspec.field(default=None, name="fencingToken")


class _Unlocked(msgspec.Struct):
    status: int = 0


class _Client:
    """One owner's requests about one resource."""

    def __init__(self, api: RuntimeApi, store: str, resource: str, ttl: int) -> None:
        self.store = store
        self.resource = resource
        self.owner = os.urandom(16).hex()
        self.ttl = ttl
        self.good_until = 0.0
        """On ``time.monotonic()``: until then the lock cannot have ended."""
        self._api = api
        path = segment(store)
        self._lock, self._unlock = f"/v1.0-alpha1/lock/{path}", f"/v1.0-alpha1/unlock/{path}"

    async def take(self) -> HeldLock | None:
        """Try once; None when it is held."""
        start = time.monotonic()
        answer = msgspec.json.decode(await self._ask(self._lock), type=_Answer)
        if not answer.success:
            return None
        self.good_until = start + self.ttl
        return HeldLock(self.store, self.resource, self.owner, answer.fencing_token)

    async def renew(self) -> bool:
        """Hold on to it; False when it is not ours."""
        start = time.monotonic()
        left = self.good_until - start
        body = await self._ask(f"{self._lock}/renew", timeout=left, detached=True)
        held = msgspec.json.decode(body, type=_Answer).success
        if held:
            self.good_until = start + self.ttl
        return held

    async def release(self) -> bool:
        """Give it up, whatever happens around; False when it was not ours any more."""
        ours = True
        with anyio.CancelScope(shield=True):
            try:
                body = await self._ask(self._unlock, timeout=RELEASE_LIMIT, detached=True)
                ours = msgspec.json.decode(body, type=_Unlocked).status == 0
            except (InvokeError, msgspec.DecodeError) as error:
                _log.warning("%s; it ends by itself within %d s", self.failed(error), self.ttl)
        return ours

    async def _ask(
        self,
        target: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - passed on to the request
        detached: bool = False,
    ) -> bytes:
        request = {
            "resourceId": self.resource,
            "lockOwner": self.owner,
            "expiryInSeconds": self.ttl,
        }
        body = msgspec.json.encode(request)
        response = await self._api.ask(
            "POST", target, body=body, timeout=timeout, detached=detached
        )
        return response.body

    def may_have_taken(self, error: InvokeError | msgspec.DecodeError) -> bool:
        """Tell whether the lock may be ours after an attempt that failed."""
        if not isinstance(error, InvokeError):
            return True
        return error.status >= 500 and error.error_code != "ERR_RUNTIME_UNREACHABLE"

    def failed(self, error: InvokeError | msgspec.DecodeError) -> LockError:
        """Return what a request's failure means."""
        if isinstance(error, InvokeError):
            status, code, text = error.status, error.error_code, error.message
        else:
            status, code, text = 502, "ERR_MALFORMED_RESPONSE", f"the answer is no JSON: {error}"
        return LockError(self.store, self.resource, status, code, text)


def holding(
    api: RuntimeApi, store: str, resource: str, ttl: float, wait: float
) -> AbstractAsyncContextManager[HeldLock]:
    """Hold a lock for the time of an ``async with``.

    A task of its own renews the lock after each third of ``ttl``. When the lock is lost all the
    same (the runtime could not be reached for too long, or this process stood still), the body is
    cancelled and LockLost is raised in its place. A function that the body runs in a thread
    cannot be cancelled: give it the fencing token.

    Args:
        api: asks the runtime.
        store: the lock store.
        resource: what is locked.
        ttl: seconds after which the lock ends unless it is renewed; rounded up to whole ones.
        wait: seconds to wait for another holder; ``math.inf`` for no limit.

    Raises:
        ValueError: the resource is empty, or a number is no good.
        LockHeld: when entered: somebody else has it.
        LockLost: when left: it had ended before the body did.
        LockError: when entered: the store is unknown or cannot be reached.
    """
    if not resource:
        raise ValueError("the resource to lock must not be empty")
    seconds = whole_seconds(ttl)
    if seconds < 1:
        raise ValueError("ttl is 0: a lock lasts at least a second")
    if not wait >= 0:
        raise ValueError(f"wait is {wait}: give seconds, 0 for none, math.inf for no limit")
    return _holding(_Client(api, store, resource, seconds), wait)


@asynccontextmanager
async def _holding(client: _Client, wait: float) -> AsyncIterator[HeldLock]:
    lock = await _take(client, wait)
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep, client, lock, tasks.cancel_scope)
            try:
                yield lock
            except Exception as error:  # noqa: BLE001 - raised below, without a group around it
                failure = error
            tasks.cancel_scope.cancel()
    finally:
        # Somebody else's by now: what the body did at the end was not protected.
        ended_early = not await client.release()
    if lock.lost or (failure is None and ended_early):
        lock.lost = True
        text = "it ended before the body did, and may be somebody else's"
        raise LockLost(client.store, client.resource, 409, "ERR_LOCK_LOST", text) from failure
    if failure is not None:
        raise failure


async def _take(client: _Client, wait: float) -> HeldLock:
    give_up = time.monotonic() + wait
    attempt = 0
    while True:
        lock = await _try(client)
        if lock is not None:
            return lock
        left = give_up - time.monotonic()
        if left <= 0:
            waited = "" if not wait else f" and was not given up within {wait:g} s"
            text = f"somebody else holds it{waited}"
            raise LockHeld(client.store, client.resource, 409, "ERR_LOCK_HELD", text)
        await anyio.sleep(min(left, jittered(attempt, first=0.05, most=0.5)))
        attempt += 1


async def _try(client: _Client) -> HeldLock | None:
    try:
        return await client.take()
    except (InvokeError, msgspec.DecodeError) as error:
        if client.may_have_taken(error):
            await client.release()
        raise client.failed(error) from None
    except BaseException:
        await client.release()
        raise


async def _keep(client: _Client, lock: HeldLock, body: anyio.CancelScope) -> None:
    """Renew until cancelled; when the lock is lost, say so and cancel the body."""
    pause = client.ttl / 3
    while True:
        left = client.good_until - time.monotonic()
        await anyio.sleep(max(0.0, min(pause, left)))
        if time.monotonic() >= client.good_until:
            break
        try:
            if not await client.renew():
                break
        except (InvokeError, msgspec.DecodeError):
            pause = min(client.ttl / 10, 1.0)
        else:
            pause = client.ttl / 3
    lock.lost = True
    body.cancel()


__all__ = ["HeldLock", "LockError", "LockHeld", "LockLost", "holding"]
