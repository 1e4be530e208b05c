"""The systems under measurement: the app alone, two nginx pairs, and Pillion's pair."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.app import PAYLOAD
from tests.bench.certs import Authority
from tests.bench.errors import BenchError, MissingProgramError
from tests.bench.nginx import Hop, app_config, find_nginx, nginx, proxy_config
from tests.bench.processes import free_port, running, status_of, wait_for
from tests.bench.procfs import family

METHOD_PATH = "/v1.0/invoke/callee/method/"
ECHO = METHOD_PATH + "echo"

CALLER = "caller"
CALLEE = "callee"


@dataclass(frozen=True, slots=True)
class System:
    """One way from the load generator to the app.

    Attributes:
        name: how the command line calls it.
        title: how the tables call it.
        base: ``http://127.0.0.1:<port>``, where its requests go.
        roles: process ids by role; empty for the app alone.
        metrics: URLs of its Prometheus pages, by role.
    """

    name: str
    title: str
    base: str
    roles: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address of the 1 KiB answer."""
        return self.base + ECHO

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process between the generator and the app."""
        return tuple(pid for pids in self.roles.values() for pid in pids)


@dataclass(frozen=True, slots=True)
class App:
    """The app that all the systems lead to."""

    port: int
    program: str
    pids: tuple[int, ...]


@contextlib.contextmanager
def nginx_app(directory: Path) -> Iterator[App]:
    """Run nginx as the app."""
    port = free_port()
    with nginx(directory / "app", app_config(directory / "app", port), port) as master:
        yield App(port, "nginx", family(master))


@contextlib.contextmanager
def python_app(directory: Path) -> Iterator[App]:
    """Run the Python app."""
    port = free_port()
    log = directory / "app.log"
    argv = [sys.executable, "-m", "tests.bench.app", "--port", str(port)]
    with running(argv, log=log) as process:
        url = f"http://127.0.0.1:{port}/"
        wait_for(lambda: status_of(url) is not None, "the Python app", process=process, log=log)
        yield App(port, "uvloop and httptools", family(process.pid))


@contextlib.contextmanager
def cheapest_app(directory: Path) -> Iterator[App]:
    """Run nginx as the app, or the Python app where nginx is not installed."""
    try:
        find_nginx()
    except MissingProgramError:
        choice = python_app
    else:
        choice = nginx_app
    with choice(directory) as app:
        yield app


def direct(app: App) -> System:
    """The app alone."""
    return System("app", "app alone", f"http://127.0.0.1:{app.port}")


@contextlib.contextmanager
def nginx_pair(
    directory: Path, app: App, *, mutual_tls: bool, streaming: bool = False
) -> Iterator[System]:
    """Two nginx in a row, with or without mutual TLS 1.3 between them."""
    directory.mkdir()
    authority = Authority(directory) if mutual_tls else None
    callee = Hop(
        port=free_port(),
        next_port=app.port,
        accept=authority.issue(CALLEE) if authority else None,
        streaming=streaming,
    )
    caller = Hop(
        port=free_port(),
        next_port=callee.port,
        connect=authority.issue(CALLER) if authority else None,
        peer=CALLEE,
        streaming=streaming,
    )
    with contextlib.ExitStack() as stack:
        roles = {}
        for role, hop in ((CALLEE, callee), (CALLER, caller)):
            place = directory / role
            master = stack.enter_context(nginx(place, proxy_config(place, hop), hop.port))
            roles[role] = family(master)
        base = f"http://127.0.0.1:{caller.port}"
        if mutual_tls:
            yield System("nginx-mtls", "nginx pair, mutual TLS", base, roles)
        else:
            yield System("nginx", "nginx pair, plain", base, roles)


def find_pillion() -> list[str]:
    """Return the command that starts Pillion: the one beside this interpreter, or on PATH.

    Raises:
        MissingProgramError: Pillion is not installed.
    """
    beside = Path(sys.executable).parent / "pillion"
    found = str(beside) if beside.exists() else shutil.which("pillion")
    if found is None:
        raise MissingProgramError("pillion is not installed: pip install -e '.[dev]'")
    return [found]


def pillion_environment(home: Path) -> dict[str, str]:
    """This environment, with a home of its own and without tokens or ports of another runtime."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DAPR_", "PILLION_")) and name not in ("APP_API_TOKEN", "NAMESPACE")
    }
    return {**kept, "PILLION_HOME": str(home)}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """How one runtime is started.

    Attributes:
        app_id: its app.
        app_port: the app's port, or 0 for an app that only calls.
        http_port: its local API.
        metrics_port: its Prometheus page.
        extra: further flags.
    """

    app_id: str
    app_port: int
    http_port: int
    metrics_port: int
    extra: tuple[str, ...] = ()

    @classmethod
    def on_free_ports(cls, app_id: str, app_port: int, extra: Sequence[str] = ()) -> Sidecar:
        """Choose ports that are free now."""
        return cls(app_id, app_port, free_port(), free_port(), tuple(extra))

    @property
    def base(self) -> str:
        """Where its local API answers."""
        return f"http://127.0.0.1:{self.http_port}"

    def flags(self) -> list[str]:
        """The arguments after ``pillion sidecar``."""
        app = ["--app-port", str(self.app_port)] if self.app_port else []
        return [
            *("--app-id", self.app_id, *app),
            *("--dapr-http-port", str(self.http_port)),
            *("--dapr-listen-addresses", "127.0.0.1"),
            *("--metrics-port", str(self.metrics_port), "--metrics-listen-address", "127.0.0.1"),
            *self.extra,
        ]

    def healthy(self) -> bool:
        """Whether ``/v1.0/healthz`` answers 204."""
        answer = status_of(f"{self.base}/v1.0/healthz")
        return answer is not None and answer[0] == 204


@contextlib.contextmanager
def sidecar(
    directory: Path,
    home: Path,
    spec: Sidecar,
    *,
    command: Sequence[str] | None = None,
    interval: float = 0.02,
) -> Iterator[int]:
    """Run one runtime for the length of the block, once it is healthy; yields its process id.

    Args:
        directory: where its log goes.
        home: its ``PILLION_HOME``.
        spec: its flags.
        command: what to run instead of ``pillion sidecar``.
        interval: seconds between two looks at its health.

    Raises:
        BenchError: it ended or did not become healthy.
    """
    log = directory / f"{spec.app_id}.log"
    argv = [*(command or [*find_pillion(), "sidecar"]), *spec.flags()]
    with running(argv, log=log, env=pillion_environment(home)) as process:
        what = f"pillion sidecar {spec.app_id}"
        wait_for(spec.healthy, what, process=process, log=log, interval=interval)
        yield process.pid


@contextlib.contextmanager
def pillion_pair(
    directory: Path,
    app: App,
    *,
    extra: Sequence[str] = (),
    commands: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[System]:
    """Two runtimes in a home of their own: the caller's and the callee's.

    Args:
        directory: where logs and the home go.
        app: what the callee's runtime calls.
        extra: flags for both.
        commands: by role, what to run instead of ``pillion sidecar``.
    """
    directory.mkdir()
    home = directory / "home"
    specs = {
        CALLEE: Sidecar.on_free_ports(CALLEE, app.port, extra),
        CALLER: Sidecar.on_free_ports(CALLER, 0, extra),
    }
    with contextlib.ExitStack() as stack:
        roles = {}
        for role, spec in specs.items():
            command = (commands or {}).get(role)
            pid = stack.enter_context(sidecar(directory, home, spec, command=command))
            roles[role] = family(pid)
        metrics = {
            role: f"http://127.0.0.1:{spec.metrics_port}/metrics" for role, spec in specs.items()
        }
        yield System("pillion", "Pillion pair", specs[CALLER].base, roles, metrics)


def check(system: System) -> None:
    """Make sure that a 1 KiB POST and a GET are both answered 200 with the app's 1 KiB.

    Raises:
        BenchError: they are not.
    """
    for method, body in (("POST", PAYLOAD), ("GET", b"")):
        answer = status_of(system.url, method=method, body=body)
        if answer != (200, PAYLOAD):
            seen = "nothing" if answer is None else f"status {answer[0]}: {answer[1][:200]!r}"
            raise BenchError(f"{system.title}: {method} {system.url} answered {seen}")
