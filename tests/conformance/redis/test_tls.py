"""Redis behind TLS. The server of the tests has none, so a small proxy in front of it does it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.certificates import Files, authority
from tests.support.redis_server import RedisServer

from pillion.errors import Unavailable
from pillion.kinds.component import Context
from pillion.kinds.state import Put
from pillion_components.state.redis import RedisState

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Certificates of one authority."""
    return authority(tmp_path / "tls")


@pytest.fixture
async def secured(redis_process: RedisServer, files: Files) -> AsyncIterator[Mapping[str, str]]:
    """The settings that reach the server through the proxy, which asks for a certificate."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", redis_process.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe(reader, inner[1]))
            group.create_task(pipe(inner[0], writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(files.cert, files.key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    yield {
        "redisHost": f"127.0.0.1:{port}",
        "enableTLS": "true",
        "caCert": files.ca.read_text(),
        "clientCert": files.client_cert.read_text(),
        "clientKey": files.client_key.read_text(),
    }
    server.close()
    await server.wait_closed()


def context(settings: Mapping[str, str]) -> Context:
    """Where the tests open components."""
    return Context(name="subject", home=Path("/nowhere"), app_id="tester", settings=settings)


async def test_both_sides_show_certificates(secured: Mapping[str, str]) -> None:
    """With an authority, a certificate and a key the store works."""
    async with RedisState.open(context(secured)) as store:
        await store.write(Put("k", b"1"))
        item = await store.get("k")
    assert item is not None
    assert item.value == b"1"


@pytest.mark.parametrize("left_out", [("caCert",), ("clientCert", "clientKey")])
async def test_certificates_are_checked(
    secured: Mapping[str, str], left_out: tuple[str, ...]
) -> None:
    """Without the authority the server is not trusted, without a certificate the client is not."""
    settings = {key: text for key, text in secured.items() if key not in left_out}
    async with RedisState.open(context(settings)) as store:
        with pytest.raises(Unavailable):
            await store.write(Put("k", b"1"))
    if left_out == ("caCert",):
        unchecked = {**settings, "insecureSkipTLSVerify": "true"}
        async with RedisState.open(context(unchecked)) as store:
            await store.write(Put("k", b"1"))
