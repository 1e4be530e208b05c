"""The stores under measurement: their servers, the far ends of their relays, and the runtime."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.errors import BenchError, MissingProgramError
from tests.bench.processes import free_port, running, wait_for
from tests.bench.procfs import family
from tests.bench.state_clients import ONE_COMMIT
from tests.bench.systems import Sidecar, sidecar
from tests.support import etcd_server, nats_server, redis_server

FAR = "-far"
APP_ID = "bench"


@dataclass(frozen=True, slots=True)
class Store:
    """One kind of store.

    Attributes:
        name: of its component in the runtime.
        title: how the tables call it.
        kind: the component's type.
        version: of the type.
        client: which of :mod:`tests.bench.state_clients` uses it without a runtime.
        where: what that client is told.
        settings: the component's metadata.
        pids: the server's processes; none for a store without a server.
        far: the metadata that lead through a relay, or None.
    """

    name: str
    title: str
    kind: str
    version: str
    client: str
    where: Mapping[str, str]
    settings: Mapping[str, str]
    pids: tuple[int, ...] = ()
    far: Mapping[str, str] | None = None


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[Store]:
    """Redis that logs every write; it syncs once a second, as is its default."""
    _require(redis_server.missing())
    # A rewrite of the log would fall into some rounds and not into others.
    flags = ("--auto-aof-rewrite-percentage", "0")
    server = redis_server.RedisServer(folder, flags)
    with _started(server.start, server.kill) as pids:
        found = server.settings
        store = Store("redis", "Redis", "state.redis", "v1", "redis-py", found, found, pids)
        with _relay(folder, server.port) as port:
            yield replace(store, far={"redisHost": f"127.0.0.1:{port}"})


@contextlib.contextmanager
def etcd(folder: Path) -> Iterator[Store]:
    """One member of etcd with its usual pace of elections."""
    _require(etcd_server.missing())
    flags = ("--heartbeat-interval=100", "--election-timeout=1000")
    server = etcd_server.EtcdServer(folder, flags=flags)
    with _started(server.start, server.stop) as pids:
        found = server.settings
        store = Store("etcd", "etcd", "state.etcd", "v2", "grpc.aio", found, found, pids)
        with _relay(folder, server.port) as port:
            yield replace(store, far={"endpoints": f"127.0.0.1:{port}"})


@contextlib.contextmanager
def nats(folder: Path) -> Iterator[Store]:
    """A NATS server with JetStream on disk; it syncs every two minutes, as is its default."""
    _require(nats_server.missing())
    server = nats_server.NatsServer(folder)
    with _started(server.start, server.kill) as pids:
        found = {**server.settings, "bucket": "bench"}
        store = Store("nats", "NATS KV", "state.nats-kv", "v1", "nats-py", found, found, pids)
        with _relay(folder, server.port) as port:
            yield replace(store, far={**found, "natsURL": f"nats://127.0.0.1:{port}"})


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Store]:
    """The embedded store; what it is set against writes to the same disk."""
    folder.mkdir()
    where = {"folder": str(folder)}
    yield Store("sqlite", "SQLite", "state.sqlite", "v1", ONE_COMMIT, where, {})


STORES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Store]]] = {
    "redis": redis,
    "etcd": etcd,
    "nats": nats,
    "sqlite": sqlite,
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime that has every store open.

    Attributes:
        port: of its API.
        pids: its processes.
        home: where its files are.
    """

    port: int
    pids: tuple[int, ...]
    home: Path

    @staticmethod
    def path(store: str) -> str:
        """Where the API has the store."""
        return f"/v1.0/state/{store}"

    def url(self, store: str) -> str:
        """The address of the store."""
        return f"http://127.0.0.1:{self.port}{self.path(store)}"


@contextlib.contextmanager
def runtime(directory: Path, stores: list[Store]) -> Iterator[Runtime]:
    """Run ``pillion sidecar`` with every store declared, and once more behind its relay."""
    resources, home = directory / "resources", directory / "home"
    resources.mkdir()
    for store in stores:
        _declare(resources, store.name, store, store.settings)
        if store.far is not None:
            _declare(resources, store.name + FAR, store, store.far)
    spec = Sidecar.on_free_ports(APP_ID, 0, ("--resources-path", str(resources)))
    with sidecar(directory, home, spec) as pid:
        yield Runtime(spec.http_port, family(pid), home)


def _declare(folder: Path, name: str, store: Store, settings: Mapping[str, str]) -> None:
    metadata = [{"name": key, "value": value} for key, value in settings.items()]
    document = {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": {"name": name},
        "spec": {"type": store.kind, "version": store.version, "metadata": metadata},
    }
    # YAML reads JSON.
    (folder / f"{name}.yaml").write_text(json.dumps(document, indent=2) + "\n")


def _require(missing: str | None) -> None:
    if missing is not None:
        raise MissingProgramError(missing)


@contextlib.contextmanager
def _started(start: Callable[[], None], end: Callable[[], None]) -> Iterator[tuple[int, ...]]:
    before = set(family(os.getpid()))
    try:
        try:
            start()
        except AssertionError as error:
            raise BenchError(str(error)) from error
        yield tuple(sorted(set(family(os.getpid())) - before))
    finally:
        end()


DELAY_SECONDS = 0.1


@contextlib.contextmanager
def _relay(folder: Path, port: int) -> Iterator[int]:
    """Run a relay to a server and yield its port."""
    listen, log = free_port(), folder / "relay.log"
    argv = [
        *(sys.executable, "-m", "tests.bench.state_relay", "--listen", str(listen)),
        *("--port", str(port), "--delay", str(DELAY_SECONDS)),
    ]

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", listen), 1):
            return True
        return False

    with running(argv, log=log) as process:
        wait_for(listens, "the relay", process=process, log=log)
        yield listen


__all__ = [
    "DELAY_SECONDS",
    "FAR",
    "STORES",
    "Runtime",
    "Store",
    "runtime",
]
