"""The update loop: read, change, save over the version that was read, or begin again."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from pillion_sdk.backoff import jittered
from pillion_sdk.state_changes import StateConflict, StateError, Stored

if TYPE_CHECKING:
    from pillion_sdk.state import StateStore

ATTEMPTS = 20
"""Tries of an update before it gives up."""

NOTHING: Final = object()
"""The default of an update that has none."""


async def update(
    store: StateStore,
    key: str,
    function: Callable[[Any], Any],
    wanted: Any,
    *,
    default: Any,
    ttl: float | None,
    attempts: int,
) -> Any:
    """Change a value; see :meth:`StateStore.update`."""
    for attempt in range(attempts):
        if attempt:
            await anyio.sleep(jittered(attempt - 1, first=0.01, most=0.5))
        stored = await store.get(key, type=wanted)
        value = await _apply(store.name, key, function, stored, default)
        lives = _time_left(stored) if ttl is None else ttl
        etag = None if stored is None else stored.etag
        try:
            await store.save(key, value, ttl=lives, etag=etag, create_only=stored is None)
        except StateConflict:
            continue
        return value
    text = f"others changed it at each of {attempts} attempts to update it"
    raise StateConflict(store.name, (key,), 409, "ERR_STATE_SAVE", text)


async def _apply(
    store: str, key: str, function: Callable[[Any], Any], stored: Stored[Any] | None, default: Any
) -> Any:
    if stored is not None:
        value = function(stored.value)
    elif default is NOTHING:
        text = "the key is missing, and the update has no default"
        raise StateError(store, (key,), 404, "ERR_STATE_MISSING", text)
    else:
        # A copy, because a function may change what it is given, and be given it again.
        value = function(copy.deepcopy(default))
    if inspect.isawaitable(value):
        value = await value
    if value is None:
        raise TypeError(f"the function that updates {key!r} must return the new value")
    return value


def _time_left(stored: Stored[Any] | None) -> float | None:
    if stored is None or stored.expires is None:
        return None
    return max(1.0, stored.expires.timestamp() - time.time())
