"""Certificates renew themselves in time, through failures, root rotations and odd clocks."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from contextlib import AsyncExitStack

import pytest
from tests.unit.identity.handshakes import meet, shake_hands

from pillion.call import Identity
from pillion.home import Home
from pillion.identity.authority import Authority
from pillion.identity.rotation import LOOK, Renewal, renewing
from pillion.identity.tls import MeshTls

pytestmark = pytest.mark.anyio

SPAN = 250.0
"""Virtual seconds a test may use: certificates are back-dated by 300 real ones."""


class Clock:
    """Virtual time for any number of renewals; it stands still until :meth:`advance`."""

    def __init__(self) -> None:
        self.wall = self._start = time.time()
        self._timers = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._timers + seconds, future))
        await future

    async def advance(self, seconds: float, *, sleepers: int = 1) -> None:
        """Let time pass, and wait until every one of ``sleepers`` renewals sleeps again."""
        end = self._timers + seconds
        await self.quiet(sleepers)
        while True:
            when = min(due for due, _ in self._sleepers)
            passed = min(when, end) - self._timers
            self._timers += passed
            self.wall += passed
            assert self.wall - self._start < SPAN
            if when > end:
                return
            awake = [future for due, future in self._sleepers if due <= when]
            self._sleepers = [each for each in self._sleepers if each[0] > when]
            for future in awake:
                if not future.done():
                    future.set_result(None)
            await self.quiet(sleepers)

    async def quiet(self, sleepers: int) -> None:
        async with asyncio.timeout(10):
            while sum(not future.done() for _, future in self._sleepers) < sleepers:
                await asyncio.sleep(0)


class Runtime:
    """One runtime: its own view of the shared authority, its TLS, its renewal."""

    def __init__(self, home: Home, app_id: str, lifetime: float, clock: Clock) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.authority = Authority.open(home, "public", now=clock())
        identity = Identity("public", "default", app_id)
        credentials = self.authority.issue(identity, lifetime=lifetime, now=clock())
        self.tls = MeshTls(identity, credentials, self.authority.roots)
        self.renewal: Renewal

    async def start(self, stack: AsyncExitStack, seed: int = 0) -> None:
        self.renewal = await stack.enter_async_context(
            renewing(
                self.authority,
                self.tls,
                self.lifetime,
                clock=self.clock,
                sleep=self.clock.sleep,
                chance=random.Random(seed),
            )
        )


async def ride(home: Home, app_id: str, lifetime: float, clock: Clock) -> Runtime:
    return await asyncio.to_thread(Runtime, home, app_id, lifetime, clock)


async def test_renews_at_about_half_of_its_life(home: Home) -> None:
    """Renewals come at 40 to 60 % of the lifetime, again and again, and not all at once."""
    clock = Clock()
    runtimes = [await ride(home, f"app-{number}", 60.0, clock) for number in range(5)]
    first: dict[int, float] = {}
    started = clock()
    async with AsyncExitStack() as stack:
        for seed, runtime in enumerate(runtimes):
            await runtime.start(stack, seed)
        for _ in range(200):
            await clock.advance(1.0, sleepers=5)
            for seed, runtime in enumerate(runtimes):
                assert runtime.tls.expires > clock() + 20
                if runtime.renewal.rotated:
                    first.setdefault(seed, clock() - started)
    assert all(24 <= when <= 37 for when in first.values())
    assert len(first) == 5
    assert len(set(first.values())) > 1
    assert all(5 <= runtime.renewal.rotated <= 8 for runtime in runtimes)
    assert all(runtime.renewal.failed == 0 for runtime in runtimes)


async def test_three_root_rotations_without_a_failed_handshake(home: Home) -> None:
    """Through three rotations of the root, every runtime reaches every other at every moment."""
    clock = Clock()
    lifetime = 20.0
    runtimes = [await ride(home, f"app-{number}", lifetime, clock) for number in range(3)]
    outsider = await ride(home, "outsider", lifetime, clock)  # never renews
    first_root = runtimes[0].authority.roots
    operator = await asyncio.to_thread(Authority.open, home, "public")
    async with AsyncExitStack() as stack:
        for seed, runtime in enumerate(runtimes):
            await runtime.start(stack, seed)
        for _ in range(3):
            _, over = await asyncio.to_thread(operator.rotate_root, now=clock())
            while clock() <= over:
                await clock.advance(1.0, sleepers=3)
                for one, other in ((0, 1), (1, 2), (2, 0)):
                    meet(runtimes[one].tls, runtimes[other].tls)
        await clock.advance(lifetime, sleepers=3)
    assert all(first_root not in runtime.authority.roots for runtime in runtimes)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(runtimes[0].tls.server, outsider.tls.client)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(outsider.tls.server, runtimes[0].tls.client)


async def test_a_failure_keeps_the_old_certificate(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """While the authority is damaged the old certificate works; one line says so, one the end."""
    clock = Clock()
    runtime = await ride(home, "orders", 60.0, clock)
    other = await ride(home, "checkout", 60.0, clock)
    path = home.path / "authority" / "public" / "authority.json"
    good = path.read_bytes()
    async with AsyncExitStack() as stack:
        await runtime.start(stack)
        path.write_bytes(good[:100])
        with caplog.at_level(logging.INFO, "pillion.identity"):
            await clock.advance(50.0)
            assert runtime.renewal.rotated == 0
            assert 3 <= runtime.renewal.failed <= 12
            assert len(caplog.records) == 1
            assert str(path) in caplog.text
            assert "PRIVATE" not in caplog.text
            meet(runtime.tls, other.tls)
            path.write_bytes(good)
            await clock.advance(6.0)
        assert runtime.renewal.rotated == 1
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        failed = runtime.renewal.failed
        await clock.advance(60.0)
        assert runtime.renewal.failed == failed
        meet(runtime.tls, other.tls)


@pytest.mark.parametrize("jump", [-3000.0, 200.0], ids=["back", "ahead"])
async def test_a_clock_that_jumps_is_noticed(home: Home, jump: float) -> None:
    """After sleep of the machine, or a clock set back, the certificate is renewed at the next look.

    A clock set back is only followed to the issuing: its certificate is not valid by real time.
    """
    clock = Clock()
    runtime = await ride(home, "orders", 120.0, clock)
    async with AsyncExitStack() as stack:
        await runtime.start(stack)
        await clock.advance(5.0)
        clock.wall += jump
        await clock.advance(LOOK)
        assert runtime.renewal.rotated + runtime.renewal.failed >= 1


async def test_what_the_body_raises_comes_out_bare(home: Home) -> None:
    """The context adds nothing to a failure inside it, and leaves no task behind."""
    clock = Clock()
    runtime = await ride(home, "orders", 60.0, clock)
    before = asyncio.all_tasks()

    async def body() -> None:
        async with AsyncExitStack() as stack:
            await runtime.start(stack)
            await clock.quiet(1)
            raise KeyError

    with pytest.raises(KeyError):
        await body()
    assert asyncio.all_tasks() == before


async def test_on_the_real_clock(home: Home) -> None:
    """A runtime goes on meeting others after its first certificate has really ended."""
    authority = await asyncio.to_thread(Authority.open, home, "public")
    orders, checkout = (Identity("public", "default", name) for name in ("orders", "checkout"))
    theirs = await asyncio.to_thread(authority.issue, checkout)
    first = await asyncio.to_thread(authority.issue, orders, lifetime=4)
    other = await asyncio.to_thread(MeshTls, checkout, theirs, authority.roots)
    tls = await asyncio.to_thread(MeshTls, orders, first, authority.roots)
    left = await asyncio.to_thread(MeshTls, orders, first, authority.roots)
    async with renewing(authority, tls, 4) as renewal, asyncio.timeout(20):
        while time.time() < first.expires + 1 or renewal.rotated < 2:
            meet(tls, other)
            await asyncio.sleep(0.05)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(other.server, left.client)
    assert renewal.failed == 0
