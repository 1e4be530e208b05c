"""Logging an exception without holding the event loop up."""

from __future__ import annotations

import functools
import logging
import traceback

import anyio.to_thread

logger = logging.getLogger("pillion_sdk")


async def log_failure(message: str, *args: object, error: BaseException) -> None:
    """Log an error with its traceback, in a thread: formatting one reads source files."""
    emit = functools.partial(logger.error, message, *args, exc_info=error)
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(emit)


async def describe_failure(error: BaseException) -> str:
    """Return an error's traceback as text."""
    lines = await anyio.to_thread.run_sync(traceback.format_exception, error)
    return "".join(lines)
