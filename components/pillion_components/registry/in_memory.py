"""``registry.in-memory``: instances known inside one process, for tests and single-process systems.

Components with the same home share one space. A process that dies takes the space with it, so
leases matter only for an instance that was reported dead by mistake: its next renewal brings it
back, as in every registry.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import ClassVar, Self
from weakref import WeakValueDictionary

from pillion.errors import Invalid, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.registry import Change, Gone, Instance, Put, Registration, Registry, Snapshot
from pillion.node import node_id, process_gone

_PENDING = 1024
"""Changes kept for a slow watcher; beyond them it gets a new Snapshot."""


class InMemoryRegistry(Registry):
    """Instances in this process' memory; it has no settings."""

    shared: ClassVar[bool] = False
    """Other processes do not see its instances."""

    def __init__(self, space: _Space) -> None:
        self._space = space
        self._watchers: set[_Watcher] = set()
        self._open = True

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open the space of ``context.home``.

        Raises:
            Invalid: a setting is given.
        """
        if context.settings:
            unknown = ", ".join(sorted(context.settings))
            raise Invalid(f"component {context.name}: registry.in-memory has no setting {unknown}")
        self = cls(_space_of(str(context.home)))
        try:
            yield self
        finally:
            self._open = False
            for watcher in self._watchers:
                watcher.wake()

    async def ping(self) -> None:
        """Return while the component is open."""
        self._require_open()

    @asynccontextmanager
    async def registered(self, instance: Instance, lease: float) -> AsyncIterator[Registration]:
        """Keep ``instance`` registered; see the kind."""
        self._require_open()
        if lease <= 0:
            raise Invalid(f"instance {instance.id}: a lease of {lease:g} s is no time at all")
        registration = _Registration(self._space, instance, lease)
        registration.renew()
        try:
            yield registration
        finally:
            registration.leave()

    async def watch(self, namespace: str, app_id: str) -> AsyncGenerator[Change, None]:
        """Yield a Snapshot, then changes; see the kind."""
        watcher = _Watcher(self._space, namespace, app_id)
        self._watchers.add(watcher)
        try:
            while self._open:
                for change in watcher.take():
                    yield change
                await watcher.rung.wait()
        finally:
            self._watchers.discard(watcher)
            watcher.close()

    async def instances(self, namespace: str | None = None) -> Sequence[Instance]:
        """Return the live instances; see the kind."""
        self._require_open()
        return self._space.instances(namespace)

    async def report_dead(self, instance: Instance) -> None:
        """Remove ``instance`` when its process is gone; see the kind."""
        if instance.node == node_id() and await asyncio.to_thread(process_gone, instance.pid):
            self._space.remove(instance.id)

    def _require_open(self) -> None:
        if not self._open:
            raise Unavailable("the in-memory registry is closed", reason="closed")


class _Space:
    """The instances of one home, shared by loops in any thread."""

    def __init__(self) -> None:
        self._instances: dict[str, Instance] = {}
        self._watchers: dict[tuple[str, str], set[_Watcher]] = {}
        self._lock = threading.Lock()

    def put(self, instance: Instance) -> None:
        with self._lock:
            if self._instances.get(instance.id) != instance:
                self._instances[instance.id] = instance
                self._tell(instance, instance)

    def remove(self, identifier: str) -> None:
        with self._lock:
            instance = self._instances.pop(identifier, None)
            if instance is not None:
                self._tell(instance, None)

    def instances(self, namespace: str | None) -> tuple[Instance, ...]:
        with self._lock:
            return tuple(
                instance
                for instance in self._instances.values()
                if namespace is None or instance.namespace == namespace
            )

    def attach(self, watcher: _Watcher) -> None:
        with self._lock:
            self._watchers.setdefault(watcher.key, set()).add(watcher)

    def detach(self, watcher: _Watcher) -> None:
        with self._lock:
            group = self._watchers[watcher.key]
            group.discard(watcher)
            if not group:
                del self._watchers[watcher.key]

    def drain(self, watcher: _Watcher) -> Sequence[Change]:
        with self._lock:
            if watcher.pending is None:
                found = (
                    instance
                    for instance in self._instances.values()
                    if (instance.namespace, instance.app_id) == watcher.key
                )
                watcher.pending = {}
                watcher.known = {instance.id: instance for instance in found}
                return (Snapshot(tuple(watcher.known.values())),)
            changes: list[Change] = []
            for identifier, state in watcher.pending.items():
                known = watcher.known.pop(identifier, None)
                if state is not None:
                    watcher.known[identifier] = state
                    if state != known:
                        changes.append(Put(state))
                elif known is not None:
                    changes.append(Gone(identifier))
            watcher.pending.clear()
            return changes

    def _tell(self, subject: Instance, state: Instance | None) -> None:
        for watcher in self._watchers.get((subject.namespace, subject.app_id), ()):
            if watcher.pending is not None:
                watcher.pending.pop(subject.id, None)  # the newest state moves to the end
                watcher.pending[subject.id] = state
                if len(watcher.pending) > _PENDING:
                    watcher.pending = None
            watcher.wake()


_spaces: WeakValueDictionary[str, _Space] = WeakValueDictionary()
_spaces_lock = threading.Lock()


def _space_of(home: str) -> _Space:
    with _spaces_lock:
        space = _spaces.get(home)
        if space is None:
            space = _spaces[home] = _Space()
        return space


class _Watcher:
    """The newest state of what changed since its reader last looked.

    Attributes:
        known: what its reader was told.
        pending: the changed instances, None for the ones that left; None when it needs a Snapshot.
    """

    def __init__(self, space: _Space, namespace: str, app_id: str) -> None:
        self.key = (namespace, app_id)
        self.known: dict[str, Instance] = {}
        self.pending: dict[str, Instance | None] | None = None
        self.rung = asyncio.Event()
        self._space = space
        self._loop = asyncio.get_running_loop()
        space.attach(self)

    def take(self) -> Sequence[Change]:
        self.rung.clear()
        return self._space.drain(self)

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop has ended, and its reader with it
            self._loop.call_soon_threadsafe(self.rung.set)

    def close(self) -> None:
        self._space.detach(self)


class _Registration(Registration):
    """One instance and the timer that renews it."""

    def __init__(self, space: _Space, instance: Instance, lease: float) -> None:
        self._space = space
        self._instance = instance
        self._lease = lease
        self._timer: asyncio.TimerHandle | None = None

    def renew(self) -> None:
        self._space.put(self._instance)
        self._timer = asyncio.get_running_loop().call_later(self._lease / 3, self.renew)

    async def update(self, *, healthy: bool) -> None:
        self._instance = replace(self._instance, healthy=healthy)
        self._space.put(self._instance)

    def leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._space.remove(self._instance.id)


__all__ = ["InMemoryRegistry"]
