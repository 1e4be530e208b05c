"""The connections to the runtime, kept and given up."""

import time

import pytest
from tests.unit.sdk.servers import Wire, reply, scripted

from pillion_sdk import pool as pool_module
from pillion_sdk.connection import Connection
from pillion_sdk.environment import Endpoint
from pillion_sdk.pool import Pool

pytestmark = pytest.mark.anyio


async def answer(wire: Wire) -> None:
    while True:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(reply())


async def exchange(connection: Connection) -> None:
    await connection.send("GET", "/", [], b"")
    assert (await connection.read_head())[0] == 200
    while await connection.read():
        pass


async def test_the_last_one_back_is_the_first_one_out():
    """A finished connection is kept and used again; an unfinished one is closed."""
    async with scripted(answer) as port:
        pool = Pool(Endpoint("127.0.0.1", port), 3)
        first, second, third = await pool.take(), await pool.take(), await pool.take()
        assert repr(pool) == "<Pool 3 in use, 0 idle, 3 at most>"
        for connection in (first, second):
            await exchange(connection)
            await pool.give_back(connection)
        await pool.give_back(third)
        assert repr(pool) == "<Pool 0 in use, 2 idle, 3 at most>"
        assert await pool.take() is second
        await exchange(second)
        await pool.give_back(second)
        await pool.aclose()
        assert repr(pool) == "<Pool 0 in use, 0 idle, 3 at most>"


async def test_old_connections_are_closed():
    """What was idle for too long is not used, and does not stay when others come back."""
    async with scripted(answer) as port:
        pool = Pool(Endpoint("127.0.0.1", port), 3)
        used = [await pool.take(), await pool.take(), await pool.take()]
        for connection in used:
            await exchange(connection)
        for connection in used[:2]:
            await pool.give_back(connection)
            connection.idle_since = time.monotonic() - pool_module.IDLE_LIMIT - 1
        await pool.give_back(used[2])
        assert repr(pool) == "<Pool 0 in use, 1 idle, 3 at most>"

        used[2].idle_since = time.monotonic() - pool_module.IDLE_LIMIT - 1
        fresh = await pool.take()
        assert fresh not in used
        await pool.give_back(fresh)
        assert repr(pool) == "<Pool 0 in use, 0 idle, 3 at most>"


async def test_room_comes_back_when_connecting_fails():
    """Nobody listening costs no place in the pool."""
    async with scripted(answer) as port:
        pass
    pool = Pool(Endpoint("127.0.0.1", port), 1)
    for _ in range(3):
        with pytest.raises(OSError, match=r"."):
            await pool.take()
    assert repr(pool) == "<Pool 0 in use, 0 idle, 1 at most>"
