"""What runs before an app answers its first request and after its last."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio.to_thread

from pillion_sdk.asgi import Receive, Send
from pillion_sdk.log import describe_failure, log_failure

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
            except Exception as error:  # noqa: BLE001 - raised below, after the other hooks
                name = getattr(hook, "__qualname__", hook)
                await log_failure("stop hook %s failed", name, error=error)
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
    except Exception as error:  # noqa: BLE001 - the server logs the message and stops
        message = await describe_failure(error)
        await send({"type": f"lifespan.{phase}.failed", "message": message})
        return
    await send({"type": "lifespan.shutdown.complete"})
