"""The local API: listeners, and what happens to every request before its row answers.

In order, as Dapr has it: body and header limits (in the connection), trace context, CORS, the API
token, then the row.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import random
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pillion.call import Reply, find
from pillion.errors import Failure
from pillion.inline import Waiter
from pillion.net.api_connection import ApiConnection, Counters, Limits
from pillion.net.cors import Cors
from pillion.net.router import Router
from pillion.operation import Request
from pillion.wheel import Wheel
from pillion.wire.errors_json import error_reply, text_reply
from pillion.wire.tracecontext import child_of, is_baggage, root

log = logging.getLogger("pillion.api")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TRACE_OFF = 0.0


class ApiServer:
    """Serves one router on any number of listeners.

    Args:
        router: where requests go.
        wheel: timers.
        limits: see :class:`Limits`.
        token: what ``dapr-api-token`` must be; empty asks for none.
        cors: rules for browsers, or None to leave CORS alone.
        sampling: the share of traces without a parent that are sampled; 0 turns tracing off.
        log_calls: write a line for each call.
    """

    __slots__ = (
        "_connections",
        "_cors",
        "_idle",
        "_limits",
        "_log_calls",
        "_random",
        "_router",
        "_sampling",
        "_servers",
        "_token",
        "_wheel",
        "counters",
    )

    def __init__(
        self,
        router: Router,
        wheel: Wheel,
        limits: Limits,
        *,
        token: str = "",
        cors: Cors | None = None,
        sampling: float = 0.0001,
        log_calls: bool = False,
    ) -> None:
        self._router = router
        self._wheel = wheel
        self._limits = limits
        self._token = token.encode()
        self._cors = cors
        self._sampling = sampling
        self._log_calls = log_calls
        self._random = random.Random()  # noqa: S311 - trace ids need no secrecy
        self._servers: list[asyncio.Server] = []
        self._connections: set[ApiConnection] = set()
        self._idle: Waiter[None] | None = None
        self.counters = Counters()

    # Listeners.

    async def listen(self, host: str | None, port: int) -> int:
        """Listen on TCP and return the bound port; ``None`` is every address.

        Raises:
            OSError: the port is in use or not ours to take.
        """
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._connection, host, port, backlog=1024)
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket that only this user may use.

        Raises:
            OSError: the path is not ours to take.
        """
        loop = asyncio.get_running_loop()
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Its mode is set before it listens, so there is no moment in which others get in.
            listener.bind(str(path))
            path.chmod(0o600)
            server = await loop.create_unix_server(self._connection, sock=listener, backlog=1024)
        except BaseException:
            listener.close()
            raise
        self._servers.append(server)

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return len(self._connections)

    def stop_listening(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()

    async def drain(self, seconds: float) -> None:
        """Let what is being answered finish, for ``seconds`` at most, then close everything."""
        self.stop_listening()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            idle: Waiter[None] = Waiter()
            self._idle = idle
            timer = self._wheel.after(seconds, lambda: idle.set(None))
            await idle
            timer.cancel()
        for connection in list(self._connections):
            connection.abort()

    def _connection(self) -> asyncio.BaseProtocol:
        if len(self._connections) >= self._limits.connections:
            self.counters.refused += 1
            return _Refusal()
        self.counters.opened += 1
        connection = ApiConnection(
            self.serve, self._limits, self.counters, self._wheel, self._closed
        )
        self._connections.add(connection)
        return connection

    def _closed(self, connection: ApiConnection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._idle is not None:
            self._idle.set(None)

    # Requests.

    async def serve(self, request: Request) -> Reply:
        """Answer one request; never raises but for cancellation."""
        if b"%" in request.path and _BAD_ESCAPE.search(request.path):
            return text_reply(400, "invalid URL escape\n")
        if request.baggage and not is_baggage(request.baggage):
            return text_reply(400, "invalid baggage header\n")
        traceparent = self._trace(request)
        preflight = self._cors.preflight(request) if self._cors is not None else None
        if preflight is not None:
            return preflight
        started = time.monotonic() if self._log_calls else 0.0
        try:
            endpoint, row = self._router.find(request)
            if self._token and not (row is not None and row.public) and not self._admits(request):
                reply = text_reply(401, "invalid api token")
            else:
                reply = await endpoint(request)
        except Failure as failure:
            reply = error_reply(failure)
        except Exception:
            log.exception("a request failed inside the runtime")
            reply = error_reply(Failure("internal error; the runtime's log says more"))
        if self._log_calls:
            _log(request, reply, time.monotonic() - started)
        self._mark(request, reply, traceparent)
        return reply

    def _mark(self, request: Request, reply: Reply, traceparent: bytes) -> None:
        """Add what the runtime says with every reply."""
        if self._cors is not None and request.origin:
            self._cors.mark(request, reply)
        if traceparent and find(reply.headers, b"traceparent") is None:
            reply.headers.append((b"traceparent", traceparent))
            if request.tracestate:
                reply.headers.append((b"tracestate", request.tracestate))
        if request.baggage:
            reply.headers.append((b"baggage", request.baggage))

    def _admits(self, request: Request) -> bool:
        return hmac.compare_digest(request.token, self._token)

    def _trace(self, request: Request) -> bytes:
        """Make this hop the parent in the headers that go on; return that parent."""
        if self._sampling <= _TRACE_OFF:
            if request.traceparent:
                request.headers.append((b"traceparent", request.traceparent))
                if request.tracestate:
                    request.headers.append((b"tracestate", request.tracestate))
            traceparent = b""
        else:
            bits = self._random.getrandbits
            span_id = bits(64) or 1
            child = child_of(request.traceparent, span_id) if request.traceparent else None
            if child is None:
                request.tracestate = b""
                sampled = self._random.random() < self._sampling
                child = root(bits(128), span_id, sampled=sampled)
            request.headers.append((b"traceparent", child))
            if request.tracestate:
                request.headers.append((b"tracestate", request.tracestate))
            traceparent = child
        if request.baggage:
            request.headers.append((b"baggage", request.baggage))
        return traceparent


class _Refusal(asyncio.Protocol):
    """Answers a connection over the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's, so nothing can be asked of their type.
        cast("asyncio.WriteTransport", transport).write(
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
            b"x-pillion-reason: overloaded\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        transport.close()


def _log(request: Request, reply: Reply, seconds: float) -> None:
    log.info(
        "HTTP API called: method=%s path=%s status=%d ms=%.1f",
        request.method.decode(),
        request.path.decode("latin-1"),
        reply.status,
        seconds * 1000,
    )


def addresses(listen: Sequence[str]) -> list[str | None]:
    """Return what to bind for ``--dapr-listen-addresses``; empty is every address."""
    return [address.strip().strip("[]") for address in listen if address.strip()] or [None]
