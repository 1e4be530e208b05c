"""Apps behind a real server: raw sockets against uvicorn, and the process that app.run makes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from tests.unit.sdk.servers import serving, until, wire

from pillion_sdk import App, Request, Response, events

pytestmark = pytest.mark.anyio

GET = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /%s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST /%s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Order:
    id: int


def echo_app(**options) -> App:
    app = App("echo", **options)

    @app.call("echo")
    async def echo(order: Order) -> Order:
        return order

    @app.call("hello/{name}", methods=["GET"])
    def hello(name: str) -> str:
        return f"hello {name}"

    return app


async def test_requests_on_one_connection():
    """Keep-alive and pipelined requests are answered in order, sync and async handlers alike."""
    async with serving(echo_app()) as port, wire(port) as connection:
        await connection.send(GET % b"hello/a%2Fb")
        assert (await connection.read_response())[2] == b"hello a/b"
        await connection.send(POST % (b"echo", 8) + b'{"id":1}' + GET % b"hello/x")
        status, headers, body = await connection.read_response()
        assert (status, headers["content-type"], body) == (200, "application/json", b'{"id":1}')
        assert (await connection.read_response())[2] == b"hello x"


async def test_errors_on_the_wire():
    """404, 405, 400 and 413 leave as JSON, and only the last one ends the connection."""
    async with serving(echo_app(max_body=10)) as port, wire(port) as connection:
        for request, status in (
            (GET % b"nothing", 404),
            (GET % b"echo", 405),
            (POST % (b"echo", 2) + b"{}", 400),
        ):
            await connection.send(request)
            answered, headers, _ = await connection.read_response()
            assert (answered, headers["content-type"]) == (status, "application/json")
        await connection.send(POST % (b"echo", 11) + b"x" * 11)
        status, headers, body = await connection.read_response()
        assert (status, headers["connection"]) == (413, "close")
        assert b"ERR_BODY_TOO_LARGE" in body
        assert await connection.read_to_end() == b""


async def test_a_body_of_unknown_length_over_the_limit():
    """A chunked body is refused when it goes over the limit."""
    async with serving(echo_app(max_body=10)) as port, wire(port) as connection:
        await connection.send(CHUNKED % b"echo" + b"b\r\n" + b"x" * 11 + b"\r\n")
        assert (await connection.read_response())[0] == 413


async def test_a_refused_upload_sees_the_answer():
    """A sender that has not finished is listened to for a while, so that it can read the 413."""
    total = 20 * 1024 * 1024
    for head in (POST % (b"echo", total), CHUNKED % b"echo" + b"%x\r\n" % total):
        async with serving(echo_app(max_body=10)) as port, wire(port) as connection:
            await connection.send(head)
            for _ in range(total // 65536):
                await connection.send(b"x" * 65536)
            if b"chunked" in head:
                await connection.send(b"\r\n0\r\n\r\n")
            status, headers, _ = await connection.read_response()
            assert (status, headers["connection"]) == (413, "close")
            assert await connection.read_to_end() == b""


async def test_expect_100_continue():
    """The body is asked for when a handler wants it, and not for a path nobody handles."""
    head = (POST % (b"echo", 8)).replace(b"host: x", b"host: x\r\nexpect: 100-continue")
    async with serving(echo_app()) as port:
        async with wire(port) as connection:
            await connection.send(head)
            assert await connection.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await connection.send(b'{"id":1}')
            assert (await connection.read_response())[2] == b'{"id":1}'
        async with wire(port) as connection:
            await connection.send(head.replace(b"/echo", b"/nothing"))
            assert (await connection.read_response())[0] == 404


async def test_uploads_stream_and_wait():
    """Chunks reach the handler as they come, and a handler that waits stops the sender."""
    app = App("upload", max_body=-1)
    sizes: list[int] = []
    go = anyio.Event()

    @app.call("upload")
    async def upload(request: Request) -> int:
        stream = request.stream()
        sizes.append(len(await anext(stream)))
        await go.wait()
        sizes.extend([len(chunk) async for chunk in stream])
        return sum(sizes)

    total = 64 * 1024 * 1024
    async with serving(app) as port, wire(port) as connection:
        await connection.send(POST % (b"upload", total) + b"first")
        await until(lambda: sizes == [5])

        sent = 5
        stuck = False
        block = b"x" * 65536
        while sent < total and not stuck:
            with anyio.move_on_after(0.3) as scope:
                await connection.send(block[: total - sent])
            # A send that is cut off is in the socket's buffer all the same.
            sent += len(block[: total - sent])
            stuck = scope.cancelled_caught
        assert stuck
        assert sent < total // 2
        go.set()
        while sent < total:
            await connection.send(block[: total - sent])
            sent += len(block[: total - sent])
        status, _, body = await connection.read_response()
    assert (status, body) == (200, str(total).encode())


async def test_downloads_stream_and_wait():
    """A stream is made at the pace of its reader."""
    app = App("download")
    made = 0

    @app.call("download", methods=["GET"])
    async def download() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield b"x" * 65536

    async with serving(app) as port, wire(port) as connection:
        await connection.send(GET % b"download")
        await connection.read_until(b"\r\n\r\n")
        stopped_at = -1
        while stopped_at != made:
            stopped_at = made
            await anyio.sleep(0.1)
        assert 0 < made < 500
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data = data[-7:] + await connection.stream.receive()
    assert made == 1000


async def test_events_reach_the_wire_one_by_one():
    """Each event is sent when it happens, and the generator ends with the connection."""
    app = App("events")
    ended = anyio.Event()
    ticks, ticking = anyio.create_memory_object_stream[int](0)

    @app.call("ticks", methods=["GET"])
    async def feed() -> Response:
        async def source() -> AsyncIterator[int]:
            try:
                async for tick in ticking:
                    yield tick
            finally:
                ended.set()

        return events(source())

    async with serving(app) as port:
        async with wire(port) as connection:
            await connection.send(GET % b"ticks")
            head = await connection.read_until(b"\r\n\r\n")
            assert b"content-type: text/event-stream" in head
            for tick in (1, 2):
                await ticks.send(tick)
                assert b"data: %d\n\n" % tick in await connection.read_until(b"\n\n\r\n")
        with anyio.fail_after(5):
            await ended.wait()
    ticks.close()
    ticking.close()


@pytest.mark.parametrize("request_bytes", [GET % b"slow", POST % (b"slow", 2) + b"{}"])
async def test_hanging_up_cancels_the_handler(request_bytes):
    """A closed connection cancels an async handler that has not answered."""
    app = App("slow")
    started, cancelled = anyio.Event(), anyio.Event()

    @app.call("slow", methods=["GET", "POST"])
    async def slow() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(app) as port, wire(port) as connection:
        await connection.send(request_bytes)
        with anyio.fail_after(5):
            await started.wait()
            assert not cancelled.is_set()
            await connection.stream.aclose()
            await cancelled.wait()


async def test_hanging_up_in_the_body_answers_nobody(caplog):
    """A body that breaks off is not an error of the app: nothing is logged."""
    app = App("upload")
    seen = 0

    @app.call("upload")
    async def upload(request: Request) -> None:
        nonlocal seen
        async for _ in request.stream():
            seen += 1

    async with serving(app) as port, wire(port) as connection:
        await connection.send(POST % (b"upload", 10) + b"abc")
        await until(lambda: seen == 1)
    assert not caplog.records


async def test_a_failing_stream_breaks_the_connection():
    """A stream that fails after its head is cut off, so that nobody takes it for complete."""
    app = App("broken")

    @app.call("x", methods=["GET"])
    async def x() -> AsyncIterator[bytes]:
        yield b"part"
        raise ValueError("late")

    async with serving(app) as port, wire(port) as connection:
        await connection.send(GET % b"x")
        data = await connection.read_to_end()
    assert data.endswith(b"4\r\npart\r\n")


# The process.

APP = """
import sys, threading
import anyio
from pillion_sdk import App

app = App("worker")

@app.call("quick", methods=["GET"])
async def quick() -> str:
    return "quick"

@app.call("slow", methods=["GET"])
async def slow() -> str:
    print("in slow", flush=True)
    await anyio.sleep(0.5)
    return "done"

@app.call("thread", methods=["GET"])
def thread() -> str:
    print("in thread", flush=True)
    threading.Event().wait(0.5)
    return "done"

@app.call("forever", methods=["GET"])
async def forever() -> str:
    print("in forever", flush=True)
    await anyio.sleep_forever()

@app.on_start
def start():
    if "--fail" in sys.argv:
        raise ValueError("cannot start")
    print("started", flush=True)

@app.on_stop
async def stop():
    print("stopped", flush=True)

if __name__ == "__main__":
    app.run(access_log="--log" in sys.argv, stop_timeout=1)
    print("returned", flush=True)
"""


class Process:
    """A running app."""

    def __init__(self, script: Path, *arguments: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []

    def port(self) -> int:
        """Return the port it says it listens on."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
            if "listens on http://127.0.0.1:" in line:
                return int(line.rpartition(":")[2])
        raise AssertionError(f"it does not listen: {self.errors}")

    def line(self) -> str:
        """Return the next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, list[str], str]:
        """Return its status, the rest of its output and all its errors, once it has ended."""
        out, errors = self.process.communicate(timeout=20)
        return self.process.returncode, out.split("\n")[:-1], "".join(self.errors) + errors


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The app above as a file."""
    path = tmp_path / "worker.py"
    path.write_text(APP)
    return path


@pytest.fixture
def start(script: Path) -> Iterator:
    """Start the app; it is killed at the end if the test did not stop it."""
    with contextlib.ExitStack() as stack:

        def starter(*arguments: str, **environ: str) -> Process:
            started = Process(script, *arguments, **environ)
            stack.callback(started.process.wait)
            stack.callback(started.process.kill)
            stack.enter_context(started.process)
            return started

        yield starter


def ask(port: int, path: str) -> bytes:
    """Send a GET and return everything that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
        return data


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("path", ["slow", "thread"])
def test_a_signal_lets_requests_finish(start, name, path):
    """SIGTERM and SIGINT: what is in flight is answered, then the stop hooks run, then 0."""
    app = start(PILLION_APP_PORT="0")
    port = app.port()
    assert app.line() == "started"
    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.append(ask(port, path)))
    asking.start()
    assert app.line() == f"in {path}"
    app.process.send_signal(name)
    asking.join(10)
    status, out, errors = app.end()

    assert answers[0].startswith(b"HTTP/1.1 200")
    assert answers[0].endswith(b"done")
    assert (status, out) == (0, ["stopped", "returned"])
    assert errors == f"worker listens on http://127.0.0.1:{port}\n"
    with pytest.raises(ConnectionRefusedError):
        ask(port, "quick")


def test_a_request_that_does_not_finish_is_cancelled(start):
    """After the stop timeout the rest is cancelled, and the stop hooks run all the same."""
    app = start(PILLION_APP_PORT="0")
    port = app.port()
    assert app.line() == "started"
    asking = threading.Thread(target=ask, args=(port, "forever"))
    asking.start()
    assert app.line() == "in forever"
    app.process.send_signal(signal.SIGTERM)
    asking.join(10)
    status, out, _ = app.end()
    assert (status, out) == (0, ["stopped", "returned"])


def test_the_environment_gives_the_port(start):
    """PILLION_APP_PORT wins over APP_PORT, and what is no port is one clear line."""
    app = start(PILLION_APP_PORT="0", APP_PORT="1")
    assert b"quick" in ask(app.port(), "quick")
    app.process.terminate()
    assert app.end()[0] == 0

    status, _, errors = start(APP_PORT="http").end()
    assert status == 1
    assert errors == (
        "worker: APP_PORT is 'http', which is no port: give a number from 0 to 65535\n"
    )


def test_a_port_in_use_is_one_line(start):
    """The line names the address and says how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, errors = start(PILLION_APP_PORT=str(port)).end()
    assert (status, out) == (1, [])
    assert errors == (
        f"worker cannot listen on 127.0.0.1:{port}: Address already in use; choose another port "
        "with app.run(port=...) or PILLION_APP_PORT\n"
    )


def test_a_start_that_fails_ends_the_process(start):
    """A failing start hook is shown, and the status is not 0."""
    status, out, errors = start("--fail", PILLION_APP_PORT="0").end()
    assert status != 0
    assert out == []
    assert "ValueError: cannot start" in errors
    assert "listens on" not in errors


def test_the_access_log_is_off_unless_asked_for(start):
    """A line for each request only with access_log."""
    app = start("--log", PILLION_APP_PORT="0")
    ask(app.port(), "quick")
    app.process.terminate()
    assert any('"GET /quick HTTP/1.1" 200' in line for line in app.end()[1])
