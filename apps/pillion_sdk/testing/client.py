"""Clients that drive an app in this process, through ASGI, with its lifespan running."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Unpack

import anyio
import anyio.from_thread
from anyio.from_thread import BlockingPortal

from pillion_sdk.app import App
from pillion_sdk.response import Response
from pillion_sdk.testing.exchange import Exchange, RequestOptions, build_request
from pillion_sdk.testing.locks import LockDouble
from pillion_sdk.testing.runtime import Invocation, Reply, RuntimeDouble
from pillion_sdk.testing.store import StateDouble
from pillion_sdk.transport import IncomingReply


class _Runtime:
    """What all clients have: the calls the app makes, and their answers."""

    def __init__(self, runtime: RuntimeDouble) -> None:
        self.runtime = runtime

    @property
    def invocations(self) -> list[Invocation]:
        """Every call the app made, in order."""
        return self.runtime.invocations

    def on_invoke(self, app: str, path: str, *, method: str | None = None, reply: Reply) -> None:
        """Say what answers a call of the app; see :meth:`RuntimeDouble.on_invoke`."""
        self.runtime.on_invoke(app, path, method=method, reply=reply)

    def state(self, store: str) -> StateDouble:
        """Return what the app's ``app.state(store)`` keeps its values in, to look and to change."""
        return self.runtime.components.state(store)

    def locks(self, store: str) -> LockDouble:
        """Return what the app's ``app.lock(store, …)`` locks, to look and to interfere."""
        return self.runtime.components.lock(store)


class TestClient(_Runtime):
    """Tests an app: ``with TestClient(app)`` in plain code, ``async with`` in async code.

    Entering starts the app's lifespan and puts a stand-in for the runtime in the place of
    ``app.client``'s; leaving undoes both. Answers for calls made by start hooks are given before
    entering.

    Args:
        app: the app.
        raise_unexpected: raise an exception the app did not expect in the test, instead of
            returning its 500.
    """

    __test__ = False  # pytest collects classes by their name

    def __init__(self, app: App, *, raise_unexpected: bool = True) -> None:
        super().__init__(RuntimeDouble())
        self._client = AsyncTestClient(app, self.runtime, raise_unexpected=raise_unexpected)
        self._async_stack = AsyncExitStack()
        self._stack = ExitStack()

    async def __aenter__(self) -> AsyncTestClient:
        await self._async_stack.enter_async_context(self._client.running())
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._async_stack.__aexit__(kind, error, trace)

    def __enter__(self) -> SyncTestClient:
        with ExitStack() as stack:
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._client.running()))
            self._stack = stack.pop_all()
        return SyncTestClient(self._client, portal)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class AsyncTestClient(_Runtime):
    """Sends requests to an app from async code; made by :class:`TestClient`."""

    __test__ = False

    def __init__(self, app: App, runtime: RuntimeDouble, *, raise_unexpected: bool) -> None:
        super().__init__(runtime)
        self._app = app
        self._raise_unexpected = raise_unexpected

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the app with the stand-in for its runtime."""
        transport = self._app.client.transport
        self._app.client.transport = self.runtime
        try:
            async with self._app.running():
                yield
        finally:
            self._app.client.transport = transport

    async def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a request and return the whole response, whatever its status.

        Raises:
            UnexpectedInvoke: the app made a call the test gave no answer for.
            Exception: any the app did not expect, unless the client was told not to.
        """
        async with self.stream(method, path, **options) as reply:
            body = b"".join([chunk async for chunk in reply])
        return Response(reply.status, body, reply.headers)

    async def get(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a GET; see :meth:`request`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a POST; see :meth:`request`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a PUT; see :meth:`request`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a PATCH; see :meth:`request`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a DELETE; see :meth:`request`."""
        return await self.request("DELETE", path, **options)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[IncomingReply]:
        """Send a request and read the response as it comes; leaving early is a hang-up.

        Raises:
            UnexpectedInvoke: as for :meth:`request`.
            Exception: as for :meth:`request`.
        """
        errors: list[Exception] = []
        scope, body = build_request(method, path, options, errors)
        exchange = Exchange(body)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run, self._app, scope)
            try:
                yield await exchange.reply()
            except Exception as error:  # noqa: BLE001 - raised below, without a group around it
                failure = error
            finally:
                exchange.hang_up()
        unexpected = self.runtime.unexpected
        if unexpected:
            raise unexpected.pop(0)
        if failure is None and self._raise_unexpected and errors:
            failure = errors[0]
        if failure is not None:
            raise failure


class SyncTestClient(_Runtime):
    """Sends requests to an app from plain code; made by :class:`TestClient`."""

    __test__ = False

    def __init__(self, client: AsyncTestClient, portal: BlockingPortal) -> None:
        super().__init__(client.runtime)
        self._client = client
        self._portal = portal

    def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a request; see :meth:`AsyncTestClient.request`."""
        send: Callable[[], Any] = functools.partial(self._client.request, method, path, **options)
        response: Response = self._portal.call(send)
        return response

    def get(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a GET; see :meth:`AsyncTestClient.request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a POST; see :meth:`AsyncTestClient.request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a PUT; see :meth:`AsyncTestClient.request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a PATCH; see :meth:`AsyncTestClient.request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """Send a DELETE; see :meth:`AsyncTestClient.request`."""
        return self.request("DELETE", path, **options)
