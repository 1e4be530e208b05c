"""The side that is called: who may connect, what a hostile peer can do, and going away."""

from __future__ import annotations

import asyncio
import logging
import ssl

import pytest
from tests.unit.mesh.certificates import Authority
from tests.unit.mesh.harness import Mesh, call, request, start, until

from pillion.body import BodyStream, read_all
from pillion.call import Call, Reply
from pillion.errors import Unavailable
from pillion.mesh.settings import Settings
from pillion.wire.frames import (
    Data,
    GoAway,
    Ping,
    Pong,
    Reset,
    Response,
    Window,
    append,
)
from pillion.wire.mesh_failures import cancelled

pytestmark = pytest.mark.anyio


async def answer(received: Call) -> Reply:
    """Answer at once."""
    return Reply(200, [], received.path)


# Who may connect.


async def test_a_client_of_another_authority_is_refused(
    mesh: Mesh, stranger: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line, one count, and no bytes of it reach the protocol."""
    listener, orders = await mesh.listen(answer)
    _, context = stranger.contexts(mesh.uri("checkout"), trust=mesh.authority.root)
    caplog.set_level(logging.WARNING)
    reader, writer = await asyncio.open_connection("127.0.0.1", orders.port, ssl=context)
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.transport.abort()
    await until(lambda: listener.counters.connections_refused == 1)
    lines = [r for r in caplog.records if "refused a mesh connection" in r.getMessage()]
    assert len(lines) == 1
    assert listener.connections_open == 0


async def test_a_client_without_an_identity_is_refused(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """A trusted certificate with a name of another shape is nobody."""
    listener, orders = await mesh.listen(answer)
    _, context = mesh.authority.contexts("spiffe://public/somewhere")
    caplog.set_level(logging.WARNING)
    with pytest.raises(Unavailable):
        await mesh.peers(context=context).call(orders, call())
    assert listener.counters.connections_refused == 1
    lines = [r for r in caplog.records if "refused a mesh connection" in r.getMessage()]
    assert len(lines) == 1
    assert "is not an identity" in lines[0].getMessage()


async def test_a_client_that_cannot_be_identified_is_refused(mesh: Mesh) -> None:
    """An error while the identity is read lets nobody in."""
    listener, orders = await mesh.listen(answer)
    _, context = mesh.authority.contexts("spiffe:")
    with pytest.raises(Unavailable):
        await mesh.peers(context=context).call(orders, call())
    assert listener.counters.connections_refused == 1
    assert listener.connections_open == 0


async def test_a_client_without_tls_is_refused(mesh: Mesh) -> None:
    """Plain bytes on the port end the connection."""
    listener, orders = await mesh.listen(answer)
    reader, writer = await asyncio.open_connection("127.0.0.1", orders.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        await reader.read()
    writer.transport.abort()
    await until(lambda: listener.counters.connections_refused == 1)


async def test_a_client_that_starts_no_handshake_is_closed(mesh: Mesh) -> None:
    """A connection that says nothing is given the handshake timeout."""
    listener, orders = await mesh.listen(answer, settings=Settings(handshake_timeout=0.1))
    reader, writer = await asyncio.open_connection("127.0.0.1", orders.port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.transport.abort()
    await until(lambda: listener.counters.connections_refused == 1)


async def test_a_client_that_says_no_hello_is_closed(mesh: Mesh) -> None:
    """The handshake timeout covers the Hello."""
    listener, orders = await mesh.listen(answer, settings=Settings(handshake_timeout=0.1))
    raw = await mesh.raw_client(orders.port, greet=False)
    await raw.closed()
    await until(lambda: listener.counters.connections_refused == 1)
    assert listener.counters.connections_accepted == 0


async def test_connections_are_bounded(mesh: Mesh) -> None:
    """Over the limit a connection is refused and the others go on."""
    listener, orders = await mesh.listen(answer, settings=Settings(max_connections=1))
    raw = await mesh.raw_client(orders.port)
    with pytest.raises(Unavailable):
        await mesh.peers().call(orders, call())
    assert listener.counters.connections_refused == 1
    raw.send(request(1))
    assert (await raw.expect(Response)).body == b"/x"


async def test_a_port_in_use_is_one_clear_failure(mesh: Mesh) -> None:
    """The failure names the address."""
    _, orders = await mesh.listen(answer)
    with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{orders.port}") as caught:
        await mesh.listen(answer, port=orders.port)
    assert caught.value.reason == "address-in-use"


async def test_a_plain_function_may_be_the_handler(mesh: Mesh) -> None:
    """Any callable that returns an awaitable is a handler, and may raise at once."""

    def handler(received: Call) -> object:
        if received.path == b"/bad":
            raise Unavailable("no", reason="at-once")
        return answer(received)

    _, orders = await mesh.listen(handler)  # type: ignore[arg-type]
    peers = mesh.peers()
    assert (await peers.call(orders, call())).body == b"/x"
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call(path=b"/bad"))
    assert caught.value.reason == "at-once"


# What a hostile peer can do.


async def test_overrunning_a_window_closes_the_connection(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer is told, its calls are cancelled, and others go on."""
    ended = asyncio.Event()

    async def handler(received: Call) -> Reply:
        if received.path == b"/quick":
            return Reply(200)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    listener, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.send(request(1, end=False), *[Data(1, b"x" * 16384, end=False)] * 17)
    assert "beyond its window" in (await raw.expect(GoAway)).reason
    await raw.closed()
    await asyncio.wait_for(ended.wait(), 5)
    assert listener.counters.protocol_errors == 1
    assert len([r for r in caplog.records if "beyond its window" in r.getMessage()]) == 1
    assert (await mesh.peers().call(orders, call(path=b"/quick"))).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 100,
        b"\0\0\0\x01\xc0",
        b"\0\0\0\0",
        b"\0\0\0\x02\x91\x3f",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["large", "nil", "empty", "tag", "http"],
)
async def test_garbage_closes_the_connection_with_a_reason(mesh: Mesh, garbage: bytes) -> None:
    """Bytes that are no frames end the connection, and nothing else."""
    listener, orders = await mesh.listen(answer)
    raw = await mesh.raw_client(orders.port)
    raw.writer.write(garbage)
    assert (await raw.expect(GoAway)).reason
    await raw.closed()
    assert listener.counters.protocol_errors == 1
    assert (await mesh.peers().call(orders, call())).status == 200


async def test_a_frame_that_arrives_in_pieces(mesh: Mesh) -> None:
    """Bytes may come one by one."""
    _, orders = await mesh.listen(answer)
    raw = await mesh.raw_client(orders.port)
    whole = bytearray()

    append(request(1, b"body"), whole)
    for byte in whole:
        raw.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await raw.expect(Response)).status == 200


async def test_requests_that_are_not_http_are_refused(mesh: Mesh) -> None:
    """What could smuggle a line into the request to the app is never dispatched."""
    seen: list[bytes] = []

    async def handler(received: Call) -> Reply:
        seen.append(received.path)
        return Reply(200)

    _, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    bad = [
        {"headers": [(b"a", b"b\r\nc: d")]},
        {"headers": [(b"a b", b"c")]},
        {"path": b"/x HTTP/1.1\r\n"},
        {"method": b"GET /"},
        {"query": b"a b"},
    ]
    raw.send(*[request(number, **changes) for number, changes in enumerate(bad, 1)])
    for number in range(1, len(bad) + 1):
        reset = await raw.expect(Reset)
        assert (reset.stream, reset.kind, reset.reason) == (number, "Invalid", "bad-head")
        assert not reset.reached
    raw.send(request(99))
    assert (await raw.expect(Response)).stream == 99
    assert seen == [b"/x"]


async def test_refusals_before_dispatch(mesh: Mesh) -> None:
    """A wrong target, an unknown operation and a spent deadline are answered at once."""
    called = False

    async def handler(_: Call) -> Reply:
        nonlocal called
        called = True
        return Reply(200)

    _, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.send(
        request(1, app_id="billing"),
        request(2, namespace="other"),
        request(3, operation="unheard.of"),
        request(4, remaining=0),
    )
    kinds = []
    for _ in range(4):
        reset = await raw.expect(Reset)
        assert not reset.reached
        kinds.append(reset.kind)
    assert kinds == ["NotFound", "NotFound", "Unsupported", "TimedOut"]
    assert not called


async def test_a_refused_call_with_a_body_leaves_nothing_behind(mesh: Mesh) -> None:
    """Data that was on its way to a refused stream is dropped."""
    listener, orders = await mesh.listen(answer)
    raw = await mesh.raw_client(orders.port)
    raw.send(request(1, app_id="billing", end=False), *[Data(1, b"x" * 16384, end=False)] * 40)
    assert (await raw.expect(Reset)).kind == "NotFound"
    raw.send(Ping(5))
    assert (await raw.expect(Pong)).number == 5
    assert listener.streams_open == 0
    assert listener.counters.protocol_errors == 0


async def test_a_peer_that_reads_nothing_is_closed(mesh: Mesh) -> None:
    """What is owed to a peer that asks and does not read is bounded."""
    listener, orders = await mesh.listen(answer, settings=Settings(write_limit=256 * 1024))
    raw = await mesh.raw_client(orders.port)
    raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
    burst = bytearray()

    for number in range(20_000):
        append(Ping(number), burst)

    async def flood() -> None:
        while listener.connections_open:
            raw.writer.write(burst)
            await asyncio.sleep(0.001)

    await asyncio.wait_for(flood(), 20)


async def test_replies_wait_while_the_caller_does_not_read(mesh: Mesh) -> None:
    """Replies to a stalled caller wait for their turn, within bounds, and all arrive."""

    async def handler(_: Call) -> Reply:
        return Reply(200, [], b"y" * 60_000)

    listener, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
    raw.send(*[request(number) for number in range(1, 401)])
    await until(lambda: any(c.congested for c in listener._connections), 10)
    (connection,) = listener._connections
    transport = connection._transport
    assert transport is not None
    await until(lambda: connection.served.last == 400)
    assert transport.get_write_buffer_size() < 2 << 20
    raw.reader._transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(400):
        assert len((await raw.expect(Response)).body) == 60_000
    assert listener.streams_open == 0


async def test_a_reply_given_up_while_it_waits_for_its_turn_is_let_go(mesh: Mesh) -> None:
    """A body that was never read because the caller does not read is closed with the call."""
    abandoned = asyncio.Event()

    async def handler(received: Call) -> Reply:
        if received.path == b"/stream":
            return Reply(200, [], BodyStream(on_abandoned=abandoned.set))
        return Reply(200, [], b"y" * 60_000)

    listener, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
    raw.send(*[request(number) for number in range(1, 401)])
    await until(lambda: any(c.congested for c in listener._connections), 10)
    raw.send(request(401, path=b"/stream"), cancelled(401))
    await asyncio.wait_for(abandoned.wait(), 5)


async def test_a_silent_caller_is_closed(mesh: Mesh) -> None:
    """A caller that answers no ping is closed and its calls are cancelled."""
    cancelled = asyncio.Event()

    async def handler(_: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    listener, orders = await mesh.listen(
        handler, settings=Settings(ping_interval=0.05, ping_timeout=0.1)
    )
    raw = await mesh.raw_client(orders.port)
    raw.send(request(1))
    await asyncio.wait_for(cancelled.wait(), 5)
    await until(lambda: listener.connections_open == 0)


async def test_a_caller_that_is_gone_cancels_its_calls(mesh: Mesh) -> None:
    """A broken connection ends handlers and reply bodies."""
    cancelled = asyncio.Event()
    abandoned = asyncio.Event()
    failed: list[BaseException] = []

    async def handler(received: Call) -> Reply:
        if received.path == b"/stream":
            return Reply(200, [], BodyStream(on_abandoned=abandoned.set))
        if received.path == b"/upload":
            try:
                await read_all(received.body, 100)
            except BaseException as error:
                failed.append(error)
                raise
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    listener, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.send(request(1), request(2, path=b"/stream"), request(3, path=b"/upload", end=False))
    await raw.expect(Response)
    raw.abort()
    await asyncio.wait_for(cancelled.wait(), 5)
    await until(lambda: listener.connections_open == 0)
    assert failed
    assert listener.streams_open == 0


async def test_a_cancelled_stream_frees_its_place(mesh: Mesh) -> None:
    """A Reset of the caller ends the work and nothing is sent for the stream any more."""
    started: list[str] = []

    async def handler(_: Call) -> Reply:
        try:
            started.append("start")
            await asyncio.Event().wait()
        finally:
            started.append("end")
        raise AssertionError

    listener, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    for number in range(1, 1001):
        raw.send(request(number), cancelled(number))
    raw.send(Ping(1))
    await raw.expect(Pong)
    await until(lambda: started.count("end") == 1000)
    assert listener.streams_open == 0
    assert listener.counters.protocol_errors == 0


async def test_credit_is_granted_as_the_handler_reads(mesh: Mesh) -> None:
    """No Window comes while nothing is read; half a window read brings one."""
    read = asyncio.Event()

    async def handler(received: Call) -> Reply:
        await read.wait()
        await read_all(received.body, 1 << 20)
        return Reply(200)

    _, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.send(request(1, end=False), *[Data(1, b"x" * 16384, end=False)] * 16, Ping(1))
    assert isinstance(await raw.next(), Pong)
    read.set()
    assert (await raw.next()) == Window(1, 128 * 1024)
    assert (await raw.next()) == Window(1, 128 * 1024)
    raw.send(Data(1, b"", end=True))
    assert isinstance(await raw.next(), Response)


# Going away.


async def test_draining_lets_calls_in_flight_finish(mesh: Mesh) -> None:
    """No call under way is lost, new ones are refused as not reached, and it ends promptly."""
    gate = asyncio.Event()
    started = asyncio.Event()

    async def handler(_: Call) -> Reply:
        started.set()
        await gate.wait()
        return Reply(200, [], b"in time")

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    outcome = start(peers.call(orders, call()))[1]
    await asyncio.wait_for(started.wait(), 5)
    draining = asyncio.get_running_loop().create_task(listener.drain(5))
    await until(lambda: not any(c.calls.open_to_calls for c in peers._connections))
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert not caught.value.reached
    gate.set()
    assert (await outcome).body == b"in time"
    await asyncio.wait_for(draining, 2)
    assert listener.connections_open == 0
    assert peers.counters.connections_broken == 0


async def test_no_call_is_lost_while_a_listener_drains_under_load(mesh: Mesh) -> None:
    """Every call either succeeds or fails as never reached."""

    async def handler(_: Call) -> Reply:
        await asyncio.sleep(0.001)
        return Reply(200)

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    outcomes: list[bool] = []
    stop = asyncio.Event()

    async def caller() -> None:
        while not stop.is_set():
            try:
                await peers.call(orders, call())
            except Unavailable as failure:
                if failure.reached:
                    raise
                outcomes.append(False)
                await asyncio.sleep(0.001)
            else:
                outcomes.append(True)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(caller())
        await until(lambda: outcomes.count(True) > 200)
        await listener.drain(5)
        await until(lambda: outcomes.count(False) > 20)
        stop.set()
    assert listener.connections_open == 0


async def test_draining_ends_with_its_time(mesh: Mesh) -> None:
    """Calls that do not finish are cancelled when the time is over."""
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def handler(_: Call) -> Reply:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    listener, orders = await mesh.listen(handler)
    outcome = start(mesh.peers().call(orders, call()))[1]
    await asyncio.wait_for(started.wait(), 5)
    await asyncio.wait_for(listener.drain(0.05), 4)
    assert cancelled.is_set()
    with pytest.raises(Unavailable) as caught:
        await outcome
    assert caught.value.reached


async def test_requests_after_goaway_are_dropped(mesh: Mesh) -> None:
    """A request that crossed the GoAway is not handled; the GoAway said so."""
    handled: list[bytes] = []
    gate = asyncio.Event()

    async def handler(received: Call) -> Reply:
        handled.append(received.path)
        await gate.wait()
        return Reply(200)

    listener, orders = await mesh.listen(handler)
    raw = await mesh.raw_client(orders.port)
    raw.send(request(1, path=b"/first"))
    await until(lambda: handled)
    draining = asyncio.get_running_loop().create_task(listener.drain(5))
    assert (await raw.expect(GoAway)).last == 1
    raw.send(request(2, path=b"/late"), Ping(1))
    await raw.expect(Pong)
    gate.set()
    assert (await raw.expect(Response)).stream == 1
    raw.abort()
    await asyncio.wait_for(draining, 3)
    assert handled == [b"/first"]
