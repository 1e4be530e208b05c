"""The changes of one key, as a stream of events that survives broken connections."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import msgspec

from pillion_sdk.backoff import jittered
from pillion_sdk.event_source import EventReader, EventTooLong
from pillion_sdk.invocation import InvokeError
from pillion_sdk.runtime_api import RuntimeApi
from pillion_sdk.state_changes import Found, StateError, failure_of
from pillion_sdk.transport import IncomingReply

PATIENCE = 30.0
"""Seconds that the runtime may be away before a watch gives up."""

SILENCE = 45.0
"""Seconds without a byte after which a connection is dead: the runtime sends one every 15."""

_PASSING = frozenset({502, 503, 504})
_decode = msgspec.json.Decoder(Found).decode


async def changes_of(
    api: RuntimeApi, store: str, key: str, target: str, *, patience: float = PATIENCE
) -> AsyncGenerator[Found, None]:
    """Yield the present state of a key and then every newer one.

    Args:
        api: asks the runtime.
        store: for errors.
        key: for errors.
        target: path of the request.
        patience: seconds.

    Raises:
        StateError: the first request failed, or the runtime was away for too long.
    """
    last: Found | None = None
    away_since: float | None = None
    attempt = 0
    while True:
        try:
            async with aclosing(_one_connection(api, target)) as changes:
                async for found in changes:
                    away_since, attempt = None, 0
                    if found != last:
                        last = found
                        yield found
            failure = StateError(store, (key,), 502, "ERR_RUNTIME_BROKE_OFF", "the stream ended")
        except InvokeError as error:
            failure = failure_of(store, (key,), error)
        except (msgspec.DecodeError, EventTooLong) as error:
            text = f"an event is not as expected: {error}"
            raise StateError(store, (key,), 502, "ERR_MALFORMED_RESPONSE", text) from None
        now = time.monotonic()
        away_since = now if away_since is None else away_since
        if last is None or failure.status not in _PASSING or now - away_since > patience:
            raise failure
        await anyio.sleep(jittered(attempt, first=0.05, most=1.0))
        attempt += 1


async def _one_connection(api: RuntimeApi, target: str) -> AsyncGenerator[Found, None]:
    """Yield changes until the connection ends, breaks, or is silent for too long."""
    async with api.stream(target) as reply:
        events = EventReader()
        while chunk := await _next(reply):
            for data in events.feed(chunk):
                yield _decode(data)


async def _next(reply: IncomingReply) -> bytes:
    """Return the next chunk; empty when there are no more, and when they are overdue."""
    with anyio.move_on_after(SILENCE):
        return await anext(reply, b"")
    return b""
