"""Real runtimes, each a process of its own, beside apps that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from pillion.home import Home, RunFile, running
from tests.support.command import Command
from tests.support.raw_http import RawReply, connected, request


class Runtime:
    """One ``pillion sidecar``.

    Attributes:
        app_id: its app.
        command: the process.
        run_file: where it listens; there once :meth:`up` has returned.
    """

    def __init__(self, home: Path, app_id: str, *flags: str, env: dict[str, str]) -> None:
        self.app_id = app_id
        self._home = home
        self.run_file: RunFile
        self.command = Command(
            home,
            *("sidecar", "--app-id", app_id, "--dapr-http-port", "0", "--metrics-port", "0"),
            *("--dapr-listen-addresses", "127.0.0.1", *flags),
            env=env,
        )

    async def up(self) -> None:
        """Return once the API answers."""
        await poll(lambda: asyncio.to_thread(self._is_up), f"{self.app_id} is up", 20.0)
        await self.until_status("/v1.0/healthz/outbound", 204)

    def _is_up(self) -> bool:
        assert self.command.process.poll() is None, self.command.report()
        found = [one for one in running(Home.locate(self._home)) if one.pid == self.command.pid]
        if found:
            self.run_file = found[0]
        return bool(found)

    @property
    def port(self) -> int:
        """Where its API listens."""
        return self.run_file.http_port

    async def ready(self) -> None:
        """Return once its app is served."""
        await self.until_status("/v1.0/healthz", 204)

    async def until_status(self, path: str, status: int, seconds: float = 15.0) -> None:
        """Return once ``GET path`` is answered so."""
        seen: list[int] = []

        async def look() -> bool:
            reply = await self.ask("GET", path)
            seen[:] = [reply.status]
            return reply.status == status

        await poll(look, f"{path} answers {status}", seconds)

    async def ask(
        self,
        method: str,
        target: str,
        *headers: tuple[str, str],
        body: bytes = b"",
        chunked: bool = False,
    ) -> RawReply:
        """Make one request to the API, over a connection of its own."""
        async with connected(self.port) as client:
            data = request(method, target, headers, body, chunked=chunked)
            return await client.ask(data, method)

    async def invoke(
        self, app: str, path: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b""
    ) -> RawReply:
        """Call another app."""
        return await self.ask(method, f"/v1.0/invoke/{app}/method/{path}", *headers, body=body)

    async def metrics(self) -> dict[str, float]:
        """Return every metric by its name and labels."""
        async with connected(self.run_file.metrics_port) as client:
            page = await client.ask(request("GET", "/metrics"))
        lines = [line for line in page.body.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's values with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for key, value in (await self.metrics()).items()
            if key.split("{")[0] == name and all(one in key for one in wanted)
        )

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.command.send(signal.SIGKILL)

    async def stop(self) -> int:
        """End it with SIGTERM and return its exit status."""
        self.command.send(signal.SIGTERM)
        return await asyncio.to_thread(self.command.wait, 15.0)


class Machine:
    """The runtimes of one user on one machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runtimes: list[Runtime] = []

    async def runtime(
        self, app_id: str, *flags: str, app_port: int = 0, env: dict[str, str] | None = None
    ) -> Runtime:
        """Start a runtime, and wait for its API and for its app if it has one."""
        runtime = self.launch(app_id, *flags, app_port=app_port, env=env)
        await runtime.up()
        if app_port:
            await runtime.ready()
        return runtime

    def launch(
        self, app_id: str, *flags: str, app_port: int = 0, env: dict[str, str] | None = None
    ) -> Runtime:
        """Start a runtime and wait for nothing.

        Its app is not asked for ``/dapr/config`` unless ``flags`` say otherwise, so that a script
        sees the calls of its test only.
        """
        first = ("--app-port", str(app_port)) if app_port else ()
        if "--disable-init-endpoints" not in flags:
            first += ("--disable-init-endpoints", "config")
        runtime = Runtime(self.home, app_id, *first, *flags, env=env or {})
        self.runtimes.append(runtime)
        return runtime

    async def close(self) -> None:
        """End every runtime; one that was still well must have ended well."""
        for runtime in self.runtimes:
            if runtime.command.process.poll() is None:
                runtime.command.send(signal.SIGTERM)
        for runtime in self.runtimes:
            await asyncio.to_thread(runtime.command.close)


@contextlib.asynccontextmanager
async def machine_at(home: Path) -> AsyncIterator[Machine]:
    """A machine, its runtimes ended at the end."""
    machine = Machine(home)
    try:
        yield machine
    finally:
        await machine.close()


async def poll(look: Callable[[], Awaitable[object]], what: str, seconds: float = 5.0) -> None:
    """Return once the coroutine function ``look`` gives something true."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await look():
                return
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s"
        await asyncio.sleep(0.01)


def error_of(reply: RawReply) -> tuple[int, str, str]:
    """Return status, ``errorCode`` and message of the API's error."""
    assert reply.header("content-type") == b"application/json", reply
    error = json.loads(reply.body)
    return reply.status, error["errorCode"], error["message"]
