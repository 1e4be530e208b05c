"""The client over real connections to a scripted runtime."""

import asyncio
import math
from dataclasses import dataclass

import anyio
import pytest
from tests.unit.sdk.servers import Wire, reply, scripted, until

from pillion_sdk import Client, InvokeError, NotReady, Response

pytestmark = pytest.mark.anyio


@dataclass
class Order:
    id: int


class Runtime:
    """Answers every request with the same response, and keeps the heads and bodies it got."""

    def __init__(self, answer: bytes = reply()) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def __call__(self, wire: Wire) -> None:
        self.connections += 1
        while True:
            head = (await wire.read_until(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if "transfer-encoding: chunked" in head:
                self.bodies.append(await wire.read_until(b"0\r\n\r\n"))
            else:
                length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
                self.bodies.append(await wire.read_exactly(int(length or "0")))
            await wire.send(self.answer)


def client(port: int, **options) -> Client:
    return Client(f"http://127.0.0.1:{port}", **options)


async def test_a_call_on_the_wire():
    """Request line, host, token, body and length are as HTTP and the runtime want them."""
    runtime = Runtime(reply(b'{"id":7}'))
    async with scripted(runtime) as port, client(port, api_token="secret") as calls:
        order = await calls.invoke(
            "stock", "items/7", query={"a": 1}, json=Order(1), type=Order, timeout=3
        )

    assert order == Order(7)
    assert runtime.bodies == [b'{"id":1}']
    assert runtime.heads[0].split("\r\n")[:-2] == [
        "POST /v1.0/invoke/stock/method/items/7?a=1 HTTP/1.1",
        f"host: 127.0.0.1:{port}",
        "content-type: application/json",
        "x-pillion-deadline-ms: 3000",
        "dapr-api-token: secret",
        "content-length: 8",
    ]


async def test_typed_replies():
    """A reply is a Response, JSON of a type, or text and bytes as they are."""
    runtime = Runtime(reply(b'[{"id":1}]', "200 OK", "x: y"))
    async with scripted(runtime) as port, client(port) as calls:
        response = await calls.invoke("s", "x")
        assert isinstance(response, Response)
        assert (response.status, response.headers["x"]) == (200, "y")
        assert await calls.invoke("s", "x", type=list[Order]) == [Order(1)]
        assert await calls.invoke("s", "x", type=str) == '[{"id":1}]'
        assert await calls.invoke("s", "x", type=bytes) == b'[{"id":1}]'
        with pytest.raises(InvokeError, match="not as expected: expected `object`") as caught:
            await calls.invoke("s", "x", type=Order)
        assert caught.value.status == 502
        runtime.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        assert await calls.invoke("s", "x", type=Order | None) is None
        with pytest.raises(InvokeError, match="got `null`"):
            await calls.invoke("s", "x", type=Order)


async def test_error_replies_are_raised():
    """A status of 400 and up is an InvokeError with what the answer says; 3xx is returned."""
    runtime = Runtime(reply(b'{"errorCode":"E","message":"m"}', "404 Not Found"))
    async with scripted(runtime) as port, client(port) as calls:
        with pytest.raises(InvokeError) as caught:
            await calls.invoke("s", "x", method="GET")
        assert (caught.value.status, caught.value.error_code) == (404, "E")
        runtime.answer = reply(b"", "302 Found", "location: /y")
        assert (await calls.invoke("s", "x")).headers["location"] == "/y"
    assert runtime.connections == 1


async def test_connections_are_kept_and_bounded():
    """Calls reuse idle connections, and no more than allowed are open at once."""
    busy = 0
    most = 0
    free = anyio.Event()

    async def slow(wire: Wire) -> None:
        nonlocal busy, most
        while True:
            await wire.read_until(b"\r\n\r\n")
            busy += 1
            most = max(most, busy)
            await free.wait()
            busy -= 1
            await wire.send(reply())

    async with scripted(slow) as port, client(port, max_connections=2) as calls:
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(lambda: calls.invoke("s", "x"))
            await until(lambda: busy == 2)
            await anyio.wait_all_tasks_blocked()
            assert "2 in use, 0 idle, 2 at most" in repr(calls.transport)
            free.set()
        assert most == 2
        assert "0 in use, 2 idle, 2 at most" in repr(calls.transport)
    assert "0 idle" in repr(calls.transport)


async def test_a_connection_closed_while_idle_is_not_used():
    """A call, even one that must not be repeated, is not lost on a connection closed before it."""
    closed = anyio.Event()

    async def once(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(reply(b"1"))
        await wire.stream.aclose()
        closed.set()

    async with scripted(once) as port, client(port) as calls:
        for _ in range(3):
            closed = anyio.Event()
            assert await calls.invoke("s", "x", type=int) == 1
            await closed.wait()
            # Until the end of the connection has crossed the loopback.
            await until(lambda: all(idle.is_stale() for idle in calls.transport._pool._idle))


async def drop(wire: Wire) -> None:
    """Answer one request and drop the next without a word."""
    await wire.read_until(b"\r\n\r\n")
    await wire.send(reply(b"1"))
    await wire.read_until(b"\r\n\r\n")


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False)])
async def test_a_call_lost_on_an_idle_connection_is_repeated_if_it_may_be(method, again):
    """A kept connection that breaks under a call is replaced once, for idempotent methods only."""
    runtime = Runtime(reply(b"2"))
    async with scripted(drop, runtime) as port, client(port) as calls:
        assert await calls.invoke("s", "x", method=method, type=int) == 1
        if again:
            assert await calls.invoke("s", "x", method=method, type=int) == 2
        else:
            with pytest.raises(InvokeError, match="closed the connection instead of answering"):
                await calls.invoke("s", "x", method=method)
            assert runtime.connections == 0


async def test_a_call_lost_on_a_fresh_connection_is_not_repeated():
    """A runtime that drops every connection is not hammered."""
    dropped = 0

    async def refuse(wire: Wire) -> None:
        nonlocal dropped
        await wire.read_until(b"\r\n\r\n")
        dropped += 1

    async with scripted(refuse) as port, client(port) as calls:
        with pytest.raises(InvokeError) as caught:
            await calls.invoke("s", "x", method="GET")
    assert (caught.value.status, caught.value.error_code) == (502, "ERR_RUNTIME_BROKE_OFF")
    assert dropped == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc", "broke off"),
        (b"nonsense\r\n\r\n", "broke the protocol"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, "broke the protocol"),
    ],
)
async def test_a_broken_answer_is_an_error(answer, said):
    """An answer that is cut short or no HTTP is a 502 and its connection is not kept."""

    async def broken(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(answer)

    async with scripted(broken) as port, client(port) as calls:
        with pytest.raises(InvokeError, match=said) as caught:
            await calls.invoke("s", "x")
        assert caught.value.status == 502
        assert "0 in use, 0 idle" in repr(calls.transport)


async def test_no_runtime_is_said_plainly():
    """Without anybody listening the error names the address and what to do."""
    async with scripted(drop) as port:
        pass
    async with client(port) as calls:
        with pytest.raises(InvokeError, match=f"no runtime at http://127.0.0.1:{port}") as caught:
            await calls.invoke("s", "x")
        assert (caught.value.status, caught.value.error_code) == (503, "ERR_RUNTIME_UNREACHABLE")
        assert "0 in use" in repr(calls.transport)


async def hang(wire: Wire) -> None:
    await wire.read_until(b"\r\n\r\n")
    await anyio.sleep_forever()


async def trickle(wire: Wire) -> None:
    await wire.read_until(b"\r\n\r\n")
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
    await anyio.sleep_forever()


@pytest.mark.parametrize("script", [hang, trickle])
async def test_a_call_takes_no_longer_than_it_may(script):
    """With no answer in time, or half of one, the call is a 504 and leaves nothing open."""
    async with scripted(script) as port, client(port) as calls:
        with pytest.raises(InvokeError, match=r"no answer within 0\.05 s") as caught:
            await calls.invoke("s", "x", timeout=0.05)
        assert (caught.value.status, caught.value.error_code) == (504, "ERR_TIMED_OUT")
        assert "0 in use, 0 idle" in repr(calls.transport)


async def test_waiting_for_a_connection_counts():
    """A call that gets no connection in its time is a 504 too."""
    async with scripted(hang) as port, client(port, max_connections=1) as calls:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: calls.invoke("s", "x"))
            await until(lambda: "1 in use" in repr(calls.transport))
            with pytest.raises(InvokeError, match="no answer within"):
                await calls.invoke("s", "x", timeout=0.05)
            tasks.cancel_scope.cancel()
        assert "0 in use, 0 idle" in repr(calls.transport)


@pytest.mark.parametrize("script", [hang, trickle])
async def test_a_cancelled_call_gives_its_connection_up(script):
    """Cancelling leaves the pool as if the call had not been."""
    async with scripted(script) as port, client(port) as calls:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: calls.invoke("s", "x"))
            await until(lambda: "1 in use" in repr(calls.transport))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert "0 in use, 0 idle" in repr(calls.transport)


async def test_a_reply_too_large_for_memory():
    """invoke reads up to its limit and says what to use instead."""
    async with scripted(Runtime(reply(b"x" * 1001))) as port, client(port, max_reply=1000) as calls:
        with pytest.raises(InvokeError, match=r"read it with client\.stream"):
            await calls.invoke("s", "x")
        assert "0 in use, 0 idle" in repr(calls.transport)


async def test_streaming_a_reply():
    """Chunks are there as they come, whatever the status; a finished reply's connection stays."""
    more = anyio.Event()

    async def chunks(wire: Wire) -> None:
        while True:
            await wire.read_until(b"\r\n\r\n")
            await wire.send(b"HTTP/1.1 418 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            await more.wait()
            await wire.send(b"3\r\ntwo\r\n0\r\n\r\n")

    async with scripted(chunks) as port, client(port) as calls:
        async with calls.stream("s", "x", method="GET") as incoming:
            assert incoming.status == 418
            assert await anext(incoming) == b"one"
            more.set()
            assert [chunk async for chunk in incoming] == [b"two"]
        assert "1 idle" in repr(calls.transport)
        async with calls.stream("s", "x", method="GET") as incoming:
            await anext(incoming)
        assert "0 idle" in repr(calls.transport)


async def test_a_streams_timeout_is_for_its_head():
    """A body may take longer than the timeout, a head may not."""
    more = anyio.Event()

    async def late_body(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
        await more.wait()
        await wire.send(b"x")

    async with (
        scripted(late_body) as port,
        client(port) as calls,
        calls.stream("s", "x", timeout=0.3) as incoming,
    ):
        await anyio.sleep(0.35)
        more.set()
        assert await anext(incoming) == b"x"
    async with scripted(hang) as port, client(port) as calls:
        for data in (b"", parts(b"a")):
            with pytest.raises(InvokeError, match="no answer within"):
                async with calls.stream("s", "x", data=data, timeout=0.05):
                    raise AssertionError("there is no head")
            assert "0 in use, 0 idle" in repr(calls.transport)


async def parts(*chunks: bytes):
    for chunk in chunks:
        yield chunk


async def test_streaming_a_body():
    """A body given as an iterator goes out in chunks, and the connection stays."""
    runtime = Runtime()
    async with scripted(runtime) as port, client(port) as calls:
        await calls.invoke("s", "x", data=parts(b"ab", b"", b"c"))
        await calls.invoke("s", "x", data=parts())
    assert runtime.bodies == [b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"0\r\n\r\n"]
    assert "content-length" not in runtime.heads[0]
    assert runtime.connections == 1


async def test_both_ways_at_once():
    """A reply is read while its request is still being sent, in step with it."""
    got: list[bytes] = []
    echoed, echo = anyio.create_memory_object_stream[bytes](1)

    async def bounce(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            size = int(await wire.read_until(b"\r\n"), 16)
            chunk = await wire.read_exactly(size + 2)
            await wire.send(b"%x\r\n" % size + chunk)
            if not size:
                return

    async def dialogue():
        yield b"1"
        async for chunk in echo:
            if len(got) == 3:
                return
            yield chunk + b"1"

    async with scripted(bounce) as port, client(port) as calls, echoed, echo:
        with anyio.fail_after(5):
            async with calls.stream("s", "x", data=dialogue()) as incoming:
                async for chunk in incoming:
                    got.append(chunk)
                    await echoed.send(chunk)
    assert got == [b"1", b"11", b"111"]


async def test_an_iterator_that_fails_fails_the_call():
    """The exception of the body's iterator is the caller's, and the connection is given up."""

    async def broken():
        yield b"a"
        raise KeyError("mine")

    async with scripted(hang) as port, client(port) as calls:
        with pytest.raises(KeyError, match="mine"):
            await calls.invoke("s", "x", data=broken())
        assert "0 in use, 0 idle" in repr(calls.transport)


async def test_an_early_answer_ends_an_upload():
    """A runtime that refuses a body after its start is heard, and the rest is not sent."""
    closed = 0

    async def refuse(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(reply(b'{"errorCode":"ERR_BODY_TOO_LARGE"}', "413 Too Large"))
        await wire.read_to_end()

    async def endless():
        nonlocal closed
        try:
            while True:
                yield b"x" * 1000
                await anyio.sleep(0)
        finally:
            closed += 1

    async with scripted(refuse) as port, client(port) as calls:
        with anyio.fail_after(5), pytest.raises(InvokeError) as caught:
            await calls.invoke("s", "x", data=endless())
        assert caught.value.status == 413
        assert "0 in use, 0 idle" in repr(calls.transport)
    assert closed == 1


async def test_headers_cannot_smuggle():
    """A header HTTP does not allow is refused before anything is sent."""
    runtime = Runtime()
    async with scripted(runtime) as port, client(port) as calls:
        with pytest.raises(ValueError, match="HTTP does not allow"):
            await calls.invoke("s", "x", headers={"x": "a\r\nb: c"})
        assert "0 in use" in repr(calls.transport)
    assert runtime.heads == []


async def test_the_environment_is_read_at_the_first_call(monkeypatch):
    """A client made before the variables are there uses them all the same."""
    calls = Client()
    runtime = Runtime(reply(b"1"))
    async with scripted(runtime) as port:
        monkeypatch.setenv("DAPR_HTTP_PORT", str(port))
        monkeypatch.setenv("DAPR_API_TOKEN", "t")
        async with calls:
            assert await calls.invoke("s", "x", type=int) == 1
    assert "dapr-api-token: t\r\n" in runtime.heads[0]


async def test_unix_sockets(tmp_path):
    """The runtime may listen on a Unix socket."""
    path = tmp_path / "runtime.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(b"1"))
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    async with Client(f"unix://{path}") as calls:
        assert await calls.invoke("s", "x", type=int) == 1
    server.close()
    await server.wait_closed()


async def test_waiting_for_the_runtime():
    """wait_ready returns once the runtime says so, and asks the right question."""
    answers = [
        reply(b'{"errorCode":"E","message":"not yet"}', "500 Internal Server Error"),
        reply(b'{"errorCode":"E","message":"not yet"}', "500 Internal Server Error"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]
    asked: list[bytes] = []

    async def warming_up(wire: Wire) -> None:
        while answers:
            asked.append(await wire.read_until(b"\r\n\r\n"))
            await wire.send(answers.pop(0))

    async with scripted(warming_up) as port, client(port) as calls:
        await calls.wait_ready(5)
    assert len(asked) == 3
    assert asked[0].startswith(b"GET /v1.0/healthz/outbound HTTP/1.1\r\n")


async def test_a_runtime_that_does_not_get_ready():
    """After the time NotReady says what the last answer was, also when there was none."""
    never = Runtime(reply(b'{"errorCode":"E","message":"warming up"}', "500 X"))
    async with scripted(never) as port, client(port) as calls:
        with pytest.raises(NotReady, match=r"after 0\.1 s: warming up"):
            await calls.wait_ready(0.1)
    async with client(port) as calls:
        with pytest.raises(NotReady, match="no runtime at"):
            await calls.wait_ready(0.1)
    async with scripted(hang) as port, client(port) as calls:
        with pytest.raises(NotReady, match="no answer"):
            await calls.wait_ready(0.05)


async def test_no_limit_is_a_limit_too():
    """An infinite timeout works and is not sent."""
    runtime = Runtime(reply(b"1"))
    async with scripted(runtime) as port, client(port) as calls:
        assert await calls.invoke("s", "x", type=int, timeout=math.inf) == 1
    assert "deadline" not in runtime.heads[0]
