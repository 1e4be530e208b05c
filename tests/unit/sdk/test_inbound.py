"""The receiving half of one ASGI request."""

import anyio
import pytest

from pillion_sdk.headers import Headers
from pillion_sdk.inbound import UNLIMITED, CallerGone, Inbound
from pillion_sdk.problems import TooLarge

pytestmark = pytest.mark.anyio


class Sender:
    """Plays a server: gives its messages one by one and counts how many were asked for."""

    def __init__(self, *chunks: bytes, gone: bool = False) -> None:
        self.messages = [
            {"type": "http.request", "body": chunk, "more_body": position < len(chunks) - 1 or gone}
            for position, chunk in enumerate(chunks)
        ]
        self.asked = 0
        self.hang_up = anyio.Event()
        if gone:
            self.hang_up.set()

    async def receive(self):
        self.asked += 1
        if self.messages:
            return self.messages.pop(0)
        await self.hang_up.wait()
        return {"type": "http.disconnect"}


def inbound(sender: Sender, limit: int = 100, version: str = "1.1", **headers: str) -> Inbound:
    fields = Headers.of({name.replace("_", "-"): value for name, value in headers.items()})
    return Inbound(sender.receive, fields, version, limit)


CHUNKED = {"transfer_encoding": "chunked"}


async def test_a_body_is_read_whole_and_again():
    """read() joins the chunks, and a second call returns the same bytes."""
    body = inbound(Sender(b"ab", b"", b"cd"), **CHUNKED)

    assert await body.read() == b"abcd"
    assert await body.read() == b"abcd"
    assert [chunk async for chunk in body.stream()] == [b"abcd"]


async def test_a_stream_asks_for_a_chunk_when_it_wants_one():
    """Nothing is received before the reader takes the next chunk, so that the sender waits."""
    sender = Sender(b"a", b"b", b"c")
    stream = inbound(sender, **CHUNKED).stream()

    assert await anext(stream) == b"a"
    assert sender.asked == 1
    assert [chunk async for chunk in stream] == [b"b", b"c"]
    assert sender.asked == 3


async def test_a_stream_is_read_once():
    """A second reader is told, instead of missing chunks."""
    body = inbound(Sender(b"a", b"b"), **CHUNKED)
    stream = body.stream()
    await anext(stream)

    with pytest.raises(RuntimeError, match="being read already"):
        await body.read()


async def test_http_1_says_when_there_is_no_body():
    """Without a length or an encoding nothing is received at all; other versions have to ask."""
    sender = Sender(b"")
    assert await inbound(sender).read() == b""
    assert await inbound(sender, content_length="0").read() == b""
    assert sender.asked == 0

    assert await inbound(Sender(b"x"), version="2").read() == b"x"


async def test_a_length_over_the_limit_is_refused_at_once():
    """A body announced as too long is 413 before a byte of it is received."""
    with pytest.raises(TooLarge, match="limit of 3 bytes"):
        inbound(Sender(), limit=3, content_length="4").check_length()
    inbound(Sender(), limit=3, content_length="3").check_length()
    inbound(Sender(), limit=UNLIMITED, content_length="4000000000").check_length()


async def test_a_stream_over_the_limit_is_refused_when_it_gets_there():
    """A body of unknown length is read up to the limit."""
    stream = inbound(Sender(b"ab", b"c", b"d"), limit=3, **CHUNKED).stream()

    assert await anext(stream) == b"ab"
    assert await anext(stream) == b"c"
    with pytest.raises(TooLarge):
        await anext(stream)


async def test_a_caller_that_hangs_up_in_its_body_is_gone():
    """Reading ends with CallerGone when the rest will not come."""
    stream = inbound(Sender(b"ab", gone=True), content_length="5").stream()

    assert await anext(stream) == b"ab"
    with pytest.raises(CallerGone):
        await anext(stream)


async def test_hang_up_is_heard_after_the_body():
    """While the handler reads, nobody else receives; afterwards the hang-up is noticed."""
    sender = Sender(b"a", b"b")
    body = inbound(sender, **CHUNKED)
    heard = anyio.Event()

    async def listen():
        await body.hang_up()
        heard.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            assert sender.asked == 0
            assert await body.read() == b"ab"
            await anyio.wait_all_tasks_blocked()
            assert not heard.is_set()
            sender.hang_up.set()
            await heard.wait()


async def test_hang_up_is_heard_past_a_body_nobody_wants():
    """A discarded body is received and dropped, so that the hang-up behind it is noticed."""
    sender = Sender(b"a", b"b", gone=True)
    body = inbound(sender, **CHUNKED)
    body.discard()

    with anyio.fail_after(5):
        await body.hang_up()
    assert sender.asked == 3


async def test_an_endless_body_nobody_wants_has_to_wait():
    """Beyond the limit no more is received of a body that is only dropped."""
    sender = Sender(b"abc", b"d", b"e", b"f", gone=True)
    body = inbound(sender, limit=3, **CHUNKED)
    body.discard()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body.hang_up)
        await anyio.wait_all_tasks_blocked()
        assert sender.asked == 2
        assert sender.messages
        tasks.cancel_scope.cancel()


async def test_a_refused_body_is_drained_to_its_end():
    """What is left of a refused body is dropped until it ends or its sender is gone."""
    for sender in (Sender(b"ab", b"cd", b"ef"), Sender(b"ab", b"cd", gone=True)):
        body = inbound(sender, limit=3, **CHUNKED)
        with pytest.raises(TooLarge):
            await body.read()
        assert body.unread
        await body.drain()
        assert not body.unread
        assert sender.asked == 3


async def test_a_refused_body_is_not_drained_for_ever(monkeypatch):
    """A sender that does not end is given up after a while."""
    monkeypatch.setattr("pillion_sdk.inbound.LINGER", 0.05)
    sender = Sender(b"ab")
    sender.messages[0]["more_body"] = True
    body = inbound(sender, limit=3, content_length="4")
    with anyio.fail_after(2):
        await body.drain()
    assert body.unread
    assert sender.asked == 2
