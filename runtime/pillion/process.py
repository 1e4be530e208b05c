"""Which process is it: a process id, told apart from the next process that gets the same number."""

from __future__ import annotations

import os
from pathlib import Path

from pillion.node import node_id

_DEAD = (b"Z", b"X")


def process_start(pid: int) -> str | None:
    """Return a mark of the process that has ``pid`` now, or None when there is none.

    The mark is equal for the same process and differs for any other one that had or will have its
    number: ``<boot>/<process id namespace>/<start in clock ticks since boot>`` on Linux
    (proc(5), field 22 of ``/proc/<pid>/stat``), what ``ps`` says elsewhere. A zombie, which is
    dead and only not yet buried by its parent, counts as none.
    """
    if pid <= 0:
        return None
    if not Path("/proc/self/stat").exists():
        return _start_by_ps(pid)
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold blanks and parentheses itself; field 3 follows it.
    fields = line.rpartition(b")")[2].split()
    if fields[0] in _DEAD:
        return None
    return f"{node_id()}/{fields[19].decode()}"


def same_process(pid: int, mark: str) -> bool | None:
    """Tell whether the process that was marked still runs.

    Returns None when that cannot be known from here: it was started on this machine since its
    boot, but in another process id namespace (a container that shares the folder).
    """
    boot, _, namespace = node_id().partition("/")
    theirs = mark.split("/")
    if len(theirs) == 3 and theirs[0] == boot and theirs[1] != namespace:
        return None
    return bool(mark) and process_start(pid) == mark


def _start_by_ps(pid: int) -> str | None:
    """Ask ``ps``, for systems without ``/proc``."""
    import subprocess

    try:
        answer = subprocess.run(
            ["/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            check=False,
            env={"LC_ALL": "C", "TZ": "UTC"},
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return _unknown_start(pid)
    state, _, start = answer.stdout.strip().partition(" ")
    if not start or state.startswith("Z"):
        return None
    return f"ps {start.strip()}"


def _unknown_start(pid: int) -> str | None:
    """Say at least whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
