"""Calls to one origin: what is sent, what comes back, and connections that are used again."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.conditions import consistently, eventually
from tests.support.scripted_app import answering, app_running

from pillion.body import BodyStream, read_all
from pillion.errors import Overloaded, TimedOut, Unavailable
from pillion.net.http_client import ClientLimits, HttpClient, Origin

pytestmark = pytest.mark.anyio


def soon() -> float:
    """Return a deadline that only a call that hangs misses."""
    return time.monotonic() + 10.0


@pytest.fixture
async def connect(wheel):
    """Make clients; closed at the end."""
    clients = []

    def connecting(app, **limits):
        port = app if isinstance(app, int) else app.port
        client = HttpClient(Origin("127.0.0.1", port), wheel, ClientLimits(**limits), "app")
        clients.append(client)
        return client

    yield connecting
    for client in clients:
        client.close()
    await eventually(lambda: not any(client.open_connections for client in clients))


def get(client, target=b"/", deadline=None):
    return client.send(b"GET", target, [], b"", deadline or soon())


# What is sent and what comes back.


async def test_a_request_as_the_app_sees_it(connect):
    """Method, target, headers in their order, Host and length."""
    seen = []

    def answer(request):
        seen.append(request)
        return 201, b"made"

    async with app_running(answering(answer)) as app:
        client = connect(app)
        headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"Content-Type", b"text/plain")]
        reply = await client.send(b"POST", b"/a%20b?c=d", headers, b"body", soon())
        assert (reply.status, reply.body) == (201, b"made")
        (request,) = seen
        assert (request.method, request.target, request.body) == ("POST", "/a%20b?c=d", b"body")
        assert request.all("x-a") == ["1", "2"]
        assert request.header("host") == f"127.0.0.1:{app.port}"
        assert request.header("content-length") == "4"
        assert request.header("connection") is None


@pytest.mark.parametrize(
    ("method", "length"), [(b"GET", None), (b"DELETE", None), (b"POST", "0"), (b"PUT", "0")]
)
async def test_the_length_of_no_body(connect, method, length):
    """Said where a body is usual (RFC 9110 section 8.6)."""
    seen = []

    def answer(request):
        seen.append(request.header("content-length"))
        return 200, b""

    async with app_running(answering(answer)) as app:
        await connect(app).send(method, b"/", [], b"", soon())
    assert seen == [length]


@pytest.mark.parametrize(
    ("host", "port", "authority"),
    [("h", 80, b"h"), ("h", 81, b"h:81"), ("::1", 80, b"[::1]"), ("::1", 8080, b"[::1]:8080")],
)
def test_authorities(host, port, authority):
    """The default port is left out, IPv6 stands in brackets."""
    assert Origin(host, port).authority == authority


SMALL, LARGE = b"x" * 1000, b"y" * 300_000


@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_replies_in_every_framing(connect, body, framing):
    """Whole or as a stream, complete, and the connection is kept where it can be."""

    async def script(connection):
        while True:
            await connection.request()
            head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nKeep-Alive: 5\r\n"
            if framing == "length":
                await connection.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            elif framing == "chunked":
                await connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for at in range(0, len(body), 50_000):
                    part = body[at : at + 50_000]
                    await connection.send(b"%x\r\n%b\r\n" % (len(part), part))
                await connection.send(b"0\r\nX-Trailer: 1\r\n\r\n")
            else:
                await connection.send(head + b"\r\n" + body)
                return

    async with app_running(script) as app:
        client = connect(app)
        for _ in range(2):
            reply = await get(client)
            assert (reply.status, reply.headers) == (200, [(b"X-A", b"1")])
            assert await read_all(reply.body, 1_000_000) == body
            await eventually(lambda: client.open_connections == (framing != "close"))
        assert app.opened == (2 if framing == "close" else 1)


async def test_head_tells_a_length_and_has_no_body(connect):
    """The length passes as a header, and the next reply is not mistaken for the body."""

    def answer(request):
        return 200, b"" if request.method == "HEAD" else b"full"

    async def script(connection):
        while True:
            request = await connection.request()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            if request.method != "HEAD":
                await connection.send(b"full")

    async with app_running(script) as app:
        client = connect(app)
        for _ in range(2):
            reply = await client.send(b"HEAD", b"/", [], b"", soon())
            assert (reply.body, reply.headers) == (b"", [(b"Content-Length", b"4")])
            assert (await get(client)).body == b"full"
        assert app.opened == 1


@pytest.mark.parametrize(("status", "headers"), [(204, []), (304, [(b"Content-Length", b"7")])])
async def test_statuses_without_a_body(connect, status, headers):
    """A 304 may tell the length of what was not sent; a 204 may not."""

    async def script(connection):
        while True:
            await connection.request()
            await connection.send(b"HTTP/1.1 %d X\r\nContent-Length: 7\r\n\r\n" % status)

    async with app_running(script) as app:
        client = connect(app)
        for _ in range(2):
            reply = await get(client)
            assert (reply.status, reply.body, reply.headers) == (status, b"", headers)
        assert app.opened == 1


async def test_interim_replies_are_passed_over(connect):
    """100 and 103 are not the answer."""

    async def script(connection):
        while True:
            await connection.request()
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            await connection.reply(200, b"final")

    async with app_running(script) as app:
        client = connect(app)
        for _ in range(2):
            reply = await get(client)
            assert (reply.status, reply.body, reply.headers) == (200, b"final", [])
        assert app.opened == 1


async def test_redirects_are_returned(connect):
    """Following them is the caller's business."""

    async def script(connection):
        await connection.request()
        await connection.reply(302, b"", "Location: http://elsewhere/")

    async with app_running(script) as app:
        reply = await get(connect(app))
        assert (reply.status, reply.header(b"location")) == (302, b"http://elsewhere/")


# Uploads.


def stream_of(*chunks, length=None):
    stream = BodyStream(length)
    for chunk in chunks:
        stream.feed(chunk)
    stream.finish()
    return stream


@pytest.mark.parametrize("length", [5, None])
async def test_a_stream_is_sent(connect, length):
    """With its length, or in chunks; the connection is kept."""
    seen = []

    def answer(request):
        seen.append((request.header("content-length"), request.body))
        return 200, b""

    async with app_running(answering(answer)) as app:
        client = connect(app)
        for _ in range(2):
            body = stream_of(b"ab", b"cde", length=length)
            assert (await client.send(b"POST", b"/", [], body, soon())).status == 200
        assert seen == [("5" if length else None, b"abcde")] * 2
        assert app.opened == 1


async def test_a_slow_app_pauses_the_producer(connect):
    """Only what fits the buffers is taken from the caller, and nothing is lost."""
    release = asyncio.Event()
    size = 40 * 1024 * 1024
    produced = 0

    def more(_consumed):
        nonlocal produced
        while produced < size and stream.buffered < 65536:
            produced += 65536
            stream.feed(b"x" * 65536)
        if produced == size:
            stream.finish()

    stream = BodyStream(size, on_consumed=more)
    more(0)

    async def script(connection):
        await connection.head()
        connection.writer.transport.pause_reading()
        await release.wait()
        connection.writer.transport.resume_reading()
        await connection.reader.readexactly(size)
        await connection.reply(200, b"done")

    async with app_running(script) as app, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(connect(app).send(b"PUT", b"/", [], stream, soon()))
        await eventually(lambda: produced > 1024 * 1024)
        await asyncio.sleep(0.1)
        stalled = produced
        assert stalled < 14 * 1024 * 1024
        await consistently(lambda: produced == stalled)
        release.set()
        assert (await sending).body == b"done"


@pytest.mark.parametrize("chunks", [[b"abc"], [b"abc", b"defgh"], [b"abcdefgh"]])
async def test_a_stream_of_the_wrong_length_breaks_the_connection(connect, chunks):
    """The app must neither wait for the rest nor take the surplus for another request."""
    seen = []

    async def script(connection):
        await connection.head()
        seen.append(await connection.reader.read())

    async with app_running(script) as app:
        with pytest.raises(Unavailable, match="not as long"):
            await connect(app).send(b"PUT", b"/", [], stream_of(*chunks, length=5), soon())
        await eventually(lambda: seen)
    assert len(seen[0]) < 5


async def test_an_upload_that_breaks_off_is_the_callers_failure(connect):
    """The app sees a broken request, the caller its own failure."""
    gone = []

    async def script(connection):
        await connection.head()
        await connection.until_gone()
        gone.append(True)

    failure = Unavailable("the client hung up", reason="client-gone")
    stream = BodyStream()
    stream.feed(b"abc")
    async with app_running(script) as app:
        asyncio.get_running_loop().call_later(0.02, stream.fail, failure)
        with pytest.raises(Unavailable) as raised:
            await connect(app).send(b"POST", b"/", [], stream, soon())
        assert raised.value is failure
        await eventually(lambda: gone)


@pytest.mark.parametrize("reads_on", [False, True])
async def test_an_early_reply_ends_the_upload(connect, reads_on):
    """The reply is given, the rest of the body is let go of, and the connection is not kept."""
    abandoned = []
    stream = BodyStream(on_abandoned=lambda: abandoned.append(True))
    stream.feed(b"x" * 100_000)

    async def script(connection):
        await connection.head()
        await connection.reply(413, b"enough")
        if not reads_on:
            connection.writer.transport.pause_reading()
        await asyncio.sleep(60)

    async with app_running(script) as app:
        client = connect(app)
        reply = await client.send(b"POST", b"/", [], stream, soon())
        assert (reply.status, reply.body) == (413, b"enough")
        await eventually(lambda: abandoned == [True])
        await eventually(lambda: client.open_connections == 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_app_that_answers_without_reading_frees_the_connection(connect, streamed):
    """What is left in the buffers neither keeps it open nor stands before the next request."""

    async def script(connection):
        connection.writer.transport.pause_reading()
        await asyncio.sleep(0.05)
        await connection.reply(413, b"enough")
        await asyncio.sleep(60)

    async with app_running(script) as app:
        client = connect(app)
        body = b"x" * (32 * 1024 * 1024)
        sent = stream_of(body) if streamed else body
        assert (await client.send(b"POST", b"/", [], sent, soon())).status == 413
        await eventually(lambda: client.open_connections == 0)


# Downloads.


async def test_a_slow_caller_pauses_the_app(connect):
    """Only what fits the buffers is read, and nothing is lost."""
    size = 40 * 1024 * 1024
    sent = 0

    async def script(connection):
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await connection.send(b"x" * 65536)
            sent += 65536
        await connection.until_gone()

    async with app_running(script) as app:
        reply = await get(connect(app))
        await eventually(lambda: sent > 1024 * 1024)
        await asyncio.sleep(0.1)
        stalled = sent
        assert stalled < 14 * 1024 * 1024
        await consistently(lambda: sent == stalled)
        assert reply.body.buffered < 1024 * 1024
        taken = 0
        while chunk := await reply.body.read():
            taken += len(chunk)
        assert taken == size


async def test_chunks_arrive_as_they_are_sent(connect):
    """An event is there before the next one is made."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := await queue.get():
            await connection.send(b"%x\r\n%b\r\n" % (len(event), event))
        await connection.send(b"0\r\n\r\n")
        await connection.until_gone()

    async with app_running(script) as app:
        reply = await get(connect(app))
        for number in range(4):
            queue.put_nowait(b"event %d" % number)
            assert await reply.body.read() == b"event %d" % number
        queue.put_nowait(b"")
        assert await reply.body.read() == b""


async def test_an_abandoned_download_closes_its_connection(connect):
    """The app is not read for nobody, and the connection is not used again."""
    gone = []

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nxxx")
        await connection.until_gone()
        gone.append(True)

    async with app_running(script) as app:
        client = connect(app)
        reply = await get(client)
        assert await reply.body.read() == b"xxx"
        reply.body.close()
        await eventually(lambda: gone)
        await eventually(lambda: client.open_connections == 0)


# The pool.


async def test_connections_are_used_again(connect):
    """One after the other on the same one; at the same time on several."""
    async with app_running(answering(lambda _request: (200, b"x"))) as app:
        client = connect(app)
        for _ in range(5):
            await get(client)
        assert (app.opened, client.open_connections) == (1, 1)
        await asyncio.gather(*(get(client) for _ in range(4)))
        assert client.open_connections == app.open == 4
        for _ in range(5):
            await get(client)
        assert app.opened == 4


async def test_only_so_many_connections(connect):
    """More calls wait, and each gets its turn in order."""
    release = asyncio.Event()
    order = []

    async def script(connection):
        while True:
            request = await connection.request()
            order.append(request.target)
            await release.wait()
            await connection.reply(200, request.target.encode())

    async with app_running(script) as app:
        client = connect(app, connections=2)
        async with asyncio.TaskGroup() as tasks:
            calls = []
            for number in range(6):
                calls.append(tasks.create_task(get(client, b"/%d" % number)))
                await asyncio.sleep(0.005)
            await consistently(lambda: client.open_connections == 2)
            release.set()
        assert [call.result().body for call in calls] == [b"/%d" % number for number in range(6)]
        assert order[2:] == ["/2", "/3", "/4", "/5"]
        assert app.opened == 2


async def never(connection):
    await connection.until_gone()


async def test_only_so_many_calls_wait(connect):
    """One more is shed at once; those that gave up waiting leave their place to others."""
    async with app_running(never) as app:
        client = connect(app, connections=1, waiting=3)
        loop = asyncio.get_running_loop()
        holding = loop.create_task(get(client))
        await eventually(lambda: app.open == 1)
        for _ in range(3):
            waiting = [loop.create_task(get(client)) for _ in range(3)]
            await asyncio.sleep(0.01)
            with pytest.raises(Overloaded):
                await get(client)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(TimedOut) as late:
            await get(client, deadline=time.monotonic() + 0.02)
        assert not late.value.reached
        assert len(client._waiting) == 0
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


async def test_a_turn_that_comes_with_a_cancellation_is_passed_on(connect):
    """A call that is cancelled with its turn in hand does not take it along."""
    release = asyncio.Event()

    async def script(connection):
        while True:
            await connection.request()
            await release.wait()
            await connection.reply(200)

    async with app_running(script) as app:
        client = connect(app, connections=1)
        loop = asyncio.get_running_loop()
        first = loop.create_task(get(client))
        await eventually(lambda: app.open == 1)
        second, third = loop.create_task(get(client)), loop.create_task(get(client))
        await eventually(lambda: len(client._waiting) == 2)
        turn = client._waiting[0]
        release.set()
        # The moment in which the second has been given its turn and has not yet run.
        while not turn.done():
            await asyncio.sleep(0)
        second.cancel()
        assert (await asyncio.wait_for(third, 2.0)).status == 200
        assert (await first).status == 200
        with pytest.raises(asyncio.CancelledError):
            await second


async def test_only_so_many_connections_are_kept(connect):
    """The others are closed behind their reply."""
    async with app_running(answering(lambda _request: (200, b"x"))) as app:
        client = connect(app, idle=1)
        await asyncio.gather(*(get(client) for _ in range(4)))
        await eventually(lambda: app.open == client.open_connections == 1)


@pytest.mark.parametrize("how", ["close", "retire"])
async def test_no_call_outlives_the_pool(connect, how):
    """Those that wait for a connection are told at once; later ones too."""
    async with app_running(never) as app:
        client = connect(app, connections=1)
        loop = asyncio.get_running_loop()
        busy = loop.create_task(get(client))
        await eventually(lambda: app.open == 1)
        waiting = [loop.create_task(get(client)) for _ in range(3)]
        await eventually(lambda: len(client._waiting) == 3)
        getattr(client, how)()
        for task in waiting:
            with pytest.raises(Unavailable) as closed:
                await asyncio.wait_for(task, 2.0)
            assert not closed.value.reached
        with pytest.raises(Unavailable):
            await get(client)
        # Closing breaks off what is in flight, retiring does not.
        if how == "retire":
            await consistently(lambda: not busy.done())
            client.close()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(busy, 2.0)


async def test_a_retired_pool_closes_behind_its_last_reply(connect):
    """Nothing in flight is lost, nothing is kept."""
    release = asyncio.Event()

    async def script(connection):
        while True:
            await connection.request()
            await release.wait()
            await connection.reply(200, b"last")

    async with app_running(script) as app:
        client = connect(app)
        busy = asyncio.get_running_loop().create_task(get(client))
        await eventually(lambda: app.open == 1)
        client.retire()
        release.set()
        assert (await busy).body == b"last"
        await eventually(lambda: client.open_connections == 0 == app.open)
