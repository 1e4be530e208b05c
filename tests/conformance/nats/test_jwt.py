"""NATS that knows its users by signed claims (decentralised JWT authentication)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.nats_server import NatsServer

from pillion.errors import NotAllowed
from pillion.kinds.component import Context
from pillion.kinds.state import Put
from pillion_components.state.nats_kv import NatsKvState

pytestmark = pytest.mark.anyio

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1) | {
    "wildcards": True
}
STORAGE = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Signer:
    """A key of an operator, an account or a user."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._key = Ed25519PrivateKey.generate()
        self.public = text_of(bytes((kind,)) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        """The secret half, as NATS writes it."""
        head = bytes((0x90 | self._kind >> 5, (self._kind & 31) << 3))
        return text_of(head + self._key.private_bytes_raw())

    def claims(self, subject: Signer, kind: str, **more: Any) -> str:
        """Sign claims on ``subject``."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": "test",
            "iat": 1,
            "iss": self.public,
            "name": kind,
            "sub": subject.public,
            "nats": {**more, "type": kind, "version": 2},
        }
        text = ".".join(url_of(json.dumps(part).encode()) for part in (head, body))
        return f"{text}.{url_of(self._key.sign(text.encode()))}"


def text_of(raw: bytes) -> str:
    """Write a key with its checksum."""
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def url_of(raw: bytes) -> str:
    """Write bytes as a JWT does."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def context(settings: Mapping[str, str]) -> Context:
    """Where the tests open components."""
    return Context(name="subject", home=Path("/nowhere"), app_id="tester", settings=settings)


async def test_claims_and_seed(own_nats: NatsServer, tmp_path: Path) -> None:
    """A user's claims and seed let it in, apart or as a .creds text; another seed does not."""
    operator, system, account = Signer(OPERATOR), Signer(ACCOUNT), Signer(ACCOUNT)
    user, stranger = Signer(USER), Signer(USER)
    accounts = {
        system.public: operator.claims(system, "account", limits=UNLIMITED),
        account.public: operator.claims(account, "account", limits=UNLIMITED | STORAGE),
    }
    lines = [
        f"operator: {operator.claims(operator, 'operator')}",
        f"system_account: {system.public}",
        "resolver: MEMORY",
        "resolver_preload: {",
        *(f"  {public}: {claims}" for public, claims in accounts.items()),
        "}",
    ]
    config = tmp_path / "server.conf"
    config.write_text("\n".join(lines))
    own_nats._flags = ("--config", str(config))
    await asyncio.to_thread(own_nats.start)
    jwt = account.claims(user, "user", subs=-1, data=-1, payload=-1)
    credentials = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    base = {**own_nats.settings, "bucket": "b"}
    for right in ({"jwt": jwt, "seedKey": user.seed}, {"credentials": credentials}):
        async with NatsKvState.open(context({**base, **right})) as store:
            await store.write(Put("k", b"1"))
            assert await store.get("k") is not None
    async with NatsKvState.open(context({**base, "jwt": jwt, "seedKey": stranger.seed})) as store:
        with pytest.raises(NotAllowed) as refused:
            await store.get("k")
        assert stranger.seed not in refused.value.message
