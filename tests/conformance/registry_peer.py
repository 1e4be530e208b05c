"""A process that registers and watches on command, so that suites can kill, stop and time it.

Commands come as JSON lines on standard input, events leave as JSON lines on standard output, each
with the monotonic time at which it happened. The end of the input leaves every registration.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pillion import registry
from pillion.kinds.component import Context
from pillion.kinds.registry import Change, Gone, Instance, Put, Registration, Registry
from pillion.node import node_id


def tell(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()


def tell_change(change: Change) -> None:
    if isinstance(change, Put):
        tell("put", id=change.instance.id, healthy=change.instance.healthy)
    elif isinstance(change, Gone):
        tell("gone", id=change.id)
    else:
        tell("snapshot", ids=sorted(instance.id for instance in change.instances))


class Peer:
    def __init__(self, opened: Registry, group: asyncio.TaskGroup) -> None:
        self._registry = opened
        self._group = group
        self._stacks: dict[str, AsyncExitStack] = {}
        self._registrations: dict[str, Registration] = {}
        self._watches: list[asyncio.Task[None]] = []

    async def register(self, id: str, app_id: str, lease: float) -> None:
        instance = Instance(
            id=id,
            app_id=app_id,
            namespace="default",
            host="127.0.0.1",
            port=7000,
            pid=os.getpid(),
            node=node_id(),
            since=time.time(),
        )
        stack = self._stacks[id] = AsyncExitStack()
        at = time.monotonic()
        self._registrations[id] = await stack.enter_async_context(
            self._registry.registered(instance, lease)
        )
        tell("registered", id=id, begun=at)

    async def update(self, id: str, healthy: bool) -> None:
        at = time.monotonic()
        await self._registrations[id].update(healthy=healthy)
        tell("updated", id=id, begun=at)

    async def leave(self, id: str) -> None:
        at = time.monotonic()
        await self._stacks.pop(id).aclose()
        tell("left", id=id, begun=at)

    async def watch(self, app_id: str) -> None:
        self._watches.append(self._group.create_task(self._watch(app_id)))

    async def _watch(self, app_id: str) -> None:
        async for change in self._registry.watch("default", app_id):
            tell_change(change)

    async def end(self) -> None:
        for identifier in list(self._stacks):
            await self.leave(identifier)
        for watch in self._watches:
            watch.cancel()


async def crash_forever(type_name: str, home: str, settings: str) -> None:
    """Open, register, change and leave without end, for someone who kills at any moment."""
    component: Any = registry.find(type_name)
    context = Context(name="peer", home=Path(home), app_id="peer", settings=json.loads(settings))
    number = 0
    while True:
        async with component.open(context) as opened:
            for _ in range(5):
                number += 1
                instance = Instance(
                    id=f"{os.getpid()}-{number}",
                    app_id="orders",
                    namespace="default",
                    host="127.0.0.1",
                    port=7000,
                    pid=os.getpid(),
                    node=node_id(),
                )
                async with opened.registered(instance, 1.0) as registration:
                    await registration.update(healthy=False)


async def main(type_name: str, home: str, settings: str) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    component: Any = registry.find(type_name)
    context = Context(name="peer", home=Path(home), app_id="peer", settings=json.loads(settings))
    async with component.open(context) as opened, asyncio.TaskGroup() as group:
        peer = Peer(opened, group)
        tell("ready", pid=os.getpid())
        while line := await reader.readline():
            command = json.loads(line)
            await getattr(peer, command.pop("do"))(**command)
        await peer.end()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
