"""Calls between two runtimes: heads, bodies, failures, cancellation and deadlines."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from tests.unit.mesh.harness import Mesh, call, start, stream, until

from pillion.body import BodyStream, read_all
from pillion.call import Call, Identity, Reply, Target
from pillion.errors import BY_NAME, Failure, Invalid, NotFound, TimedOut, TooLarge, Unavailable
from pillion.mesh.settings import Settings
from pillion.wire.mesh_session import Limits

pytestmark = pytest.mark.anyio

MiB = 1 << 20


async def echo(received: Call) -> Reply:
    """Answer with the body that came, as it comes."""
    return Reply(200, [], received.body)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def test_a_small_call_arrives_as_it_was_made(mesh: Mesh) -> None:
    """Every part of a call and of its reply comes out on the other side."""
    seen: list[Call] = []

    async def handler(received: Call) -> Reply:
        seen.append(received)
        return Reply(201, [(b"x-answer", b"a\xe9")], b"pong")

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    made = call(b"ping", headers=[(b"X-Ask", b"1"), (b"x-ask", b"2")], path=b"/a%20b", seconds=9)
    made.query = b"q=1&q=2"
    made.attempt = 2
    made.caller = Identity("public", "default", "somebody-else")
    reply = await peers.call(orders, made)
    assert (reply.status, reply.headers, reply.body) == (201, [(b"x-answer", b"a\xe9")], b"pong")
    (got,) = seen
    assert (got.operation, got.target) == (
        "invocation.receive",
        Target("app", "orders", "default"),
    )
    assert (got.method, got.path, got.query) == (b"POST", b"/a%20b", b"q=1&q=2")
    assert (got.headers, got.body, got.attempt) == (made.headers, b"ping", 2)
    assert got.caller == Identity("public", "default", "checkout")
    assert abs(got.deadline - made.deadline) < 1.0
    assert listener.streams_open == 0
    assert peers.streams_open == 0
    assert listener.counters.connections_accepted == 1


async def test_a_call_made_inside_a_run(mesh: Mesh) -> None:
    """A call works without an asyncio.Task around it."""
    _, orders = await mesh.listen(echo)
    peers = mesh.peers()
    _, outcome = start(peers.call(orders, call(b"hello")))
    assert (await outcome).body == b"hello"
    _, outcome = start(peers.call(orders, call(b"again")))
    assert (await outcome).body == b"again"


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 3 * MiB])
async def test_bytes_of_any_size_go_both_ways(mesh: Mesh, size: int) -> None:
    """Bodies that fit one frame come as bytes, larger ones as a stream of known length."""
    _, orders = await mesh.listen(echo)
    body = pattern(size)
    reply = await mesh.peers().call(orders, call(body))
    if size <= 64 * 1024:
        assert isinstance(reply.body, bytes)
    else:
        assert isinstance(reply.body, BodyStream)
        assert reply.body.length == size
    assert await read_all(reply.body, size) == body


@pytest.mark.parametrize("length", [None, 5 * 100_000])
async def test_streams_go_both_ways_at_once(mesh: Mesh, length: int | None) -> None:
    """The reply streams while the request still does, and a known length travels."""
    _, orders = await mesh.listen(echo)
    body = stream(length=length, end=False)
    reply = await mesh.peers().call(orders, call(body))
    assert isinstance(reply.body, BodyStream)
    assert reply.body.length == length
    sent = b""
    got = b""
    for letter in b"abcde":
        part = bytes([letter]) * 100_000
        body.feed(part)
        sent += part
        while len(got) < len(sent):
            got += await reply.body.read()
    body.finish()
    assert await reply.body.read() == b""
    assert got == sent


async def test_a_large_stream_never_holds_more_than_its_window(mesh: Mesh) -> None:
    """A fast sender and a slow reader: what is buffered at the reader stays within the window."""
    settings = Settings(limits=Limits(window=64 * 1024))
    consumed = 0
    total = 4 * MiB

    async def handler(received: Call) -> Reply:
        nonlocal consumed
        body = received.body
        assert isinstance(body, BodyStream)
        while chunk := await body.read():
            consumed += len(chunk)
            assert body.buffered <= settings.limits.window
        return Reply(200)

    _, orders = await mesh.listen(handler, settings=settings)
    await mesh.peers().call(orders, call(pattern(total)))
    assert consumed == total


async def test_a_slow_reader_stalls_nobody_else(mesh: Mesh) -> None:
    """While one reply is not read at all, other calls on the same connection go on."""
    listener, orders = await mesh.listen(echo)
    peers = mesh.peers(settings=Settings(connections_per_peer=1))
    slow = await peers.call(orders, call(pattern(2 * MiB)))
    for _ in range(50):
        reply = await peers.call(orders, call(b"quick", seconds=5))
        assert reply.body == b"quick"
    reply = await peers.call(orders, call(pattern(MiB)))
    assert await read_all(reply.body, MiB) == pattern(MiB)
    assert isinstance(slow.body, BodyStream)
    assert slow.body.buffered <= Limits().window
    assert listener.connections_open == 1
    assert await read_all(slow.body, 2 * MiB) == pattern(2 * MiB)


async def test_two_hundred_calls_at_once(mesh: Mesh) -> None:
    """Each of many concurrent calls gets its own answer, over a few connections."""

    async def handler(received: Call) -> Reply:
        await asyncio.sleep(0.02)
        return Reply(200, [], received.path)

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    work = [peers.call(orders, call(path=b"/%d" % number)) for number in range(200)]
    replies = await asyncio.gather(*work)
    assert [reply.body for reply in replies] == [b"/%d" % number for number in range(200)]
    assert 1 <= listener.connections_open <= Settings().connections_per_peer


# Failures.


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("reached", [True, False])
async def test_a_failure_of_the_handler_comes_out_of_the_call(
    mesh: Mesh, name: str, reached: bool
) -> None:
    """Class, code, reason, message, reached and retry_after survive the way."""
    raised = BY_NAME[name](
        "told here", code="ERR_X", reason="some-reason", reached=reached, retry_after=2.5
    )

    async def handler(_: Call) -> Reply:
        raise raised

    _, orders = await mesh.listen(handler)
    with pytest.raises(Failure) as caught:
        await mesh.peers().call(orders, call())
    got = caught.value
    assert type(got) is type(raised)
    assert (got.message, got.code, got.reason) == ("told here", "ERR_X", "some-reason")
    assert (got.reached, got.retry_after) == (reached, 2.5)


async def test_an_unexpected_error_is_internal_and_logged_once(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns nothing of it, the callee's log its kind and place, not its text."""

    async def handler(received: Call) -> Reply:
        raise ValueError(received.body)

    _, orders = await mesh.listen(handler)
    with pytest.raises(Failure, match="its log says more") as caught:
        await mesh.peers().call(orders, call(b"private"))
    assert type(caught.value) is Failure
    assert caught.value.reason == "internal"
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "ValueError" in record.getMessage()
    assert "test_calls.py" in record.getMessage()
    assert "private" not in caplog.text


async def test_a_call_for_another_app_is_refused(mesh: Mesh) -> None:
    """A listener answers only for its own app."""
    called = False

    async def handler(_: Call) -> Reply:
        nonlocal called
        called = True
        return Reply(200)

    _, orders = await mesh.listen(handler)
    with pytest.raises(NotFound) as caught:
        await mesh.peers().call(orders, call(app_id="billing"))
    assert not caught.value.reached
    assert not called


async def test_a_head_that_is_too_large_fails_alone(mesh: Mesh) -> None:
    """Neither a request nor a reply with too many headers harms the connection."""
    huge = [(b"x", b"y" * 70_000)]

    async def handler(received: Call) -> Reply:
        return Reply(200, huge if received.path == b"/huge" else [])

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    with pytest.raises(TooLarge) as caught:
        await peers.call(orders, call(headers=huge))
    assert not caught.value.reached
    with pytest.raises(TooLarge) as caught:
        await peers.call(orders, call(path=b"/huge"))
    assert caught.value.reached
    assert (await peers.call(orders, call())).status == 200
    assert listener.counters.connections_accepted == 1


async def test_a_reply_body_that_breaks_off(mesh: Mesh) -> None:
    """The reader gets what came before, then the failure of the callee's body."""
    body = BodyStream()

    async def handler(_: Call) -> Reply:
        return Reply(200, [], body)

    _, orders = await mesh.listen(handler)
    reply = await mesh.peers().call(orders, call())
    assert isinstance(reply.body, BodyStream)
    body.feed(b"first")
    assert await reply.body.read() == b"first"
    body.fail(Unavailable("the app died", reason="app-died"))
    with pytest.raises(Unavailable) as caught:
        await reply.body.read()
    assert caught.value.reason == "app-died"


async def test_a_reply_body_of_the_wrong_length(mesh: Mesh) -> None:
    """A body that is shorter than it said fails its call, not the connection."""

    async def handler(received: Call) -> Reply:
        return Reply(200, [], stream(b"abc", length=5) if received.path == b"/short" else b"")

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    reply = await peers.call(orders, call(path=b"/short"))
    with pytest.raises(Unavailable) as caught:
        await read_all(reply.body, 100)
    assert caught.value.reason == "body-length"
    await peers.call(orders, call())
    assert listener.counters.connections_accepted == 1


async def test_a_request_body_that_breaks_off(mesh: Mesh) -> None:
    """When the client is gone the callee's work is cancelled and the call fails."""
    cancelled = asyncio.Event()

    async def handler(received: Call) -> Reply:
        try:
            await read_all(received.body, MiB)
        except (asyncio.CancelledError, Failure):
            cancelled.set()
            raise
        return Reply(200)

    _, orders = await mesh.listen(handler)
    body = stream(b"part", end=False)
    _, outcome = start(mesh.peers().call(orders, call(body)))
    await until(lambda: body.buffered == 0)
    body.fail(Unavailable("the client is gone", reason="client-gone"))
    with pytest.raises(Unavailable) as caught:
        await outcome
    assert caught.value.reason == "client-gone"
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_what_cannot_be_encoded_fails_alone(mesh: Mesh) -> None:
    """Text and statuses that the protocol does not carry fail their call, not the connection."""
    replies = {
        b"/header": Reply(200, [(b"name", object())]),  # type: ignore[list-item]
        b"/status": Reply(99),
        b"/words": NotFound("lone \ud800 surrogate"),
    }

    async def handler(received: Call) -> Reply:
        reply = replies.get(received.path, Reply(200))
        if isinstance(reply, Failure):
            raise reply
        return reply

    listener, orders = await mesh.listen(handler)
    peers = mesh.peers()
    for path in (b"/header", b"/status"):
        with pytest.raises(Failure) as caught:
            await peers.call(orders, call(path=path))
        assert caught.value.reason == "internal"
    with pytest.raises(NotFound, match=r"lone \? surrogate"):
        await peers.call(orders, call(path=b"/words"))
    with pytest.raises(Invalid) as refused:
        await peers.call(orders, call(app_id="\ud800"))
    assert not refused.value.reached
    assert (await peers.call(orders, call())).status == 200
    assert listener.counters.connections_accepted == 1
    assert listener.counters.protocol_errors == 0
    assert peers.counters.protocol_errors == 0


# Giving up.


class Work:
    """A handler that says what becomes of it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def handler(self, _: Call) -> Reply:
        """Never answer."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


async def test_cancelling_a_call_cancels_the_callees_work(mesh: Mesh) -> None:
    """A caller that hangs up ends the handler, from a Run."""
    work = Work()
    listener, orders = await mesh.listen(work.handler)
    peers = mesh.peers()
    run, outcome = start(peers.call(orders, call()))
    await asyncio.wait_for(work.started.wait(), 5)
    run.cancel()
    await asyncio.wait_for(work.cancelled.wait(), 5)
    assert outcome.cancelled()
    assert peers.streams_open == 0
    await until(lambda: listener.streams_open == 0)


async def test_cancelling_a_task_cancels_the_callees_work(mesh: Mesh) -> None:
    """A caller that hangs up ends the handler, from a Task."""
    work = Work()
    _, orders = await mesh.listen(work.handler)
    peers = mesh.peers()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await peers.call(orders, call())
    assert work.started.is_set()
    await asyncio.wait_for(work.cancelled.wait(), 5)
    assert peers.streams_open == 0


async def test_a_cancelled_handler_is_no_failure_of_the_app(mesh: Mesh) -> None:
    """A handler that is cancelled on its own side gives the caller a reason of its own."""

    async def handler(_: Call) -> Reply:
        raise asyncio.CancelledError

    _, orders = await mesh.listen(handler)
    with pytest.raises(Unavailable) as caught:
        await mesh.peers().call(orders, call())
    assert caught.value.reason == "cancelled"


async def test_closing_a_reply_body_stops_the_callee(mesh: Mesh) -> None:
    """A reader that has enough makes the callee let go of its body."""
    abandoned = asyncio.Event()
    body = BodyStream(on_abandoned=abandoned.set)

    async def handler(_: Call) -> Reply:
        return Reply(200, [], body)

    listener, orders = await mesh.listen(handler)
    reply = await mesh.peers().call(orders, call())
    assert isinstance(reply.body, BodyStream)
    body.feed(b"x")
    assert await reply.body.read() == b"x"
    reply.body.close()
    await asyncio.wait_for(abandoned.wait(), 5)
    assert listener.streams_open == 0


async def test_a_callee_may_answer_before_the_body_is_here(mesh: Mesh) -> None:
    """The early reply arrives whole; the rest of the request body is let go."""

    async def handler(_: Call) -> Reply:
        return Reply(413, [], b"too much")

    _, orders = await mesh.listen(handler)
    peers = mesh.peers()
    abandoned = asyncio.Event()
    body = BodyStream(on_abandoned=abandoned.set)
    body.feed(pattern(MiB))
    reply = await peers.call(orders, call(body))
    assert (reply.status, reply.body) == (413, b"too much")
    await asyncio.wait_for(abandoned.wait(), 5)
    reply = await peers.call(orders, call(pattern(2 * MiB)))
    assert (reply.status, reply.body) == (413, b"too much")
    assert peers.streams_open == 0


async def test_a_callee_may_read_no_further_and_go_on_answering(mesh: Mesh) -> None:
    """Closing the request body stops the sender and leaves the reply alone."""
    out = BodyStream()

    async def handler(received: Call) -> Reply:
        assert isinstance(received.body, BodyStream)
        await received.body.read()
        received.body.close()
        return Reply(200, [], out)

    _, orders = await mesh.listen(handler)
    abandoned = asyncio.Event()
    body = BodyStream(on_abandoned=abandoned.set)
    body.feed(b"x" * 1000)
    reply = await mesh.peers().call(orders, call(body))
    await asyncio.wait_for(abandoned.wait(), 5)
    out.feed(b"still here")
    out.finish()
    assert await read_all(reply.body, 100) == b"still here"


async def test_a_body_is_left_alone_when_its_call_was_never_sent(mesh: Mesh) -> None:
    """After a refused connection the same body can go to another instance."""
    _, orders = await mesh.listen(echo)
    nobody = mesh.instance(1)
    peers = mesh.peers()
    body = stream(b"precious")
    with pytest.raises(Unavailable) as caught:
        await peers.call(nobody, call(body))
    assert not caught.value.reached
    assert not body.started
    reply = await peers.call(orders, call(body))
    assert await read_all(reply.body, 100) == b"precious"


# Deadlines.


async def test_a_deadline_ends_the_wait_for_the_head(mesh: Mesh) -> None:
    """The caller gets TimedOut and the callee's work is cancelled."""
    work = Work()
    _, orders = await mesh.listen(work.handler)
    peers = mesh.peers()
    started = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        await peers.call(orders, call(seconds=0.1))
    assert 0.09 < time.monotonic() - started < 1.0
    assert caught.value.reason == "deadline"
    assert caught.value.reached
    await asyncio.wait_for(work.cancelled.wait(), 5)
    assert peers.streams_open == 0


async def test_a_deadline_covers_the_reply_body(mesh: Mesh) -> None:
    """A body that is still coming at the deadline breaks off with TimedOut on both sides."""
    abandoned = asyncio.Event()
    body = BodyStream(on_abandoned=abandoned.set)
    body.feed(b"beginning")

    async def handler(_: Call) -> Reply:
        return Reply(200, [], body)

    _, orders = await mesh.listen(handler)
    reply = await mesh.peers().call(orders, call(seconds=0.15))
    assert isinstance(reply.body, BodyStream)
    assert await reply.body.read() == b"beginning"
    with pytest.raises(TimedOut):
        await reply.body.read()
    await asyncio.wait_for(abandoned.wait(), 5)


async def test_a_deadline_that_is_over_sends_nothing(mesh: Mesh) -> None:
    """A call with no time left fails before anything is written."""
    work = Work()
    _, orders = await mesh.listen(work.handler)
    peers = mesh.peers()
    with pytest.raises(TimedOut) as caught:
        await peers.call(orders, call(seconds=-1))
    assert not caught.value.reached
    assert not work.started.is_set()
    assert peers.streams_open == 0


async def test_deadlines_shrink_from_hop_to_hop(mesh: Mesh) -> None:
    """Through two runtimes in a row, each has less time left than the one before."""
    left: list[float] = []

    async def last(received: Call) -> Reply:
        left.append(received.deadline - time.monotonic())
        return Reply(200)

    _, second = await mesh.listen(last, app_id="stock")
    between = mesh.peers(app_id="orders")

    async def middle(received: Call) -> Reply:
        left.append(received.deadline - time.monotonic())
        onward = call(app_id="stock")
        onward.deadline = received.deadline
        return await between.call(second, onward)

    _, first = await mesh.listen(middle)
    await mesh.peers().call(first, call(seconds=5))
    assert 5.0 - 0.001 > left[0] > left[1] + 0.001 > 4.0
