"""Doing the same with many things, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def each(
    at_once: int, function: Callable[[T], Awaitable[R]], arguments: Sequence[T]
) -> list[R | Exception]:
    """Call ``function`` with each argument, ``at_once`` under way; return what became of each."""
    results: dict[int, R | Exception] = {}
    positions = iter(range(len(arguments)))

    async def work() -> None:
        for position in positions:
            try:
                results[position] = await function(arguments[position])
            except Exception as error:  # noqa: BLE001 - each has its own outcome
                results[position] = error

    if len(arguments) == 1:
        await work()
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(arguments))):
                group.create_task(work())
    ordered = [results[position] for position in range(len(arguments))]
    results.clear()  # the frames in an error's traceback refer to it
    return ordered


__all__ = ["each"]
