"""The terminal and the log files that several processes write to, through one thread.

A pager that stands still, a full pipe or a slow disk blocks a write. It must neither keep Ctrl-C
from working nor fill the memory: the writes happen in a thread, and a process whose output waits
is no longer read, so that it waits itself.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pillion.errors import Unavailable
from pillion_cli.supervise.lines import LineSplitter

PATIENCE = 256 * 1024
"""Bytes of one process that may wait to be written before it is no longer read."""

_READABLE = 500

RESET = b"\x1b[0m"
BOLD = b"\x1b[1m"
FAINT = b"\x1b[2m"
PALETTE = (b"\x1b[36m", b"\x1b[33m", b"\x1b[32m", b"\x1b[35m", b"\x1b[34m")


class _Chunk(NamedTuple):
    descriptor: int
    data: bytes
    done: Callable[[], object] | None


class Console:
    """Everything that is shown.

    Args:
        out: the descriptor of the output.
        err: the descriptor of complaints.
        colour: whether the output understands colours.
    """

    def __init__(self, out: int, err: int, *, colour: bool) -> None:
        self.out = out
        self.colour = colour
        self._err = err
        self._queue: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        self._broken: set[int] = set()
        self._thread = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Show a line of our own."""
        line = text.encode(errors="backslashreplace")
        self.put(self.out, (BOLD + line + RESET if self.colour else line) + b"\n")

    def complain(self, text: str) -> None:
        """Show what went wrong."""
        self.put(self._err, text.encode(errors="backslashreplace") + b"\n")

    def put(self, descriptor: int, data: bytes, done: Callable[[], object] | None = None) -> None:
        """Write ``data`` in turn, and call ``done`` in the writing thread after it."""
        self._queue.put(_Chunk(descriptor, data, done))

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, but do not wait longer than ``timeout`` seconds for it."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _write_all(self) -> None:
        while (chunk := self._queue.get()) is not None:
            if chunk.data and chunk.descriptor not in self._broken:
                try:
                    _write(chunk.descriptor, chunk.data)
                except OSError:
                    # Nobody reads any more, or the disk is full. The processes go on.
                    self._broken.add(chunk.descriptor)
            if chunk.done is not None:
                chunk.done()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


class Sink:
    """Where one process's output goes.

    Args:
        console: the console.
        prefix: what stands before each line there, or None to show nothing.
        colour: of the prefix.
        log: a file that gets the output as well, or None.

    Attributes:
        hidden: the last line that went only to the log file, cut to a readable length.

    Raises:
        Unavailable: the log file cannot be written.
    """

    def __init__(
        self,
        console: Console,
        *,
        prefix: str | None,
        colour: bytes = FAINT,
        log: Path | None = None,
    ) -> None:
        self._console = console
        self._log = None if log is None else _open(log)
        self._splitter = LineSplitter()
        self._waiting = 0
        self._pause: Callable[[bool], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._prefix = b"" if prefix is None else prefix.encode(errors="backslashreplace")
        self._shown = prefix is not None
        self.hidden = ""
        if console.colour:
            self._prefix = colour + self._prefix + RESET

    def attach(self, pause: Callable[[bool], None]) -> None:
        """Take output from now on; ``pause(True)`` asks its reader to wait, False to go on."""
        self._loop = asyncio.get_running_loop()
        self._pause = pause

    def feed(self, data: bytes) -> None:
        """Take a chunk of output."""
        self._emit(self._splitter.feed(data))

    def flush(self) -> None:
        """Take the end of the output."""
        self._emit(self._splitter.flush())

    def close(self) -> None:
        """Take nothing more, and close the log file when all is written."""
        self.flush()
        log, self._log = self._log, None
        if log is not None:
            self._console.put(log, b"", lambda: os.close(log))

    def _emit(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._log is not None:
            self._put(self._log, b"\n".join((*lines, b"")))
        if self._shown:
            self._put(self._console.out, b"".join(map(self._decorated, lines)))
        elif lines[-1]:
            self.hidden = lines[-1][:_READABLE].decode(errors="replace")

    def _decorated(self, line: bytes) -> bytes:
        # A line that leaves a colour switched on must not colour its neighbours.
        end = RESET + b"\n" if self._console.colour and b"\x1b" in line else b"\n"
        return self._prefix + line + end

    def _put(self, descriptor: int, data: bytes) -> None:
        size = len(data)
        if self._waiting <= PATIENCE < self._waiting + size and self._pause is not None:
            self._pause(True)
        self._waiting += size
        self._console.put(descriptor, data, lambda: self._done_in_thread(size))

    def _done_in_thread(self, size: int) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._done, size)
            except RuntimeError:
                return  # the loop was closed in between, and nobody waits any more

    def _done(self, size: int) -> None:
        self._waiting -= size
        if self._waiting <= PATIENCE < self._waiting + size and self._pause is not None:
            self._pause(False)


def _open(path: Path) -> int:
    """Open a log file; nobody else reads it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot write the log file {path}: {error.strerror}") from error
