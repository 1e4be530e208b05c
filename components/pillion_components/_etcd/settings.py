"""The settings that reach an etcd cluster; the names are those of Dapr's state store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from pillion.errors import Invalid
from pillion.kinds.settings import setting, switch
from pillion_components._durations import positive_duration

_PORT = 2379
_ENDPOINT = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+)(?::(?P<port>\d{1,5}))?/?"
)


class Endpoint(str):
    """``host:port``, and whether it was written as an ``https`` URL."""

    __slots__ = ("secure",)
    secure: bool

    def __new__(cls, address: str, *, secure: bool) -> Self:
        endpoint = super().__new__(cls, address)
        endpoint.secure = secure
        return endpoint


def read_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Read addresses that are separated by commas, with or without ``http://``."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _ENDPOINT.fullmatch(part)
        port = int(match["port"] or _PORT) if match else 0
        if match is None or not 0 < port < 65536:
            raise ValueError("addresses such as 10.0.0.1:2379,10.0.0.2:2379")
        found.append(Endpoint(f"{match['host']}:{port}", secure=match["scheme"] == "https"))
    if not found:
        raise ValueError("at least one address such as localhost:2379")
    return tuple(dict.fromkeys(found))


def read_pem(text: str) -> bytes:
    """Read PEM blocks; an empty text is none."""
    if text.strip() and "-----BEGIN " not in text:
        raise ValueError("the PEM text itself, which begins with -----BEGIN")
    return text.encode() if text.strip() else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What every component on etcd is told."""

    endpoints: tuple[Endpoint, ...] = setting(
        "addresses of the members, separated by commas; another one is used when one fails",
        read=read_endpoints,
        example="10.0.0.1:2379,10.0.0.2:2379",
    )
    key_prefix_path: str = setting(
        "put before every key, with a slash between", default="", example="dapr"
    )
    tls_enable: bool = setting("connect with TLS", default="false", read=switch)
    ca: bytes = setting(
        "certificates of the authorities that sign the members', as PEM; "
        "without it those of the system",
        default="",
        read=read_pem,
    )
    cert: bytes = setting("client certificate, as PEM", default="", read=read_pem)
    key: bytes = setting(
        "private key of the client certificate, as PEM", default="", read=read_pem, secret=True
    )
    user: str = setting("user name, where the cluster asks for one", default="")
    password: str = setting("the user's password", default="", secret=True)
    timeout: float = setting(
        "time for one operation", default="5s", read=positive_duration, example="2s"
    )


def check(settings: ConnectionSettings, name: str) -> None:
    """Check what no setting can tell alone.

    Raises:
        Invalid: settings contradict each other, or a certificate or key cannot be read.
    """
    problems = []
    if bool(settings.cert) != bool(settings.key):
        problems.append("cert and key belong together; give both or neither")
    if not settings.tls_enable:
        if any(endpoint.secure for endpoint in settings.endpoints):
            problems.append("an endpoint begins with https; set tlsEnable to true")
        if settings.ca or settings.cert or settings.key:
            problems.append("ca, cert and key need tlsEnable to be true")
    elif not problems:
        problems.extend(_unreadable(settings))
    if bool(settings.user) != bool(settings.password):
        problems.append("user and password belong together; give both or neither")
    if problems:
        raise Invalid(f"component {name}: {'; '.join(problems)}")


def _unreadable(settings: ConnectionSettings) -> list[str]:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    problems = []
    for field, text in (("ca", settings.ca), ("cert", settings.cert)):
        try:
            if text:
                x509.load_pem_x509_certificates(text)
        except ValueError:
            problems.append(f"{field} is not a certificate in PEM")
    if problems or not settings.key:
        return problems
    try:
        public = load_pem_private_key(settings.key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ["key is not a private key in PEM without a password"]
    if x509.load_pem_x509_certificates(settings.cert)[0].public_key() != public:
        problems.append("cert and key do not belong together")
    return problems


__all__ = ["ConnectionSettings", "Endpoint", "check", "read_endpoints", "read_pem"]
