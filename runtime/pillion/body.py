"""Bodies: whole bytes when they are small and here, a bounded stream otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from pillion.errors import TooLarge
from pillion.inline import Waiter


def _nothing(_consumed: int) -> None:
    return


def _nobody() -> None:
    return


class BodyStream:
    """Chunks from one producer to one reader, with back-pressure.

    The producer calls :meth:`feed`, then :meth:`finish` or :meth:`fail`, and is told through
    ``on_consumed(bytes)`` what the reader has taken, so it can pause a socket or grant credit to a
    peer; it bounds what is buffered. ``on_abandoned()`` tells it, once, that the reader has closed
    the stream before its end.

    Attributes:
        length: bytes in the whole body when that is known from the start, else None.
        buffered: bytes fed and not read.
        started: True once the reader has asked for a first chunk: it cannot be replayed.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_done",
        "_ended",
        "_failure",
        "_waiter",
        "buffered",
        "length",
        "on_abandoned",
        "on_consumed",
        "started",
    )

    def __init__(
        self,
        length: int | None = None,
        on_consumed: Callable[[int], None] = _nothing,
        on_abandoned: Callable[[], None] = _nobody,
    ) -> None:
        self.length = length
        self.buffered = 0
        self.started = False
        self.on_consumed = on_consumed
        self.on_abandoned = on_abandoned
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._closed = False
        self._done: list[Callable[[], None]] | None = None
        self._failure: Exception | None = None
        self._waiter: Waiter[None] | None = None

    # The producer's side.

    def feed(self, chunk: bytes) -> None:
        """Add a chunk; ignored after the reader closed the stream."""
        if self._closed or self._ended or not chunk:
            return
        self._chunks.append(chunk)
        self.buffered += len(chunk)
        self._wake()

    def finish(self) -> None:
        """Say that the body is complete."""
        if not self._ended:
            self._ended = True
            self._settle()
            self._wake()

    def fail(self, failure: Exception) -> None:
        """Break the body off; the reader sees ``failure`` after what is buffered."""
        if not self._ended:
            self._ended = True
            self._failure = failure
            self._settle()
            self._wake()

    @property
    def ended(self) -> bool:
        """True when the producer has nothing more to say."""
        return self._ended

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once, when the producer has ended or the reader has closed."""
        if self._ended or self._closed:
            callback()
        elif self._done is None:
            self._done = [callback]
        else:
            self._done.append(callback)

    # The reader's side.

    @property
    def at_end(self) -> bool:
        """True when :meth:`read` would return ``b""`` without waiting."""
        return self._ended and not self._chunks and self._failure is None

    async def read(self) -> bytes:
        """Return the next chunk, ``b""`` at the end.

        Raises:
            Failure: the body broke off (the app died, the caller hung up, the deadline passed).
        """
        self.started = True
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._ended or self._closed:
                return b""
            waiter: Waiter[None] = Waiter()
            self._waiter = waiter
            await waiter
        chunk = self._chunks.popleft()
        size = len(chunk)
        self.buffered -= size
        self.on_consumed(size)
        return chunk

    def close(self) -> None:
        """Say that nobody will read the rest; harmless at the end and when repeated."""
        if self._closed:
            return
        self._closed = True
        self._chunks.clear()
        self.buffered = 0
        if not self._ended:
            self._settle()
            self.on_abandoned()
        self._wake()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    def _settle(self) -> None:
        callbacks, self._done = self._done, None
        for callback in callbacks or ():
            callback()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter.set(None)


Body: TypeAlias = bytes | BodyStream


async def read_all(body: Body, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        TooLarge: it has more than ``limit`` bytes; the rest is abandoned.
    """
    if isinstance(body, bytes):
        if len(body) > limit:
            raise TooLarge(f"the body has {len(body)} bytes and the limit is {limit}")
        return body
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await body.read():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the body is longer than the limit of {limit} bytes")
            chunks.append(chunk)
    finally:
        body.close()
    return b"".join(chunks)


def discard(body: Body) -> None:
    """Close a body that nobody will read."""
    if isinstance(body, BodyStream):
        body.close()


__all__ = ["Body", "BodyStream", "discard", "read_all"]
