"""Reading CPU time and memory from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from tests.bench import procfs

STAT = (
    "4242 (a (very) odd) name) S 17 4242 4242 0 -1 4194560 3038 0 0 0 150 50 7 9 20 0 3 0 8853 "
    "257208320 6406 18446744073709551615 1 1 0 0 0 0 0 16781312 134237928 0 0 0 17 1 0 0 0 0 0"
)
STATUS = "Name:\tpython\nUmask:\t0022\nVmHWM:\t   25664 kB\nVmRSS:\t   25600 kB\nThreads:\t3\n"
MACHINE = "cpu  1000 200 300 9999 88 10 20 70 5 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


def test_stat_with_an_odd_name() -> None:
    """Spaces and parentheses in a process's name do not shift its fields."""
    stat = procfs.parse_stat(STAT)
    assert (stat.pid, stat.parent) == (4242, 17)
    assert stat.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")


def test_sizes_are_bytes() -> None:
    """Lines in kB become bytes; lines without a size are left out."""
    assert procfs.parse_sizes(STATUS) == {"VmHWM": 25664 * 1024, "VmRSS": 25600 * 1024}


def test_machine_cpu_counts_work_and_theft() -> None:
    """Busy and stolen time count; idle, waiting and guests (part of user) do not."""
    assert procfs.parse_machine_cpu(MACHINE) == 1600 / os.sysconf("SC_CLK_TCK")


def test_cpu_seconds_of_work_done_here() -> None:
    """A process's CPU seconds grow by the work it does, all its threads together."""
    before = procfs.cpu_seconds([os.getpid()])
    began = time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert procfs.cpu_seconds([os.getpid()]) - before >= 0.08


def test_memory_peak_and_reset() -> None:
    """The peak keeps what was freed until it is reset."""
    script = (
        "import sys; block = bytearray(b'x') * (32 << 20); del block; print(flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        before = procfs.memory([process.pid])
        assert before.peak - before.resident > 24 << 20
        assert before.proportional <= before.resident
        procfs.reset_peak([process.pid])
        after = procfs.memory([process.pid])
        assert after.peak - after.resident < 4 << 20
        process.stdin.close()


def test_family_is_the_process_and_its_descendants() -> None:
    """Children of children are found, the process itself comes first, others are left out."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 10
        while len(found := procfs.family(process.pid)) < 2:
            assert time.monotonic() < deadline
        assert found[0] == process.pid
        assert os.getpid() not in found
        process.communicate(b"\n")


def test_a_process_that_is_gone() -> None:
    """Figures of a dead process are an error, not zero."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match=str(process.pid)):
        procfs.cpu_seconds([process.pid])
