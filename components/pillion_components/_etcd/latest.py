"""The newest value of a stream, for a reader that may be slower than it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from pillion.errors import Failure

T = TypeVar("T")


class Latest(Generic[T]):
    """Room for one value; a newer one replaces it."""

    __slots__ = ("_ended", "_failure", "_news", "_values")

    def __init__(self) -> None:
        self._values: tuple[T, ...] = ()
        self._news = asyncio.Event()
        self._ended = False
        self._failure: Failure | None = None

    async def follow(self, source: AsyncGenerator[T, None]) -> None:
        """Take values from ``source`` until it ends; run this in a task."""
        try:
            async with aclosing(source):
                async for value in source:
                    self._values = (value,)
                    self._news.set()
        except Failure as failure:
            self._failure = failure
        finally:
            self._ended = True
            self._news.set()

    async def next(self, seconds: float | None) -> tuple[T, ...] | None:
        """Return a new value in a tuple, an empty one after ``seconds``, None at the end.

        Raises:
            Failure: the source ended with it.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return ()
        if self._values:
            values, self._values = self._values, ()
            if not self._ended:
                self._news.clear()
            return values
        if self._failure is not None and self._failure.reason != "closed":
            failure, self._failure = self._failure, None
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame
        return None


__all__ = ["Latest"]
