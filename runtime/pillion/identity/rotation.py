"""Renews a runtime's certificate while it runs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pillion.identity.authority import LEAF_LIFETIME, Authority
from pillion.identity.tls import MeshTls

log = logging.getLogger("pillion.identity")

LOOK = 15.0
"""Seconds between two looks at the clock: a machine that slept finds its certificate old."""

FIRST_RETRY = 1.0
"""Seconds to the first try after a failed renewal; the next ones wait twice as long each."""

LAST_RETRY = 60.0
"""Seconds; the longest wait between two tries."""


class Renewal:
    """Keeps the certificate of ``tls`` fresh.

    Attributes:
        rotated: renewals that succeeded.
        failed: renewals that did not.
    """

    __slots__ = (
        "_authority",
        "_clock",
        "_lifetime",
        "_random",
        "_sleep",
        "_tls",
        "failed",
        "rotated",
    )

    def __init__(
        self,
        authority: Authority,
        tls: MeshTls,
        lifetime: float,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        chance: random.Random,
    ) -> None:
        self._authority = authority
        self._tls = tls
        self._lifetime = lifetime
        self._clock = clock
        self._sleep = sleep
        self._random = chance
        self.rotated = 0
        self.failed = 0

    async def run(self) -> None:
        """Renew for ever."""
        failures = 0
        while True:
            if failures:
                await self._until_retry(failures)
            else:
                await self._until_due()
            failures = 0 if await self._renew(first=not failures) else failures + 1

    async def _until_due(self) -> None:
        """Wait for half of the certificate's life, more or less, so that runtimes spread out."""
        issued, expires = self._tls.issued, self._tls.expires
        due = issued + (expires - issued) * self._random.uniform(0.4, 0.6)
        # The pause comes first: certificates cut short by their root's end never cause a spin.
        await self._sleep(min(FIRST_RETRY, self._lifetime / 10))
        # A clock set back far makes the certificate one of the future.
        while issued <= (now := self._clock()) < due:
            await self._sleep(min(LOOK, due - now))

    async def _until_retry(self, failures: int) -> None:
        wait = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 10), self._lifetime / 10)
        await self._sleep(wait * self._random.uniform(0.5, 1.0))

    async def _renew(self, *, first: bool) -> bool:
        """Renew once; a failure leaves the old certificate in use and is logged the first time."""
        try:
            await asyncio.to_thread(self._renew_now)
        except Exception as error:  # noqa: BLE001 - nothing but the end may end the renewals
            self.failed += 1
            if first:
                log.warning(
                    "the certificate of %s was not renewed and is tried again until it ends in "
                    "%.0f seconds: %s",
                    self._tls.identity.uri,
                    self._tls.expires - self._clock(),
                    error,
                )
            return False
        self.rotated += 1
        if not first:
            log.info("the certificate of %s is renewed again", self._tls.identity.uri)
        return True

    def _renew_now(self) -> None:
        credentials = self._authority.issue(
            self._tls.identity, lifetime=self._lifetime, now=self._clock()
        )
        self._tls.renew(credentials, self._authority.roots)


@asynccontextmanager
async def renewing(
    authority: Authority,
    tls: MeshTls,
    lifetime: float = LEAF_LIFETIME,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    chance: random.Random | None = None,
) -> AsyncIterator[Renewal]:
    """Renew the certificate of ``tls`` at about half of its life while the context is open.

    Args:
        authority: issues; used by this context alone.
        tls: what is renewed.
        lifetime: of each certificate, in seconds.
        clock: seconds since the epoch.
        sleep: waits for so many seconds.
        chance: spreads the renewals of many runtimes.
    """
    renewal = Renewal(
        authority,
        tls,
        lifetime,
        clock=clock,
        sleep=sleep,
        chance=chance or random.Random(),  # noqa: S311 - spreads load, keeps no secret
    )
    # Not a TaskGroup: it would wrap what the body of the context raises.
    task = asyncio.get_running_loop().create_task(renewal.run(), name="certificate renewal")
    try:
        yield renewal
    finally:
        task.cancel()
        await asyncio.wait([task])
