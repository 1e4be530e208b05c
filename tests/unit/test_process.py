"""A process is told apart from the next one that gets its number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pillion import process
from pillion.node import node_id
from pillion.process import process_start, same_process


def test_a_process_has_one_mark_for_its_life() -> None:
    """The mark of a process stays, differs from another's, and is gone with it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mark = process_start(child.pid)
        assert mark
        assert mark == process_start(child.pid)
        assert mark != process_start(os.getpid())
        assert same_process(child.pid, mark) is True
        child.kill()
        child.wait()
        assert process_start(child.pid) is None
        assert same_process(child.pid, mark) is False


def test_a_reused_number_is_another_process() -> None:
    """The same number with another start, or without any mark, is not the same process."""
    mark = process_start(os.getpid())
    assert mark
    place, _, ticks = mark.rpartition("/")
    assert same_process(os.getpid(), f"{place}/{int(ticks) - 1}") is False
    assert same_process(os.getpid(), "") is False
    assert same_process(os.getpid(), "nonsense") is False


def test_another_boot_is_over() -> None:
    """What ran before the machine started again does not run."""
    mark = process_start(os.getpid())
    assert mark
    boot, namespace, ticks = mark.split("/")
    assert same_process(os.getpid(), f"{boot[:-1]}x/{namespace}/{ticks}") is False


def test_another_container_cannot_be_judged() -> None:
    """A process of another process id namespace of this machine is neither alive nor dead here."""
    boot = node_id().partition("/")[0]
    assert same_process(os.getpid(), f"{boot}/pid:[1]/123") is None


def test_a_zombie_is_dead() -> None:
    """A process that ended and was not waited for counts as gone."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert Path(f"/proc/{child}").exists()
        assert process_start(child) is None
    finally:
        os.waitpid(child, 0)


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_numbers_of_no_process(pid: int) -> None:
    """Numbers that no process can have belong to none."""
    assert process_start(pid) is None


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no ps here")
def test_without_proc_ps_tells() -> None:
    """Where there is no /proc, ps tells processes apart by their start and knows zombies."""
    mark = process._start_by_ps(os.getpid())
    assert mark
    assert mark == process._start_by_ps(os.getpid())
    assert process._start_by_ps(2**22 + 1) is None
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert process._start_by_ps(child) is None
    finally:
        os.waitpid(child, 0)


def test_without_anything_the_number_must_do() -> None:
    """Where neither exists, at least a missing process is known."""
    assert process._unknown_start(os.getpid()) == "unknown"
    assert process._unknown_start(2**22 + 1) is None
