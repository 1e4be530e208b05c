"""What runs before an app answers its first request and after its last."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio.to_thread

from pillion_sdk.asgi import Receive, Send

logger = logging.getLogger("pillion_sdk")

Hook = Callable[[], Any]


class Lifespan:
    """The hooks of one app.

    Args:
        around: an async context manager that is open while the app runs, outside the hooks.
    """

    def __init__(self, around: Callable[[], AbstractAsyncContextManager[Any]] | None) -> None:
        self._around = around
        self.on_start: list[Hook] = []
        self.on_stop: list[Hook] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the start hooks in their order, and afterwards the stop hooks in reverse.

        When a start hook fails, the app does not run and no stop hook either. Each stop hook gets
        its turn; the first failure among them is raised at the end.
        """
        async with AsyncExitStack() as stack:
            if self._around is not None:
                await stack.enter_async_context(self._around())
            for hook in self.on_start:
                await _call(hook)
            try:
                yield
            finally:
                await self._stop()

    async def _stop(self) -> None:
        failure: Exception | None = None
        for hook in reversed(self.on_stop):
            try:
                await _call(hook)
            except Exception as error:
                logger.exception("stop hook %s failed", getattr(hook, "__qualname__", hook))
                failure = failure or error
        if failure is not None:
            raise failure


async def _call(hook: Hook) -> None:
    if inspect.iscoroutinefunction(hook):
        await hook()
    else:
        await anyio.to_thread.run_sync(hook)


async def serve_lifespan(
    running: AbstractAsyncContextManager[None], receive: Receive, send: Send
) -> None:
    """Speak the lifespan protocol of ASGI for an app that runs while ``running`` is open."""
    await receive()
    phase = "startup"
    try:
        async with running:
            await send({"type": "lifespan.startup.complete"})
            await receive()
            phase = "shutdown"
    except Exception:  # noqa: BLE001 - the server logs the message and stops
        await send({"type": f"lifespan.{phase}.failed", "message": traceback.format_exc()})
        return
    await send({"type": "lifespan.shutdown.complete"})
