"""The sample system as a child: a copy in a folder of its own, on free ports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pillion.errors import Unavailable
from pillion.home import Home, RunFile, running

T = TypeVar("T")

APPS = {"stock": 1, "orders": 2, "checkout": 1}
"""Instances of each app."""
START = 30.0
"""Seconds for everything to be up."""
STOP = 15.0


class System:
    """Starts on entering, is gone with all its files on leaving."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pillion-demo-"))
        self._home = Home(self._folder / "home")
        self._log = self._folder / "run.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        sample = self._folder / "orders"
        with as_file(files("orders")) as source:
            shutil.copytree(source, sample, ignore=shutil.ignore_patterns("__pycache__", ".dapr"))
        _use_free_ports(sample / "dapr.yaml")
        environment = dict(os.environ, PILLION_HOME=str(self._home.path))
        # The sample says python3; it shall be the Python that runs us.
        environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), environment.get("PATH", "")]
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pillion_cli", "run", "-f", str(sample / "dapr.yaml")],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def wait_until_up(self) -> None:
        """Return when every app and its runtime are ready.

        Raises:
            Unavailable: they are not in time; the message ends with the last lines of the log.
        """
        wanted = sum(APPS.values())
        self._wait(lambda: sum(_ready(one) for one in self._running()) == wanted or None)

    def instances(self, app: str) -> list[RunFile]:
        """Return the running instances of one app."""
        return [one for one in self._running() if one.app_id == app]

    def kill(self, instance: RunFile) -> None:
        """Kill an instance, the app and the runtime beside it, with SIGKILL."""
        for pid in (instance.pid, instance.app_pid):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stats(self) -> dict[str, Any]:
        """Return what became of the orders since the last call.

        Raises:
            Unavailable: the checkout does not answer.
        """
        url = f"http://127.0.0.1:{self._checkout().app_port}/stats"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                stats: dict[str, Any] = json.load(reply)
        except (OSError, ValueError) as error:
            raise Unavailable(f"the checkout does not answer: {error}" + self._tail()) from None
        return stats

    def retries(self) -> int:
        """Return how many calls the checkout's runtime has tried again, from its metrics."""
        url = f"http://127.0.0.1:{self._checkout().metrics_port}/metrics"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
            for line in reply.read().decode().splitlines():
                if line.startswith("pillion_retries_total"):
                    return int(float(line.rsplit(" ", 1)[1]))
        return 0

    def _checkout(self) -> RunFile:
        found = self.instances("checkout")
        if not found:
            raise Unavailable("the checkout is gone" + self._tail())
        return found[0]

    def _running(self) -> list[RunFile]:
        return running(self._home) if self._home.path.exists() else []

    def _wait(self, look: Callable[[], T | None]) -> T:
        limit = time.monotonic() + START
        while time.monotonic() < limit:
            process = self._process
            if process is None or process.poll() is not None:
                raise Unavailable("the sample system ended at once" + self._tail())
            found = look()
            if found is not None:
                return found
            time.sleep(0.05)
        raise Unavailable(f"the sample system is not up after {START:g} s" + self._tail())

    def _tail(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").splitlines()
            return "; its last words:\n" + "\n".join(lines[-15:])
        return ""


def _ready(instance: RunFile) -> bool:
    if not instance.app_pid:
        return False
    url = f"http://127.0.0.1:{instance.http_port}/v1.0/healthz"
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 204)
    except (OSError, urllib.error.HTTPError):
        return False


def _use_free_ports(file: Path) -> None:
    """Give every app of a run file ports that nobody uses now."""
    import yaml

    content = yaml.safe_load(file.read_text())
    taken: set[int] = set()
    for app in content["apps"]:
        app["appPort"] = _free_ports(app.get("instances", 1), taken)
    file.write_text(yaml.safe_dump(content))


def _free_ports(count: int, taken: set[int]) -> int:
    """Return the first of ``count`` ports in a row that are free."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = int(probe.getsockname()[1])
        ports = set(range(first, first + count))
        if ports & taken or first + count > 65535:
            continue
        if all(_is_free(port) for port in ports):
            taken |= ports
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
