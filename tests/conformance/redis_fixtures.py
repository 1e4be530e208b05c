"""The Redis that components which require one are tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.support import redis_server as redis


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.RedisServer]:
    """One server for the whole session."""
    if reason := redis.missing():
        pytest.skip(reason)
    server = redis.RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_process(_redis_process: redis.RedisServer) -> redis.RedisServer:
    """The server, running and empty, for tests that look into it."""
    _redis_process.command("FLUSHALL")
    return _redis_process


@pytest.fixture
def redis_server(redis_process: redis.RedisServer) -> Mapping[str, str]:
    """The settings that reach it."""
    return redis_process.settings


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[redis.RedisServer]:
    """A server of the test's own, not started yet, to be killed, frozen and started again."""
    if reason := redis.missing():
        pytest.skip(reason)
    server = redis.RedisServer(tmp_path / "redis")
    yield server
    server.kill()
