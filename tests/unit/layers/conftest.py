"""A clock, a wheel that a test turns, and a handler that does what it is told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pillion.call import Call, Handler, Reply, Target
from pillion.inline import Run, Waiter
from pillion.wheel import Wheel


class Clock:
    """Virtual time, with the timers that hang on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wheel = Wheel(None, self)

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass and fire what is due."""
        self.now += seconds
        self.wheel.turn()


class Work:
    """One call under way: how it ended, or that it waits."""

    def __init__(self, coroutine: Coroutine[Any, Any, Reply]) -> None:
        self.reply: Reply | None = None
        self.error: BaseException | None = None
        self.run: Run[Reply] = Run(coroutine, self._done)

    def _done(self, reply: Reply | None, error: BaseException | None) -> None:
        self.reply, self.error = reply, error

    @property
    def waits(self) -> bool:
        return not self.run.finished


class App:
    """The handler behind a layer: each call waits until it is answered, or ends at once."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.waiting: list[Waiter[Reply]] = []
        self.script: list[Reply | BaseException | None] = []

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            return step
        waiter: Waiter[Reply] = Waiter()
        self.waiting.append(waiter)
        return await waiter

    def answer(self, reply: Reply | None = None) -> None:
        """Answer the call that waits longest."""
        self.waiting.pop(0).set(reply or Reply(200))

    def fail(self, error: BaseException) -> None:
        """Fail the call that waits longest."""
        self.waiting.pop(0).fail(error)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def start() -> Callable[..., Work]:
    """Send a call through a handler."""

    def starting(handler: Handler, method: bytes = b"GET", **attributes: Any) -> Work:
        call = Call("invocation.call", Target("app", "a", "default"), method, **attributes)
        return Work(handler(call))  # type: ignore[arg-type]

    return starting
