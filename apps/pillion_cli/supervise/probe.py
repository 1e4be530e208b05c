"""Calls of the supervisor to a runtime: is it ready, and what ``pillion list`` shows about it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from pillion.localapi import reachable, socket_path
from pillion.options import Options

TIMEOUT = 2.0
"""Seconds for one call."""


class Probe:
    """One runtime's local API, for a few small calls.

    Args:
        options: what the runtime is told.
    """

    def __init__(self, options: Options) -> None:
        self.host = reachable(options.listen_addresses)
        self.port = options.http_port
        folder = options.unix_socket_dir
        self.socket = folder and socket_path(folder, options.app_id)
        self._token = options.api_token

    async def ready(self) -> bool:
        """Tell whether apps can call through the runtime."""
        status = await self._call("GET", "/v1.0/healthz/outbound")
        return 200 <= status < 300

    async def tell(self, metadata: Mapping[str, str]) -> bool:
        """Put extended metadata; False when a value was not taken."""
        taken = True
        for key, value in metadata.items():
            status = await self._call("PUT", f"/v1.0/metadata/{key}", value.encode())
            taken = taken and 200 <= status < 300
        return taken

    async def _call(self, method: str, path: str, body: bytes = b"") -> int:
        """Return the status, or 0 when there is no answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        if method == "PUT":
            head += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        if self._token:
            head += f"dapr-api-token: {self._token}\r\n"
        with contextlib.suppress(OSError, TimeoutError, ValueError, IndexError):
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await self._connect()
                try:
                    writer.write(head.encode() + b"\r\n" + body)
                    line = await reader.readline()
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
                return int(line.split()[1])
        return 0

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket is not None:
            return await asyncio.open_unix_connection(self.socket)
        return await asyncio.open_connection(self.host, self.port)
