"""All keys of a bucket, one after the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from pillion.errors import Failure, Unavailable
from pillion_components._nats.bucket import api
from pillion_components._nats.client import Client, Request, status
from pillion_components._nats.keys import key_of, pattern_of
from pillion_components._nats.messages import is_gone

_BATCH = 512
_UNUSED_FOR = 10 * 10**9
"""Nanoseconds after which the server forgets a walk that was not ended."""


async def walked(
    client: Client, stream: str, bucket: str, prefix: str, until: float
) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield keys, and whether they are gone, in the order in which they were last written.

    Keys that begin with ``prefix`` and are there all the time come at least once, others may come
    too. A key that is written meanwhile may come again; what was yielded last holds.

    Raises:
        Failure: the server cannot be reached in time.
    """
    reply = await api(
        client,
        f"CONSUMER.CREATE.{stream}",
        {
            "stream_name": stream,
            "config": {
                "deliver_policy": "last_per_subject",
                "ack_policy": "none",
                "filter_subject": f"$KV.{bucket}.{pattern_of(prefix)}",
                "headers_only": True,
                "mem_storage": True,
                "num_replicas": 1,
                "inactive_threshold": _UNUSED_FOR,
            },
        },
        until,
    )
    consumer = str(reply["name"])
    cut = len(f"$KV.{bucket}.")
    try:
        more = True
        while more:
            more = False
            async for subject, gone in _batch(client, stream, consumer, until):
                more = True
                if (key := key_of(subject[cut:])) is not None:
                    yield key.encode(), gone
    finally:
        with suppress(Failure):
            await api(client, f"CONSUMER.DELETE.{stream}.{consumer}", None, until)


async def _batch(
    client: Client, stream: str, consumer: str, until: float
) -> AsyncIterator[tuple[str, bool]]:
    request = json.dumps({"batch": _BATCH, "no_wait": True}).encode()
    async with client.listening() as (inbox, queue):
        await client.send(Request(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", request), inbox)
        for _ in range(_BATCH):
            try:
                async with asyncio.timeout_at(until):
                    message = await queue.get()
            except TimeoutError:
                raise Unavailable(
                    f"{client.place} did not list the keys in time; raise timeout",
                    reason="deadline",
                ) from None
            if message is None:
                raise Unavailable(f"{client.place} broke off", reason="connection-lost")
            if said := status(message):
                if said in ("404", "408"):
                    return
                raise Unavailable(f"{client.place} stopped listing keys: status {said}")
            yield message.subject, is_gone(message.headers or {})


__all__ = ["walked"]
