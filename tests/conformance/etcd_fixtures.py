"""The etcd that components which require one are tested on."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.support import etcd_server as etcd


@pytest.fixture(scope="session", autouse=True)
def _grpc_stays() -> None:
    """Start the thread and the sockets of gRPC that live as long as the process."""
    if etcd.missing() is not None:
        return
    connection = importlib.import_module("pillion_components._etcd.connection")

    async def start() -> None:
        connection.stay()

    asyncio.run(start())


@pytest.fixture(scope="session")
def etcd_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[etcd.EtcdServer]:
    """One server for the whole session, for tests that stop and start it."""
    if reason := etcd.missing():
        pytest.skip(reason)
    with etcd.running(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd_server(etcd_process: etcd.EtcdServer, tmp_path: Any) -> Mapping[str, str]:
    """The settings that reach it, with room of its own for each test."""
    return {**etcd_process.settings, "keyPrefixPath": f"tests{tmp_path}"}
