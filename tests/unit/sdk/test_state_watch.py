"""How long a watch holds out without its runtime."""

from contextlib import aclosing

import anyio
import pytest
from tests.unit.sdk.servers import Wire, scripted

from pillion_sdk import Client, StateError, state_watch
from pillion_sdk.runtime_api import RuntimeApi

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"key":"k","data":1,"etag":"1"}\n\n'
FIRST = HEAD + b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


async def test_patience_has_an_end():
    """A runtime that comes back in time costs nothing; one that stays away ends the watch."""
    connections = 0

    async def speaks_twice(wire: Wire) -> None:
        nonlocal connections
        connections += 1
        await wire.read_until(b"\r\n\r\n")
        if connections in (1, 3):
            await wire.send(FIRST.replace(b'"1"', b'"%d"' % connections))

    async with scripted(speaks_twice) as port, Client(f"http://127.0.0.1:{port}") as client:
        watch = state_watch.changes_of(RuntimeApi(client), "s", "k", "/x", patience=0.3)
        async with aclosing(watch):
            assert (await anext(watch)).etag == "1"
            assert (await anext(watch)).etag == "3"
            with anyio.fail_after(5), pytest.raises(StateError, match=r"key 'k': 502 ERR_RUNTIME"):
                await anext(watch)
    assert connections > 4


async def test_a_silent_connection_is_given_up(monkeypatch):
    """A connection without a sign of life is left for a new one."""
    monkeypatch.setattr(state_watch, "SILENCE", 0.05)
    tags = [b'"1"', b'"2"']

    async def falls_silent(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(FIRST.replace(b'"1"', tags.pop(0)))
        await wire.read_to_end()

    async with scripted(falls_silent) as port, Client(f"http://127.0.0.1:{port}") as client:
        watch = state_watch.changes_of(RuntimeApi(client), "s", "k", "/x")
        async with aclosing(watch):
            with anyio.fail_after(5):
                assert (await anext(watch)).etag == "1"
                assert (await anext(watch)).etag == "2"


async def test_an_answer_that_is_no_event_ends_the_watch():
    """Garbage is an error at once: another try would bring it again."""

    async def garbage(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(FIRST.replace(b"data: {", b"data: ["))

    async with scripted(garbage) as port, Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(StateError, match=r"502 ERR_MALFORMED_RESPONSE"):
            await anext(client.state("s").watch("k"))
