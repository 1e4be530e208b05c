"""Changes to a state store that are made together."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pillion_sdk.state_changes import Change, Delete, Save

if TYPE_CHECKING:
    from pillion_sdk.state import StateStore


class Transaction:
    """Changes that are made together at the end of an ``async with``; none if it raises.

    Attributes:
        changes: collected so far.
    """

    __slots__ = ("_store", "changes")

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.changes: list[Change] = []

    def save(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        etag: str | None = None,
        create_only: bool = False,
    ) -> None:
        """Save a value at the end; see :meth:`StateStore.save`."""
        self.changes.append(Save(key, value, ttl, etag, create_only))

    def delete(self, key: str, *, etag: str | None = None) -> None:
        """Delete a key at the end; see :meth:`StateStore.delete`."""
        self.changes.append(Delete(key, etag))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self._store.transact(self.changes)
