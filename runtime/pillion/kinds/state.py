"""State stores: values by key, with entity tags, and what some of them can do besides.

Keys reach a store whole (prefixes are the runtime's business) and values as bytes it does not
look into. Optional promises are mix-ins; the runtime refuses what a store does not promise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pillion.kinds.component import Component


@dataclass(frozen=True, slots=True)
class Item:
    """A value that is there.

    Attributes:
        key: as it was asked for.
        value: as it was stored.
        etag: changes with every write of the key; opaque.
        expires: seconds since the epoch, or None.
    """

    key: str
    value: bytes
    etag: str
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Store a value.

    Attributes:
        key, value: what to store.
        etag: the write counts only if the key's present tag is this one; None for any.
        create_only: the write counts only if the key is missing.
        ttl: seconds until the value expires; None keeps it. A put without a ttl ends an earlier
            expiry.
    """

    key: str
    value: bytes
    etag: str | None = None
    create_only: bool = False
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a key; a missing one is deleted already, unless ``etag`` says otherwise.

    Attributes:
        key: which.
        etag: the key must be there with this tag; None for any.
    """

    key: str
    etag: str | None = None


Write: TypeAlias = Put | Remove


class StateStore(Component):
    """What every store promises.

    A write that returned is durable as far as the engine can be (the component's documentation
    says how far), and is seen by every later read through any runtime. An expired value is
    missing. Entity tags are compared and the write is made in one step, so of any number of
    writers with the same tag exactly one succeeds.
    """

    @abstractmethod
    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item, None when it is missing.

        ``strong`` False allows an engine with replicas to answer from a lagging one.

        Raises:
            Unavailable: the engine cannot be reached in time.
        """

    @abstractmethod
    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> list[Item | None]:
        """Return the items in the order of ``keys``, in one round trip where the engine can.

        Raises:
            Unavailable: the engine cannot be reached in time.
        """

    @abstractmethod
    async def write(self, change: Write) -> None:
        """Make one change.

        Raises:
            Conflict: ``etag`` or ``create_only`` does not hold; nothing has changed.
            Invalid: the tag is none of this store's (reason ``etag-invalid``), or the value is
                over what the engine takes.
            Unsupported: a ttl, and the store is not Expiring.
            Unavailable: the engine cannot be reached in time; the change may have been made.
        """

    async def write_many(self, changes: Sequence[Write]) -> list[Exception | None]:
        """Make changes that do not depend on each other; return what became of each.

        Not atomic. Stores with pipelines make it one round trip.
        """
        results: list[Exception | None] = []
        for change in changes:
            try:
                await self.write(change)
            except Exception as error:  # noqa: BLE001 - each change has its own outcome
                results.append(error)
            else:
                results.append(None)
        return results


class Expiring(StateStore):
    """Values with a ttl disappear at their time, within a second."""


class Transactional(StateStore):
    """Several changes as one."""

    max_operations: int | None = None
    """Changes in one transaction; None for no limit."""

    @abstractmethod
    async def transact(self, changes: Sequence[Write]) -> None:
        """Make all changes or none, in their order.

        Raises:
            Conflict: a tag does not hold; nothing has changed.
            Invalid, Unsupported, Unavailable: as :meth:`StateStore.write`.
        """


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys in order, and where the next page begins.

    Attributes:
        keys: in the store's order, which does not change.
        token: for the next page; None at the end.
    """

    keys: tuple[str, ...]
    token: str | None


class Listable(StateStore):
    """Keys can be listed."""

    @abstractmethod
    async def list(self, prefix: str, limit: int, token: str | None = None) -> Page:
        """Return at most ``limit`` keys that begin with ``prefix``.

        A key that is there from the first page to the last is in exactly one of them.

        Raises:
            Invalid: the token is none of this store's.
            Unavailable: the engine cannot be reached in time.
        """


@dataclass(frozen=True, slots=True)
class Changed:
    """A key was written, or is gone when ``item`` is None."""

    key: str
    item: Item | None


class Watchable(StateStore):
    """Changes of one key can be followed."""

    @abstractmethod
    def watch(self, key: str) -> AsyncGenerator[Changed, None]:
        """Yield the present state, then every newer one, never an older after a newer.

        Changes that follow fast may be joined; the last one is always yielded. After trouble with
        the engine it goes on with the then present state. Closing the generator ends the watch.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found.

    Attributes:
        items: in the asked order.
        token: for the next page; None at the end.
    """

    items: tuple[Item, ...]
    token: str | None


class Queryable(StateStore):
    """JSON values can be filtered and sorted."""

    @abstractmethod
    async def query(self, query: Mapping[str, Any]) -> Answer:
        """Answer a query in the state query format: ``filter``, ``sort`` and ``page``.

        Raises:
            Invalid: the query is not understood.
            Unavailable: the engine cannot be reached in time.
        """
