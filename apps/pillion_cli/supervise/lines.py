"""Output cut into lines, so that two programs never share one."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 16 * 1024
"""Bytes after which a line is cut; the rest goes on as a line of its own."""


class LineSplitter:
    """Turns chunks of output into whole lines, whatever bytes they hold."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int = LONGEST) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [piece for line in lines for piece in self._pieces(line.removesuffix(b"\r"))]
        while len(self._rest) > self._limit:
            found.append(self._rest[: self._limit])
            self._rest = self._rest[self._limit :]
        return found

    def flush(self) -> list[bytes]:
        """Return the last line when it has no end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _pieces(self, line: bytes) -> Iterable[bytes]:
        if len(line) <= self._limit:
            return (line,)
        return (line[at : at + self._limit] for at in range(0, len(line), self._limit))
