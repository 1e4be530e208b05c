"""What is malformed, too large or too slow gets its status, and its connection ends."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.conditions import consistently, eventually
from tests.support.raw_http import request
from tests.unit.wire.test_http1_requests import BAD_CHUNKS, CHUNKED, SMUGGLING

from pillion.body import read_all
from pillion.call import Reply

pytestmark = pytest.mark.anyio

NEXT = request(target="/smuggled")


async def refused(client, status):
    reply = await client.reply()
    assert reply.status == status
    assert reply.closes
    assert reply.header("content-type") == b"text/plain; charset=utf-8"
    assert reply.body.endswith(b"\n")
    assert await client.ends()


# Malformed.


@pytest.mark.parametrize("name", SMUGGLING)
async def test_ambiguous_heads_are_refused(start, name):
    """400, the connection ends, and nothing was served."""
    api = await start()
    client = await api.connect()
    await client.send(SMUGGLING[name] + b"0\r\n\r\n" + NEXT)
    await refused(client, 400)
    assert api.requests == []
    assert api.server.counters.malformed == 1


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_bad_chunks_are_refused(start, name):
    """Before the request is served, or while it is: nothing behind is."""
    api = await start()
    client = await api.connect()
    await client.send(CHUNKED + BAD_CHUNKS[name] + NEXT)
    await refused(client, 400)
    assert api.requests == []


async def test_chunks_that_turn_bad_fail_the_request(start):
    """The endpoint that reads the body is told; the client gets an error and the end."""
    api = await start()
    client = await api.connect()
    await client.send(CHUNKED + b"5\r\nhello\r\n")
    await eventually(lambda: api.requests)
    await client.send(b"zz\r\n" + NEXT)
    reply = await client.reply()
    assert (reply.status, reply.closes) == (400, True)
    assert b"ERR_BODY_READ" in reply.body
    assert await client.ends()
    assert len(api.requests) == 1


async def test_good_requests_before_a_bad_one_are_answered(start, gate):
    """All of them, in order, and then the refusal; none is told that it is the last."""
    client = await (await start(gate)).connect()
    good = request(target="/slow") + request("POST", "/a", body=b"x") + request(target="/b")
    await client.send(good + b"garbage\r\n\r\n" + NEXT)
    await eventually(lambda: gate.arrived)
    gate.open()
    for body in (b"/slow ", b"/a x", b"/b "):
        reply = await client.reply()
        assert (reply.status, reply.body, reply.closes) == (200, body, False)
    await refused(client, 400)
    assert b"/smuggled" not in gate.arrived


@pytest.mark.parametrize("slow", [False, True])
async def test_bytes_behind_a_last_request_are_nobodys(start, gate, slow):
    """After "Connection: close" they are neither served nor counted as malformed."""
    api = await start(gate)
    client = await api.connect()
    path = "/slow" if slow else "/fast"
    await client.send(
        request(target="/fast") + request(target=path, headers=[("Connection", "close")]) + NEXT
    )
    gate.open()
    assert not (await client.reply()).closes
    assert (await client.reply()).closes
    assert await client.ends()
    assert b"/smuggled" not in gate.arrived
    assert api.server.counters.malformed == 0


async def test_a_refusal_is_not_echoed(start):
    """Bytes of the request never come back in the answer, whatever they are."""
    client = await (await start()).connect()
    await client.send(b"GET /<script>alert(1)</script>\x00 HTTP/1.1\r\n\r\n")
    reply = await client.reply()
    assert b"script" not in reply.body


# Too large.


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
    ids=["one header", "many headers", "target"],
)
async def test_a_large_head_is_refused(start, head):
    """431 and the end."""
    api = await start()
    client = await api.connect()
    await client.send(head)
    await refused(client, 431)
    assert api.requests == []


async def test_an_endless_header_is_refused(start):
    """Without waiting for its end."""
    client = await (await start()).connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")
    await client.send_pieces([b"a" * 1024] * 6, pause=0.002)
    await refused(client, 431)


async def test_an_endless_trailer_is_refused(start):
    """Trailers are dropped, not collected."""
    client = await (await start()).connect()
    await client.send(CHUNKED + b"1\r\nx\r\n0\r\nX: ")
    await client.send_pieces([b"a" * 1024] * 6, pause=0.002)
    assert (await client.reply()).closes
    assert await client.ends()


@pytest.mark.parametrize("limit", [0, 10, 100_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_the_body_limit_is_exact(start, limit, chunked):
    """A body of as many bytes passes, one more is refused: announced or counted."""
    api = await start(body=limit)
    client = await api.connect()
    reply = await client.ask(request("POST", body=b"x" * limit, chunked=chunked))
    assert (reply.status, len(reply.body)) == (200, limit)
    client.writer.write(request("POST", body=b"x" * (limit + 1), chunked=chunked))
    reply = await client.reply()
    assert (reply.status, reply.closes) == (413, True)
    assert await client.ends()


async def test_a_stream_over_the_limit_fails_its_request(start):
    """The endpoint is told in the middle, and the client gets 413."""
    api = await start(body=100_000)
    client = await api.connect()
    await client.send(CHUNKED + b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    await eventually(lambda: api.requests)
    await client.send(b"1\r\nx\r\n")
    reply = await client.reply()
    assert (reply.status, reply.closes) == (413, True)
    assert b"ERR_BODY_TOO_LARGE" in reply.body
    assert await client.ends()


async def test_no_limit(start):
    """-1 lets any body pass."""
    client = await (await start(body=-1)).connect()
    await client.send(request("POST", body=b"x" * 3_000_000))
    assert len((await client.reply()).body) == 3_000_000


# Too slow.


async def test_a_connection_without_a_request_is_closed(start):
    """After the time for a head, without a word."""
    api = await start(head_timeout=0.05)
    client = await api.connect()
    assert await client.ends(1.0)
    assert api.server.counters.timeouts == 1


async def test_an_idle_connection_is_kept(start):
    """Between requests there is no hurry."""
    client = await (await start(head_timeout=0.05)).connect()
    assert (await client.ask(request())).status == 200
    assert not await client.ends(0.2)
    assert (await client.ask(request())).status == 200


@pytest.mark.parametrize("before", [b"", request(target="/before")])
async def test_a_slow_head_is_refused(start, before):
    """Its time runs from its first byte, however often another one comes."""
    api = await start(head_timeout=0.15)
    client = await api.connect()
    await client.send(before)
    if before:
        assert (await client.reply()).status == 200
    began = time.monotonic()

    async def trickle():
        for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 1000:
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        trickling = tasks.create_task(trickle())
        reply = await client.reply()
        after = time.monotonic() - began
        trickling.cancel()
    assert (reply.status, reply.closes) == (408, True)
    assert 0.14 < after < 1.0
    assert api.server.counters.timeouts == 1


async def test_a_slow_head_in_time_is_served(start):
    """Byte by byte, as long as it comes in time."""
    client = await (await start(head_timeout=1.0)).connect()
    data = request(target="/slowly")
    await client.send_pieces((data[at : at + 1] for at in range(len(data))), pause=0.001)
    assert (await client.reply()).status == 200


@pytest.mark.parametrize("framing", ["length", "stream", "chunked"])
async def test_a_body_that_stops_is_refused(start, framing):
    """Each piece of it has its time; then the client is told and cut off."""
    heads = {
        "length": request("POST", headers=[("Content-Length", "50")]),
        "stream": request("POST", headers=[("Content-Length", "100000")]),
        "chunked": CHUNKED + b"64\r\n",
    }
    api = await start(stall_timeout=0.1)
    client = await api.connect()
    await client.send(heads[framing])
    await client.send_pieces([b"x"] * 8, pause=0.03)
    reply = await client.reply()
    assert (reply.status, reply.closes) == (408 if framing == "length" else 400, True)
    assert await client.ends()
    assert api.server.counters.timeouts == 1


async def test_a_client_is_not_blamed_for_our_pause(start):
    """While it is we who do not read, neither a head nor a body is late."""
    release = asyncio.Event()

    async def slow(request_):
        await release.wait()
        return Reply(200, [], await read_all(request_.body, 10_000_000))

    api = await start(slow, head_timeout=0.05, stall_timeout=0.05, body=-1)
    body = b"x" * 2_000_000
    uploading = await api.connect()
    uploading.writer.write(request("POST", body=body))
    pipelining = await api.connect()
    # The seventeenth stands there half when reading stops.
    await pipelining.send(request("POST", body=b"y") * 17 + b"GET / HTTP/1.1\r\n")
    await eventually(lambda: len(api.requests) == 2)
    await consistently(lambda: api.server.counters.timeouts == 0, seconds=0.3)
    release.set()
    assert (await uploading.reply()).body == body
    for _ in range(17):
        assert (await pipelining.reply()).body == b"y"
    assert (await pipelining.reply()).status == 408


async def test_the_stall_time_starts_anew_after_our_pause(start):
    """A client that stops behind it is still found out."""
    release = asyncio.Event()

    async def slow(request_):
        await release.wait()
        return Reply(200, [], await read_all(request_.body, 10_000_000))

    api = await start(slow, stall_timeout=0.1, body=-1)
    client = await api.connect()
    client.writer.write(request("POST", headers=[("Content-Length", "900000")]) + b"x" * 800_000)
    await eventually(lambda: api.requests)
    await asyncio.sleep(0.05)
    release.set()
    assert (await client.reply()).status == 400
    assert api.server.counters.timeouts == 1


# Defects.


async def test_a_defect_behind_the_api_does_not_leak(start, error_log):
    """500 as JSON; what happened stands in the log alone, and the connection goes on."""

    async def broken(request_):
        if request_.path == b"/broken":
            raise ValueError("password=hunter2")
        return Reply(200)

    client = await (await start(broken)).connect()
    reply = await client.ask(request(target="/broken"))
    assert reply.status == 500
    assert reply.header("content-type") == b"application/json"
    assert b"errorCode" in reply.body
    assert b"hunter2" not in reply.body
    assert error_log.take() == ["a request failed inside the runtime"]
    assert (await client.ask(request())).status == 200
