"""Which processes and clocks can be compared, and which processes have ended."""

from __future__ import annotations

import os
import subprocess
import sys

from pillion.node import boot_id, node_id, process_gone


def test_processes_of_one_machine_agree() -> None:
    """Another process of this machine has the same node, which contains the boot."""
    program = "from pillion.node import node_id; print(node_id())"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert output.stdout.strip() == node_id()
    assert node_id().startswith(boot_id())
    assert len(boot_id()) > 8


def test_running_process_is_not_gone() -> None:
    """This process, and process 1 that belongs to somebody else, are there."""
    assert not process_gone(os.getpid())
    assert not process_gone(1)


def test_ended_process_is_gone_before_and_after_it_is_collected() -> None:
    """A zombie counts as ended, because nothing runs in it."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not process_gone(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_gone(process.pid)
    process.communicate()
    assert process_gone(process.pid)


def test_numbers_that_are_no_process_prove_nothing() -> None:
    """No process id, a group or an impossible number is never proof of a death."""
    for pid in (0, -1, 2**70):
        assert not process_gone(pid)
