"""Waiting for something to become true, with a deadline instead of a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

POLL = 0.002
"""Seconds between two looks."""


async def eventually(
    condition: Callable[[], object], what: str = "the condition", seconds: float = 5.0
) -> None:
    """Return once ``condition()`` is true; fail when it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s"
        await asyncio.sleep(POLL)


async def consistently(
    condition: Callable[[], object], what: str = "the condition", seconds: float = 0.1
) -> None:
    """Return after ``seconds`` in which ``condition()`` was true at every look."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"{what} ceased to hold"
        await asyncio.sleep(POLL)
