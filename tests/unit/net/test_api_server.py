"""What happens to every request before its row answers, and to a server as a whole."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat

import pytest
from tests.support.conditions import eventually
from tests.support.raw_http import RawClient, connected, request

from pillion.body import BodyStream
from pillion.call import Reply
from pillion.errors import Invalid, Overloaded
from pillion.net.api_server import addresses
from pillion.net.cors import Cors
from pillion.operation import Operation

pytestmark = pytest.mark.anyio


async def nothing(_request):
    return Reply(204)


HEALTH = Operation("healthz.get", ("GET",), "healthz", nothing, group="healthz", public=True)
METADATA = Operation("metadata.get", ("GET",), "metadata", nothing, group="metadata")


# API token.

TOKEN = {"token": "s3cret"}


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("dapr-api-token", "")],
        [("dapr-api-token", "wrong")],
        [("dapr-api-token", "s3cret2")],
        [("dapr-api-token", "s3cret"), ("dapr-api-token", "s3cret")],
        [("dapr-api-token", "s\xe9cret")],
        [("Authorization", "Bearer s3cret")],
    ],
)
@pytest.mark.parametrize("target", ["/v1.0/metadata", "/v1.0/invoke/a/method/b", "/x"])
async def test_without_the_token_nothing_is_served(start, headers, target):
    """401 in plain text, and the endpoint is not asked."""
    api = await start(rows=(METADATA,), settings=TOKEN)
    client = await api.connect()
    await client.send(
        b"GET %b HTTP/1.1\r\nHost: h\r\n" % target.encode()
        + b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers)
        + b"\r\n"
    )
    reply = await client.reply()
    assert (reply.status, reply.body) == (401, b"invalid api token")
    assert reply.header("content-type") == b"text/plain; charset=utf-8"
    assert api.requests == []


async def test_with_the_token_it_is_served_and_not_passed_on(start):
    """Whitespace around it aside."""
    api = await start(settings=TOKEN)
    client = await api.connect()
    await client.send(b"GET /x HTTP/1.1\r\nHost: h\r\nDapr-API-Token:  s3cret \r\nX: 1\r\n\r\n")
    assert (await client.reply()).status == 200
    assert all(name.lower() != b"dapr-api-token" for name, _value in api.requests[0].headers)


async def test_without_a_configured_token_the_header_is_still_not_passed_on(start):
    """It is between the caller and this runtime."""
    api = await start()
    client = await api.connect()
    assert (await client.ask(request(headers=[("dapr-api-token", "x")]))).status == 200
    assert api.requests[0].headers == []


async def test_health_needs_no_token(start):
    """For those who only look whether it lives; other methods on the path are no health."""
    client = await (await start(rows=(HEALTH,), settings=TOKEN)).connect()
    assert (await client.ask(request(target="/v1.0/healthz"))).status == 204
    assert (await client.ask(request("POST", "/v1.0/healthz"))).status == 401


# CORS.

ORIGIN = ("Origin", "http://app.example")
PREFLIGHT = [ORIGIN, ("Access-Control-Request-Method", "POST")]


async def test_cors_is_off_by_default(start):
    """A preflight is a request like any other, and no header is added."""
    api = await start()
    client = await api.connect()
    reply = await client.ask(request("OPTIONS", "/a", PREFLIGHT))
    assert reply.header("x-line") == b"OPTIONS /a"
    assert not [name for name, _ in reply.headers if name.lower().startswith(b"access-control")]
    assert reply.header("vary") is None
    assert api.requests[0].headers[0] == (b"Origin", b"http://app.example")


async def test_a_preflight_needs_no_token(start):
    """Browsers send none with it; the request itself does need it."""
    cors = Cors(["http://app.example"])
    api = await start(settings={"cors": cors, **TOKEN})
    client = await api.connect()
    reply = await client.ask(request("OPTIONS", "/a", PREFLIGHT))
    assert reply.status == 204
    assert reply.header("access-control-allow-origin") == b"http://app.example"
    reply = await client.ask(request("POST", "/a", [ORIGIN]))
    assert reply.status == 401
    # The page may read why.
    assert reply.header("access-control-allow-origin") == b"http://app.example"


# Paths.


@pytest.mark.parametrize("target", ["/a%", "/a%4", "/%zz", "/%4x/b", "/v1.0/metadata/%", "/a%%41"])
async def test_a_bad_escape_is_refused(start, target):
    """400 in plain text, and the connection goes on."""
    api = await start()
    client = await api.connect()
    reply = await client.ask(request(target=target))
    assert (reply.status, reply.header("content-type")) == (400, b"text/plain; charset=utf-8")
    assert api.requests == []
    assert (await client.ask(request(target="/a%41?x=%"))).status == 200


@pytest.mark.parametrize("target", ["/v1.0/metadata", "/v1.0//metadata/", "//v1.0/metadata//"])
async def test_slashes_are_cleaned_before_routing(start, target):
    """Repeated ones collapse, a last one is dropped."""
    api = await start(rows=(METADATA,))
    assert (await (await api.connect()).ask(request(target=target))).status == 204


async def test_a_wrong_method_falls_through(start):
    """There is no 405: what no row matches goes to the fallback."""
    api = await start(rows=(METADATA,))
    reply = await (await api.connect()).ask(request("DELETE", "/v1.0/metadata"))
    assert reply.header("x-line") == b"DELETE /v1.0/metadata"


# Trace context.

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
FORM = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def sent_on(api, name):
    """Return a header of the last request as it goes on."""
    values = [value for key, value in api.requests[-1].headers if key.lower() == name]
    assert len(values) < 2
    return values[0] if values else None


async def test_a_trace_is_continued(start):
    """This hop becomes the parent of what goes on, and the reply tells it."""
    api = await start(sampling=0.5)
    headers = [("traceparent", PARENT), ("tracestate", "a=1"), ("TraceState", "b=2")]
    reply = await (await api.connect()).ask(request(headers=headers))
    passed = sent_on(api, b"traceparent")
    trace, span, flags = FORM.fullmatch(passed).groups()
    assert (trace, flags) == (TRACE.encode(), b"01")
    assert span != b"b7ad6b7169203331"
    assert reply.header("traceparent") == passed
    assert reply.header("tracestate") == sent_on(api, b"tracestate") == b"a=1, b=2"


async def test_an_unsampled_parent_stays_unsampled(start):
    """The decision was made where the trace began."""
    api = await start(sampling=1.0)
    await (await api.connect()).ask(request(headers=[("traceparent", PARENT[:-1] + "0")]))
    assert sent_on(api, b"traceparent").endswith(b"-00")


@pytest.mark.parametrize("parent", [None, "garbage", PARENT.upper(), PARENT + "-x"])
@pytest.mark.parametrize(("sampling", "flags"), [(1.0, b"01"), (1e-12, b"00")])
async def test_a_trace_is_begun(start, parent, sampling, flags):
    """Without a valid parent, by the sampling rate; a state without its parent is dropped."""
    api = await start(sampling=sampling)
    headers = [("tracestate", "a=1")] + ([("traceparent", parent)] if parent else [])
    reply = await (await api.connect()).ask(request(headers=headers))
    assert FORM.fullmatch(sent_on(api, b"traceparent"))[3] == flags
    assert sent_on(api, b"tracestate") is None
    assert reply.header("tracestate") is None


async def test_without_tracing_headers_pass_untouched(start):
    """A sampling rate of 0 switches it off."""
    api = await start(sampling=0.0)
    client = await api.connect()
    reply = await client.ask(request(headers=[("traceparent", "any"), ("tracestate", "thing")]))
    assert (sent_on(api, b"traceparent"), sent_on(api, b"tracestate")) == (b"any", b"thing")
    assert reply.header("traceparent") is None
    await client.ask(request())
    assert sent_on(api, b"traceparent") is None


async def test_a_handlers_own_traceparent_stands(start):
    """The runtime adds none beside it."""

    async def own(_request):
        return Reply(200, [(b"Traceparent", b"mine")])

    reply = await (await (await start(own, sampling=1.0)).connect()).ask(request())
    assert reply.header("traceparent") == b"mine"


async def test_baggage_is_passed_on_and_echoed(start):
    """Whether or not traces are."""
    for sampling in (0.0, 1.0):
        api = await start(sampling=sampling)
        reply = await (await api.connect()).ask(
            request(headers=[("baggage", "a=1"), ("Baggage", "b=2;p")])
        )
        assert sent_on(api, b"baggage") == b"a=1, b=2;p" == reply.header("baggage")


async def test_bad_baggage_is_refused(start):
    """400 in plain text."""
    api = await start()
    reply = await (await api.connect()).ask(request(headers=[("baggage", "no equals sign")]))
    assert (reply.status, reply.header("content-type")) == (400, b"text/plain; charset=utf-8")
    assert api.requests == []


# Failures.


async def test_a_failure_is_answered_as_json(start):
    """With status, code, reason and the time to come back."""

    async def failing(request_):
        if request_.path == b"/busy":
            raise Overloaded("try later", retry_after=1.2)
        raise Invalid("bad value")

    client = await (await start(failing)).connect()
    reply = await client.ask(request())
    assert reply.status == 400
    assert reply.body == b'{"errorCode":"ERR_BAD_REQUEST","message":"bad value"}'
    assert reply.header("x-pillion-reason") == b"invalid"
    reply = await client.ask(request(target="/busy"))
    assert (reply.status, reply.header("retry-after")) == (503, b"2")


async def test_calls_can_be_logged(start, caplog):
    """One line each, without the query and without headers."""
    api = await start(settings={"log_calls": True, **TOKEN})
    client = await api.connect()
    with caplog.at_level("INFO", "pillion.api"):
        await client.ask(request("PUT", "/a?key=hunter2", [("dapr-api-token", "s3cret")]))
        await client.ask(request(target="/b"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("HTTP API called: method=PUT path=/a status=200 ms=")
    assert lines[1].startswith("HTTP API called: method=GET path=/b status=401 ms=")
    assert "hunter2" not in caplog.text
    assert "s3cret" not in caplog.text


# Listeners.


async def test_a_connection_over_the_limit_is_told_so(start):
    """503 and the end; once there is room, the next one is served."""
    api = await start(connections=2)
    first, second = await api.connect(), await api.connect()
    for client in (first, second):
        assert (await client.ask(request())).status == 200
    async with connected(api.port) as third:
        reply = await third.reply()
        assert (reply.status, reply.header("retry-after")) == (503, b"1")
        assert reply.closes
        assert await third.ends()
    assert api.server.counters.refused == 1
    assert (await first.ask(request())).status == 200
    await second.close()
    await eventually(lambda: api.server.open_connections == 1)
    async with connected(api.port) as fourth:
        assert (await fourth.ask(request())).status == 200


async def test_a_unix_socket_is_private(start, tmp_path):
    """Mode 0600 whatever the umask, from before anyone can connect."""
    path = tmp_path / "dapr-orders-http.socket"
    before = os.umask(0)
    try:
        client = await (await start()).connect_unix(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (await client.ask(request())).status == 200


async def test_a_stale_unix_socket_is_replaced(start, tmp_path):
    """A killed process leaves its file behind."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    client = await (await start()).connect_unix(path)
    assert (await client.ask(request())).status == 200


async def test_a_unix_socket_that_cannot_be_is_an_error(start, tmp_path):
    """And leaves no socket open."""
    api = await start()
    with pytest.raises(OSError, match="No such file"):
        await api.server.listen_unix(tmp_path / "missing" / "socket")


async def test_a_port_in_use_is_an_error(start):
    """Told at once."""
    api = await start()
    with pytest.raises(OSError, match="in use"):
        await api.server.listen("127.0.0.1", api.port)


@pytest.mark.parametrize(
    ("listen", "bound"),
    [
        ((), [None]),
        (("",), [None]),
        (("127.0.0.1", " ::1 "), ["127.0.0.1", "::1"]),
        (("[::1]",), ["::1"]),
    ],
)
def test_listen_addresses(listen, bound):
    """Empty is every address; brackets of IPv6 are understood."""
    assert addresses(listen) == bound


# Drain.


async def test_a_drain_finishes_what_is_in_flight(start, gate):
    """Idle connections close at once, an answer under way is given and is the last one."""
    api = await start(gate)
    idle, busy = await api.connect(), await api.connect()
    await idle.ask(request())
    await busy.send(request(target="/slow"))
    await eventually(lambda: b"/slow" in gate.arrived)
    async with asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(api.server.drain(5.0))
        assert await idle.ends()
        with pytest.raises(ConnectionError):
            await RawClient.open(api.port)
        assert not draining.done()
        gate.open()
        reply = await busy.reply()
        assert (reply.body, reply.closes) == (b"/slow ", True)
        assert await busy.ends()
    assert api.server.open_connections == 0


@pytest.mark.parametrize("part", ["head", "body", "stream"])
async def test_a_drain_takes_a_request_that_has_begun(start, part):
    """One whose bytes are still coming is answered too."""
    size = 100_000 if part == "stream" else 10
    data = request("POST", "/x", body=b"b" * size)
    at = {"head": 20, "body": len(data) - 5, "stream": len(data) - 5}[part]
    api = await start()
    client = await api.connect()
    await client.send(data[:at])
    await asyncio.sleep(0.02)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(api.server.drain(5.0))
        await asyncio.sleep(0.02)
        await client.send(data[at:])
        reply = await client.reply()
        assert (len(reply.body), reply.closes) == (size, True)
        assert await client.ends()


async def test_a_drain_ends_in_time(start, gate):
    """What is not done by then is cancelled."""
    api = await start(gate)
    client = await api.connect()
    await client.send(request(target="/slow"))
    await eventually(lambda: gate.arrived)
    await api.server.drain(0.05)
    assert await client.ends()
    await eventually(lambda: gate.cancelled)


async def test_a_drain_during_a_stream_closes_behind_it(start):
    """Its head was sent before, so only the connection's end tells."""
    stream = BodyStream()

    async def streaming(_request):
        return Reply(200, [], stream)

    api = await start(streaming)
    client = await api.connect()
    await client.send(request())
    assert not (await client.head()).closes
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(api.server.drain(5.0))
        await asyncio.sleep(0.01)
        stream.feed(b"last")
        stream.finish()
        assert await client.rest() == b"4\r\nlast\r\n0\r\n\r\n"


async def test_a_drain_of_an_idle_server_is_at_once(start):
    """Nothing is waited for."""
    api = await start()
    async with asyncio.timeout(1.0):
        await api.server.drain(30.0)
