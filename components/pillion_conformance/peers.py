"""Second processes that use a store: started, let go together, and asked for what they found."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Peer:
    """One process of ``pillion_conformance.peer``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(
        cls,
        type_name: str,
        home: Path,
        settings: Mapping[str, Any],
        task: str,
        **arguments: object,
    ) -> Peer:
        """Start a process and wait until its store is open."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pillion_conformance.peer",
            type_name,
            str(home),
            json.dumps(dict(settings)),
            task,
            json.dumps(arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self = cls(process)
        assert await self._line() == "ready"
        return self

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def answer(self) -> Any:
        """Return what it found, once it has ended."""
        found = json.loads(await self._line())
        assert await self.process.wait() == 0
        return found

    async def _line(self) -> str:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, f"the peer ended with {await self.process.wait()}"
        return line.decode().strip()


async def together(*peers: Peer) -> list[Any]:
    """Let all begin at once; return their answers."""
    for peer in peers:
        peer.go()
    return [await peer.answer() for peer in peers]
