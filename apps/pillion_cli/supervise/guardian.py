"""Children that do not outlive their parent, even when it is killed with SIGKILL.

Twofold. Each child asks the kernel for a SIGTERM when its parent dies (Linux, prctl(2)
PR_SET_PDEATHSIG). And a small process of our own sees a pipe close, ends the process groups it
was told about, the children's children with them, and kills what does not end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

from pillion.process import process_start

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL for processes whose supervisor died."""

_PR_SET_PDEATHSIG = 1
_POLL = 0.02


class Guardian:
    """The process that outlives this one. Start it before threads and loops."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._write)
            _watch(self._read)
        os.close(self._read)

    def add(self, group: int) -> None:
        """Guard the process group ``group``."""
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """Forget a group that is gone; its number may soon be another's."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guardian, which kills the groups that were not removed."""
        os.close(self._write)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody killed it; the kernel still helps
            os.write(self._write, line.encode())


def end_with_parent(parent: int) -> None:
    """Ask for SIGTERM when ``parent`` dies; runs in the child, between fork and exec."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), signal.SIGKILL)


def group_lives(group: int) -> bool:
    """Tell whether the process group has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # a member that changed its user
    return True


def signal_group(group: int, signum: int) -> None:
    """Send a signal to every member; harmless when there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


def _watch(pipe: int) -> None:
    """Be the guardian; never returns."""
    try:
        _detach()
        groups: set[int] = set()
        rest = b""
        while data := os.read(pipe, 4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                number = int(line[1:])
                groups.add(number) if line[:1] == b"+" else groups.discard(number)
        _end(groups)
    finally:
        os._exit(0)


def _detach() -> None:
    """Leave the terminal and the pipes to the others, so that nobody waits for us."""
    os.setsid()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _end(groups: set[int]) -> None:
    """Ask, wait, kill."""
    asked: set[int] = set()
    deadline = time.monotonic() + GRACE
    while any(map(group_lives, groups)) and time.monotonic() < deadline:
        # The kernel asked the leaders already, and a runtime takes a second signal for haste.
        for group in groups - asked:
            if _prctl is None or process_start(group) is None:
                asked.add(group)
                signal_group(group, signal.SIGTERM)
        time.sleep(_POLL)
    for group in groups:
        signal_group(group, signal.SIGKILL)


# Looked up here: between fork and exec is no place to load a library.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
