"""A process that uses a state or a lock store on its own, for suites that need a second one.

``peer.py TYPE HOME SETTINGS TASK ARGUMENTS``: one of the tasks below, its arguments as JSON.
It writes a line once it is open, begins at the first line of its input and answers with a line of
JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pillion import registry
from pillion.errors import Conflict
from pillion.kinds.component import Context
from pillion.kinds.state import Put

WAVE = 64
"""Operations at one time."""


async def first_writes(store: Any, prefix: str, name: str, rival: str, count: int) -> list[int]:
    """Try to create ``count`` keys; return the numbers of those that this process created.

    It goes in waves, and begins each one when its rival is ready for it too, so that neither runs
    ahead and the two meet at every key.
    """

    async def create(number: int) -> bool:
        try:
            await store.write(Put(f"{prefix}{number}", name.encode(), create_only=True))
        except Conflict:
            return False
        return True

    won: list[int] = []
    for start in range(0, count, WAVE):
        await store.write(Put(f"{prefix}{name}-ready", b"%d" % start))
        while True:
            ready = await store.get(f"{prefix}{rival}-ready")
            if ready is not None and int(ready.value) >= start:
                break
            await asyncio.sleep(0.0005)
        numbers = range(start, min(start + WAVE, count))
        results = await asyncio.gather(*map(create, numbers))
        won += [number for number, mine in zip(numbers, results, strict=True) if mine]
    return won


async def increments(store: Any, key: str, count: int) -> int:
    """Add one to a number ``count`` times by its tag; return how many tries lost."""
    lost = 0
    for _ in range(count):
        while True:
            item = await store.get(key)
            try:
                await store.write(Put(key, b"%d" % (int(item.value) + 1), etag=item.etag))
            except Conflict:
                lost += 1
            else:
                break
    return lost


async def read(store: Any, key: str) -> str | None:
    """Return the value of a key as text."""
    item = await store.get(key)
    return None if item is None else item.value.decode()


async def write(store: Any, key: str, value: str) -> None:
    """Write a key."""
    await store.write(Put(key, value.encode()))


async def locks(store: Any, prefix: str, name: str, count: int) -> dict[int, int]:
    """Try to take ``count`` locks; return the tokens of those that were taken."""
    numbers = range(count)
    tokens = await asyncio.gather(*(store.lock(f"{prefix}{one}", name, 60.0) for one in numbers))
    return {one: token for one, token in zip(numbers, tokens, strict=True) if token is not None}


TASKS: dict[str, Any] = {
    "first_writes": first_writes,
    "increments": increments,
    "read": read,
    "write": write,
    "locks": locks,
}


async def main(type_name: str, home: str, settings: str, task: str, arguments: str) -> None:
    component: Any = registry.find(type_name)
    context = Context(name="subject", home=Path(home), app_id="peer", settings=json.loads(settings))
    async with component.open(context) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps(await TASKS[task](store, **json.loads(arguments))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
