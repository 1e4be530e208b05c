"""The settings of the Redis components."""

from __future__ import annotations

from pathlib import Path

import pytest

from pillion.errors import Invalid
from pillion.kinds.component import Context
from pillion.kinds.settings import settings_of
from pillion_components._redis.settings import ConnectionSettings, check
from pillion_components.lock.redis import RedisLock
from pillion_components.state.redis import RedisState

PEM = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"


def read(**metadata: str) -> ConnectionSettings:
    """Read and check metadata."""
    settings = settings_of(ConnectionSettings, {"redisHost": "localhost", **metadata}, "store")
    check(settings, "store")
    return settings


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("localhost", "0", ("localhost", 6379)),
        ("localhost:6380", "0", ("localhost", 6380)),
        ("localhost:6380", "6380", ("localhost", 6380)),
        ("redis.default.svc.cluster.local", "7000", ("redis.default.svc.cluster.local", 7000)),
        ("[::1]:6380", "0", ("::1", 6380)),
    ],
)
def test_address(host: str, port: str, address: tuple[str, int]) -> None:
    """The port is that of redisHost, else redisPort, else 6379."""
    assert read(redisHost=host, redisPort=port).address == address


def test_durations_are_daprs() -> None:
    """A number is milliseconds, anything else says its unit; -1 is no limit of its own."""
    settings = read(timeout="4s", readTimeout="1500", writeTimeout="-1", dialTimeout="1m")
    assert settings.time_to_read() == 1.5
    assert settings.time_to_write() == 4.0
    assert settings.dial_timeout == 60.0
    assert read(timeout="1s", readTimeout="3s").time_to_read() == 1.0


def test_retries() -> None:
    """maxRetries goes before redisMaxRetries, and -1 is never."""
    assert read().retries == 3
    assert read(redisMaxRetries="-1").retries == 0
    assert read(redisMaxRetries="5", maxRetries="2").retries == 2


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"redisType": "cluster"}, "cluster is not supported"),
        ({"redisType": "node", "failover": "true"}, "sentinels are not supported"),
        ({"sentinelMasterName": "master"}, "sentinels are not supported"),
        ({"redisHost": "a:1,b:2"}, "one address"),
        ({"redisHost": "a:1", "redisPort": "2"}, "different ports"),
        ({"redisUsername": "me"}, "needs redisPassword"),
        ({"enableTLS": "true", "clientCert": PEM}, "belong together"),
        ({"caCert": PEM}, "enableTLS"),
        ({"clientKey": "no pem"}, "clientKey must be the PEM"),
        ({"readTimeout": "soon"}, "readTimeout must be a duration"),
        ({"redisHots": "x"}, "did you mean"),
    ],
)
def test_mistakes(metadata: dict[str, str], words: str) -> None:
    """What cannot work is refused before anything is connected, in words that name the key."""
    with pytest.raises(Invalid, match=words):
        read(**metadata)


@pytest.mark.anyio
async def test_queries_are_refused() -> None:
    """Indexes for queries are asked for in vain, and the message says so."""
    context = Context(
        name="store",
        home=Path("/nowhere"),
        app_id="app",
        settings={"redisHost": "localhost", "queryIndexes": "[]"},
    )
    with pytest.raises(Invalid, match="queryIndexes is not supported"):
        async with RedisState.open(context):
            pass


def test_no_setting_shows_a_secret() -> None:
    """Passwords and keys are not in the texts of the settings."""
    shown = repr(read(redisPassword="hush", clientCert=PEM, clientKey=PEM + "hush", enableTLS="1"))
    assert "hush" not in shown
    assert issubclass(RedisState.settings, ConnectionSettings)
    assert issubclass(RedisLock.settings, ConnectionSettings)
