"""The ``pillion`` command as a process of its own, watched from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pillion.process import process_start

DEADLINE = 30.0
"""Seconds after which something that should happen did not."""


def until(condition, what, deadline=DEADLINE):
    """Return the first true value of ``condition()``."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.01)
    return value


def lives(pid):
    """Tell whether a process runs; one that only waits to be buried does not."""
    return process_start(pid) is not None


def group_members(group):
    """Return the processes of a process group that run."""
    return [pid for pid, fields in _table() if int(fields[2]) == group]


def children(parent):
    """Return the processes that ``parent`` started and that run."""
    return [pid for pid, fields in _table() if int(fields[1]) == parent]


def _table():
    """Yield each process that runs with its fields of proc_pid_stat(5) from the third on."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                yield int(entry.name), fields


class Command:
    """A running ``pillion`` with a home of its own; its output is collected."""

    def __init__(self, home, *args, cwd=None, env=None, stdin=subprocess.DEVNULL, stdout=None):
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pillion_cli", *map(str, args)],
            cwd=cwd,
            env={**_clean(os.environ), "PILLION_HOME": str(home), **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
        self._chunks = {"out": [], "err": []}
        self._threads = []
        for name, pipe in (("out", self.process.stdout), ("err", self.process.stderr)):
            if pipe is not None:
                thread = threading.Thread(target=self._collect, args=(name, pipe), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _collect(self, name, pipe):
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                self._chunks[name].append(data)

    @property
    def raw(self):
        """Standard output so far, as bytes."""
        return b"".join(self._chunks["out"])

    @property
    def out(self):
        """Standard output so far."""
        return self.raw.decode(errors="replace")

    @property
    def err(self):
        """Standard error so far."""
        return b"".join(self._chunks["err"]).decode(errors="replace")

    @property
    def pid(self):
        """The process id."""
        return self.process.pid

    def see(self, text, deadline=DEADLINE):
        """Wait until ``text`` is on standard output."""

        def found():
            if text in self.out:
                return True
            assert self.process.poll() is None or text in self.out, self.report()
            return False

        try:
            until(found, text, deadline)
        except AssertionError:
            raise AssertionError(f"{text!r} was never shown\n{self.report()}") from None

    def report(self):
        """Return what was shown, for messages."""
        return f"status {self.process.poll()}\n-- out\n{self.out}\n-- err\n{self.err}"

    def send(self, signum):
        """Send a signal to the process alone."""
        self.process.send_signal(signum)

    def wait(self, deadline=DEADLINE):
        """Return the exit status once all output was read."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end\n{self.report()}") from None
        for thread in self._threads:
            thread.join(deadline)
        return status

    def close(self):
        """End it and what it started, whatever state it is in."""
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for thread in self._threads:
            thread.join(10)


def _clean(environ):
    """Return the variables without those that would reach into a test from outside."""
    reach = ("DAPR_", "PILLION_", "APP_", "NAMESPACE", "NO_COLOR", "PYTEST_")
    return {name: value for name, value in environ.items() if not name.startswith(reach)}
