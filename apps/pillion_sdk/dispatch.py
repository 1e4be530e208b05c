"""From one ASGI request to its response: route, call the handler, send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from pillion_sdk.asgi import Receive, Scope, Send
from pillion_sdk.handler import Handler
from pillion_sdk.headers import Headers
from pillion_sdk.inbound import CallerGone, Inbound
from pillion_sdk.log import log_failure
from pillion_sdk.outbound import Outbound
from pillion_sdk.problems import ErrorTable, Problem, TooLarge
from pillion_sdk.request import Request, handling, raw_path
from pillion_sdk.response import problem_response
from pillion_sdk.routing import RouteTable

UNEXPECTED = "pillion_sdk.unexpected"
"""An ASGI extension: a list that collects exceptions answered with 500, for the test client."""


@dataclass(frozen=True, slots=True)
class _Exchange:
    handler: Handler
    request: Request
    inbound: Inbound
    outbound: Outbound


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
        method: str = scope["method"]
        outbound = Outbound(send, method)
        try:
            handler, path_params = self._routes.find(method, raw_path(scope))
        except Problem as problem:
            await outbound.send(problem_response(problem))
            return
        headers = Headers(scope["headers"])
        inbound = Inbound(receive, headers, scope.get("http_version", "1.1"), handler.max_body)
        request = Request(scope, headers, path_params, inbound)
        with handling(request):
            await self._answer_until_hang_up(_Exchange(handler, request, inbound, outbound))

    async def _answer_until_hang_up(self, exchange: _Exchange) -> None:
        """Answer, and give up when the caller hangs up before the answer is complete."""
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            listening = False

            async def cancel_on_hang_up() -> None:
                await exchange.inbound.hang_up()
                tasks.cancel_scope.cancel()

            def listen() -> None:
                nonlocal listening
                if not listening:
                    listening = True
                    tasks.start_soon(cancel_on_hang_up)

            try:
                await self._answer(exchange, listen)
            except Exception as error:  # noqa: BLE001 - raised again below, without a group around it
                failure = error
            if listening:
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _answer(self, exchange: _Exchange, on_wait: Callable[[], None]) -> None:
        handler, inbound = exchange.handler, exchange.inbound
        if self._threads is None:
            # Not before, because making one loads asyncio, which an import should not.
            self._threads = anyio.CapacityLimiter(self._thread_count)
        try:
            inbound.check_length()
            if not handler.reads_body:
                inbound.discard()
            response = await handler.answer(exchange.request, self._threads, on_wait)
        except CallerGone:
            return
        except Exception as error:  # noqa: BLE001 - the caller gets a status, the log the rest
            problem = await self._problem_for(error, exchange.request)
            response = problem_response(problem)
            if isinstance(problem, TooLarge) and inbound.unread:
                await exchange.outbound.refuse(response, inbound)
                return
        if response.chunks is not None:
            on_wait()
        await exchange.outbound.send(response)

    async def _problem_for(self, error: Exception, request: Request) -> Problem:
        problem = self._errors.problem_for(error)
        if problem is not None:
            return problem
        await log_failure("%s %s failed", request.method, request.path, error=error)
        unexpected = request.scope.get("extensions", {}).get(UNEXPECTED)
        if unexpected is not None:
            unexpected.append(error)
        return Problem("the app failed to answer; its log says why")
