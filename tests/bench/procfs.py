"""CPU time and memory of processes, read from Linux's ``/proc`` (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND: int = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What ``/proc/<pid>/stat`` says about one process; times in clock ticks."""

    pid: int
    parent: int
    user_ticks: int
    system_ticks: int

    @property
    def cpu_seconds(self) -> float:
        """Seconds of user and system time of all threads, dead ones included."""
        return (self.user_ticks + self.system_ticks) / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process, in bytes.

    Attributes:
        resident: pages in memory now (``VmRSS``).
        peak: the most that was resident since the start or the last reset (``VmHWM``).
        proportional: resident, with each shared page split among its sharers (``Pss``).
    """

    resident: int
    peak: int
    proportional: int


def parse_stat(text: str) -> ProcessStat:
    """Parse ``/proc/<pid>/stat``; the name in it may hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return ProcessStat(
        pid=int(head.split(maxsplit=1)[0]),
        parent=int(fields[1]),
        user_ticks=int(fields[11]),
        system_ticks=int(fields[12]),
    )


def parse_sizes(text: str) -> dict[str, int]:
    """Parse the ``Name:  123 kB`` lines of ``status`` and ``smaps_rollup`` into bytes."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    return sizes


def parse_machine_cpu(text: str) -> float:
    """Sum the seconds that ``/proc/stat`` counts as busy or stolen by the host, all CPUs."""
    numbers = [int(word) for word in text.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = numbers[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sum the user and system seconds of the given processes, all threads included.

    Raises:
        OSError: one of them is gone.
    """
    return sum(parse_stat((PROC / str(pid) / "stat").read_text()).cpu_seconds for pid in pids)


def machine_cpu() -> float:
    """Read the seconds that were taken from all CPUs since boot, by processes or by the host."""
    return parse_machine_cpu((PROC / "stat").read_text())


def family(pid: int) -> tuple[int, ...]:
    """List a process and all its descendants, the process first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = parse_stat((entry / "stat").read_text())
            except OSError:
                continue  # it ended while we looked
            children.setdefault(stat.parent, []).append(stat.pid)
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return tuple(found)


def memory(pids: Iterable[int]) -> Memory:
    """Sum the memory of the given processes.

    Raises:
        OSError: one of them is gone.
    """
    resident = peak = proportional = 0
    for pid in pids:
        status = parse_sizes((PROC / str(pid) / "status").read_text())
        rollup = parse_sizes((PROC / str(pid) / "smaps_rollup").read_text())
        resident += status["VmRSS"]
        peak += status["VmHWM"]
        proportional += rollup["Pss"]
    return Memory(resident, peak, proportional)


def reset_peak(pids: Iterable[int]) -> None:
    """Set each process's ``VmHWM`` back to what is resident now.

    Raises:
        OSError: a process is gone or belongs to another user.
    """
    for pid in pids:
        (PROC / str(pid) / "clear_refs").write_text("5")
