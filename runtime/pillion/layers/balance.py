"""Picks the instance that answers a call, from a watch on the called app."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias

from pillion.body import BodyStream, discard
from pillion.call import Call, Handler, Reply, Target
from pillion.errors import Failure, NotFound, Overloaded, TimedOut, Unavailable
from pillion.inline import Waiter
from pillion.kinds.registry import Change, Instance, Registry
from pillion.policy.balance import Endpoint, EndpointSet
from pillion.wheel import Wheel

log = logging.getLogger("pillion.discovery")

RESOLVE = 0.5
"""Seconds that a first call waits for an app nobody has seen yet."""
MAX_WAITING = 1024
WATCH_RETRY = 1.0

Send: TypeAlias = Callable[[Instance, Call], Awaitable[Reply]]


class WatchedApp:
    """One called app: its endpoints, kept up to date by a watch.

    Attributes:
        endpoints: the instances, with what is known of each.
        last_used: ``time.monotonic()`` of the last call.
    """

    __slots__ = ("_known", "_waiting", "endpoints", "last_used", "target", "task")

    def __init__(self, target: Target, endpoints: EndpointSet) -> None:
        self.target = target
        self.endpoints = endpoints
        self.last_used = 0.0
        self.task: asyncio.Task[None] | None = None
        self._known = False
        self._waiting: set[Waiter[None]] = set()

    async def follow(self, registry: Registry) -> None:
        """Apply changes until cancelled."""
        while True:
            try:
                watch = registry.watch(self.target.namespace, self.target.name)
                async with aclosing(watch) as changes:
                    async for change in changes:
                        self._apply(change)
            except Failure as failure:
                log.warning("the watch on %s broke: %s", self.target.name, failure.message)
            await asyncio.sleep(WATCH_RETRY)

    def _apply(self, change: Change) -> None:
        self.endpoints.apply(change)
        self._known = True
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            waiter.set(None)

    async def wait(self, call: Call, wheel: Wheel) -> Endpoint:
        """Return an endpoint, waiting a little for the first one to appear.

        Raises:
            NotFound: no instance has appeared.
            Unavailable: there are instances and none is healthy.
        """
        expires = time.monotonic() + RESOLVE
        while True:
            endpoint = self.endpoints.pick((), time.monotonic())
            if endpoint is not None:
                return endpoint
            if self._known and len(self.endpoints):
                raise Unavailable(
                    f"no instance of {self.target.name} is healthy",
                    reason="no-healthy-instance",
                    reached=False,
                )
            await self._change(call, wheel, expires)

    async def _change(self, call: Call, wheel: Wheel, expires: float) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"too many calls wait for {self.target.name} to appear")
        late: Failure
        if call.deadline < expires:
            late = TimedOut("the deadline passed before an instance was found", reached=False)
        else:
            late = NotFound(
                f"couldn't find app id {self.target.name} in namespace {self.target.namespace}: "
                "no instance is registered",
                reason="no-instance",
                reached=False,
            )
        waiter: Waiter[None] = Waiter()
        timer = wheel.at(min(expires, call.deadline), lambda: waiter.fail(late))
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.discard(waiter)


def balance(
    app: WatchedApp,
    send: Send,
    wheel: Wheel,
    clock: Callable[[], float] = time.monotonic,
) -> Handler:
    """Return the innermost handler of an app's plan: pick, send, and learn from the answer."""
    endpoints = app.endpoints

    async def handler(call: Call) -> Reply:
        now = clock()
        app.last_used = now
        endpoint = endpoints.pick(call.tried, now)
        if endpoint is None and call.tried:
            # Every instance has failed this call once: any may be well again.
            call.tried = ()
            endpoint = endpoints.pick((), now)
        if endpoint is None:
            try:
                endpoint = await app.wait(call, wheel)
            except BaseException:
                discard(call.body)
                raise
            now = clock()
        endpoint.started(now)
        try:
            reply = await send(endpoint.instance, call)
        except Failure as failure:
            if failure.retryable or (failure.reached and isinstance(failure, TimedOut)):
                ended = clock()
                endpoint.finished(ended, ended - now, failed=True)
            else:
                # The call's own fault: it says nothing about the instance.
                endpoint.cancelled()
            call.tried += (endpoint.instance.id,)
            raise
        except BaseException:
            endpoint.cancelled()
            raise
        ended = clock()
        failed = reply.status >= 500 or reply.status == 429
        if isinstance(reply.body, BodyStream):
            elapsed = ended - now
            reply.body.when_done(lambda: endpoint.finished(clock(), elapsed, failed=failed))
        else:
            endpoint.finished(ended, ended - now, failed=failed)
        return reply

    return handler
