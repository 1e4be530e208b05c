"""Server-sent events as a reader sees them (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Iterator

MAX_EVENT = 64 * 1024 * 1024
"""Bytes one event may have."""


class EventTooLong(ValueError):
    """An event is longer than what is read into memory."""


class EventReader:
    """Puts the data of events together from chunks that break anywhere.

    Only ``data`` is kept; comments and other fields are passed over.

    Args:
        limit: bytes one event may have.
    """

    __slots__ = ("_data", "_limit", "_rest", "_size")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self._limit = limit

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of every event that a chunk completes.

        Raises:
            EventTooLong: an event is over the limit.
        """
        self._size += len(chunk)
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        for other in others:
            line = b"".join(self._rest).removesuffix(b"\r")
            self._rest = [other]
            if line:
                self._keep(line)
                continue
            self._size = sum(map(len, self._rest))
            if self._data:
                data, self._data = b"\n".join(self._data), []
                yield data
        if self._size > self._limit:
            raise EventTooLong(f"an event is over {self._limit} bytes")

    def _keep(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif not name:
            # A comment, the sign of life of a stream without events.
            self._size -= len(line) + 1
