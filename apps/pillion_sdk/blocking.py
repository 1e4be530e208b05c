"""The client for code that blocks: functions that are not async, and scripts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import anyio.from_thread
from anyio.from_thread import BlockingPortal

from pillion_sdk.client import Client
from pillion_sdk.invocation import CallOptions
from pillion_sdk.response import Response

T = TypeVar("T")


class SyncClient:
    """:class:`Client` without ``await``.

    An app has one as ``app.sync_client``, for its handlers that are not async. In a script, use
    your own with ``with``; it runs an event loop in a thread of its own.

    Args:
        client: what makes the calls; a new one without it.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._client = Client() if client is None else client
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    @overload
    def invoke(self, app: str, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    def invoke(
        self,
        app: str,
        path: str,
        *,
        type: type[T],
        **options: Unpack[CallOptions],
    ) -> T: ...
    @overload
    def invoke(
        self,
        app: str,
        path: str,
        *,
        type: Any,
        **options: Unpack[CallOptions],
    ) -> Any: ...
    def invoke(
        self,
        app: str,
        path: str,
        *,
        type: Any = Response,  # noqa: A002 - as above
        **options: Unpack[CallOptions],
    ) -> Any:
        """Call another app and read its whole reply; see :meth:`Client.invoke`."""
        return self._run(functools.partial(self._client.invoke, app, path, type=type, **options))

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the runtime takes calls; see :meth:`Client.wait_ready`."""
        self._run(functools.partial(self._client.wait_ready, timeout))

    def _run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._portal is not None:
            result: T = self._portal.call(call)
            return result
        try:
            return anyio.from_thread.run(call)
        except anyio.NoEventLoopError:
            raise RuntimeError(
                "a SyncClient works in a handler that is not async, or inside 'with SyncClient()'"
            ) from None

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._run(self._client.aclose)
        finally:
            self._portal = None
            self._stack.close()
