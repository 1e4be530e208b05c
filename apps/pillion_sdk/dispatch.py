"""From one ASGI request to its response: route, call the handler, send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import anyio

from pillion_sdk.asgi import Receive, Scope, Send
from pillion_sdk.handler import Handler
from pillion_sdk.headers import Headers
from pillion_sdk.inbound import CallerGone, Inbound
from pillion_sdk.log import log_failure
from pillion_sdk.problems import ErrorTable, Problem
from pillion_sdk.request import Request, handling, raw_path
from pillion_sdk.response import Response, aclose, problem_response
from pillion_sdk.routing import RouteTable

UNEXPECTED = "pillion_sdk.unexpected"
"""An ASGI extension: a list that collects exceptions answered with 500, for the test client."""


_OnWait: TypeAlias = Callable[[], None]


class Dispatcher:
    """Answers requests from a table of routes.

    Args:
        routes: every handler.
        errors: the user's exceptions that mean a status.
        threads: how many functions that are not async may run at once.
    """

    def __init__(self, routes: RouteTable[Handler], errors: ErrorTable, threads: int) -> None:
        self._routes = routes
        self._errors = errors
        self._thread_count = threads
        self._threads: anyio.CapacityLimiter | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an ASGI server."""
        exchange = _Exchange(scope, send)
        headers = Headers(scope["headers"])
        try:
            handler, path_params = self._routes.find(scope["method"], raw_path(scope))
            inbound = Inbound(receive, headers, scope.get("http_version", "1.1"), handler.max_body)
        except Problem as problem:
            await exchange.send(problem_response(problem))
            return
        request = Request(scope, headers, path_params, inbound)
        if not handler.reads_body:
            inbound.discard()
        with handling(request):
            await self._serve_cancellable(exchange, handler, request, inbound)

    async def _serve_cancellable(
        self, exchange: _Exchange, handler: Handler, request: Request, inbound: Inbound
    ) -> None:
        """Answer, and give up when the caller hangs up before the answer is complete."""
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            listening = False

            async def cancel_on_hang_up() -> None:
                await inbound.hang_up()
                tasks.cancel_scope.cancel()

            def listen() -> None:
                nonlocal listening
                if not listening:
                    listening = True
                    tasks.start_soon(cancel_on_hang_up)

            try:
                await self._answer(exchange, handler, request, listen)
            except Exception as error:  # noqa: BLE001 - raised again below, without a group around it
                failure = error
            if listening:
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _answer(
        self, exchange: _Exchange, handler: Handler, request: Request, on_wait: _OnWait
    ) -> None:
        if self._threads is None:
            # Not before, because making one loads asyncio, which an import should not.
            self._threads = anyio.CapacityLimiter(self._thread_count)
        try:
            response = await handler.answer(request, self._threads, on_wait)
        except CallerGone:
            return
        except Exception as error:  # noqa: BLE001 - the caller gets a status, the log the rest
            response = await self._response_to(error, request)
        if response.chunks is not None:
            on_wait()
        await exchange.send(response)

    async def _response_to(self, error: Exception, request: Request) -> Response:
        problem = self._errors.problem_for(error)
        if problem is None:
            await log_failure("%s %s failed", request.method, request.path, error=error)
            unexpected = request.scope.get("extensions", {}).get(UNEXPECTED)
            if unexpected is not None:
                unexpected.append(error)
            problem = Problem("the app failed to answer; its log says why")
        return problem_response(problem)


class _Exchange:
    """The sending half of one ASGI request."""

    __slots__ = ("_head", "_send")

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._head = scope["method"] == "HEAD"

    async def send(self, response: Response) -> None:
        await self._send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": response.raw_headers(),
            }
        )
        if response.chunks is not None:
            await self._stream(response.chunks)
            return
        body = b"" if self._head else response.body
        await self._send({"type": "http.response.body", "body": body})

    async def _stream(self, chunks: AsyncIterator[bytes | str]) -> None:
        try:
            if not self._head:
                async for chunk in chunks:
                    data = chunk.encode() if isinstance(chunk, str) else chunk
                    await self._send(
                        {"type": "http.response.body", "body": data, "more_body": True}
                    )
        finally:
            with anyio.CancelScope(shield=True):
                await aclose(chunks)
        await self._send({"type": "http.response.body", "body": b""})
