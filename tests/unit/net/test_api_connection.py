"""One connection: requests in any framing, replies in their order, and a clear end."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.conditions import consistently, eventually
from tests.support.raw_http import request
from tests.unit.wire.test_http1_requests import UPGRADES

from pillion.body import BodyStream
from pillion.call import Reply
from pillion.errors import NotFound, Unavailable
from pillion.inline import Waiter

pytestmark = pytest.mark.anyio


# Keep-alive and pipelining.


async def test_a_connection_is_kept(start):
    """Request after request, without a word about it."""
    client = await (await start()).connect()
    for number in range(3):
        reply = await client.ask(request("POST", f"/{number}", body=b"x" * number))
        assert (reply.status, reply.body) == (200, b"x" * number)
        assert reply.header("connection") is None
        assert reply.header("content-length") == b"%d" % number
    assert not await client.ends(0.05)


async def test_a_connection_is_closed_on_wish(start):
    """The reply says so and the connection ends."""
    client = await (await start()).connect()
    reply = await client.ask(request(headers=[("Connection", "close")]))
    assert reply.closes
    assert await client.ends()


@pytest.mark.parametrize("pieces", ["one write", "byte by byte"])
async def test_pipelined_requests_are_answered_in_order(start, pieces):
    """However they arrive, with and without bodies."""
    client = await (await start()).connect()
    data = b"".join(
        request("POST", f"/{number}", body=b"b%d" % number, chunked=number % 2 == 0)
        for number in range(6)
    )
    if pieces == "one write":
        await client.send(data)
    else:
        await client.send_pieces(data[at : at + 1] for at in range(len(data)))
    for number in range(6):
        reply = await client.reply()
        assert reply.header("x-line") == b"POST /%d" % number
        assert reply.body == b"b%d" % number


async def test_a_thousand_requests_in_one_write(start):
    """Answered at once or later, they do not grow the stack."""

    async def either(request_):
        if request_.path.endswith(b"7"):
            await asyncio.sleep(0)
        return Reply(200, [], request_.path)

    client = await (await start(either)).connect()
    await client.send(b"".join(request(target=f"/{number}") for number in range(1000)))
    for number in range(1000):
        assert (await client.reply()).body == b"/%d" % number


async def test_a_slow_answer_holds_back_the_next(start, gate):
    """A later request is not even begun, since its answer could not be written."""
    client = await (await start(gate)).connect()
    await client.send(request(target="/slow") + request(target="/fast"))
    await consistently(lambda: b"/fast" not in gate.arrived, seconds=0.05)
    gate.open()
    assert (await client.reply()).body == b"/slow "
    assert (await client.reply()).body == b"/fast "


async def test_pipelining_is_bounded(start, gate):
    """Behind a slow answer the connection stops reading, and goes on later without a loss."""
    api = await start(gate)
    client = await api.connect()
    client.writer.transport.set_write_buffer_limits(high=0)
    one = request("POST", "/fast", body=b"x" * 500)
    await client.send(request(target="/slow"))
    await eventually(lambda: gate.arrived)
    count = 20_000
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(_write(client, one, count))
        await consistently(lambda: not writing.done(), "back-pressure", seconds=0.2)
        gate.open()
        assert (await client.reply()).body == b"/slow "
        for _ in range(count):
            await client.reply()


async def _write(client, data, count):
    for _ in range(count // 100):
        client.writer.write(data * 100)
        await client.writer.drain()


@pytest.mark.parametrize("kind", UPGRADES)
async def test_upgrades_are_answered_as_http1(start, kind):
    """Java's and browsers' wishes are declined politely, and the connection goes on."""
    upgrade, body = UPGRADES[kind]
    client = await (await start()).connect()
    await client.send(upgrade + request(target="/2"))
    reply = await client.reply()
    assert (reply.status, reply.body) == (200, body)
    assert reply.header("upgrade") is None
    assert (await client.reply()).header("x-line") == b"GET /2"


async def test_upgrades_with_a_close_end_there(start):
    """What stands behind the last request is not served."""
    api = await start()
    client = await api.connect()
    await client.send(
        b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: upgrade, close\r\nUpgrade: x\r\n\r\n"
        + request(target="/2")
    )
    assert (await client.reply()).closes
    assert await client.ends()
    assert [one.path for one in api.requests] == [b"/1"]


# HTTP/1.0.


async def test_http10_closes(start):
    """Unless asked otherwise; it needs no Host."""
    client = await (await start()).connect()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.reply()).closes
    assert await client.ends()


async def test_http10_with_keep_alive(start):
    """The reply agrees in words, as HTTP/1.0 needs it."""
    client = await (await start()).connect()
    for _ in range(2):
        reply = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert reply.header("connection") == b"keep-alive"


def streaming(*chunks: bytes, length: int | None = None, status: int = 200):
    async def endpoint(_request):
        stream = BodyStream(length)
        for chunk in chunks:
            stream.feed(chunk)
        stream.finish()
        return Reply(status, [], stream)

    return endpoint


async def test_http10_learns_a_bodys_end_from_the_close(start):
    """Chunks are unknown to it, also when it asked to be kept."""
    client = await (await start(streaming(b"abc", b"def"))).connect()
    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reply = await client.reply()
    assert reply.header("transfer-encoding") is None
    assert reply.closes
    assert reply.body == b"abcdef"


# Framing of replies.


async def test_a_body_of_unknown_length_is_chunked(start):
    """Chunk by chunk as it came."""
    client = await (await start(streaming(b"abc", b"d"))).connect()
    for _ in range(2):
        reply = await client.ask(request())
        assert (reply.chunks, reply.body) == ([3, 1], b"abcd")


async def test_a_stream_of_known_length_has_it(start):
    """And no chunks."""
    client = await (await start(streaming(b"abc", b"d", length=4))).connect()
    reply = await client.ask(request())
    assert (reply.header("content-length"), reply.body) == (b"4", b"abcd")


@pytest.mark.parametrize("chunks", [[b"abc"], [b"abc", b"defgh"]])
async def test_a_stream_of_the_wrong_length_breaks_the_connection(start, chunks):
    """The client must not take it for a whole body, nor the surplus for the next reply."""
    client = await (await start(streaming(*chunks, length=4))).connect()
    await client.send(request())
    head = await client.head()
    assert head.header("content-length") == b"4"
    rest = await client.rest()
    assert len(rest) < 4


async def test_a_body_that_breaks_off_breaks_the_connection(start):
    """Without a last chunk, so the client knows."""
    stream = BodyStream()

    async def endpoint(_request):
        stream.feed(b"abc")
        return Reply(200, [], stream)

    client = await (await start(endpoint)).connect()
    await client.send(request())
    await client.head()
    assert await client.reader.readexactly(8) == b"3\r\nabc\r\n"
    stream.fail(Unavailable("the app died"))
    assert await client.rest() == b""


@pytest.mark.parametrize(
    ("headers", "body", "length"),
    [
        ([], b"abc", b"3"),
        ([(b"Content-Length", b"7")], b"", b"7"),
        ([], b"", None),
    ],
)
async def test_head_has_no_body(start, headers, body, length):
    """Its Content-Length is what GET would have; an unknown one is not made up."""

    async def endpoint(_request):
        return Reply(200, list(headers), body)

    client = await (await start(endpoint)).connect()
    for _ in range(2):
        reply = await client.ask(request("HEAD"), "HEAD")
        assert reply.header("content-length") == length


async def test_head_of_a_stream_lets_go_of_it(start):
    """The app is not made to send what nobody gets."""
    abandoned = []

    async def endpoint(_request):
        stream = BodyStream(5, on_abandoned=lambda: abandoned.append(True))
        stream.feed(b"he")
        return Reply(200, [], stream)

    client = await (await start(endpoint)).connect()
    assert (await client.ask(request("HEAD"), "HEAD")).header("content-length") == b"5"
    assert abandoned == [True]


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(start, status):
    """Neither body nor length, whatever the app gave."""

    async def endpoint(_request):
        return Reply(status, [], b"surplus")

    client = await (await start(endpoint)).connect()
    for _ in range(2):
        reply = await client.ask(request())
        assert (reply.status, reply.header("content-length")) == (status, None)


@pytest.mark.parametrize("status", [200, 299, 451, 599, 600, 999])
async def test_any_status_is_passed_on(start, status):
    """Also those without a name."""

    async def endpoint(_request):
        return Reply(status, [], b"x")

    client = await (await start(endpoint)).connect()
    assert (await client.ask(request())).status == status


# Expect: 100-continue.

EXPECTING = [("Expect", "100-continue"), ("Content-Length", "5")]


async def test_a_client_that_waits_is_told_to_go_on(start):
    """Then its body is read as any other."""
    client = await (await start()).connect()
    await client.send(request("POST", headers=EXPECTING))
    assert (await client.head()).status == 100
    await client.send(b"hello")
    assert (await client.reply()).body == b"hello"
    assert (await client.ask(request())).status == 200


@pytest.mark.parametrize("size", [100_000, None])
async def test_a_client_that_waits_with_a_stream_is_told_to_go_on(start, size):
    """A large body, and one of unknown length."""
    client = await (await start()).connect()
    body = b"x" * 100_000
    framing = ("Content-Length", str(size)) if size else ("Transfer-Encoding", "chunked")
    await client.send(request("POST", headers=[("Expect", "100-continue"), framing]))
    assert (await client.head()).status == 100
    await client.send(body if size else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    assert (await client.reply()).body == body


async def test_a_client_that_does_not_wait_is_not_told(start):
    """A body that comes with its head needs no permission."""
    client = await (await start()).connect()
    await client.send(request("POST", headers=EXPECTING) + b"hello")
    replies = [(await client.reply()).status]
    if replies == [100]:
        replies.append((await client.reply()).status)
    assert replies[-1] == 200
    assert (await client.ask(request())).status == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(start):
    """413 instead of 100."""
    client = await (await start(body=4)).connect()
    reply = await client.ask(request("POST", headers=EXPECTING))
    assert (reply.status, reply.closes) == (413, True)
    assert await client.ends()


@pytest.mark.parametrize("framing", ["length", "stream", "chunked"])
async def test_permission_waits_for_its_turn(start, gate, framing):
    """Behind a slow answer the client is told to go on after that answer, and not hurried."""
    headers = {
        "length": EXPECTING,
        "stream": [("Expect", "100-continue"), ("Content-Length", "100000")],
        "chunked": [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")],
    }
    api = await start(gate, stall_timeout=0.05)
    client = await api.connect()
    await client.send(request(target="/slow") + request("POST", "/up", headers[framing]))
    await consistently(lambda: api.server.counters.timeouts == 0, seconds=0.2)
    gate.open()
    assert (await client.reply()).body == b"/slow "
    assert (await client.head()).status == 100
    size = 5 if framing == "length" else 100_000
    body = b"y" * size
    await client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if framing == "chunked" else body)
    assert (await client.reply()).body == b"/up " + body


async def test_a_client_that_was_told_to_go_on_must(start):
    """The time for its body runs from then on."""
    client = await (await start(stall_timeout=0.05)).connect()
    await client.send(request("POST", headers=EXPECTING))
    assert (await client.head()).status == 100
    assert (await client.reply()).status == 408


# Ends.


async def test_a_half_closed_client_gets_its_answers(start, gate):
    """Having said everything is not being gone."""
    client = await (await start(gate)).connect()
    await client.send(request(target="/slow") + request(target="/fast"))
    await eventually(lambda: gate.arrived)
    client.half_close()
    await consistently(lambda: not gate.cancelled, seconds=0.1)
    gate.open()
    assert not (await client.reply()).closes
    reply = await client.reply()
    assert (reply.body, reply.closes) == (b"/fast ", True)
    assert await client.ends()


async def test_a_half_closed_unix_client_gets_its_answer(start, gate, tmp_path):
    """The same on a Unix socket."""
    client = await (await start(gate)).connect_unix(tmp_path / "api")
    await client.send(request(target="/slow"))
    await eventually(lambda: gate.arrived)
    client.half_close()
    await consistently(lambda: not gate.cancelled, seconds=0.1)
    gate.open()
    assert (await client.reply()).body == b"/slow "


@pytest.mark.parametrize(
    ("listener", "how"), [("tcp", "close"), ("tcp", "reset"), ("unix", "close")]
)
async def test_a_client_that_is_gone_cancels_its_request(start, gate, tmp_path, how, listener):
    """Promptly, and it is a cancellation, not a failure."""
    api = await start(gate)
    if listener == "unix":
        client = await api.connect_unix(tmp_path / "api")
    else:
        client = await api.connect()
    await client.send(request(target="/slow") + request(target="/fast"))
    await eventually(lambda: gate.arrived)
    await getattr(client, how)()
    await eventually(lambda: gate.cancelled, "the cancellation", seconds=1.0)
    assert gate.arrived == [b"/slow"]


async def test_a_client_gone_in_mid_upload_cancels_its_request(start):
    """The endpoint sees a cancellation where it reads the body."""
    seen = []

    async def endpoint(request_):
        try:
            while await request_.body.read():
                pass
        except BaseException as error:
            seen.append(type(error))
            raise
        return Reply(200)

    client = await (await start(endpoint)).connect()
    await client.send(request("POST", headers=[("Content-Length", "100000")]) + b"x" * 70_000)
    await asyncio.sleep(0.01)
    await client.close()
    await eventually(lambda: seen)
    assert seen == [asyncio.CancelledError]


async def test_a_client_gone_in_mid_download_lets_go_of_it(start):
    """The producer of the reply is told."""
    abandoned: Waiter[bool] = Waiter()

    async def endpoint(_request):
        stream = BodyStream(on_abandoned=lambda: abandoned.set(True))
        stream.feed(b"first")
        return Reply(200, [], stream)

    client = await (await start(endpoint)).connect()
    await client.send(request())
    await client.head()
    await client.close()
    await eventually(abandoned.done, seconds=1.0)


async def test_an_early_answer_can_be_read(start):
    """A client that is still sending is not reset under the answer it gets."""

    async def refusing(_request):
        raise NotFound("no such thing")

    for framing in (("Content-Length", "500000"), ("Transfer-Encoding", "chunked")):
        client = await (await start(refusing)).connect()
        await client.send(request("POST", headers=[framing]))
        if framing[1] == "chunked":
            await client.send(b"10000\r\n")
        reply = await client.reply()
        assert (reply.status, reply.closes) == (404, True)
        for _ in range(20):
            client.writer.write(b"x" * 10_000)
        assert await client.ends()


@pytest.mark.parametrize("later", [False, True])
async def test_a_client_that_ignores_an_early_answer_is_cut_off(start, monkeypatch, later):
    """After a while in which it could have read it; not after the time for a body."""
    monkeypatch.setattr("pillion.net.api_connection.LINGER", 0.1)

    async def refusing(_request):
        if later:
            await asyncio.sleep(0.01)
        raise NotFound("no such thing")

    api = await start(refusing, stall_timeout=30.0)
    client = await api.connect()
    await client.send(request("POST", headers=[("Content-Length", "500000")]) + b"x" * 1000)
    assert (await client.reply()).closes
    await eventually(lambda: api.server.open_connections == 0, seconds=1.0)


async def test_nothing_behind_an_early_answer_is_served(start):
    """A request whose client was told that the connection ends must not be carried out."""

    async def refusing(request_):
        if request_.method == b"POST":
            raise NotFound("no such thing")
        return Reply(200)

    api = await start(refusing)
    client = await api.connect()
    await client.send(request("POST", "/1", body=b"x" * 70_000) + request(target="/2"))
    assert (await client.reply()).closes
    assert await client.ends()
    assert [one.path for one in api.requests] == [b"/1"]
