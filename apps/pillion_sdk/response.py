"""What a handler answers with, and what a call to another app brings back."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pillion_sdk import values
from pillion_sdk.headers import HOP_BY_HOP, Headers, HeaderSource, RawHeaders, encode
from pillion_sdk.problems import Problem

T = TypeVar("T")

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
BYTES = b"application/octet-stream"
EVENTS = b"text/event-stream"

# A response may ask for the end of its connection; what it says of its length is made anew.
_NOT_SENT = (HOP_BY_HOP - {b"connection"}) | {b"content-length"}
_BODYLESS = frozenset({204, 304})


class Response:
    """A status, a body and headers.

    Args:
        status: the HTTP status.
        body: text and bytes go out as they are, None is no body, an async iterator of bytes or
            text is streamed with the headers sent at once, anything else becomes JSON.
        headers: a ``content-type`` among them replaces the one that fits the body.

    Attributes:
        status: as given.
        headers: all header fields.
        body: the body as bytes; empty for a stream.
        chunks: the stream, or None.
    """

    __slots__ = ("body", "chunks", "headers", "status")

    def __init__(
        self, status: int = 200, body: object = None, headers: HeaderSource | None = None
    ) -> None:
        self.status = status
        raw = encode(headers)
        self.headers = Headers(raw)
        self.body = b""
        self.chunks: AsyncIterator[bytes | str] | None = None
        kind = None
        if isinstance(body, AsyncIterable):
            self.chunks = aiter(body)
            kind = BYTES
        elif body is not None:
            self.body, kind = _to_bytes(body)
        if kind is not None and self.headers.find(b"content-type") is None:
            raw.append((b"content-type", kind))

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 show as U+FFFD."""
        return self.body.decode("utf-8", "replace")

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    @overload
    def json(self, type: Any) -> Any: ...
    def json(self, type: Any = Any) -> Any:  # noqa: A002 - as above
        """Return the body read from JSON as a type.

        Raises:
            ValueError: it is no JSON, or not of that type.
        """
        return values.cached_json_reader(type)(self.body)

    def raw_headers(self) -> RawHeaders:
        """Return the header fields to send, without those that belong to one connection."""
        kept = [pair for pair in self.headers.raw if pair[0] not in _NOT_SENT]
        if self.chunks is None and self.status not in _BODYLESS:
            kept.append((b"content-length", b"%d" % len(self.body)))
        return kept

    def __repr__(self) -> str:
        body = "streamed" if self.chunks is not None else f"{len(self.body)} bytes"
        return f"<Response {self.status}, {body}>"


def _to_bytes(body: object) -> tuple[bytes, bytes]:
    if isinstance(body, bytes):
        return body, BYTES
    if isinstance(body, str):
        return body.encode(), TEXT
    if isinstance(body, bytearray | memoryview):
        return bytes(body), BYTES
    return values.encode_json(body), JSON


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event.

    Attributes:
        data: text, or anything that has a JSON form.
        event: its type, which a browser's ``addEventListener`` names.
        id: sent back by a browser as ``Last-Event-ID`` when it connects again.
        retry: milliseconds a browser waits before it does so.
    """

    data: object
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def encode(self) -> bytes:
        """Return the event as it is sent (WHATWG HTML, section 9.2)."""
        text = self.data if isinstance(self.data, str) else values.encode_json(self.data).decode()
        lines = [
            f"{name}: {_one_line(value)}"
            for name, value in (("event", self.event), ("id", self.id), ("retry", self.retry))
            if value is not None
        ]
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in text.split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


def _one_line(value: str | int) -> str:
    text = str(value)
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("the type and the id of an event are one line each")
    return text


def events(source: AsyncIterable[object], *, headers: HeaderSource | None = None) -> Response:
    """Answer with server-sent events.

    Args:
        source: yields :class:`Event`, text, or values that become JSON.
        headers: sent besides the content type.
    """
    raw = [*encode(headers), (b"content-type", EVENTS), (b"cache-control", b"no-cache")]
    return Response(200, _encoded(source), Headers(raw))


async def _encoded(source: AsyncIterable[object]) -> AsyncIterator[bytes]:
    iterator = aiter(source)
    try:
        async for item in iterator:
            yield (item if isinstance(item, Event) else Event(item)).encode()
    finally:
        await aclose(iterator)


async def aclose(iterator: AsyncIterator[Any]) -> None:
    """Let an async generator run its ``finally`` now instead of when it is collected."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


async def render(value: object) -> Response:
    """Turn what a handler returned into a response.

    The first item of a bare async iterator is awaited, so that an error before it still becomes a
    status.

    Raises:
        TypeError: the value has no JSON form.
    """
    if isinstance(value, Response):
        return value
    if value is None:
        return Response(204)
    if not isinstance(value, AsyncIterable):
        return Response(200, value)
    iterator = aiter(value)
    try:
        first = await anext(iterator)
    except StopAsyncIteration:
        return Response(200, b"")
    kind = "text/plain; charset=utf-8" if isinstance(first, str) else "application/octet-stream"
    return Response(200, _rejoined(first, iterator), {"content-type": kind})


async def _rejoined(
    first: bytes | str, rest: AsyncIterator[bytes | str]
) -> AsyncIterator[bytes | str]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        await aclose(rest)


def problem_response(problem: Problem) -> Response:
    """Return the response that tells the caller about a problem."""
    body = {"errorCode": problem.error_code, "message": problem.message}
    return Response(problem.status, body, problem.headers)
