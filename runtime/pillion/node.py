"""Which machine, since which boot: the frame in which process ids and clocks mean something."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def boot_id() -> str:
    """Return a name for this machine since its last boot.

    Equal names share one monotonic clock. Linux: ``/proc/sys/kernel/random/boot_id`` (random(4));
    macOS: ``kern.bootsessionuuid``; elsewhere the machine's address, which outlives a boot.
    """
    return _BOOT


def node_id() -> str:
    """Return a name that processes share when they see one another's process ids.

    It is the boot and the process id namespace (pid_namespaces(7)), because two containers on one
    machine share the first and not the second.
    """
    return _NODE


def process_gone(pid: int) -> bool:
    """Tell whether process ``pid`` of this node has certainly ended.

    A zombie counts as ended: it holds its number until its parent collects it, and nothing else.
    """
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return Path("/proc/self/stat").exists()
    except OSError:
        return False
    # proc_pid_stat(5): the name is in parentheses and may itself hold spaces and parentheses.
    return stat[stat.rfind(b")") + 2 :][:1] in (b"Z", b"X")


def _read_boot() -> str:
    if sys.platform == "darwin":
        return _darwin_boot_session() or _machine()
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or _machine()
    except OSError:
        return _machine()


def _read_node() -> str:
    try:
        return f"{_BOOT}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return _BOOT


def _machine() -> str:
    import uuid

    return f"{os.uname().nodename}-{uuid.getnode():012x}"


def _darwin_boot_session() -> str:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t(64)
    value = ctypes.create_string_buffer(size.value)
    name = b"kern.bootsessionuuid"
    if library.sysctlbyname(name, value, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        return ""
    return value.value.decode("ascii", "replace")


# Read once at import, so that nobody waits for a file inside an event loop.
_BOOT = _read_boot()
_NODE = _read_node()

__all__ = ["boot_id", "node_id", "process_gone"]
