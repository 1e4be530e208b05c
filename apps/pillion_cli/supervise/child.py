"""One child process, leader of a process group of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from pillion.errors import Failure
from pillion_cli.supervise.changes import Changes
from pillion_cli.supervise.console import Sink
from pillion_cli.supervise.guardian import Guardian, end_with_parent, group_lives, signal_group

CANNOT_EXECUTE = 126
NOT_FOUND = 127

STRAGGLERS = 1.0
"""Seconds for what a process left behind in its group, before it is killed."""

KILLED = 5.0
"""Seconds for the kernel to carry out a SIGKILL."""

_POLL = 0.02


class NotStarted(Failure):
    """A command that cannot be started.

    Attributes:
        status: what a shell would exit with.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Child(asyncio.SubprocessProtocol):
    """A process, from its start to its end.

    Attributes:
        name: what messages call it.
        pid: its id and that of its group.
        status: what a shell would say about its end, 128 and the number for a signal; None while
            it runs.
    """

    def __init__(self, name: str, sink: Sink, guardian: Guardian, changes: Changes) -> None:
        self.name = name
        self.pid = 0
        self.status: int | None = None
        self._drained = False
        self._sink = sink
        self._guardian = guardian
        self._changes = changes
        self._transport: asyncio.SubprocessTransport | None = None

    async def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        directory: Path,
        inherit_stdin: bool = False,
    ) -> None:
        """Start it; its standard error goes where its output goes, in the order written.

        Raises:
            NotStarted: there is no such command or it cannot be executed.
        """
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *command,
                stdin=None if inherit_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=directory,
                process_group=0,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )
        except OSError as error:
            raise _not_started(command[0], directory, error) from error

    async def end(self, signum: int, grace: float, hurry: Callable[[], bool]) -> bool:
        """End the process and all of its group; harmless when it never started.

        Args:
            signum: asks it to end.
            grace: seconds it has; then it is killed.
            hurry: True when it shall be killed at once.

        Returns:
            False when it had to be killed because it did not end in time.
        """
        if not self.pid:
            return True
        in_time = True
        if self.status is None:
            signal_group(self.pid, signum)
            in_time = await self._changes.until(lambda: self._ended or hurry(), grace)
        elif group_lives(self.pid):
            signal_group(self.pid, signal.SIGTERM)
        if self.status is not None:
            await self._changes.until(lambda: self._gone or hurry(), STRAGGLERS, _POLL)
        signal_group(self.pid, signal.SIGKILL)
        await self._changes.until(lambda: self._ended, KILLED)
        await self._changes.until(lambda: self._drained, STRAGGLERS)
        self.abandon()
        return in_time

    def abandon(self) -> None:
        """Kill what is left, let go of it, and forget it."""
        if self._transport is not None:
            signal_group(self.pid, signal.SIGKILL)
            self._guardian.remove(self.pid)
            self._transport.close()
            self._transport = None
            self._sink.close()

    @property
    def _ended(self) -> bool:
        return self.status is not None

    @property
    def _gone(self) -> bool:
        return self._ended and not group_lives(self.pid)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the process."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid() or 0
        self._guardian.add(self.pid)
        self._sink.attach(self._pause)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Pass output on."""
        self._sink.feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Note that there will be no more output."""
        self._sink.flush()
        self._drained = True
        self._changes.notify()

    def process_exited(self) -> None:
        """Note how it ended."""
        code = self._transport.get_returncode() if self._transport is not None else None
        self.status = 1 if code is None else code if code >= 0 else 128 - code
        self._changes.notify()

    def _pause(self, wait: bool) -> None:
        output = self._transport.get_pipe_transport(1) if self._transport is not None else None
        if output is not None:
            reading = cast("asyncio.ReadTransport", output)
            with contextlib.suppress(RuntimeError):  # it is closed
                reading.pause_reading() if wait else reading.resume_reading()


def described(status: int) -> str:
    """Say how a process ended."""
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"exited with status {status}"


def _not_started(command: str, directory: Path, error: OSError) -> NotStarted:
    if not directory.is_dir():
        return NotStarted(f"cannot start {command!r}: there is no folder {directory}", 1)
    if isinstance(error, FileNotFoundError):
        return NotStarted(f"cannot start {command!r}: there is no such command", NOT_FOUND)
    reason = (error.strerror or str(error)).lower()
    return NotStarted(f"cannot start {command!r}: {reason}", CANNOT_EXECUTE)
