"""The way to the app: its port, its health, and what its requests carry."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable

from pillion.body import discard, read_all
from pillion.call import Call, Headers, Reply
from pillion.errors import Failure, Unavailable
from pillion.net.http_client import ClientLimits, HttpClient, Origin
from pillion.options import AppHealthOptions, Options
from pillion.wheel import Wheel
from pillion.wire.http1_requests import NEVER_FORWARDED

log = logging.getLogger("pillion.app")

PORT_INTERVAL = 0.1
"""Seconds between two looks at a port that is not open yet."""
PORT_TIMEOUT = 0.5
WARN_EVERY = 30.0


class AppChannel:
    """Calls the app beside this runtime.

    Attributes:
        port_open: True once the app's port has accepted a connection.
        healthy: True while the app takes calls.
        probes, failed_probes: counted since the start.
    """

    __slots__ = (
        "_client",
        "_fixed",
        "_health",
        "_on_health",
        "_options",
        "failed_probes",
        "healthy",
        "port_open",
        "probes",
    )

    def __init__(self, options: Options, wheel: Wheel, on_health: Callable[[bool], None]) -> None:
        self._options = options
        tls = _unverified() if options.app_protocol == "https" else None
        self._client = HttpClient(
            Origin(options.app_host, options.app_port, tls),
            wheel,
            ClientLimits(body=options.max_body_size, head=max(options.read_buffer_size, 65536)),
            name="app",
        )
        self._fixed: Headers = [(b"dapr-callee-app-id", options.app_id.encode())]
        if options.app_api_token:
            self._fixed.append((b"dapr-api-token", options.app_api_token.encode()))
        self._health = options.app_health
        self._on_health = on_health
        self.port_open = False
        self.healthy = False
        self.probes = 0
        self.failed_probes = 0

    async def call(self, call: Call) -> Reply:
        """Give a call to the app.

        Raises:
            Unavailable: the app is not there, not well, or broke off.
            TimedOut: the deadline passed.
        """
        if not self.healthy:
            discard(call.body)
            raise Unavailable(
                "app is not in a healthy state", reason="app-unhealthy", reached=False
            )
        headers = call.headers
        if not NEVER_FORWARDED.isdisjoint([name.lower() for name, _value in headers]):
            # Our own API takes them out; another runtime need not be ours.
            headers = [pair for pair in headers if pair[0].lower() not in NEVER_FORWARDED]
        headers = headers + self._fixed
        caller = call.caller
        if caller is not None:
            headers.append((b"dapr-caller-app-id", caller.app_id.encode()))
            headers.append((b"dapr-caller-namespace", caller.namespace.encode()))
        if call.deadline != math.inf:
            left = max(0, int((call.deadline - time.monotonic()) * 1000))
            headers.append((b"x-pillion-deadline-ms", b"%d" % left))
        target = b"%b?%b" % (call.path, call.query) if call.query else call.path
        return await self._client.send(call.method, target, headers, call.body, call.deadline)

    async def get(
        self, path: bytes, headers: Headers, seconds: float, limit: int
    ) -> tuple[int, bytes]:
        """Ask the app something on the runtime's own account; return status and whole body.

        Raises:
            Failure: as :meth:`call`, and TooLarge over ``limit`` bytes.
        """
        deadline = time.monotonic() + seconds
        reply = await self._client.send(b"GET", path, headers, b"", deadline)
        return reply.status, await read_all(reply.body, limit)

    def close(self) -> None:
        """Close every connection to the app."""
        self._client.close()

    # Is it there, and is it well?

    async def wait_for_port(self) -> None:
        """Return when the app's port accepts a connection; looks for it for ever."""
        options = self._options
        next_warning = time.monotonic() + WARN_EVERY
        log.info("waiting for the app to listen on port %d", options.app_port)
        while not await _accepts(options.app_host, options.app_port):
            if time.monotonic() >= next_warning:
                log.warning("the app does not listen on port %d yet", options.app_port)
                next_warning += WARN_EVERY
            await asyncio.sleep(PORT_INTERVAL)
        self.port_open = True
        log.info("the app listens on port %d", options.app_port)

    async def watch_health(self) -> None:
        """Probe the app until cancelled; without probes it is well from now on."""
        health = self._health
        if health is None:
            self._set_healthy(healthy=True)
            return
        failures = 0
        while True:
            began = time.monotonic()
            if await self._probe(health):
                failures = 0
                self._set_healthy(healthy=True)
            else:
                failures += 1
                if failures >= health.threshold:
                    self._set_healthy(healthy=False)
            # The first success is looked for as often as the port was.
            interval = health.interval if self.healthy or failures >= health.threshold else 0.2
            await asyncio.sleep(max(0.0, interval - (time.monotonic() - began)))

    async def _probe(self, health: AppHealthOptions) -> bool:
        self.probes += 1
        try:
            status, _body = await self.get(health.path.encode(), [], health.timeout, 1024 * 1024)
        except Failure as failure:
            log.debug("the app's health probe failed: %s", failure.message)
        else:
            if 200 <= status < 300:
                return True
            log.debug("the app's health probe was answered %d", status)
        self.failed_probes += 1
        return False

    def _set_healthy(self, *, healthy: bool) -> None:
        if healthy != self.healthy:
            self.healthy = healthy
            log.info("the app is %s", "healthy" if healthy else "unhealthy: it gets no calls")
            self._on_health(healthy)


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PORT_TIMEOUT):
            _reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _unverified() -> ssl.SSLContext:
    # The app is beside us on loopback; its certificate is often one it made itself.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
