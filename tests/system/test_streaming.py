"""Bodies of any size through two runtimes, with memory that does not grow."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.support.raw_http import connected, request
from tests.support.runtimes import Machine, Runtime
from tests.support.scripted_app import AppConnection, app_running

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SIZE = 256 * MIB
"""Bytes; the benchmark sends four times as many."""
EXTRA = 40 * MIB


def peak(runtime: Runtime) -> int:
    """Return the most bytes that were ever resident."""
    status = Path(f"/proc/{runtime.run_file.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def pair(machine: Machine, port: int) -> tuple[Runtime, Runtime]:
    """Start a callee and a caller without limits on bodies."""
    callee = await machine.runtime("callee", "--max-body-size", "-1", app_port=port)
    caller = await machine.runtime("caller", "--max-body-size", "-1")
    assert (await caller.invoke("callee", "warm")).status == 200
    return callee, caller


async def serve(connection: AppConnection) -> None:
    """Swallow an upload, send a download, answer the rest."""
    while True:
        head = await connection.head()
        if head.target == "/up":
            size = 0
            while chunk := await connection.chunk():
                size += len(chunk)
            await connection.reply(200, str(size).encode())
        elif head.target == "/down":
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            block = b"10000\r\n" + bytes(65536) + b"\r\n"
            for _ in range(SIZE // 65536):
                await connection.send(block)
            await connection.send(b"0\r\n\r\n")
        else:
            await connection.reply(200, b"ok")


@pytest.mark.timeout(120)
async def test_a_large_upload_and_download_stay_in_little_memory(machine: Machine) -> None:
    """A quarter of a GiB each way costs neither runtime 40 MiB."""
    async with app_running(serve) as app:
        runtimes = await pair(machine, app.port)
        caller = runtimes[1]
        before = [await asyncio.to_thread(peak, one) for one in runtimes]
        async with connected(caller.port) as client:
            head = request("POST", "/v1.0/invoke/callee/method/up").rstrip()
            await client.send(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            block = b"10000\r\n" + bytes(65536) + b"\r\n"
            for _ in range(SIZE // 65536):
                await client.send(block)
            await client.send(b"0\r\n\r\n")
            assert (await client.reply()).body == str(SIZE).encode()
        async with connected(caller.port) as client:
            await client.send(request("GET", "/v1.0/invoke/callee/method/down"))
            assert (await client.head()).status == 200
            size = 0
            async for chunk in client.chunks():
                size += len(chunk)
        assert size == SIZE
        after = [await asyncio.to_thread(peak, one) for one in runtimes]
    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert max(grown) < EXTRA, grown


async def test_a_slow_reader_pauses_the_sender(machine: Machine) -> None:
    """A caller that does not read stops the app, and neither runtime piles the body up."""
    sent = 0

    async def script(connection: AppConnection) -> None:
        nonlocal sent
        head = await connection.head()
        if head.target != "/down":
            await connection.reply(200, b"ok")
            return
        await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(SIZE // 65536):
                await connection.send(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536

    async with app_running(script) as app:
        runtimes = await pair(machine, app.port)
        caller = runtimes[1]
        before = [await asyncio.to_thread(peak, one) for one in runtimes]
        async with connected(caller.port) as client:
            await client.send(request("GET", "/v1.0/invoke/callee/method/down"))
            await client.head()
            still = -1
            while still != sent:
                still = sent
                await asyncio.sleep(0.3)  # two equal looks: the app is at a standstill
            assert sent < SIZE / 4
            other = await caller.invoke("callee", "other")
            assert other.body == b"ok", "another stream is not stalled"
        after = [await asyncio.to_thread(peak, one) for one in runtimes]
    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert max(grown) < 16 * MIB, grown


async def test_server_sent_events_arrive_one_by_one(machine: Machine) -> None:
    """Each event is at the caller before the app makes the next."""
    go_on: asyncio.Queue[None] = asyncio.Queue()

    async def script(connection: AppConnection) -> None:
        await connection.request()
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(5):
            event = b"data: %d\n\n" % number
            await connection.send(b"%x\r\n%b\r\n" % (len(event), event))
            await go_on.get()
        await connection.send(b"0\r\n\r\n")

    async with app_running(script) as app:
        await machine.runtime("callee", app_port=app.port)
        caller = await machine.runtime("caller")
        async with connected(caller.port) as client:
            target = "/v1.0/invoke/callee/method/x"
            await client.send(request("GET", target, [("Accept", "text/event-stream")]))
            head = await client.head()
            assert head.header("content-type") == b"text/event-stream"
            events = []
            async for chunk in client.chunks():
                events.append(chunk)
                go_on.put_nowait(None)
    assert b"".join(events) == b"".join(b"data: %d\n\n" % number for number in range(5))
    assert len(events) == 5


async def test_an_answer_before_the_upload_ends_is_read(machine: Machine) -> None:
    """An app that refuses an upload early is heard, and the connection ends."""

    async def script(connection: AppConnection) -> None:
        await connection.head()
        await connection.reply(403, b"no, thank you")
        await connection.until_gone()

    async with app_running(script) as app:
        await machine.runtime("callee", "--max-body-size", "-1", app_port=app.port)
        caller = await machine.runtime("caller", "--max-body-size", "-1")
        async with connected(caller.port) as client:
            head = request("POST", "/v1.0/invoke/callee/method/up").rstrip()
            await client.send(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            await client.send(b"10000\r\n" + bytes(65536) + b"\r\n")
            reply = await client.reply()
            assert (reply.status, reply.body, reply.closes) == (403, b"no, thank you", True)
            assert await client.ends()


async def test_expect_continue_is_answered_before_the_body(machine: Machine) -> None:
    """A client that waits for 100 Continue gets it, then its answer."""
    async with app_running(serve) as app:
        await machine.runtime("callee", "--max-body-size", "-1", app_port=app.port)
        caller = await machine.runtime("caller", "--max-body-size", "-1")
        async with connected(caller.port) as client:
            await client.send(
                b"POST /v1.0/invoke/callee/method/up HTTP/1.1\r\nHost: a\r\n"
                b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await client.head()).status == 100
            await client.send(b"5\r\nhello\r\n0\r\n\r\n")
            assert (await client.reply()).body == b"5"
