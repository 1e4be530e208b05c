"""The settings that reach a Redis server; the names are those of Dapr's components."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pillion.errors import Invalid
from pillion.kinds.settings import setting, switch, whole
from pillion_components._durations import positive_duration

_PORT = 6379
_ONE_CONNECTION = "accepted and not used: one connection carries all operations"
_OWN_PACE = "accepted and not used: a lost connection is tried again at a pace of its own"


def duration(text: str) -> float:
    """Read ``5s``, ``1m30s`` or, as Dapr does, a number of milliseconds: more than zero.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    return positive_duration(f"{text}ms" if text.isdecimal() else text)


def _optional(read: Callable[[str], float]) -> Callable[[str], float | None]:
    """Read nothing and -1 as None."""
    return lambda text: None if text.strip() in ("", "-1") else read(text)


def _address(text: str) -> tuple[str, int]:
    """Read ``host``, ``host:port`` or ``[::1]:port``; the port is 0 when it is not there."""
    match = re.fullmatch(
        r"\s*(?:redis://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/@,\[\]]+)(?::(\d{1,5}))?/?\s*", text
    )
    if match is None or not int(match[2] or 1) < 65536:
        raise ValueError("one address such as localhost:6379")
    return match[1].strip("[]"), int(match[2] or 0)


def _pem(text: str) -> str:
    if text.strip() and "-----BEGIN " not in text:
        raise ValueError("the PEM text itself, which begins with -----BEGIN")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What every component on Redis is told."""

    redis_host: tuple[str, int] = setting(
        "the server's address, and its port unless that is 6379",
        read=_address,
        example="localhost:6379",
    )
    redis_port: int = setting(
        "the port, where redisHost has none", default="0", read=whole(0, 65535)
    )
    redis_username: str = setting("user name, where the server has users", default="")
    redis_password: str = setting(
        "password, where the server asks for one", default="", secret=True
    )
    redis_db: int = setting(
        "number of the database", default="0", read=whole(0, 1_000_000), name="redisDB"
    )
    redis_type: str = setting(
        "what the server is; clusters are not supported",
        default="node",
        choices=("node", "cluster"),
    )
    failover: bool = setting(
        "find the server through sentinels; not supported", default="false", read=switch
    )
    sentinel_master_name: str = setting(
        "what the sentinels call the server; not supported", default=""
    )
    sentinel_username: str = setting("user name for the sentinels; not supported", default="")
    sentinel_password: str = setting(
        "password for the sentinels; not supported", default="", secret=True
    )
    enable_tls: bool = setting("connect with TLS", default="false", read=switch, name="enableTLS")
    insecure_skip_tls_verify: bool = setting(
        "take any certificate of the server; for tests only",
        default="false",
        read=switch,
        name="insecureSkipTLSVerify",
    )
    ca_cert: str = setting(
        "certificates of the authorities that sign the server's, as PEM; without it those of the "
        "system",
        default="",
        read=_pem,
    )
    client_cert: str = setting("client certificate, as PEM", default="", read=_pem)
    client_key: str = setting(
        "private key of the client certificate, as PEM", default="", read=_pem, secret=True
    )
    timeout: float = setting(
        "time for one operation, from the call to the answer", default="5s", read=duration
    )
    dial_timeout: float = setting("time to connect", default="5s", read=duration)
    read_timeout: float | None = setting(
        "time for an operation that reads, where it is to be less than timeout",
        default="",
        read=_optional(duration),
    )
    write_timeout: float | None = setting(
        "time for an operation that writes, where it is to be less than timeout",
        default="",
        read=_optional(duration),
    )
    redis_max_retries: int = setting(
        "how often an operation that a lost connection cannot have carried out twice is tried "
        "again; -1 for never",
        default="3",
        read=whole(-1, 100),
    )
    max_retries: int | None = setting(
        "the same, by another name",
        default="",
        read=lambda text: whole(-1, 100)(text) if text.strip() else None,
    )
    redis_min_retry_interval: str = setting(_OWN_PACE, default="")
    redis_max_retry_interval: str = setting(_OWN_PACE, default="")
    max_retry_backoff: str = setting(_OWN_PACE, default="")
    pool_size: str = setting(_ONE_CONNECTION, default="")
    pool_timeout: str = setting(_ONE_CONNECTION, default="")
    min_idle_conns: str = setting(_ONE_CONNECTION, default="")
    max_conn_age: str = setting(_ONE_CONNECTION, default="")
    idle_timeout: str = setting(_ONE_CONNECTION, default="")
    idle_check_frequency: str = setting(_ONE_CONNECTION, default="")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.redis_host
        return host, port or self.redis_port or _PORT

    @property
    def retries(self) -> int:
        """How often an operation is tried again at most."""
        asked = self.redis_max_retries if self.max_retries is None else self.max_retries
        return max(asked, 0)

    def time_to_read(self) -> float:
        """Seconds for an operation that reads."""
        return min(self.timeout, self.read_timeout or self.timeout)

    def time_to_write(self) -> float:
        """Seconds for an operation that writes."""
        return min(self.timeout, self.write_timeout or self.timeout)


def check(settings: ConnectionSettings, name: str) -> None:
    """Check what no setting can tell alone.

    Raises:
        Invalid: settings contradict each other, or ask for what is not supported.
    """
    problems = []
    if settings.redis_type == "cluster":
        problems.append("redisType cluster is not supported; use one server and redisType node")
    if settings.failover or settings.sentinel_master_name:
        problems.append("sentinels are not supported; give the server's own address as redisHost")
    if settings.redis_host[1] and settings.redis_port not in (0, settings.redis_host[1]):
        problems.append("redisHost and redisPort name different ports; remove one")
    if settings.redis_username and not settings.redis_password:
        problems.append("redisUsername needs redisPassword")
    if bool(settings.client_cert) != bool(settings.client_key):
        problems.append("clientCert and clientKey belong together; give both or neither")
    if not settings.enable_tls and (settings.client_cert or settings.ca_cert):
        problems.append("clientCert and caCert need enableTLS to be true")
    if problems:
        raise Invalid(f"component {name}: {'; '.join(problems)}")


__all__ = ["ConnectionSettings", "check", "duration"]
