"""``lock.in-memory``: locks inside one process, for tests and single-process systems.

Components with the same home and name share their locks. Expiry is on the monotonic clock.
Fencing tokens grow across restarts too, by the wall clock; see ``_fencing``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Self
from weakref import WeakValueDictionary

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.lock import LockStore, Unlocked
from pillion.kinds.settings import settings_of
from pillion_components.lock._fencing import next_token

_CROWD = 1024
"""Locks from which on expired ones are looked for, when their number has doubled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``lock.in-memory`` has no metadata."""


class InMemoryLock(LockStore):
    """Locks in this process' memory."""

    settings: ClassVar[type[Settings]] = Settings
    volatile: ClassVar[bool] = True
    """Other processes do not see them, and they end with this one."""

    def __init__(self, space: _Space) -> None:
        self._space = space
        self._open = True

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the locks of ``context.home`` and ``context.name``.

        Raises:
            Invalid: a setting is given.
        """
        settings_of(Settings, context.settings, context.name)
        self = cls(_space_of((str(context.home), context.name)))
        try:
            yield self
        finally:
            self._open = False

    async def ping(self) -> None:
        """Return while the component is open."""
        self._require_open()

    async def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        """Take the lock; see the kind."""
        self._require_open()
        _check(resource, expiry)
        return self._space.lock(resource, owner, expiry)

    async def renew(self, resource: str, owner: str, expiry: float) -> bool:
        """Hold on from now; see the kind."""
        self._require_open()
        _check(resource, expiry)
        return self._space.renew(resource, owner, expiry)

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        """Give the lock up; see the kind."""
        self._require_open()
        return self._space.unlock(resource, owner)

    def _require_open(self) -> None:
        if not self._open:
            raise Unavailable("the in-memory lock store is closed", reason="closed")


class _Space:
    """Owner and end of each held resource, shared by loops in any thread."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, float]] = {}
        self._token = 0
        self._crowd = _CROWD
        self._guard = threading.Lock()

    def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        with self._guard:
            now = time.monotonic()
            if self._owner(resource, now) is not None:
                return None
            if len(self._held) >= self._crowd:
                self._held = {name: one for name, one in self._held.items() if one[1] > now}
                self._crowd = max(_CROWD, 2 * len(self._held))
            self._held[resource] = owner, now + expiry
            self._token = next_token(self._token, time.time())
            return self._token

    def renew(self, resource: str, owner: str, expiry: float) -> bool:
        with self._guard:
            now = time.monotonic()
            if self._owner(resource, now) != owner:
                return False
            self._held[resource] = owner, now + expiry
            return True

    def unlock(self, resource: str, owner: str) -> Unlocked:
        with self._guard:
            holder = self._owner(resource, time.monotonic())
            if holder is None:
                return Unlocked.DOES_NOT_EXIST
            if holder != owner:
                return Unlocked.BELONGS_TO_OTHERS
            del self._held[resource]
            return Unlocked.SUCCESS

    def _owner(self, resource: str, now: float) -> str | None:
        held = self._held.get(resource)
        return held[0] if held is not None and held[1] > now else None


_spaces: WeakValueDictionary[tuple[str, str], _Space] = WeakValueDictionary()
_spaces_guard = threading.Lock()


def _space_of(name: tuple[str, str]) -> _Space:
    with _spaces_guard:
        space = _spaces.get(name)
        if space is None:
            space = _spaces[name] = _Space()
        return space


def _check(resource: str, expiry: float) -> None:
    if not 0 < expiry < float("inf"):
        raise Invalid(f"the lock {resource!r} cannot expire after {expiry:g} s")


__all__ = ["InMemoryLock", "Settings"]
