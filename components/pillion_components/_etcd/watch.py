"""Following keys: what is there, then every change, through restarts and compactions.

A lost stream is resumed at the revision after the last event that was handed out, never at one
that a header named: the header of the answer to a watch's creation is ahead of events that are
still to come. When the server has compacted what would come next, or has gone back in time, the
range is read anew and handed out as a Snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc.aio

from pillion.errors import Conflict, Unavailable
from pillion_components._etcd import messages
from pillion_components._etcd.backoff import Backoff
from pillion_components._etcd.model import Event, Events, KeyValue, News

if TYPE_CHECKING:
    from pillion_components._etcd.client import Client

_log = logging.getLogger(__name__)

_DELETED = 1


async def follow(client: Client, key: bytes, range_end: bytes) -> AsyncGenerator[News, None]:
    """Yield a Snapshot, then Events; another Snapshot when events were lost to a compaction.

    While no endpoint can be reached it waits and goes on afterwards.

    Raises:
        NotAllowed: the user may not read the keys.
        Invalid: the request is refused.
    """
    backoff = Backoff()
    revision = 0
    while True:
        try:
            if not revision:
                snapshot = await client.snapshot(key, range_end)
                revision = snapshot.revision + 1
                yield snapshot
            async with aclosing(_answers(client, key, range_end, revision)) as answers:
                async for answer in answers:
                    backoff.reset()
                    if _restarts(answer, revision):
                        revision = 0
                        break
                    if answer.events:
                        events = Events(list(map(_event, answer.events)))
                        revision = events.events[-1].item.mod_revision + 1
                        yield events
                    elif not answer.created:
                        # Progress: every event up to the header's revision has been sent.
                        revision = max(revision, answer.header.revision + 1)
        except (Unavailable, Conflict) as failure:
            if failure.reason == "closed":
                raise
            if isinstance(failure, Conflict):  # compacted between two pages of a snapshot
                revision = 0
            _log.debug("watch is resumed at revision %d: %s", revision, failure)
            await asyncio.sleep(backoff.next())


def _restarts(answer: Any, revision: int) -> bool:
    """Tell whether the events from ``revision`` on cannot be had."""
    if answer.canceled:
        return True
    return bool(answer.created) and answer.header.revision < revision - 1


async def _answers(
    client: Client, key: bytes, range_end: bytes, revision: int
) -> AsyncGenerator[Any, None]:
    """Yield the server's answers to one watch; a cancelled one only because of a compaction."""
    connection = client.connection
    create = messages.WatchCreateRequest(
        key=key, range_end=range_end, start_revision=revision, progress_notify=True
    )
    endpoint, call = await connection.open(messages.WATCH)
    try:
        async with asyncio.timeout(connection.timeout):
            await call.write(messages.WatchRequest(create_request=create))
            answer = await call.read()
        while answer is not grpc.aio.EOF:
            if answer.canceled and not answer.compact_revision:
                raise connection.refused(answer.cancel_reason or "the watch was cancelled")
            yield answer
            answer = await call.read()
        raise Unavailable(f"{connection.place} ended the watch")
    except (grpc.aio.AioRpcError, TimeoutError) as error:
        raise connection.failed(endpoint, error) from error
    finally:
        call.cancel()


def _event(event: Any) -> Event:
    kv = event.kv
    item = KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
    return Event(item, event.type == _DELETED)


__all__ = ["follow"]
