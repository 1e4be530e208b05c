"""Connections to other runtimes: opened on demand, shared, paused, drained."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import pytest
from tests.unit.mesh.certificates import Authority
from tests.unit.mesh.harness import Mesh, Raw, call, start, until

from pillion.body import BodyStream, read_all
from pillion.call import Call, Reply
from pillion.errors import Overloaded, TimedOut, Unavailable
from pillion.mesh.settings import Settings
from pillion.wire.frames import Data, GoAway, Hello, Ping, Request, Response
from pillion.wire.mesh_session import Limits

pytestmark = pytest.mark.anyio


async def answer(_: Call) -> Reply:
    """Answer at once."""
    return Reply(200, [], b"ok")


class Gate:
    """A handler that answers once it is let."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()

    async def handler(self, _: Call) -> Reply:
        """Wait for the gate."""
        self.waiting += 1
        await self.open.wait()
        return Reply(200, [], b"ok")


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# Opening.


async def test_concurrent_first_calls_share_one_attempt(mesh: Mesh) -> None:
    """Many callers of a new instance wait for the same connection."""
    listener, orders = await mesh.listen(answer)
    peers = mesh.peers()
    replies = await asyncio.gather(*[peers.call(orders, call()) for _ in range(30)])
    assert {reply.status for reply in replies} == {200}
    assert listener.counters.connections_accepted == 1
    assert peers.counters.connections_opened == 1


async def test_more_connections_are_opened_when_streams_are_many(mesh: Mesh) -> None:
    """A busy peer gets further connections, up to the limit, and calls spread over them."""
    gate = Gate()
    listener, orders = await mesh.listen(gate.handler)
    peers = mesh.peers(settings=Settings(grow_at=5, connections_per_peer=3))
    calls = []
    for _ in range(40):
        calls.append(start(peers.call(orders, call()))[1])
        await asyncio.sleep(0.005)
    await until(lambda: gate.waiting == 40)
    assert listener.connections_open == 3
    gate.open.set()
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}


async def test_calls_beyond_the_streams_wait_for_a_free_one(mesh: Mesh) -> None:
    """Over the callee's limit calls wait in order; over the queue's they are shed."""
    gate = Gate()
    _, orders = await mesh.listen(gate.handler, settings=Settings(limits=Limits(max_streams=2)))
    peers = mesh.peers(settings=Settings(connections_per_peer=1, max_waiting=3))
    calls = [start(peers.call(orders, call()))[1] for _ in range(3)]
    await until(lambda: gate.waiting == 2)
    calls += [start(peers.call(orders, call()))[1] for _ in range(2)]
    with pytest.raises(Overloaded) as caught:
        await peers.call(orders, call())
    assert caught.value.reason == "mesh-queue-full"
    assert not caught.value.reached
    assert gate.waiting == 2
    gate.open.set()
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}


async def test_a_deadline_covers_the_wait_for_a_connection(mesh: Mesh) -> None:
    """A peer that accepts and says nothing costs a call its deadline, not more."""

    async def silent(raw: Raw) -> None:
        await raw.closed()

    orders = await mesh.raw_server(silent)
    peers = mesh.peers()
    started = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        await peers.call(orders, call(seconds=0.2))
    assert time.monotonic() - started < 2.0
    assert not caught.value.reached


async def test_a_cancelled_wait_for_a_connection_leaves_no_trace(mesh: Mesh) -> None:
    """A call cancelled before its connection is there is not made later."""

    served: list[object] = []
    greet = asyncio.Event()

    async def late(raw: Raw) -> None:
        await greet.wait()
        await raw.greet()
        while True:
            served.append(await raw.next())

    orders = await mesh.raw_server(late)
    peers = mesh.peers()
    run, outcome = start(peers.call(orders, call()))
    await asyncio.sleep(0)
    run.cancel()
    assert outcome.cancelled()
    greet.set()
    await until(lambda: peers.counters.connections_opened == 1)
    assert peers.streams_open == 0
    assert served == []


async def test_what_remains_is_sent_less_a_millisecond(mesh: Mesh) -> None:
    """The callee gives up before the caller does; a call without a deadline says so."""
    seen: list[int] = []

    async def timekeeper(raw: Raw) -> None:
        await raw.greet()
        while True:
            asked = await raw.expect(Request)
            seen.append(asked.remaining)
            raw.send(Response(asked.stream, 200, [], -1, b"", end=True))

    orders = await mesh.raw_server(timekeeper)
    peers = mesh.peers()
    await peers.call(orders, call())
    await peers.call(orders, call(seconds=20))
    assert seen[0] == -1
    assert 10_000 < seen[1] <= 19_998


# Trouble.


async def test_a_refused_connection_fails_fast_and_is_tried_again_later(mesh: Mesh) -> None:
    """A dead address is reported once an attempt; calls in the pause fail without one."""
    port = free_port()
    orders = mesh.instance(port)
    peers = mesh.peers(settings=Settings(backoff=0.3))
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert (caught.value.reason, caught.value.reached) == ("connect-failed", False)
    assert mesh.broken == [orders]
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert (caught.value.reason, caught.value.reached) == ("connect-backoff", False)
    assert 0.0 < (caught.value.retry_after or 0.0) <= 0.3
    assert peers.counters.connections_failed == 1
    await mesh.listen(answer, port=port)
    await asyncio.sleep(caught.value.retry_after or 0.0)
    await until_answered(peers.call, orders)
    assert peers.counters.connections_failed == 1


async def until_answered(make: object, instance: object) -> None:
    """Call until the pause after a failure is over."""
    for _ in range(200):
        try:
            reply = await make(instance, call())  # type: ignore[operator]
        except Unavailable as failure:
            if failure.reason != "connect-backoff":
                raise
            await asyncio.sleep(0.005)
        else:
            assert reply.status == 200
            return
    raise AssertionError("the pause did not end")


async def test_pauses_double_with_each_failure(mesh: Mesh) -> None:
    """The pause grows up to its limit."""
    orders = mesh.instance(free_port())
    peers = mesh.peers(settings=Settings(backoff=0.02, max_backoff=0.08))
    pauses: list[float] = []
    while len(pauses) < 4:
        with pytest.raises(Unavailable) as caught:
            await peers.call(orders, call())
        assert caught.value.reason == "connect-failed"
        with pytest.raises(Unavailable) as caught:
            await peers.call(orders, call())
        pause = caught.value.retry_after or 0.0
        pauses.append(pause)
        await asyncio.sleep(pause + 0.002)
    assert pauses[0] <= 0.02 < pauses[1] <= 0.04 < pauses[2] <= 0.08
    assert 0.04 < pauses[3] <= 0.08
    assert len(mesh.broken) == 4


async def test_a_peer_that_dies_in_the_middle_of_calls(mesh: Mesh) -> None:
    """All its calls fail at once as reached, it is reported once, and a new one connects."""
    received = 0

    async def dying(raw: Raw) -> None:
        nonlocal received
        await raw.greet()
        for _ in range(3):
            await raw.expect(Request)
            received += 1
        raw.abort()

    orders = await mesh.raw_server(dying)
    peers = mesh.peers()
    calls = [start(peers.call(orders, call(seconds=5)))[1] for _ in range(3)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, Unavailable)
        assert (outcome.reason, outcome.reached) == ("connection-broken", True)
    assert received == 3
    assert mesh.broken == [orders]
    assert peers.counters.connections_broken == 1
    assert peers.streams_open == 0


async def test_a_peer_that_dies_in_the_middle_of_a_reply(mesh: Mesh) -> None:
    """The reader of the body gets what came, then the failure."""

    async def dying(raw: Raw) -> None:
        await raw.greet()
        asked = await raw.expect(Request)
        raw.send(Response(asked.stream, 200, [], -1, b"some", end=False))
        await raw.writer.drain()
        await raw.expect(Ping)  # never comes

    orders = await mesh.raw_server(dying)
    peers = mesh.peers(settings=Settings(ping_interval=0.05, ping_timeout=0.05))
    reply = await peers.call(orders, call())
    assert isinstance(reply.body, BodyStream)
    assert await reply.body.read() == b"some"
    with pytest.raises(Unavailable) as caught:
        await reply.body.read()
    assert caught.value.reason == "connection-broken"


async def test_a_call_that_never_left_was_not_reached(mesh: Mesh) -> None:
    """A connection that breaks before the frame is written fails the call as not reached."""
    gate = Gate()
    _, orders = await mesh.listen(gate.handler)
    peers = mesh.peers()
    first = start(peers.call(orders, call()))[1]
    await until(lambda: gate.waiting == 1)
    second = start(peers.call(orders, call()))[1]
    (connection,) = peers._connections
    connection.abort("pulled")
    with pytest.raises(Unavailable) as caught:
        await first
    assert caught.value.reached
    with pytest.raises(Unavailable) as caught:
        await second
    assert (caught.value.reason, caught.value.reached) == ("connection-broken", False)


async def test_a_first_break_is_followed_by_a_new_connection_at_once(mesh: Mesh) -> None:
    """One broken connection costs no pause; breaking again and again does."""
    breaks = 0

    async def flaky(raw: Raw) -> None:
        nonlocal breaks
        await raw.greet()
        await raw.expect(Request)
        breaks += 1
        raw.abort()

    orders = await mesh.raw_server(flaky)
    peers = mesh.peers()
    reasons = []
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await peers.call(orders, call())
        reasons.append(caught.value.reason)
    assert reasons == ["connection-broken", "connection-broken", "connect-backoff"]
    assert breaks == 2


# Identity.


async def test_the_wrong_app_at_an_address_is_refused(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """A trusted runtime of another app gets no call: one log line, one count, not reached."""
    called = False

    async def handler(_: Call) -> Reply:
        nonlocal called
        called = True
        return Reply(200)

    listener, billing = await mesh.listen(handler, app_id="billing")
    orders = mesh.instance(billing.port)
    peers = mesh.peers()
    caplog.set_level(logging.WARNING)
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert (caught.value.reason, caught.value.reached) == ("peer-identity", False)
    assert peers.counters.identity_refused == 1
    lines = [r for r in caplog.records if "refused a mesh peer" in r.getMessage()]
    assert len(lines) == 1
    assert "spiffe://public/ns/default/billing" in lines[0].getMessage()
    assert mesh.broken == [orders]
    assert not called
    await until(lambda: listener.connections_open == 0)


async def test_the_same_app_of_another_trust_domain_is_refused(mesh: Mesh) -> None:
    """The trust domain is part of who a peer is."""
    context, _ = mesh.authority.contexts("spiffe://elsewhere/ns/default/orders")
    _, orders = await mesh.listen(answer, context=context)
    peers = mesh.peers()
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert caught.value.reason == "peer-identity"


async def test_the_same_app_in_another_namespace_is_refused(mesh: Mesh) -> None:
    """The namespace is part of who a peer is."""
    context, _ = mesh.authority.contexts("spiffe://public/ns/other/orders")
    _, orders = await mesh.listen(answer, context=context)
    with pytest.raises(Unavailable) as caught:
        await mesh.peers().call(orders, call())
    assert caught.value.reason == "peer-identity"


async def test_a_server_of_another_authority_is_refused(
    mesh: Mesh, stranger: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate that our authority did not issue ends the handshake."""
    context, _ = stranger.contexts(mesh.uri("orders"), trust=mesh.authority.root)
    _, orders = await mesh.listen(answer, context=context)
    peers = mesh.peers()
    caplog.set_level(logging.WARNING)
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert (caught.value.reason, caught.value.reached) == ("peer-identity", False)
    assert peers.counters.identity_refused == 1
    assert len([r for r in caplog.records if "refused a mesh peer" in r.getMessage()]) == 1


async def test_a_server_that_refuses_us_is_not_reached(mesh: Mesh, stranger: Authority) -> None:
    """When the callee does not trust our certificate the call fails as not reached."""
    _, orders = await mesh.listen(answer)
    _, context = stranger.contexts(mesh.uri("checkout"), trust=mesh.authority.root)
    with pytest.raises(Unavailable) as caught:
        await mesh.peers(context=context).call(orders, call())
    assert (caught.value.reason, caught.value.reached) == ("connect-failed", False)


async def test_a_server_of_another_protocol_is_refused(mesh: Mesh) -> None:
    """Without the ALPN name there is no connection."""
    context, _ = mesh.authority.contexts(mesh.uri("orders"), alpn="h2")
    _, orders = await mesh.listen(answer, context=context)
    with pytest.raises(Unavailable) as caught:
        await mesh.peers().call(orders, call())
    assert not caught.value.reached


# Quiet connections.


async def test_an_idle_connection_is_closed_and_opened_again(mesh: Mesh) -> None:
    """Without streams a connection goes after its time, unreported; the next call works."""
    listener, orders = await mesh.listen(answer)
    peers = mesh.peers(settings=Settings(ping_interval=0.03, ping_timeout=0.2, idle_timeout=0.1))
    await peers.call(orders, call())
    await until(lambda: listener.connections_open == 0)
    assert peers.connections_open == 0
    assert mesh.broken == []
    await peers.call(orders, call())
    assert peers.counters.connections_opened == 2
    assert peers.counters.connections_broken == 0


async def test_a_connection_with_a_stream_is_not_idle(mesh: Mesh) -> None:
    """A call that takes long keeps its connection, by pings."""
    gate = Gate()
    _, orders = await mesh.listen(gate.handler)
    peers = mesh.peers(settings=Settings(ping_interval=0.03, ping_timeout=1.0, idle_timeout=0.05))
    outcome = start(peers.call(orders, call()))[1]
    await asyncio.sleep(0.3)
    gate.open.set()
    assert (await outcome).status == 200


async def test_a_peer_that_does_not_answer_pings_is_closed(mesh: Mesh) -> None:
    """Silence after a ping ends the connection and the calls on it."""
    pings = 0

    async def mute(raw: Raw) -> None:
        nonlocal pings
        await raw.greet()
        while True:
            pings += isinstance(await raw.next(), Ping)

    orders = await mesh.raw_server(mute)
    peers = mesh.peers(settings=Settings(ping_interval=0.05, ping_timeout=0.1))
    with pytest.raises(Unavailable, match="ping") as caught:
        await asyncio.wait_for(peers.call(orders, call()), 5)
    assert caught.value.reason == "connection-broken"
    assert pings == 1
    assert mesh.broken == [orders]


async def test_a_peer_that_says_no_hello_is_closed(mesh: Mesh) -> None:
    """The handshake has a limit that covers the Hello."""

    async def silent(raw: Raw) -> None:
        await raw.closed()

    orders = await mesh.raw_server(silent)
    peers = mesh.peers(settings=Settings(handshake_timeout=0.15))
    with pytest.raises(Unavailable, match="Hello") as caught:
        await asyncio.wait_for(peers.call(orders, call()), 5)
    assert (caught.value.reason, caught.value.reached) == ("connect-failed", False)


async def test_a_callee_that_breaks_the_rules_is_closed(mesh: Mesh) -> None:
    """The callee is told why; the call fails, and the breach is counted."""
    told: list[str] = []

    async def liar(raw: Raw) -> None:
        await raw.greet()
        await raw.expect(Request)
        raw.send(Response(99, 200, [], -1, b"", end=True))
        told.append((await raw.expect(GoAway)).reason)

    orders = await mesh.raw_server(liar)
    peers = mesh.peers()
    with pytest.raises(Unavailable):
        await peers.call(orders, call(seconds=5))
    await until(lambda: told)
    assert "never opened" in told[0]
    assert peers.counters.protocol_errors == 1


async def test_reply_headers_that_are_not_http_are_refused(mesh: Mesh) -> None:
    """A callee cannot smuggle a header into what the caller's app is sent."""

    async def smuggler(raw: Raw) -> None:
        await raw.greet()
        while True:
            asked = await raw.expect(Request)
            end = asked.path == b"/whole"
            raw.send(Response(asked.stream, 200, [(b"a", b"b\r\nc: d")], -1, b"", end=end))

    orders = await mesh.raw_server(smuggler)
    peers = mesh.peers()
    for path in (b"/whole", b"/stream"):
        with pytest.raises(Unavailable) as caught:
            await peers.call(orders, call(path=path))
        assert caught.value.reason == "bad-reply"
    assert peers.streams_open == 0


# Going away.


async def test_goaway_gives_back_what_was_not_handled(mesh: Mesh) -> None:
    """Streams above the last one fail as not reached; the others finish on the connection."""
    handled = asyncio.Event()

    async def leaving(raw: Raw) -> None:
        await raw.greet()
        await raw.expect(Request)
        await raw.expect(Request)
        raw.send(GoAway(1, "drain"))
        await handled.wait()
        raw.send(Response(1, 200, [], -1, b"done", end=True))
        await raw.closed()

    orders = await mesh.raw_server(leaving)
    peers = mesh.peers()
    first = start(peers.call(orders, call()))[1]
    second = start(peers.call(orders, call()))[1]
    with pytest.raises(Unavailable) as caught:
        await second
    assert (caught.value.reason, caught.value.reached) == ("going-away", False)
    handled.set()
    assert (await first).body == b"done"
    await until(lambda: peers.connections_open == 0)
    assert mesh.broken == []


async def test_draining_the_pool_waits_for_calls_in_flight(mesh: Mesh) -> None:
    """Calls under way finish, their bodies too; then everything is closed, calls are refused."""
    gate = Gate()
    body = BodyStream()

    async def handler(received: Call) -> Reply:
        if received.path == b"/stream":
            return Reply(200, [], body)
        return await gate.handler(received)

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    outcome = start(peers.call(orders, call()))[1]
    streaming = await peers.call(orders, call(path=b"/stream"))
    await until(lambda: gate.waiting == 1)
    draining = asyncio.get_running_loop().create_task(peers.drain(5))
    await asyncio.sleep(0.02)
    gate.open.set()
    assert (await outcome).body == b"ok"
    assert not draining.done()
    body.feed(b"end")
    body.finish()
    assert await read_all(streaming.body, 10) == b"end"
    await asyncio.wait_for(draining, 2)
    assert mesh.broken == []
    assert peers.connections_open == 0
    await until(lambda: listener.connections_open == 0)
    with pytest.raises(Unavailable) as caught:
        await peers.call(orders, call())
    assert caught.value.reason == "shutting-down"


async def test_draining_ends_with_its_time(mesh: Mesh) -> None:
    """Calls that do not finish in time fail when the pool closes."""
    gate = Gate()
    _, orders = await mesh.listen(gate.handler)
    peers = mesh.peers()
    outcome = start(peers.call(orders, call()))[1]
    await until(lambda: gate.waiting == 1)
    await asyncio.wait_for(peers.drain(0.05), 3)
    with pytest.raises(Unavailable):
        await outcome
    assert mesh.broken == []


async def test_closing_ends_attempts_under_way(mesh: Mesh) -> None:
    """A call that waits for a connection fails when the pool closes; no task is left."""

    async def silent(raw: Raw) -> None:
        await raw.closed()

    orders = await mesh.raw_server(silent)
    peers = mesh.peers()
    outcome = start(peers.call(orders, call()))[1]
    await until(lambda: peers.connections_open == 1)
    await peers.aclose()
    with pytest.raises(Unavailable) as caught:
        await outcome
    assert not caught.value.reached
    assert peers.connections_open == 0


async def test_forgotten_instances_leave_nothing_behind(mesh: Mesh) -> None:
    """A pool holds nothing for instances that are neither connected nor paused."""
    peers = mesh.peers(settings=Settings(backoff=0.01, max_backoff=0.02))
    for _ in range(20):
        with pytest.raises(Unavailable):
            await peers.call(mesh.instance(1), call())
    await until(lambda: not peers._peers)


# Turns.


async def test_senders_take_turns_while_the_transport_is_full(mesh: Mesh) -> None:
    """When a peer reads again, streams that waited send one frame each in turn."""
    read = asyncio.Event()
    frames: list[int] = []

    async def slow(raw: Raw) -> None:
        raw.send(Hello(1, 1 << 30, 512, 64 * 1024, 64 * 1024))
        await raw.expect(Hello)
        await read.wait()
        while len(frames) < 1500:
            frame = await raw.next()
            if isinstance(frame, Data):
                frames.append(frame.stream)

    orders = await mesh.raw_server(slow)
    peers = mesh.peers(settings=Settings(connections_per_peer=1))
    body = b"x" * (32 << 20)
    calls = [start(peers.call(orders, call(body))) for _ in range(3)]
    (connection,) = peers._connections
    await until(lambda: connection.congested)
    transport = connection._transport
    assert transport is not None
    assert transport.get_write_buffer_size() < 1 << 20
    read.set()
    await until(lambda: len(frames) >= 1500, 20)
    tail = frames[1200:]
    for number in (1, 2, 3):
        assert 90 <= tail.count(number) <= 110
    for run, _ in calls:
        run.cancel()


async def test_frames_of_one_tick_are_one_write(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls made in one turn of the loop leave in one write."""
    listener, orders = await mesh.listen(answer)
    peers = mesh.peers()
    await peers.call(orders, call())
    (connection,) = peers._connections
    flushes = 0
    flush = type(connection).flush

    def counted(self: object) -> None:
        nonlocal flushes
        flushes += self is connection
        flush(self)  # type: ignore[arg-type]

    monkeypatch.setattr(type(connection), "flush", counted)
    calls = [start(peers.call(orders, call()))[1] for _ in range(20)]
    await asyncio.gather(*calls)
    assert flushes == 1
    assert listener.connections_open == 1
