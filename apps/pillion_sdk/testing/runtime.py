"""A stand-in for the runtime: it records calls and answers them as the test says."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload
from urllib.parse import parse_qsl

from pillion_sdk import values
from pillion_sdk.headers import Headers
from pillion_sdk.invocation import OutgoingCall, escape_path
from pillion_sdk.problems import Problem
from pillion_sdk.response import Response, aclose, problem_response, render
from pillion_sdk.routing import Template
from pillion_sdk.testing.components import Components
from pillion_sdk.transport import IncomingReply

T = TypeVar("T")


class UnexpectedInvoke(AssertionError):
    """The app called something the test gave no answer for."""


@dataclass(slots=True)
class Invocation:
    """A call the app made.

    Attributes:
        app: who was called.
        path: what was called there, without a query.
        method: the HTTP method.
        query: names and values.
        headers: as sent to the runtime.
        body: the whole body.
        params: the named segments of the path, by the template that answered.
    """

    app: str
    path: str
    method: str
    query: dict[str, list[str]]
    headers: Headers
    body: bytes
    params: dict[str, str] = field(default_factory=dict)

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    @overload
    def json(self, type: Any) -> Any: ...
    def json(self, type: Any = Any) -> Any:  # noqa: A002 - as above
        """Return the body read from JSON as a type; ValueError when it is not."""
        return values.cached_json_reader(type)(self.body)

    def __str__(self) -> str:
        return f"{self.method} {self.app}/{self.path}"


Reply = object | Callable[[Invocation], object]
"""What answers a call: a value as a handler may return it, an exception, or a function, async or
not, that is given the invocation and returns or raises one of those."""


@dataclass(frozen=True, slots=True)
class _Answer:
    app: str
    template: Template
    method: str | None
    reply: Reply

    def __str__(self) -> str:
        return f"{self.method or 'any method'} {self.app}/{self.template.text}"


class RuntimeDouble:
    """Carries calls as :class:`pillion_sdk.transport.Transport` does, to answers of a test.

    Attributes:
        invocations: every call the app made, in order.
        unexpected: those without an answer.
        components: the state and lock stores.
    """

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []
        self.unexpected: list[UnexpectedInvoke] = []
        self.components = Components()
        self._answers: list[_Answer] = []

    def on_invoke(self, app: str, path: str, *, method: str | None = None, reply: Reply) -> None:
        """Say what answers a call; the newest fitting one counts.

        Args:
            app: who is called.
            path: what is called there; a template such as ``items/{id}``.
            method: the HTTP method; None for any.
            reply: see :data:`Reply`. A Problem answers with its status, as an app would.
        """
        wanted = None if method is None else method.upper()
        self._answers.insert(0, _Answer(app, Template.parse(path), wanted, reply))

    @asynccontextmanager
    async def open(self, call: OutgoingCall) -> AsyncIterator[IncomingReply]:
        """Record a call and answer it."""
        if not call.app:
            # The runtime itself: its health and its components.
            response = await self.components.answer(call)
            try:
                yield _incoming(response)
            finally:
                if response.chunks is not None:
                    await aclose(response.chunks)
            return
        invocation = await _record(call)
        self.invocations.append(invocation)
        yield _incoming(await self._reply(invocation))

    async def _reply(self, invocation: Invocation) -> Response:
        path = escape_path(invocation.path).encode()
        for answer in self._answers:
            if answer.app != invocation.app or answer.method not in (None, invocation.method):
                continue
            params = answer.template.match(path)
            if params is not None:
                invocation.params = params
                return await _respond(answer.reply, invocation)
        known = "; ".join(str(answer) for answer in self._answers) or "nothing"
        error = UnexpectedInvoke(
            f"the app called {invocation}, and the test answers {known}: "
            "add client.on_invoke(app, path, reply=...)"
        )
        self.unexpected.append(error)
        raise error

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""


async def _record(call: OutgoingCall) -> Invocation:
    body = call.body
    if not isinstance(body, bytes):
        body = b"".join([chunk async for chunk in body])
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(call.target.partition("?")[2], keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return Invocation(call.app, call.path, call.method, query, Headers(call.headers), body)


async def _respond(reply: Reply, invocation: Invocation) -> Response:
    try:
        if callable(reply) and not isinstance(reply, type):
            reply = reply(invocation)
            if inspect.isawaitable(reply):
                reply = await reply
        if isinstance(reply, BaseException):
            raise reply
    except Problem as problem:
        return problem_response(problem)
    return await render(reply)


def _incoming(response: Response) -> IncomingReply:
    chunks = response.chunks
    whole = [response.body]

    async def read() -> bytes:
        if chunks is None:
            return whole.pop() if whole else b""
        chunk = await anext(chunks, b"")
        return chunk.encode() if isinstance(chunk, str) else chunk

    return IncomingReply(response.status, response.headers, read)
