"""The settings of components on NATS."""

from __future__ import annotations

import base64
import binascii

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pillion.errors import Invalid
from pillion.kinds.settings import settings_of
from pillion_components._nats.settings import ConnectionSettings, check, seed_of


def seed_text(seed: bytes) -> str:
    """Write a user's seed as NATS does."""
    raw = bytes((0x90 | 20 << 3 >> 5, (20 << 3 & 31) << 3)) + seed
    raw += binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw).decode().rstrip("=")


SEED = bytes(range(32))
CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0.eyJq.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************

-----BEGIN USER NKEY SEED-----
{seed_text(SEED)}
------END USER NKEY SEED------
"""


def read(**metadata: str) -> ConnectionSettings:
    """Read and check metadata."""
    metadata = {"natsURL": "nats://localhost:4222", **metadata}
    settings = settings_of(ConnectionSettings, metadata, "store")
    check(settings, "store")
    return settings


@pytest.mark.parametrize("metadata", [{"jwt": "eyJ0.eyJq.c2ln", "seedKey": seed_text(SEED)}, {}])
def test_login(metadata: dict[str, str]) -> None:
    """A JWT and a seed, alone or in a .creds text, sign what the server asks to be signed."""
    login = read(**(metadata or {"credentials": CREDS})).login()
    assert login is not None
    jwt, sign = login
    assert jwt() == b"eyJ0.eyJq.c2ln"
    signature = base64.urlsafe_b64decode(sign("nonce") + b"==")
    Ed25519PrivateKey.from_private_bytes(SEED).public_key().verify(signature, b"nonce")


def test_seed() -> None:
    """A seed with one wrong sign is noticed."""
    text = seed_text(SEED)
    assert text.startswith("SU")
    assert seed_of(text) == SEED
    with pytest.raises(ValueError, match="checksum"):
        seed_of(text[:-3] + ("A" if text[-3] != "A" else "B") + text[-2:])


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"natsURL": ""}, "at least one address"),
        ({"natsURL": "http://localhost"}, "addresses such as"),
        ({"jwt": "x"}, "jwt and seedKey belong together"),
        ({"jwt": "x", "seedKey": seed_text(SEED), "credentials": CREDS}, "in place of"),
        ({"seedKey": "SUnonsense"}, "seedKey must be a seed of NATS"),
        ({"credentials": "nothing"}, "credentials must be the text of a .creds file"),
        ({"user": "me"}, "user and password"),
        ({"clientCert": "-----BEGIN CERTIFICATE-----"}, "clientKey"),
        ({"caCert": "/etc/ca.pem"}, "caCert must be the PEM text"),
        ({"timeout": "0s"}, "timeout must be"),
    ],
)
def test_mistakes(metadata: dict[str, str], words: str) -> None:
    """What cannot work is refused before anything is connected, in words that name the key."""
    with pytest.raises(Invalid, match=words):
        read(**metadata)


def test_no_secret_is_shown() -> None:
    """Passwords are neither in the texts of the settings nor in the addresses for messages."""
    settings = read(natsURL="nats://me:hush@one:4222, tls://two", token="hush", credentials=CREDS)
    assert "hush" not in repr(settings)
    assert seed_text(SEED) not in repr(settings)
    assert settings.servers == ["one:4222", "two"]
