"""Start processes, wait for them to answer, and end them whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.errors import BenchError

STOP_SECONDS = 8.0
READY_SECONDS = 20.0
LOG_TAIL_LINES = 15


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into ``SystemExit``, so that clean-up runs as it does on Ctrl-C."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def work_directory() -> Iterator[Path]:
    """A temporary directory for this run, readable by this user alone."""
    directory = Path(tempfile.mkdtemp(prefix="pillion-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``argv`` for the length of the block, in a session of its own, output to ``log``.

    Where ``setpriv`` (util-linux) is installed, the process also ends when this one is killed.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*bound_to_parent(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def bound_to_parent() -> tuple[str, ...]:
    """Return what to put before a command so that SIGTERM reaches it when its parent dies."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    # The group outlives its leader when a worker was left behind.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def log_tail(log: Path) -> str:
    """Return the last lines of a log, for an error message."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LOG_TAIL_LINES:]) or "(it wrote nothing)"


def status_of(url: str, *, method: str = "GET", body: bytes = b"") -> tuple[int, bytes] | None:
    """Make one request; return status and body, or None when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request(method, parts.path, body=body or None)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait_for(
    condition: Callable[[], bool],
    what: str,
    *,
    process: subprocess.Popen[bytes],
    log: Path,
    interval: float = 0.02,
    seconds: float = READY_SECONDS,
) -> None:
    """Wait until ``condition`` holds.

    Raises:
        BenchError: the process ended, or ``seconds`` passed; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise BenchError(f"{what}: ended with {process.returncode}:\n{log_tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not ready in {seconds:g} s:\n{log_tail(log)}")
        time.sleep(interval)
