"""Component types of a third party, whose every move a test decides and sees.

They are installed as a distribution with entry points, as anybody's are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from pillion import registry
from pillion.errors import Invalid, NotFound, Unavailable
from pillion.kinds.component import Context
from pillion.kinds.secretstores import MultiValued
from pillion.kinds.settings import setting, settings_of, switch, whole
from pillion.kinds.state import Item, Put, StateStore, Transactional, Write

TYPES = {
    "state.probe": "ProbeState",
    "state.probe.transactional": "ProbeTransactional",
    "secretstores.probe": "ProbeSecrets",
}

opened: list[str] = []
"""Names of the components, as they were opened."""
closed: list[str] = []
"""Names of the components, as they were closed."""
contexts: dict[str, Context] = {}
"""What the components were last opened with, by name."""
running: Counter[str] = Counter()
"""Operations that run, by the component's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a probe is told."""

    host: str = setting("server and port", example="localhost:1")
    password: str = setting("of the server", default="", secret=True)
    mode: str = setting("how it works", default="fast", choices=("fast", "safe"))
    size: int = setting("how many", default="3", read=whole(1, 9))
    broken: bool = setting("refuse to open", default="false", read=switch)
    bug: bool = setting("fail as no component may", default="false", read=switch)
    hang: bool = setting("never get open", default="false", read=switch)

    def __post_init__(self) -> None:
        if self.mode == "safe" and self.size > 5:
            raise Invalid("a safe one has a size of 5 at most")


class ProbeState(StateStore):
    """A dictionary."""

    settings: ClassVar[type[Any]] = Settings

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.told = settings
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.broke = asyncio.Event()
        self._items: dict[str, Item] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open, be broken or hang, as told."""
        settings = settings_of(Settings, context.settings, context.name)
        contexts[context.name] = context
        if settings.hang:
            await asyncio.sleep(3600)
        if settings.bug:
            raise ZeroDivisionError(settings.password)
        if settings.broken:
            raise Unavailable(f"component {context.name}: {settings.host} is not there")
        store = cls(context.name, settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(store.break_down())
            opened.append(context.name)
            try:
                yield store
            finally:
                store.closed = True
                closed.append(context.name)
                task.cancel()

    async def break_down(self) -> None:
        """Fail in the background when a test says so."""
        await self.broke.wait()
        raise OSError("broke")

    async def ping(self) -> None:
        """It is well."""

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        """Return the item once the gate is open."""
        running[self.name] += 1
        try:
            async with asyncio.timeout(60):
                await self.gate.wait()
            assert not self.closed
            return self._items.get(key)
        finally:
            running[self.name] -= 1

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> list[Item | None]:
        """Return the items."""
        return [self._items.get(key) for key in keys]

    async def write(self, change: Write) -> None:
        """Store or remove."""
        if isinstance(change, Put):
            self._items[change.key] = Item(change.key, change.value, "1")
        else:
            self._items.pop(change.key, None)


class ProbeTransactional(ProbeState, Transactional):
    """A dictionary that is changed at once."""

    async def transact(self, changes: Sequence[Write]) -> None:
        """Make all changes."""
        for change in changes:
            await self.write(change)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSettings:
    """Where the secrets are."""

    file: str = setting("a file of lines ``name/key=value``", default="")
    token: str = setting("what the store is opened with", default="", secret=True)


class ProbeSecrets(MultiValued):
    """Secrets in a file that is read each time."""

    settings: ClassVar[type[Any]] = SecretSettings

    def __init__(self, name: str, file: str) -> None:
        self.name = name
        self._file = file

    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        """Open it."""
        settings = settings_of(SecretSettings, context.settings, context.name)
        contexts[context.name] = context
        opened.append(context.name)
        try:
            yield cls(context.name, settings.file)
        finally:
            closed.append(context.name)

    async def ping(self) -> None:
        """It is well."""

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Return a secret."""
        found = (await self.bulk(metadata)).get(name)
        if found is None:
            raise NotFound(f"{self.name} has no secret {name}")
        return found

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return all."""
        found: dict[str, dict[str, str]] = {}
        text = await asyncio.to_thread(Path(self._file).read_text) if self._file else ""
        for line in text.split():
            place, _, value = line.partition("=")
            name, _, key = place.partition("/")
            found.setdefault(name, {})[key] = value
        return found


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Install the types for this process; ``patch`` ends it, and the registry must forget then."""
    info = folder / "probes-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probes\nVersion: 1.0\n")
    lines = [f"{name} = {__name__}:{found}" for name, found in TYPES.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
    patch.syspath_prepend(str(folder))
    registry._third_party.cache_clear()
    for record in (opened, closed, contexts, running):
        record.clear()
