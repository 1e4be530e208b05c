"""Run a coroutine at once, on the caller's stack, and resume it where its wait ends.

An ``asyncio.Task`` costs a trip through the loop to start and one more for every wait. A call
through the runtime waits two or three times, for events that arrive in ``data_received`` anyway,
so a :class:`Run` steps its coroutine right there. Both kinds of awaitable work inside a Run:

* a :class:`Waiter`, which resumes the Run synchronously, and
* any asyncio future, which resumes it through the loop.

A Waiter may also be awaited from an ordinary Task. What does *not* work inside a Run is code that
asks for ``asyncio.current_task()`` (``asyncio.timeout``, anyio): call that behind
:func:`in_task`. Waits on the hot path carry their own deadline instead; see ``wheel.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Waiter(Generic[T]):
    """One value or one error, awaited by at most one Run or Task.

    Setting it twice is harmless: the first outcome stands. That lets a deadline, a hang-up and an
    answer race without a lock.
    """

    __slots__ = ("_asyncio_future_blocking", "_callbacks", "_done", "_error", "_resume", "_value")

    def __init__(self) -> None:
        self._asyncio_future_blocking = False
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._resume: Callable[[], None] | None = None
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] | None = None

    def set(self, value: T) -> None:
        """Give the value and resume whoever waits."""
        if not self._done:
            self._value = value
            self._wake()

    def fail(self, error: BaseException) -> None:
        """Give an error, raised at the place that waits."""
        if not self._done:
            self._error = error
            self._wake()

    def done(self) -> bool:
        """Tell whether an outcome is there."""
        return self._done

    @property
    def given(self) -> bool:
        """True when a value, not an error, is there."""
        return self._done and self._error is None

    def _wake(self) -> None:
        self._done = True
        resume = self._resume
        if resume is not None:
            self._resume = None
            resume()
        elif self._callbacks:
            loop = asyncio.get_running_loop()
            for callback, context in self._callbacks:
                loop.call_soon(callback, self, context=context)
            self._callbacks = None

    def __await__(self) -> Generator[Any, None, T]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # What asyncio.Task asks of a future that is not its own.

    def result(self) -> T:
        """Return the value, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # there is one when it is done

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, as asyncio.Future does."""
        return asyncio.get_running_loop()

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """Call back through the loop, as asyncio.Future does."""
        if self._done:
            asyncio.get_running_loop().call_soon(callback, self, context=context)
        else:
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append((callback, context))

    def cancel(self, msg: object = None) -> bool:
        """Make the waiting Task see a cancellation."""
        if self._done:
            return False
        self.fail(asyncio.CancelledError())
        return True


class Run(Generic[T]):
    """One coroutine, stepped inline.

    Its owner gives ``on_done(value, error)``, called exactly once, and may :meth:`cancel` it.
    """

    __slots__ = ("_cancelling", "_coroutine", "_on_done", "_waiting")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        on_done: Callable[[T | None, BaseException | None], None],
    ) -> None:
        self._coroutine: Coroutine[Any, Any, T] | None = coroutine
        self._on_done = on_done
        self._waiting: Any = None
        self._cancelling = False
        self._step()

    @property
    def finished(self) -> bool:
        """True once ``on_done`` was called."""
        return self._coroutine is None

    def cancel(self) -> None:
        """Raise CancelledError where the coroutine waits; harmless when it is over."""
        waiting = self._waiting
        if self._coroutine is None:
            return
        if type(waiting) is Waiter:
            waiting._resume = None
            self._step(asyncio.CancelledError())
        elif waiting is None or not waiting.cancel():
            # It runs just now, or its next step is on its way through the loop: that one raises.
            self._cancelling = True

    def _step(self, error: BaseException | None = None) -> None:
        coroutine = self._coroutine
        if coroutine is None:
            return
        if self._cancelling:
            self._cancelling = False
            error = asyncio.CancelledError()
        self._waiting = None
        try:
            waiting = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except (KeyboardInterrupt, SystemExit):
            self._coroutine = None
            raise
        except BaseException as raised:  # noqa: BLE001 - every outcome goes to the owner
            self._finish(None, raised)
        else:
            self._waiting = waiting
            if type(waiting) is Waiter:
                waiting._asyncio_future_blocking = False
                waiting._resume = self._step
            elif waiting is None:
                asyncio.get_running_loop().call_soon(self._step)
            else:
                waiting._asyncio_future_blocking = False
                waiting.add_done_callback(self._resumed)
            if self._cancelling and waiting is not None:
                self._cancelling = False
                self.cancel()

    def _resumed(self, _future: object) -> None:
        # The coroutine reads the outcome itself: Future.__await__ goes on after its yield.
        self._step()

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        self._coroutine = None
        self._on_done(value, error)


async def in_task(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that needs a real ``asyncio.Task`` around it, from inside a Run.

    The task is awaited here and cancelled with the Run, so it has an owner.
    """
    return await asyncio.get_running_loop().create_task(coroutine)
