"""The measurement of state stores: its arithmetic, its verdict, its clients and its relay."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.bench import state
from tests.bench.errors import VoidRunError
from tests.bench.processes import free_port, running, wait_for
from tests.bench.state_bulk import Bulk
from tests.bench.state_clients import ONE_COMMIT
from tests.bench.state_report import Findings, render, targets
from tests.bench.state_rounds import API, DIRECT, GET, SAVE, Record, Sample, _output
from tests.bench.state_stores import Store


def sample(store: str, operation: str, way: str, rate: float) -> Sample:
    return Sample(
        store=store,
        operation=operation,
        way=way,
        rate=rate,
        p50=0.001,
        p99=0.002,
        client=1e-5,
        runtime=5e-5 if way == API else None,
        server=None,
        foreign=0.1,
    )


def store(name: str, client: str) -> Store:
    return Store(name, name.title(), f"state.{name}", "v1", client, {}, {})


REDIS, SQLITE = store("redis", "redis-py"), store("sqlite", ONE_COMMIT)


def findings(*samples: Sample, bulks: tuple[Bulk, ...] = ()) -> Findings:
    return Findings([("Machine", "any")], [REDIS, SQLITE], Record(samples), bulks)


def test_ratio_is_taken_within_each_round() -> None:
    """A machine that slows down for a round does not change the ratio."""
    pairs = ((1000.0, 600.0), (100.0, 60.0), (500.0, 300.0))
    record = Record(
        [
            sample("redis", SAVE, way, rate)
            for pair in pairs
            for way, rate in zip((DIRECT, API), pair, strict=True)
        ]
    )
    ratio = record.ratio("redis", SAVE, API)
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == (0.6, 0.6, 0.6)
    assert record.ratio("redis", GET, API) is None


@pytest.mark.parametrize(("api", "met"), [(599.0, False), (600.0, True)])
def test_share_of_the_direct_rate(api: float, met: bool) -> None:
    """The target is a share of the client library's rate."""
    found = findings(sample("redis", GET, DIRECT, 1000.0), sample("redis", GET, API, api))
    assert [each.met for each in targets(found)] == [met]
    assert ("**not met**" in render(found)) is not met


def test_targets_of_the_embedded_store() -> None:
    """Saves are set against one commit per write, reads against a number."""
    found = findings(
        sample("sqlite", SAVE, DIRECT, 500.0),
        sample("sqlite", SAVE, API, 10_000.0),
        sample("sqlite", GET, API, 7999.0),
    )
    assert [(each.limit, each.measured, each.met) for each in targets(found)] == [
        (20.0, 20.0, True),
        (8000.0, 7999.0, False),
    ]


def test_round_trips_of_a_bulk_get() -> None:
    """One round trip is asked for, and a store without a server makes none."""
    bulks = (Bulk("redis", 0.01, 0.02, 2.04), Bulk("sqlite", 0.001, 0.002, None))
    found = findings(sample("redis", SAVE, DIRECT, 1.0), bulks=bulks)
    assert [each.met for each in targets(found)] == [False]
    assert "2.0" in render(found)
    assert "no server" in render(found)


def client(name: str, where: dict[str, str], operation: str) -> subprocess.CompletedProcess[str]:
    argv = [
        *(sys.executable, "-m", "tests.bench.state_clients", name, "--where", json.dumps(where)),
        *("--operation", operation, "--seconds", "0.1", "--callers", "4"),
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("operation", [SAVE, GET])
def test_component_client(tmp_path: Path, operation: str) -> None:
    """The component is called from a process of its own, which reports what it saw."""
    where = {"type": "state.in-memory", "home": str(tmp_path)}
    done = client("component", where, operation)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["requests"] > 0
    assert 0 < found["p50"] <= found["p99"] < found["seconds"]


def test_one_commit_per_write(tmp_path: Path) -> None:
    """What is set against the embedded store stores its rows on disk."""
    done = client(ONE_COMMIT, {"folder": str(tmp_path)}, SAVE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["requests"] > 0
    assert (tmp_path / "plain.db").stat().st_size > 0
    assert client(ONE_COMMIT, {"folder": str(tmp_path)}, GET).returncode != 0


def test_client_that_fails_voids_the_run() -> None:
    """A client that ends with an error leaves no figure."""
    argv = [sys.executable, "-c", "raise SystemExit('no answer')"]
    with pytest.raises(VoidRunError, match="no answer"):
        _output("Redis, save", argv, 1.0)


def test_relay_delays_each_round_trip(tmp_path: Path) -> None:
    """Two requests one after the other take twice as long as two at once."""
    delay, listen, log = 0.1, free_port(), tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            # The first connection only looks whether the relay listens.
            for _ in range(2):
                peer, _ = server.accept()
                with peer:
                    while data := peer.recv(100):
                        peer.sendall(data)

        thread = threading.Thread(target=echo)
        thread.start()
        argv = [
            *(sys.executable, "-m", "tests.bench.state_relay", "--listen", str(listen)),
            *("--port", str(server.getsockname()[1]), "--delay", str(delay)),
        ]
        with running(argv, log=log) as process:
            wait_for(lambda: listens(listen), "the relay", process=process, log=log)
            with socket.create_connection(("127.0.0.1", listen), timeout=10) as peer:
                assert exchange(peer, b"ab", at_once=True) == pytest.approx(2 * delay, abs=0.09)
                assert exchange(peer, b"ab", at_once=False) == pytest.approx(4 * delay, abs=0.09)
            thread.join(10)
            assert not thread.is_alive()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def exchange(peer: socket.socket, data: bytes, *, at_once: bool) -> float:
    began = time.monotonic()
    for part in (data,) if at_once else (data[:1], data[1:]):
        peer.sendall(part)
        received = b""
        while len(received) < len(part):
            received += peer.recv(100)
    return time.monotonic() - began


def test_sync_is_timed(tmp_path: Path) -> None:
    """The time of a sync is measured on the disk of the folder."""
    assert 0 < state.sync_seconds(tmp_path) < 1


@pytest.mark.parametrize(
    "argv", [["--stores", "oracle"], ["--callers", "0"], ["--seconds", "0"]], ids=" ".join
)
def test_bad_arguments(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option is told before anything starts."""
    with pytest.raises(SystemExit) as caught:
        state._arguments(argv)
    assert caught.value.code == 2
    assert argv[0] in capsys.readouterr().err
