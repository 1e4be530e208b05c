"""A connection to Redis or Valkey, shared by the components that stand on it.

``settings`` is light. What imports the client library is imported by :func:`connected`, in a
thread, because that takes some tenths of a second.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pillion.errors import Invalid
from pillion_components._redis.settings import ConnectionSettings, check

if TYPE_CHECKING:
    from pillion_components._redis.client import Client


@asynccontextmanager
async def connected(settings: ConnectionSettings, name: str) -> AsyncIterator[Client]:
    """Open a client for the component ``name``; nothing is sent before the first operation.

    Raises:
        Invalid: the settings contradict each other, or the client library is not installed.
    """
    check(settings, name)
    try:
        module = await asyncio.to_thread(
            importlib.import_module, "pillion_components._redis.client"
        )
    except ImportError as error:
        raise Invalid(
            f"component {name}: Redis needs the package redis; pip install 'pillion[redis]' "
            f"({error})"
        ) from error
    folder = await asyncio.to_thread(_certificates, settings)
    try:
        client = cast("Client", module.Client(settings, name, folder and Path(folder.name)))
        try:
            yield client
        finally:
            await client.aclose()
    finally:
        if folder is not None:
            await asyncio.to_thread(folder.cleanup)


def _certificates(settings: ConnectionSettings) -> tempfile.TemporaryDirectory[str] | None:
    """Write the client's certificate to files, since TLS reads it from nowhere else."""
    if not settings.client_cert:
        return None
    folder = tempfile.TemporaryDirectory(prefix="pillion-redis-")
    for file, text in (("cert.pem", settings.client_cert), ("key.pem", settings.client_key)):
        handle = os.open(Path(folder.name, file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write(text)
    return folder


__all__ = ["connected"]
