"""Processes that a measurement starts end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.bench.errors import BenchError
from tests.bench.processes import (
    bound_to_parent,
    free_port,
    log_tail,
    running,
    status_of,
    wait_for,
    work_directory,
)
from tests.bench.systems import pillion_environment

DEADLINE_SECONDS = 20.0
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print('ready', flush=True); time.sleep(60)"
)


LONG_RUN = [
    *(sys.executable, "-m", "tests.bench", "invocation"),
    *("--systems", "app,nginx", "--seconds", "30", "--no-get", "--rate", "0"),
]


def wait_for_announcement(process: subprocess.Popen[str]) -> None:
    """Return when a run has started all its systems and is about to load the first."""
    assert process.stderr is not None
    while "rounds" not in process.stderr.readline():
        assert process.poll() is None


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def users_of(directory: Path) -> list[str]:
    """The command lines of processes that name a directory or log below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                output = str((entry / "fd" / "1").readlink())
            except OSError:
                continue
            if str(directory) in line or output.startswith(str(directory)):
                found.append(line)
    return found


def test_a_process_ends_with_its_block(tmp_path: Path) -> None:
    """SIGTERM is enough for a process that heeds it."""
    log = tmp_path / "log"
    with running([sys.executable, "-c", "import time; time.sleep(60)"], log=log) as process:
        assert alive(process.pid)
    assert process.returncode == -signal.SIGTERM
    assert not alive(process.pid)


def test_a_stubborn_process_and_its_children_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ignores SIGTERM is killed, with the children it left behind."""
    monkeypatch.setattr("tests.bench.processes.STOP_SECONDS", 0.2)
    log = tmp_path / "log"
    with running([sys.executable, "-c", STUBBORN], log=log) as process:
        wait_for(lambda: "ready" in log_tail(log), "stubborn", process=process, log=log)
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + DEADLINE_SECONDS
    while users_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_waiting_for_a_process_that_died(tmp_path: Path) -> None:
    """The error shows the status and the end of the log."""
    log = tmp_path / "log"
    script = "import sys; sys.exit('the reason')"
    with (
        running([sys.executable, "-c", script], log=log) as process,
        pytest.raises(BenchError, match=r"it: ended with 1:\nthe reason"),
    ):
        wait_for(lambda: False, "it", process=process, log=log)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    """A process that never becomes ready is an error."""
    log = tmp_path / "log"
    script = "import time; time.sleep(60)"
    with (
        running([sys.executable, "-c", script], log=log) as process,
        pytest.raises(BenchError, match="not ready in"),
    ):
        wait_for(lambda: False, "it", process=process, log=log, seconds=0.1)


def test_work_directory_is_private_and_goes() -> None:
    """Nobody else reads it, and nothing of it is left."""
    with work_directory() as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        (directory / "file").write_text("x")
    assert not directory.exists()


def test_nobody_answers() -> None:
    """A port without a server has no status."""
    assert status_of(f"http://127.0.0.1:{free_port()}/") is None


def test_runtimes_get_no_settings_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens and ports of another runtime do not reach the measured ones."""
    monkeypatch.setenv("DAPR_API_TOKEN", "secret")
    monkeypatch.setenv("PILLION_HOME", "/elsewhere")
    environment = pillion_environment(tmp_path)
    assert environment["PILLION_HOME"] == str(tmp_path)
    assert "DAPR_API_TOKEN" not in environment
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM in the middle of a measurement stop every process and clear the disk."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        LONG_RUN, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_announcement(process)
        assert users_of(tmp_path)
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 128 + number
    assert list(tmp_path.iterdir()) == []
    assert users_of(tmp_path) == []


@pytest.mark.skipif(not bound_to_parent(), reason="setpriv is not installed")
def test_a_killed_run_leaves_no_process(tmp_path: Path) -> None:
    """Even SIGKILL, after which nothing can clean up, takes the started processes along."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        LONG_RUN, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_announcement(process)
        assert users_of(tmp_path)
        process.kill()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while left := users_of(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)
