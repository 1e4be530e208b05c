"""One request as a handler may see it, and the contextvar that says which one is being handled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, overload
from urllib.parse import parse_qsl, unquote

from pillion_sdk import values
from pillion_sdk.asgi import Scope
from pillion_sdk.headers import Headers, number
from pillion_sdk.inbound import Inbound
from pillion_sdk.problems import BadRequest

T = TypeVar("T")

DEADLINE_HEADER = b"x-pillion-deadline-ms"
"""Milliseconds that are left for a call when it is sent."""


class Request:
    """The raw request behind a handler's typed parameters.

    Attributes:
        scope: the ASGI scope.
        method: the HTTP method, upper case.
        headers: the header fields.
        path_params: the named segments of the path, decoded.
        arrived: on ``time.monotonic()``, in seconds.
    """

    __slots__ = ("_inbound", "_query", "arrived", "headers", "method", "path_params", "scope")

    def __init__(
        self, scope: Scope, headers: Headers, path_params: dict[str, str], inbound: Inbound
    ) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers = headers
        self.path_params = path_params
        self.arrived = time.monotonic()
        self._inbound = inbound
        self._query: dict[str, list[str]] | None = None

    @property
    def raw_path(self) -> bytes:
        """The path as it came, with its percent escapes and without the query."""
        return raw_path(self.scope)

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path)

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Every name of the query string with its values."""
        if self._query is None:
            self._query = {}
            text = self.scope.get("query_string", b"").decode("latin-1")
            for name, value in parse_qsl(text, keep_blank_values=True):
                self._query.setdefault(name, []).append(value)
        return self._query

    @property
    def caller(self) -> str | None:
        """The app id of the caller as the local runtime vouches for it; None for a direct call."""
        return self.headers.get("dapr-caller-app-id")

    @property
    def deadline(self) -> float | None:
        """When the caller stops waiting, on ``time.monotonic()``; None when it did not say."""
        milliseconds = number(self.headers.find(DEADLINE_HEADER))
        return None if milliseconds is None else self.arrived + milliseconds / 1000

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, not below 0; None when there is none."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    async def body(self) -> bytes:
        """Return the whole body; a second call returns the same.

        Raises:
            TooLarge: it is over the limit of this route.
        """
        return await self._inbound.read()

    def stream(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives; the caller is slowed down to your pace.

        Raises:
            TooLarge: it goes over the limit of this route.
            RuntimeError: the body is being read already.
        """
        return self._inbound.stream()

    @overload
    async def json(self) -> Any: ...
    @overload
    async def json(self, type: type[T]) -> T: ...
    @overload
    async def json(self, type: Any) -> Any: ...
    async def json(self, type: Any = Any) -> Any:  # noqa: A002 - as above
        """Return the body read from JSON as a type.

        Raises:
            BadRequest: it is no JSON, or not of that type.
        """
        try:
            return values.cached_json_reader(type)(await self.body())
        except values.BadValue as error:
            raise BadRequest(f"body: {error}") from None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"


def raw_path(scope: Scope) -> bytes:
    """Return the path of an ASGI scope as it came; ``raw_path`` is optional there."""
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        return raw
    path: str = scope["path"]
    # What was an escaped slash is lost here, but an escaped percent sign is not.
    return path.replace("%", "%25").encode()


_current: ContextVar[Request | None] = ContextVar("pillion_sdk_request", default=None)


def current_request() -> Request | None:
    """Return the request being handled here, or None outside a handler."""
    return _current.get()


@contextmanager
def handling(request: Request) -> Iterator[None]:
    """Make a request the current one."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)
