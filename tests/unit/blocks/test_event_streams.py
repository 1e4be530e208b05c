"""Event streams: in order, no faster than they are read, and gone with their reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from tests.support.conditions import consistently, eventually

from pillion.blocks.event_streams import MOST, ROOM, EventStreams
from pillion.body import BodyStream
from pillion.errors import Overloaded, Unavailable

pytestmark = pytest.mark.anyio


class Source:
    """A generator of events that says how far it got."""

    def __init__(self, *events: bytes, error: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self._events = events
        self._error = error

    async def generate(self) -> AsyncGenerator[bytes, None]:
        try:
            for event in self._events:
                self.given += 1
                yield event
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


@pytest.fixture
async def streams() -> AsyncIterator[EventStreams]:
    streams = EventStreams()
    yield streams
    await streams.aclose()


def body_of(streams: EventStreams, events: AsyncGenerator[bytes, None]) -> BodyStream:
    body = streams.reply(events).body
    assert isinstance(body, BodyStream)
    return body


async def read_rest(body: BodyStream) -> list[bytes]:
    return [chunk async for chunk in body]


async def test_events_in_order_until_they_end(streams: EventStreams) -> None:
    """The stream ends when its source does."""
    source = Source(b"1", b"2", b"3")
    assert await read_rest(body_of(streams, source.generate())) == [b"1", b"2", b"3"]
    assert source.closed


async def test_slow_reader_holds_the_source(streams: EventStreams) -> None:
    """No more than a bound waits for the reader; when it reads on, the rest comes."""
    source = Source(*[b"x" * 1000] * 200)
    body = body_of(streams, source.generate())
    await eventually(lambda: source.given > ROOM // 1000)
    await consistently(lambda: body.buffered <= ROOM + 1000)
    assert len(await read_rest(body)) == 200


async def test_reader_that_goes_ends_the_source(streams: EventStreams) -> None:
    """When the reader closes, the source is closed."""
    source = Source(*[b"x" * ROOM] * 10)
    body = body_of(streams, source.generate())
    await body.read()
    body.close()
    await eventually(lambda: source.closed)


@pytest.mark.parametrize("error", [Unavailable("gone"), RuntimeError("a mistake")])
async def test_source_that_fails_breaks_the_stream(
    streams: EventStreams, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """What came before is read, then the failure; a mistake of ours is in the log."""
    body = body_of(streams, Source(b"1", error=error).generate())
    assert await body.read() == b"1"
    with pytest.raises(Unavailable):
        await body.read()
    assert ("a mistake" in caplog.text) is isinstance(error, RuntimeError)


async def test_signs_of_life() -> None:
    """A stream without events sends comments."""

    async def silence() -> AsyncGenerator[bytes, None]:
        await asyncio.Event().wait()
        yield b""

    streams = EventStreams(beat=0.01)
    body = body_of(streams, silence())
    assert [await body.read() for _ in range(2)] == [b":\n\n", b":\n\n"]
    await streams.aclose()
    assert await read_rest(body) == []


async def test_signs_of_life_do_not_pile_up() -> None:
    """A reader that does not read is told once that the stream lives."""

    async def silence() -> AsyncGenerator[bytes, None]:
        await asyncio.Event().wait()
        yield b""

    streams = EventStreams(beat=0.01)
    body = body_of(streams, silence())
    await eventually(lambda: body.buffered)
    await consistently(lambda: body.buffered == len(b":\n\n"))
    await streams.aclose()


async def test_closing_before_a_stream_began(streams: EventStreams) -> None:
    """A stream that is ended at once ends, and no other begins."""
    body = body_of(streams, Source(b"1").generate())
    await streams.aclose()
    assert await read_rest(body) == []
    with pytest.raises(Unavailable):
        streams.reply(Source().generate())


async def test_too_many(streams: EventStreams) -> None:
    """There is a bound to the streams of one runtime."""

    async def forever() -> AsyncGenerator[bytes, None]:
        await asyncio.Event().wait()
        yield b""

    for _ in range(MOST):
        streams.reply(forever())
    with pytest.raises(Overloaded):
        streams.reply(forever())
