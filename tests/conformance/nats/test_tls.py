"""NATS with TLS on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.certificates import authority
from tests.support.nats_server import NatsServer

from pillion.errors import Failure, Invalid
from pillion.kinds.component import Context
from pillion.kinds.state import Put
from pillion_components.state.nats_kv import NatsKvState

pytestmark = pytest.mark.anyio


def context(settings: Mapping[str, str]) -> Context:
    """Where the tests open components."""
    return Context(name="subject", home=Path("/nowhere"), app_id="tester", settings=settings)


async def test_both_sides_show_certificates(own_nats: NatsServer, tmp_path: Path) -> None:
    """The store works with certificates, and not when one side's is missing or unreadable."""
    files = authority(tmp_path / "tls")
    flags = ("--tlsverify", f"--tlscert={files.cert}", f"--tlskey={files.key}")
    own_nats._flags = (*flags, f"--tlscacert={files.ca}")
    await asyncio.to_thread(own_nats.start)
    settings = {
        "natsURL": f"tls://127.0.0.1:{own_nats.port}",
        "bucket": "b",
        "caCert": files.ca.read_text(),
        "clientCert": files.client_cert.read_text(),
        "clientKey": files.client_key.read_text(),
    }
    async with NatsKvState.open(context(settings)) as store:
        await store.write(Put("k", b"1"))
        assert await store.get("k") is not None
    for left_out in (("caCert",), ("clientCert", "clientKey")):
        less = {key: text for key, text in settings.items() if key not in left_out}
        async with NatsKvState.open(context(less)) as store:
            with pytest.raises(Failure):
                await store.get("k")
    broken = {**settings, "clientKey": "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"}
    with pytest.raises(Invalid, match="clientKey"):
        async with NatsKvState.open(context(broken)):
            pass
