"""Changed files are applied while calls run.

The folders of ``--resources-path`` are looked at once a second: names, times, sizes and inodes, so
that a file that is replaced by a rename counts as one that is written. When they have changed and
then rested for a moment, everything is read again. A change with any mistake is refused as a
whole and everything stays as it was; the log, the metadata API and a metric say so.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pillion.components.live import OpenComponents
from pillion.config.component import ComponentSpec
from pillion.errors import Failure
from pillion.resources import Resources

log = logging.getLogger("pillion.reload")

LOOK = 1.0
"""Seconds between two looks at the folders."""
RETRY = 10.0
"""Seconds after which files are read again that were refused for something that may pass."""
REST = 0.1
"""Seconds that files must not change before they are read."""

Snapshot = frozenset[tuple[str, int, int, int, int]]
"""Path, inode, size, and times of modification and change of each file, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that was not made.

    Attributes:
        at: seconds since the epoch.
        problems: a line for each mistake.
    """

    at: float
    problems: tuple[str, ...]


class Reload:
    """Watches the folders and applies what has changed.

    Args:
        paths: the folders.
        read: reads all resources; it may block, and runs in a thread.
        components: what changes are applied to.
        loaded: what is in force.

    Attributes:
        applied: changes that were made.
        refused: changes that were not.
        refusal: the last change, if it was refused; None once the files are right again.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], Resources],
        components: OpenComponents,
        loaded: Resources,
    ) -> None:
        self.applied = 0
        self.refused = 0
        self.refusal: Refusal | None = None
        self._paths = tuple(paths)
        self._read = read
        self._components = components
        self._loaded = loaded
        self._seen = snapshot(self._paths)
        self._again = math.inf

    async def follow(self) -> None:
        """Look at the folders until cancelled."""
        while self._paths:
            await asyncio.sleep(LOOK)
            found = snapshot(self._paths)
            if found == self._seen and time.monotonic() < self._again:
                continue
            while True:
                await asyncio.sleep(REST)
                found, before = snapshot(self._paths), found
                if found == before:
                    break
            # Noted before the files are read: what is written meanwhile is read at the next look.
            self._seen = found
            await self.apply()

    async def apply(self) -> bool:
        """Read everything and apply it; return whether it is in force."""
        try:
            resources = await asyncio.to_thread(self._read)
            await self._components.apply(resources.components)
        except Failure as failure:
            self._refuse(failure)
            self._again = time.monotonic() + RETRY if failure.retryable else math.inf
            return False
        told = _difference(self._loaded.components, resources.components)
        if told or self.refusal is not None:
            self.applied += 1
            log.info("changed files are applied: %s", told or "everything is right again")
        if resources.outlets.keys() != self._loaded.outlets.keys():
            log.warning("HTTPEndpoints were added or removed; that takes effect at the next start")
        self._loaded = resources
        self._again = math.inf
        self.refusal = None
        return True

    def describe(self) -> dict[str, object] | None:
        """Return what the metadata API shows of a refused change, None when there is none."""
        if self.refusal is None:
            return None
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.refusal.at))
        return {"refusedAt": at, "problems": list(self.refusal.problems)}

    def _refuse(self, failure: Failure) -> None:
        problems = tuple(failure.message.splitlines())
        if self._again < math.inf and self.refusal and self.refusal.problems == problems:
            return  # said before
        self.refused += 1
        self.refusal = Refusal(time.time(), problems)
        log.error(
            "changed files are refused, and everything stays as it was: %s", "; ".join(problems)
        )


def snapshot(paths: Sequence[Path]) -> Snapshot:
    """Return what the folders hold, as far as it can be seen."""
    found = set()
    for folder in paths:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.lower().endswith((".yaml", ".yml")):
                        found.add(_state(entry.path))
        except OSError:
            found.add((str(folder), 0, -1, 0, 0))
    return frozenset(found)


def _state(path: str) -> tuple[str, int, int, int, int]:
    try:
        # A link is followed: what it leads to is what is read, and may be exchanged.
        state = os.stat(path)  # noqa: PTH116 - a Path for each look would cost more than the look
    except OSError:
        return path, 0, -1, 0, 0
    return path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _difference(old: Sequence[ComponentSpec], new: Sequence[ComponentSpec]) -> str:
    before, after = {spec.name: spec for spec in old}, {spec.name: spec for spec in new}
    parts = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in after if name in before and after[name] != before[name]],
    }
    return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names)
