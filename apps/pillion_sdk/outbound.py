"""The sending half of one ASGI request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from pillion_sdk.asgi import Send
from pillion_sdk.inbound import Inbound
from pillion_sdk.response import Response, aclose


class Outbound:
    """Where the response of one request goes.

    Args:
        send: of ASGI.
        method: of the request; HEAD gets no body.
    """

    __slots__ = ("_head_only", "_send")

    def __init__(self, send: Send, method: str) -> None:
        self._send = send
        self._head_only = method == "HEAD"

    async def send(self, response: Response) -> None:
        """Send a response; a stream that fails is cut off, and its exception raised."""
        await self._start(response)
        if response.chunks is not None:
            await self._stream(response.chunks)
        else:
            await self._part(self._body(response), more=False)

    async def refuse(self, response: Response, inbound: Inbound) -> None:
        """Send a response to a request whose body is not wanted, and end the connection."""
        response.headers.raw.append((b"connection", b"close"))
        await self._start(response)
        await self._part(self._body(response), more=True)
        await inbound.drain()
        await self._part(b"", more=False)

    def _body(self, response: Response) -> bytes:
        return b"" if self._head_only else response.body

    async def _start(self, response: Response) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": response.raw_headers(),
            }
        )

    async def _part(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _stream(self, chunks: AsyncIterator[bytes | str]) -> None:
        try:
            if not self._head_only:
                async for chunk in chunks:
                    data = chunk.encode() if isinstance(chunk, str) else chunk
                    await self._part(data, more=True)
        finally:
            with anyio.CancelScope(shield=True):
                await aclose(chunks)
        await self._part(b"", more=False)
