"""The NATS server that components which require one are tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from tests.support import nats_server as nats

_buckets = count(1)


@pytest.fixture(scope="session")
def nats_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nats.NatsServer]:
    """One server for the whole session."""
    if reason := nats.missing():
        pytest.skip(reason)
    server = nats.NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def nats_server(nats_process: nats.NatsServer) -> Mapping[str, str]:
    """The settings that reach it, with a bucket of its own for each test."""
    return {**nats_process.settings, "bucket": f"tests-{next(_buckets)}"}


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[nats.NatsServer]:
    """A server of the test's own, not started yet, to be killed, frozen and started again."""
    if reason := nats.missing():
        pytest.skip(reason)
    server = nats.NatsServer(tmp_path / "nats")
    yield server
    server.kill()
