"""``state.nats-kv``: values in a key-value bucket of NATS JetStream.

The entity tag is the number of the value's message, so it never comes back. A deleted key leaves a
small message behind, for an hour where the server can drop single messages (2.11 and newer), else
for good. Values that expire need such a server too, and a bucket that allows it.

NATS acknowledges a write when all its servers' processes have it; by default they bring it to the
disk every two minutes. Where a power failure must lose nothing, set ``sync_interval: always``
there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.settings import setting, settings_of, whole
from pillion.kinds.state import Changed, Expiring, Item, Listable, Page, Watchable, Write
from pillion_components import _nats
from pillion_components._durations import positive_duration
from pillion_components._first_keys import FirstKeys
from pillion_components._nats.settings import ConnectionSettings

if TYPE_CHECKING:
    from pillion_components._nats.client import Client
    from pillion_components._nats.messages import Entry
    from pillion_components._nats.values import Values

    Walk = Callable[[Client, str, str, str, float], AsyncIterator[tuple[bytes, bool]]]

_TROUBLE_PAUSE = 0.25


def _bucket_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", text):
        raise ValueError("letters, digits, - and _")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ConnectionSettings):
    """The metadata of ``state.nats-kv``."""

    bucket: str = setting(
        "the bucket; it is made when it is not there", read=_bucket_name, example="pillion"
    )
    replicas: int = setting(
        "servers that keep each value, when the bucket is made",
        default="1",
        read=whole(1, 5),
    )
    watch_interval: float = setting(
        "longest time until a watch sees a change whose announcement was lost, or an expiry",
        default="500ms",
        read=positive_duration,
    )


class NatsKvState(Expiring, Listable, Watchable):
    """Values as the last messages of subjects."""

    settings: ClassVar[type] = Settings
    requires = ("nats",)

    def __init__(self, client: Client, settings: Settings, values: Values, walked: Walk) -> None:
        self._client = client
        self._settings = settings
        self._values = values
        self._walked = walked

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the store; the server need not be there yet.

        Raises:
            Invalid: a setting is missing or wrong.
        """
        settings = settings_of(Settings, context.settings, context.name)
        async with _nats.connected(settings, context.name) as client:
            from pillion_components._nats.values import Values
            from pillion_components._nats.walk import walked

            yield cls(client, settings, Values(client, settings.bucket, settings.replicas), walked)

    async def ping(self) -> None:
        """Ask for the bucket."""
        self._values.forget()
        await self._values.opened(self._client.until())

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item; see the kind."""
        if strong:
            return _item(key, await self._values.entry(key, self._client.until()))
        (item,) = await self.get_many((key,), strong=strong)
        return item

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> list[Item | None]:
        """Return the items; the requests go out together; see the kind."""
        entries = await self._values.entries(keys, self._client.until(), strong=strong)
        return [_item(key, entry) for key, entry in zip(keys, entries, strict=True)]

    async def write(self, change: Write) -> None:
        """Make one change; see the kind."""
        await self._values.write(change, self._client.until())

    async def write_many(self, changes: Sequence[Write]) -> list[Exception | None]:
        """Make changes; the requests go out together; see the kind."""
        return await self._values.write_many(changes, self._client.until())

    async def watch(self, key: str) -> AsyncGenerator[Changed, None]:
        """Yield the present state, then newer ones; see the kind.

        A message to the key's subject says that it is time to look; since such a message may be
        lost, and an expiry sends none, this looks every ``watchInterval`` anyway.
        """
        subject = self._values.subject(key)
        seen = -1
        while True:
            try:
                async with self._client.listening(subject) as (_, bell):
                    while True:
                        entry = await self._values.entry(key, self._client.until())
                        change = Changed(key, _item(key, entry))
                        tag = int(change.item.etag) if change.item is not None else 0
                        if tag != seen:
                            seen = tag
                            yield change
                        with suppress(TimeoutError):
                            async with asyncio.timeout(self._settings.watch_interval):
                                await bell.get()
                        while not bell.empty():
                            bell.get_nowait()
            except Unavailable as failure:
                if failure.reason == "closed":
                    return
                await asyncio.sleep(_TROUBLE_PAUSE)

    async def list(self, prefix: str, limit: int, token: str | None = None) -> Page:
        """Return keys in the order of their bytes; see the kind.

        The token is the last key of the page before, in hexadecimal digits. Each page walks through
        the keys of the app, or of the bucket when the prefix names no app.
        """
        first = FirstKeys(prefix.encode(), _after(token), limit)
        until = self._client.until()
        bucket = await self._values.opened(until)
        walk = self._walked(self._client, bucket.stream, self._settings.bucket, prefix, until)
        async for key, gone in walk:
            (first.discard if gone else first.add)(key)
        keys, last = first.page()
        return Page(tuple(key.decode() for key in keys), last.hex() if last is not None else None)


def _item(key: str, entry: Entry | None) -> Item | None:
    if entry is None or entry.gone:
        return None
    return Item(key, entry.value, str(entry.sequence), entry.expires)


def _after(token: str | None) -> bytes:
    try:
        return bytes.fromhex(token or "")
    except ValueError:
        raise Invalid("the token is none of this store's; begin without one") from None


__all__ = ["NatsKvState", "Settings"]
