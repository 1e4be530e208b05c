"""The settings that reach NATS; the names are those of Dapr's JetStream components."""

from __future__ import annotations

import base64
import binascii
import os
import re
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pillion.errors import Invalid
from pillion.kinds.settings import setting
from pillion_components._durations import positive_duration

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-+END")
_SEED_BYTES = 36  # two of type, 32 of the seed, two of checksum


def _urls(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for url in found:
        try:
            parts = urlsplit(url if "://" in url else f"nats://{url}")
            bad = parts.scheme not in ("nats", "tls") or not parts.hostname or parts.port == 0
        except ValueError:
            bad = True
        if bad:
            raise ValueError("addresses such as nats://localhost:4222, separated by commas")
    if not found:
        raise ValueError("at least one address such as nats://localhost:4222")
    return found


def _pem(text: str) -> str:
    if text.strip() and "-----BEGIN " not in text:
        raise ValueError("the PEM text itself, which begins with -----BEGIN")
    return text


def seed_of(text: str) -> bytes:
    """Return the 32 bytes of an Ed25519 seed as NATS writes it (base32, ``SU...``).

    Raises:
        ValueError: it is not one.
    """
    text = text.strip()
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raw = b""
    if not text.startswith("S") or len(raw) != _SEED_BYTES:
        raise ValueError("a seed of NATS, which begins with SU")
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("a seed of NATS with the right checksum")
    return raw[2:34]


def _seed(text: str) -> str:
    if text.strip():
        seed_of(text)
    return text.strip()


def _credentials(text: str) -> tuple[str, str]:
    """Read the text of a .creds file: a user's JWT and seed."""
    if not text.strip():
        return "", ""
    blocks = dict(_BLOCK.findall(text))
    try:
        jwt, seed = blocks["NATS USER JWT"], blocks["USER NKEY SEED"]
        seed_of(seed)
    except (KeyError, ValueError):
        raise ValueError("the text of a .creds file, with a user's JWT and seed") from None
    return jwt, seed


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What every component on NATS is told."""

    nats_url: tuple[str, ...] = setting(
        "addresses of the servers, separated by commas; tls://host:port connects with TLS",
        name="natsURL",
        read=_urls,
        secret=True,  # it may have a password in it
        example="nats://localhost:4222",
    )
    user: str = setting("user name, where the server asks for one", default="")
    password: str = setting("the user's password", default="", secret=True)
    token: str = setting("token, where the server asks for one", default="", secret=True)
    jwt: str = setting("the user's JWT; goes with seedKey", default="", secret=True)
    seed_key: str = setting(
        "the seed of the user's key; goes with jwt", default="", secret=True, read=_seed
    )
    credentials: tuple[str, str] = setting(
        "the text of a .creds file, in place of jwt and seedKey",
        default="",
        secret=True,
        read=_credentials,
    )
    ca_cert: str = setting(
        "certificates of the authorities that sign the servers', as PEM; without it those of the "
        "system",
        default="",
        read=_pem,
    )
    client_cert: str = setting("client certificate, as PEM", default="", read=_pem)
    client_key: str = setting(
        "private key of the client certificate, as PEM", default="", read=_pem, secret=True
    )
    timeout: float = setting(
        "time for one operation, connecting included", default="5s", read=positive_duration
    )

    @property
    def servers(self) -> list[str]:
        """The addresses without anything secret, for messages."""
        return [url.rpartition("@")[2].rpartition("://")[2] for url in self.nats_url]

    def login(self) -> tuple[Callable[[], bytes], Callable[[str], bytes]] | None:
        """Return what gives the JWT and what signs a server's nonce, None without a JWT."""
        jwt, seed = self.credentials if self.credentials[0] else (self.jwt, self.seed_key)
        if not jwt:
            return None
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(seed_of(seed))
        return jwt.encode, lambda nonce: base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(
            b"="
        )

    def tls(self) -> ssl.SSLContext | None:
        """Return the context for TLS, None when none is asked for.

        Raises:
            ssl.SSLError, ValueError: a certificate or key cannot be read.
        """
        if not self.ca_cert and not any(url.startswith("tls://") for url in self.nats_url):
            return None
        context = ssl.create_default_context(cadata=self.ca_cert or None)
        if self.client_cert:
            # Certificates are read from files only.
            with tempfile.TemporaryDirectory(prefix="pillion-nats-") as folder:
                path = Path(folder, "client.pem")
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w") as out:
                    out.write(f"{self.client_cert}\n{self.client_key}\n")
                context.load_cert_chain(path)
        return context


def check(settings: ConnectionSettings, name: str) -> None:
    """Check what no setting can tell alone.

    Raises:
        Invalid: settings contradict each other.
    """
    problems = []
    if bool(settings.jwt) != bool(settings.seed_key):
        problems.append("jwt and seedKey belong together; give both or neither")
    if settings.jwt and settings.credentials[0]:
        problems.append("credentials stand in place of jwt and seedKey; give one of them")
    if bool(settings.user) != bool(settings.password):
        problems.append("user and password belong together; give both or neither")
    if bool(settings.client_cert) != bool(settings.client_key):
        problems.append("clientCert and clientKey belong together; give both or neither")
    if settings.client_cert and not (
        settings.ca_cert or any(url.startswith("tls://") for url in settings.nats_url)
    ):
        problems.append("clientCert needs a natsURL that begins with tls://")
    if problems:
        raise Invalid(f"component {name}: {'; '.join(problems)}")


__all__ = ["ConnectionSettings", "check", "seed_of"]
