"""Waiting for changes, and the wish to stop."""

import asyncio
import signal

import pytest

from pillion_cli.supervise import stop as stop_module
from pillion_cli.supervise.changes import Changes
from pillion_cli.supervise.stop import Stop

pytestmark = pytest.mark.anyio


async def test_until_returns_at_once_when_it_holds():
    """No change is needed."""
    assert await Changes().until(lambda: True, within=0)


async def test_until_wakes_at_a_change():
    """The condition is asked again when something changed."""
    changes, seen = Changes(), []

    def happen():
        seen.append(1)
        changes.notify()

    loop = asyncio.get_running_loop()
    loop.call_later(0.01, changes.notify)
    loop.call_later(0.02, happen)
    async with asyncio.timeout(5):
        assert await changes.until(lambda: bool(seen))


async def test_until_gives_up_in_time():
    """False says that it did not happen."""
    assert not await Changes().until(lambda: False, within=0.01)
    assert not await Changes().until(lambda: False, within=0.03, poll=0.01)


async def test_until_polls_for_what_nobody_tells():
    """A condition may come true without a notice."""
    loop = asyncio.get_running_loop()
    due = loop.time() + 0.03
    async with asyncio.timeout(5):
        assert await Changes().until(lambda: loop.time() > due, poll=0.005)


def test_the_first_signal_asks_and_a_second_interrupt_hurries(monkeypatch):
    """A second Ctrl-C is immediate; an echo of the first and a second SIGTERM are not."""
    now = [100.0]
    monkeypatch.setattr(stop_module.time, "monotonic", lambda: now[0])
    stop = Stop()
    assert stop.ask(signal.SIGINT)
    assert (stop.level, stop.signum) == (1, signal.SIGINT)
    now[0] += 0.1
    assert not stop.ask(signal.SIGINT)
    now[0] += 1
    assert not stop.ask(signal.SIGTERM)
    assert stop.level == 1
    assert stop.ask(signal.SIGINT)
    assert (stop.level, stop.signum) == (2, signal.SIGINT)
