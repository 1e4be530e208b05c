"""When the origin fails: who is told what, whether the call may have arrived, what is repeated."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest
from tests.support.conditions import consistently, eventually
from tests.support.scripted_app import answering, app_running
from tests.unit.net.test_http_client import connect, get, soon, stream_of
from tests.unit.wire.test_http1_replies import ENDLESS, REFUSED

from pillion.body import BodyStream, read_all
from pillion.errors import TimedOut, TooLarge, Unavailable
from pillion.inline import Run
from pillion.net.http_client import ClientLimits, HttpClient, Origin

__all__ = ["connect"]  # a fixture

pytestmark = pytest.mark.anyio


def post(client, body=b"body", deadline=None):
    return client.send(b"POST", b"/", [], body, deadline or soon())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# No connection.


async def test_nobody_listens(connect):
    """The call did not arrive, so anything may be tried again."""
    with pytest.raises(Unavailable, match="cannot connect to the app at http://127") as failed:
        await post(connect(closed_port()))
    assert (failed.value.reason, failed.value.reached) == ("connect-failed", False)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "x..y"])
async def test_a_host_that_cannot_be_found(wheel, host):
    """A failure as any other, whatever is wrong with the name."""
    client = HttpClient(Origin(host, 80), wheel, ClientLimits(), "endpoint")
    with pytest.raises(Unavailable) as failed:
        await get(client)
    assert not failed.value.reached
    assert client.open_connections == 0


@pytest.fixture
def full_backlog():
    """A port whose queue is full: connections to it neither succeed nor fail."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


async def test_connecting_takes_too_long(connect, full_backlog):
    """The limit of one attempt is not the call's own deadline."""
    client = connect(full_backlog, connect_timeout=0.05)
    with pytest.raises(Unavailable) as failed:
        await get(client)
    assert (failed.value.reason, failed.value.reached) == ("connect-timeout", False)
    assert client.open_connections == 0


async def test_the_deadline_passes_while_connecting(connect, full_backlog):
    """Then the time of the call is over, and it did not arrive."""
    client = connect(full_backlog, connect_timeout=5.0)
    with pytest.raises(TimedOut) as late:
        await get(client, deadline=time.monotonic() + 0.05)
    assert not late.value.reached
    assert client.open_connections == 0


@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_cancelled_attempt_leaves_nothing(connect, full_backlog, turns):
    """Neither a connection nor a place in the pool."""
    client = connect(full_backlog, connections=1)
    outcome = []
    run = Run(get(client), lambda *ended: outcome.append(ended))
    for _ in range(turns):
        await asyncio.sleep(0)
    run.cancel()
    await eventually(lambda: outcome)
    assert isinstance(outcome[0][1], asyncio.CancelledError)
    await eventually(lambda: client.open_connections == 0)


async def test_tls_that_fails(wheel):
    """With an app that speaks none."""

    async def script(connection):
        await connection.send(b"HTTP/1.1 400 What?\r\n\r\n")

    async with app_running(script) as app:
        client = HttpClient(
            Origin("127.0.0.1", app.port, ssl.create_default_context()), wheel, ClientLimits()
        )
        with pytest.raises(Unavailable) as failed:
            await get(client)
        assert (failed.value.reason, failed.value.reached) == ("connect-failed", False)
        assert client.open_connections == 0


# Stale connections.


async def closing_when_idle(connection):
    """Answer one request and close: the client finds out when it uses the connection again."""
    await connection.request()
    await connection.reply(200, b"ok")


async def test_a_connection_closed_while_idle_is_not_used(connect):
    """Its end is noticed, and the next call opens another."""
    async with app_running(closing_when_idle) as app:
        client = connect(app)
        for _ in range(3):
            assert (await post(client)).body == b"ok"
            await eventually(lambda: client.open_connections == 0)
        assert app.opened == 3


class Stale:
    """An app that resets a kept connection at its second request, unanswered."""

    def __init__(self):
        self.requests = []

    async def __call__(self, connection):
        self.requests.append(await connection.request())
        await connection.reply(200, b"first")
        self.requests.append(await connection.request())
        connection.reset()


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE"])
async def test_a_stale_connection_is_transparent_where_that_is_safe(connect, method):
    """An idempotent call is sent once more on another connection."""
    app_script = Stale()
    async with app_running(app_script) as app:
        client = connect(app)
        await get(client)
        reply = await client.send(method, b"/again", [], b"body", soon())
        assert reply.body == b"first"
        assert app.opened == 2
        assert [request.body for request in app_script.requests[1:]] == [b"body"] * 2


async def test_all_stale_connections_are_passed_over(connect):
    """However many the pool has kept."""
    release = asyncio.Event()
    opened = 0

    async def script(connection):
        nonlocal opened
        opened += 1
        if opened > 5:
            return await closing_when_idle(connection)
        await connection.request()
        await release.wait()
        await connection.reply(200)
        await connection.request()
        return connection.reset()

    async with app_running(script) as app:
        client = connect(app)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(get(client))
            await eventually(lambda: opened == 5)
            release.set()
        assert (await get(client)).body == b"ok"
        assert opened == 6


@pytest.mark.parametrize("kind", ["post", "stream"])
async def test_a_stale_connection_is_told_where_it_is_not_safe(connect, kind):
    """A call that may have arrived is not repeated behind its caller's back."""
    app_script = Stale()
    async with app_running(app_script) as app:
        client = connect(app)
        await get(client)
        body = b"body" if kind == "post" else stream_of(b"body")
        with pytest.raises(Unavailable) as failed:
            await client.send(b"POST" if kind == "post" else b"PUT", b"/", [], body, soon())
        assert (failed.value.reason, failed.value.reached) == ("connection-broken", True)
        assert app.opened == 1


# Replies that break off.


@pytest.mark.parametrize(
    "part", [b"", b"HT", b"HTTP/1.1 200 OK\r\nX: 1\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_the_app_dies_in_mid_head(connect, part, how):
    """The call may have arrived; no other connection is tried from here."""

    async def script(connection):
        await connection.request()
        await connection.send(part)
        await asyncio.sleep(0.01)
        getattr(connection, how)()

    async with app_running(script) as app:
        client = connect(app)
        with pytest.raises(Unavailable) as failed:
            await get(client)
        assert (failed.value.reason, failed.value.reached) == ("connection-broken", True)
        assert app.opened == 1
        await eventually(lambda: client.open_connections == 0)


async def test_a_reply_that_had_begun_is_not_asked_for_again(connect):
    """A kept connection that dies in mid-head is no stale one: the app worked on the call."""
    requests = []

    async def script(connection):
        requests.append(await connection.request())
        await connection.reply(200)
        requests.append(await connection.request())
        await connection.send(b"HTTP/1.1 200 OK\r\n")
        await asyncio.sleep(0.01)
        connection.reset()

    async with app_running(script) as app:
        client = connect(app)
        await get(client)
        with pytest.raises(Unavailable):
            await get(client)
        assert len(requests) == 2


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 100000\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
)
async def test_the_app_dies_in_mid_body(connect, head):
    """The reader gets what came, and then the break; never an end."""

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n" + head)
        await asyncio.sleep(0.01)
        connection.reset()

    async with app_running(script) as app:
        client = connect(app)
        reply = await get(client)
        assert await reply.body.read() == b"abc"
        with pytest.raises(Unavailable) as failed:
            await reply.body.read()
        assert failed.value.reason == "connection-broken"
        await eventually(lambda: client.open_connections == 0)


async def test_the_app_dies_in_a_small_body(connect):
    """A body that is handed over whole is not handed over in part."""

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    async with app_running(script) as app:
        with pytest.raises(Unavailable):
            await get(connect(app))


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
async def test_no_reply_at_all(connect, data):
    """What is ambiguous or no HTTP breaks the connection, and nothing else."""

    async def script(connection):
        await connection.request()
        await connection.send(data)
        await connection.until_gone()

    async with app_running(script) as app:
        client = connect(app)
        with pytest.raises(Unavailable) as failed:
            await read_all((await get(client)).body, 1000)
        assert (failed.value.reason, failed.value.reached) == ("bad-reply", True)
        await eventually(lambda: client.open_connections == 0)


@pytest.mark.parametrize(("begin", "endless"), ENDLESS.values(), ids=ENDLESS)
async def test_a_reply_without_end_is_refused(connect, begin, endless):
    """At the limit of its head, or of what frames its body."""

    async def script(connection):
        await connection.request()
        await connection.send(begin)
        while True:
            await connection.send(endless)
            await asyncio.sleep(0)

    async with app_running(script) as app:
        client = connect(app, head=2000)
        with pytest.raises(Unavailable):
            await read_all((await get(client)).body, 1000)
        await eventually(lambda: client.open_connections == 0)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("limit", [1000, 100_000])
async def test_the_body_limit_is_exact(connect, framing, limit):
    """A body of as many bytes passes, one more does not."""
    size = limit

    async def script(connection):
        while True:
            await connection.request()
            body = b"x" * size
            if framing == "length":
                await connection.reply(200, body)
            elif framing == "chunked":
                await connection.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
                )
            else:
                await connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                return

    async with app_running(script) as app:
        client = connect(app, body=limit)
        assert len(await read_all((await get(client)).body, limit)) == limit
        size += 1
        with pytest.raises(TooLarge):
            await read_all((await get(client)).body, 2 * limit)
        await eventually(lambda: client.open_connections == 0)


@pytest.mark.parametrize("extra", [b"junk", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"])
@pytest.mark.parametrize("when", ["at once", "at once, with a call waiting", "later"])
async def test_an_answer_too_many_is_nobodys(connect, extra, when):
    """It costs the connection and is never given to another call."""

    async def script(connection):
        while True:
            request = await connection.request()
            if request.target != "/bad":
                await connection.reply(200, b"own")
                continue
            reply = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
            if when == "later":
                await connection.send(reply)
                await asyncio.sleep(0.01)
                await connection.send(extra)
            else:
                await connection.send(reply + extra)

    async with app_running(script) as app:
        client = connect(app, connections=1)
        async with asyncio.TaskGroup() as tasks:
            bad = tasks.create_task(get(client, b"/bad"))
            await asyncio.sleep(0)
            if when == "at once, with a call waiting":
                good = tasks.create_task(get(client, b"/x"))
                assert (await good).body == b"own"
            assert (await bad).body == b"good"
        if when == "later":
            await eventually(lambda: client.open_connections == 0)
        assert (await get(client, b"/x")).body == b"own"
        assert app.opened == 2


async def test_bytes_before_any_request_end_the_connection(connect):
    """A server that speaks first is no HTTP server."""

    async def script(connection):
        await connection.request()
        await connection.reply(200)
        await connection.send(b"220 smtp ready\r\n")
        await connection.until_gone()

    async with app_running(script) as app:
        client = connect(app)
        await get(client)
        await eventually(lambda: client.open_connections == 0)


# Deadlines.


async def test_the_deadline_passes_before_the_head(connect):
    """The app was reached; the connection is closed, for its answer would be nobody's."""
    gone = []

    async def script(connection):
        await connection.request()
        await connection.until_gone()
        gone.append(True)

    async with app_running(script) as app:
        client = connect(app)
        with pytest.raises(TimedOut) as late:
            await get(client, deadline=time.monotonic() + 0.05)
        assert late.value.reached
        await eventually(lambda: gone)
        await eventually(lambda: client.open_connections == 0)


async def test_the_deadline_passes_in_the_body(connect):
    """A reply that trickles does not outlive it."""

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await connection.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    async with app_running(script) as app:
        client = connect(app)
        reply = await get(client, deadline=time.monotonic() + 0.1)
        with pytest.raises(TimedOut):
            await read_all(reply.body, 10_000)
        await eventually(lambda: client.open_connections == 0)


async def test_the_deadline_passes_in_the_upload(connect):
    """The producer is told that nobody reads on."""
    abandoned = []
    stream = BodyStream(on_abandoned=lambda: abandoned.append(True))
    stream.feed(b"some")

    async def script(connection):
        await connection.until_gone()

    async with app_running(script) as app:
        client = connect(app)
        with pytest.raises(TimedOut):
            await post(client, stream, time.monotonic() + 0.05)
        await eventually(lambda: abandoned)
        await eventually(lambda: client.open_connections == 0)


async def test_a_deadline_that_is_kept_leaves_no_trace(connect):
    """The next call on the connection has its own."""
    async with app_running(answering(lambda _request: (200, b"x"))) as app:
        client = connect(app)
        await get(client, deadline=time.monotonic() + 0.05)
        await consistently(lambda: client.open_connections == 1, seconds=0.1)
        await get(client)
        assert app.opened == 1


# Cancellation.


@pytest.mark.parametrize("where", ["head", "upload"])
async def test_a_cancelled_call_closes_its_connection(connect, where):
    """The app learns that nobody waits, and the pool has its place back."""
    arrived, gone = [], []

    async def script(connection):
        arrived.append(await connection.head())
        await connection.until_gone()
        gone.append(True)

    async with app_running(script) as app:
        client = connect(app)
        body = BodyStream() if where == "upload" else b""
        outcome = []
        run = Run(post(client, body), lambda *ended: outcome.append(ended))
        await eventually(lambda: arrived)
        run.cancel()
        assert isinstance(outcome[0][1], asyncio.CancelledError)
        await eventually(lambda: gone)
        await eventually(lambda: client.open_connections == 0)
