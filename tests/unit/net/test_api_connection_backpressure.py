"""A slow reader on either side holds the other one back; memory stays bounded."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.conditions import consistently, eventually
from tests.support.raw_http import request

from pillion.body import BodyStream
from pillion.call import Reply

pytestmark = pytest.mark.anyio

MiB = 1024 * 1024
KERNEL = 12 * MiB
"""Bytes that the socket buffers of both ends may hold on loopback."""


class Source:
    """A reply's body that is produced as fast as it is taken."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.produced = 0
        self.stream = BodyStream(on_consumed=self.more, on_abandoned=self.stop)
        self.stopped = False
        self.more(0)

    def more(self, _consumed: int) -> None:
        while self.left and self.stream.buffered < 256 * 1024 and not self.stopped:
            size = min(self.left, 64 * 1024)
            self.left -= size
            self.produced += size
            self.stream.feed(b"x" * size)
        if not self.left:
            self.stream.finish()

    def stop(self) -> None:
        self.stopped = True


async def test_a_slow_download_pauses_its_producer(start):
    """Only what fits the buffers is produced before the client reads, and nothing is lost."""
    source = Source(40 * MiB)

    async def download(_request):
        return Reply(200, [], source.stream)

    client = await (await start(download)).connect()
    client.writer.transport.pause_reading()
    await client.send(request())
    await eventually(lambda: source.produced > MiB)
    await asyncio.sleep(0.1)
    stalled = source.produced
    assert stalled < KERNEL + 2 * MiB
    await consistently(lambda: source.produced == stalled)
    client.writer.transport.resume_reading()
    assert len((await client.reply()).body) == 40 * MiB


async def test_a_download_that_nobody_takes_is_cut_off(start):
    """After the time without any progress."""
    source = Source(40 * MiB)

    async def download(_request):
        return Reply(200, [], source.stream)

    api = await start(download, stall_timeout=0.1)
    client = await api.connect()
    client.writer.transport.pause_reading()
    await client.send(request())
    await eventually(lambda: source.stopped, seconds=2.0)
    await eventually(lambda: api.server.open_connections == 0)


async def test_a_download_that_is_taken_slowly_is_not_cut_off(start):
    """Progress counts, however small, also within one large piece."""
    piece = b"x" * (32 * MiB)

    async def download(_request):
        return Reply(200, [], piece)

    api = await start(download, stall_timeout=0.1)
    client = await api.connect()
    await client.send(request())
    await client.head()
    read = 0
    for _ in range(12):
        read += len(await client.reader.readexactly(2 * MiB))
        await asyncio.sleep(0.05)
    assert read == 24 * MiB
    assert api.server.open_connections == 1


async def test_answers_that_nobody_reads_hold_back_requests(start):
    """A client that only sends is not answered without bound."""
    answered = 0

    async def large(_request):
        nonlocal answered
        answered += 1
        return Reply(200, [], b"x" * 50_000)

    client = await (await start(large, stall_timeout=30.0)).connect()
    client.writer.transport.pause_reading()
    for _ in range(50):
        client.writer.write(request() * 100)
    await eventually(lambda: answered > 10)
    await asyncio.sleep(0.2)
    stalled = answered
    assert stalled * 50_000 < KERNEL + 2 * MiB
    await consistently(lambda: answered == stalled)
    client.writer.transport.resume_reading()
    for _ in range(5000):
        assert len((await client.reply()).body) == 50_000


@pytest.mark.parametrize("surplus", [MiB, 30_000])
async def test_a_last_answer_that_nobody_reads_is_given_up(start, surplus):
    """A connection that only waits to be emptied does not wait for ever, however little is left."""
    size = 16 * MiB

    async def large(_request):
        return Reply(200, [], b"x" * size)

    async def unread(api):
        client = await api.connect()
        client.writer.transport.pause_reading()
        await client.send(request(headers=[("Connection", "close")]))
        await eventually(lambda: api.requests)
        await asyncio.sleep(0.05)

    patient = await start(large, stall_timeout=30.0)
    await unread(patient)
    (connection,) = patient.server._connections
    size += surplus - connection._transport.get_write_buffer_size()
    hasty = await start(large, stall_timeout=0.1)
    await unread(hasty)
    await eventually(lambda: hasty.server.open_connections == 0, seconds=2.0)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_slow_endpoint_pauses_its_upload(start, chunked):
    """Only what fits the buffers is taken off the client before the endpoint reads."""
    release = asyncio.Event()
    size = 32 * MiB
    largest = 0

    async def upload(request_):
        nonlocal largest
        await release.wait()
        taken = 0
        while chunk := await request_.body.read():
            taken += len(chunk)
            largest = max(largest, request_.body.buffered)
        return Reply(200, [], b"%d" % taken)

    api = await start(upload, body=-1)
    client = await api.connect()
    client.writer.transport.set_write_buffer_limits(high=0)
    sent = 0

    async def send():
        nonlocal sent
        framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))
        client.writer.write(request("POST", headers=[framing]))
        for _ in range(size // (64 * 1024)):
            piece = b"y" * (64 * 1024)
            client.writer.write(b"10000\r\n%b\r\n" % piece if chunked else piece)
            await client.writer.drain()
            sent += len(piece)
        if chunked:
            client.writer.write(b"0\r\n\r\n")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        await eventually(lambda: sent > MiB)
        await asyncio.sleep(0.1)
        stalled = sent
        assert stalled < KERNEL + 2 * MiB
        await consistently(lambda: sent == stalled)
        release.set()
        assert (await client.reply()).body == b"%d" % size
    assert largest < MiB


async def test_chunks_arrive_as_they_are_sent(start):
    """Nothing is held back: an event is there before the next one is made."""
    stream = BodyStream()

    async def events(_request):
        return Reply(200, [(b"Content-Type", b"text/event-stream")], stream)

    client = await (await start(events)).connect()
    await client.send(request())
    await client.head()
    for number in range(5):
        stream.feed(b"data: %d\n\n" % number)
        line = await asyncio.wait_for(client.reader.readuntil(b"\n\n\r\n"), 2.0)
        assert line == b"9\r\ndata: %d\n\n\r\n" % number
    stream.finish()
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_both_ways_at_once(start):
    """An endpoint may answer while it still reads."""

    async def upper(request_):
        reply = BodyStream()

        async def copy():
            while chunk := await request_.body.read():
                reply.feed(chunk.upper())
            reply.finish()

        copying.append(asyncio.get_running_loop().create_task(copy()))
        return Reply(200, [], reply)

    copying: list[asyncio.Task[None]] = []
    client = await (await start(upper)).connect()
    await client.send(request("POST", headers=[("Transfer-Encoding", "chunked")]))
    await client.send(b"3\r\nabc\r\n")
    await client.head()
    assert await client.reader.readexactly(8) == b"3\r\nABC\r\n"
    await client.send(b"2\r\nde\r\n0\r\n\r\n")
    assert await client.reader.readexactly(12) == b"2\r\nDE\r\n0\r\n\r\n"
    await asyncio.gather(*copying)
