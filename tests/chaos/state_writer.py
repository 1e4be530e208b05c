"""A process that saves to ``state.sqlite`` for someone who kills it or takes its disk away.

``state_writer.py flood HOME COUNT`` saves COUNT keys, 256 at a time, and writes the number of each
as soon as it is acknowledged. ``state_writer.py limited HOME`` saves until its file may not grow
any more (RLIMIT_FSIZE, getrlimit(2)), then lifts the limit, saves again, and writes what it saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from pillion import registry
from pillion.errors import Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Put

WAVE = 256
ROOM = 512 * 1024


def opened(home: str) -> Any:
    component: Any = registry.find("state.sqlite")
    return component.open(Context(name="statestore", home=Path(home), app_id="writer"))


def value_of(number: int) -> bytes:
    return b"%d:" % number + b"x" * 200


async def flood(home: str, count: str) -> None:
    numbers = iter(range(int(count)))

    async def save(store: Any) -> None:
        for number in numbers:
            await store.write(Put(f"key-{number}", value_of(number)))
            os.write(1, b"%d\n" % number)

    async with opened(home) as store, asyncio.TaskGroup() as group:
        for _ in range(WAVE):
            group.create_task(save(store))


async def limited(home: str) -> None:
    async with opened(home) as store:
        await store.write(Put("before", b"1"))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
        saved = 0
        failure = None
        while failure is None:
            try:
                await store.write(Put(f"key-{saved}", os.urandom(16_384)))
            except Unavailable as raised:
                failure = raised
            else:
                saved += 1
        readable = (await store.get("before")) is not None
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await store.write(Put("after", b"1"))
        found = [await store.get(f"key-{number}") is not None for number in range(saved)]
    print(json.dumps({"saved": saved, "readable": readable, "kept": all(found)}))


if __name__ == "__main__":
    asyncio.run({"flood": flood, "limited": limited}[sys.argv[1]](*sys.argv[2:]))
