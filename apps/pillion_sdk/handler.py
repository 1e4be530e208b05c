"""A registered function: how it is called and what it answers."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any

import anyio.to_thread

from pillion_sdk.binding import Binder
from pillion_sdk.problems import RegistrationError
from pillion_sdk.request import Request
from pillion_sdk.response import Response, render


class Handler:
    """One function, compiled for being called with requests.

    Args:
        function: the user's.
        path_names: the names in its path template.
        local_names: what its annotations may refer to besides its module.
        max_body: bytes its body may have; UNLIMITED for no limit.

    Attributes:
        on_loop: True for an async function, which can be cancelled; others run in a thread.
        reads_body: True when the function can see the body.
        max_body: as given.

    Raises:
        RegistrationError: the function cannot be bound.
    """

    __slots__ = ("_binder", "_function", "max_body", "on_loop", "reads_body")

    def __init__(
        self,
        function: Callable[..., Any],
        path_names: Sequence[str],
        local_names: Mapping[str, Any],
        *,
        max_body: int,
    ) -> None:
        inner = inspect.unwrap(function)
        if inspect.isgeneratorfunction(inner):
            raise RegistrationError(
                f"{function.__qualname__}(): a function that yields has to be async"
            )
        self._function = function
        self._binder = Binder(function, path_names, local_names)
        self.on_loop = inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)
        self.reads_body = self._binder.wants_body or self._binder.wants_request
        self.max_body = max_body

    async def answer(
        self, request: Request, threads: anyio.CapacityLimiter, on_wait: Callable[[], None]
    ) -> Response:
        """Call the function and render its result; what it raises passes through.

        Args:
            request: fills the parameters.
            threads: bounds the threads of functions that are not async.
            on_wait: called when an async function has to wait for something.
        """
        body = await request.body() if self._binder.wants_body else b""
        positional, keywords = self._binder.bind(request, body)
        if not self.on_loop:
            call = functools.partial(self._function, *positional, **keywords)
            return await render(await anyio.to_thread.run_sync(call, limiter=threads))
        return await noticing_wait(self._run(positional, keywords), on_wait)

    async def _run(self, positional: list[Any], keywords: dict[str, Any]) -> Response:
        result = self._function(*positional, **keywords)
        if inspect.isawaitable(result):
            result = await result
        return await render(result)


@types.coroutine
def noticing_wait(
    coroutine: Coroutine[Any, Any, Response], on_wait: Callable[[], None]
) -> Generator[Any, Any, Response]:
    """Await a coroutine and call back when it waits for the first time.

    A handler that answers from memory never waits, so that nothing has to be set up to cancel it.
    """
    try:
        waiting = coroutine.send(None)
    except StopIteration as stop:
        answer: Response = stop.value
        return answer
    on_wait()
    while True:
        try:
            sent = yield waiting
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 - passed on to where the coroutine waits
            resume: Callable[[], Any] = functools.partial(coroutine.throw, error)
        else:
            resume = functools.partial(coroutine.send, sent)
        try:
            waiting = resume()
        except StopIteration as stop:
            answer = stop.value
            return answer
