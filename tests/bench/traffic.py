"""The traffic of one load: its connections, its pace, and the record of its answers.

In a closed loop each connection sends its next request when it has its answer. In an open loop
requests are due at fixed times whatever the answers do; a due request takes the first free
connection and its latency counts from when it was *due*, so a slow answer is charged with everyone
it kept waiting (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from tests.bench.stats import percentile

GRACE_SECONDS = 5.0
MAX_FAILURES = 100
MAX_SAMPLES = 20_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run saw.

    Attributes:
        requests: answers with a 2xx status and the right length.
        seconds: from the first request to the last answer.
        p50: median latency in seconds; 0 without requests.
        p99: its 99th percentile.
        failures: other answers, broken connections, requests never sent or never answered.
        reason: the first failure, or nothing.
        late: 99th percentile of the generator's own lateness in seconds; 0 in a closed loop.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    failures: int
    reason: str
    late: float


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask for, and what a right answer looks like."""

    host: str
    port: int
    request: bytes
    expected_bytes: int

    @classmethod
    def parse(cls, url: str, *, method: str, body_bytes: int, expected_bytes: int) -> Target:
        """Build the one request that is sent over and over.

        Raises:
            ValueError: the URL is not ``http://host:port/path``.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"{url!r} is not http://host:port/path")
        path = parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        head = f"{method} {path} HTTP/1.1\r\nHost: {parts.hostname}:{parts.port}\r\n"
        if body_bytes:
            head += f"Content-Type: application/octet-stream\r\nContent-Length: {body_bytes}\r\n"
        request = head.encode("ascii") + b"\r\n" + b"x" * body_bytes
        return cls(parts.hostname, parts.port, request, expected_bytes)


class Load:
    """The requests of one run and the record of their answers."""

    def __init__(self, target: Target, *, seconds: float, rate: float | None = None) -> None:
        self.target = target
        self.finished = asyncio.Event()
        self.failures = 0
        self.reason = ""
        self._seconds = seconds
        self._rate = rate
        self._started = 0.0
        self._last = 0.0
        self._requests = 0
        self._issued = 0
        self._outstanding = 0
        self._latencies = array("d")
        self._late = array("d")
        self._idle: deque[ClientProtocol] = deque()
        self._due: deque[float] = deque()

    def begin(self) -> None:
        """Start the clock; connections that are already open begin at once."""
        self._started = self._last = time.perf_counter()
        loop = asyncio.get_running_loop()
        loop.call_later(self._seconds + GRACE_SECONDS, self._give_up)
        if self._rate is None:
            loop.call_later(self._seconds, self._check_finished)
            waiting, self._idle = self._idle, deque()
            for connection in waiting:
                self.ready(connection)
        else:
            self._tick()

    def ready(self, connection: ClientProtocol) -> None:
        """Take a connection that is free: give it the next request, or keep it for later."""
        if self._started == 0.0 or self.finished.is_set():
            self._idle.append(connection)
        elif self._rate is None:
            now = time.perf_counter()
            if now - self._started < self._seconds:
                self._issue(connection, now)
            self._check_finished()
        elif self._due:
            self._issue(connection, self._due.popleft())
        else:
            self._idle.append(connection)
            self._check_finished()

    def succeeded(self, since: float) -> None:
        """Record the right answer to a request that counts from ``since``."""
        self._outstanding -= 1
        self._requests += 1
        self._last = time.perf_counter()
        if len(self._latencies) < MAX_SAMPLES:
            self._latencies.append(self._last - since)

    def failed(self, reason: str, *, outstanding: bool = True) -> None:
        """Record a failure; too many end the run early."""
        self._outstanding -= outstanding
        self.failures += 1
        self.reason = self.reason or reason
        if self.failures >= MAX_FAILURES:
            self.finished.set()

    def lost(self, connection: ClientProtocol) -> None:
        """Forget a free connection that closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def outcome(self) -> Outcome:
        """Summarise the run."""
        ordered = sorted(self._latencies)
        late = sorted(self._late)
        return Outcome(
            requests=self._requests,
            seconds=self._last - self._started,
            p50=percentile(ordered, 0.5) if ordered else 0.0,
            p99=percentile(ordered, 0.99) if ordered else 0.0,
            failures=self.failures,
            reason=self.reason,
            late=percentile(late, 0.99) if late else 0.0,
        )

    def _issue(self, connection: ClientProtocol, since: float) -> None:
        self._outstanding += 1
        connection.send(since)

    def _tick(self) -> None:
        """Give every request that is due to a free connection, then sleep until the next is due."""
        assert self._rate is not None
        total = int(self._seconds * self._rate)
        now = time.perf_counter()
        while self._issued < total:
            due = self._started + self._issued / self._rate
            if due > now:
                asyncio.get_running_loop().call_later(due - now, self._tick)
                return
            self._issued += 1
            self._late.append(now - due)
            if self._idle:
                self._issue(self._idle.popleft(), due)
            else:
                self._due.append(due)
            now = time.perf_counter()
        self._check_finished()

    def _check_finished(self) -> None:
        if self._outstanding or self._due:
            return
        if self._rate is None:
            over = time.perf_counter() - self._started >= self._seconds
        else:
            over = self._issued >= int(self._seconds * self._rate)
        if over:
            self.finished.set()

    def _give_up(self) -> None:
        unanswered = self._outstanding
        for _ in range(unanswered):
            self.failed(f"no answer {GRACE_SECONDS:g} s after the end")
        for _ in range(len(self._due)):
            self.failed("could not keep up with the rate", outstanding=False)
        self.finished.set()


class ClientProtocol(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight."""

    def __init__(self, load: Load) -> None:
        self.closed = asyncio.Event()
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._since = 0.0
        self._busy = False
        self._received = 0

    def send(self, since: float) -> None:
        """Send the request; its latency counts from ``since``."""
        self._since = since
        self._busy = True
        if self._transport is not None:
            self._transport.write(self._load.target.request)

    def close(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.ready(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.closed.set()
        self._load.lost(self)
        if self._busy and not self._load.finished.is_set():
            self._load.failed("the connection closed before the answer was complete")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._busy = False
            self._load.failed(f"not HTTP: {error}")
            self.close()

    def on_message_begin(self) -> None:
        self._received = 0

    def on_body(self, body: bytes) -> None:
        self._received += len(body)

    def on_message_complete(self) -> None:
        self._busy = False
        status = self._parser.get_status_code()
        if status // 100 != 2:
            self._load.failed(f"status {status}")
        elif self._received != self._load.target.expected_bytes:
            self._load.failed(f"{self._received} bytes in the answer")
        else:
            self._load.succeeded(self._since)
        if self._parser.should_keep_alive():
            self._load.ready(self)
        else:
            self.close()
