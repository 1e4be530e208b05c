"""One timer fails all futures that are late, and no others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.conditions import eventually

from pillion.errors import Unavailable
from pillion_components._sqlite_deadlines import Deadlines

pytestmark = pytest.mark.anyio


def late() -> Unavailable:
    return Unavailable("too late", reason="timeout")


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def test_late_futures_fail_in_their_order() -> None:
    """Each fails after its own time; one that is done or cancelled is left alone."""
    deadlines = Deadlines(0.1, late)
    first, done, cancelled, second = (future() for _ in range(4))
    for one in (first, done, cancelled):
        deadlines.add(one)
    done.set_result(1)
    cancelled.cancel()
    await asyncio.sleep(0.06)
    deadlines.add(second)
    await eventually(first.done)
    assert not second.done()
    await eventually(second.done)
    for one in (first, second):
        with pytest.raises(Unavailable):
            one.result()
    assert done.result() == 1
    assert cancelled.cancelled()


async def test_done_futures_are_forgotten() -> None:
    """What is done costs no memory, and a timer that finds nothing goes to sleep."""
    deadlines = Deadlines(0.02, late)
    waiting = [future() for _ in range(100)]
    for one in waiting:
        deadlines.add(one)
        one.set_result(None)
    deadlines.tidy()
    assert not deadlines._waiting
    await eventually(lambda: deadlines._timer is None)
    again = future()
    deadlines.add(again)
    await eventually(again.done)
    with pytest.raises(Unavailable):
        again.result()


@pytest.mark.parametrize("timeout", [None, 0.0])
async def test_without_a_timeout_nothing_is_watched(timeout: float | None) -> None:
    """No limit costs no timer."""
    deadlines = Deadlines(timeout, late)
    deadlines.add(future())
    assert deadlines._timer is None


async def test_closed_deadlines_fail_nothing() -> None:
    """After closing nobody is told to be late."""
    deadlines = Deadlines(0.01, late)
    one = future()
    deadlines.add(one)
    deadlines.close()
    await asyncio.sleep(0.03)
    assert not one.done()
