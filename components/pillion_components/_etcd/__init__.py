"""A thin asynchronous client for etcd's v3 API, shared by the components that stand on etcd.

``settings`` and ``model`` are light. Everything that imports grpcio and protobuf is imported by
:func:`connected`, in a thread, because that takes some tenths of a second.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from pillion.errors import Invalid
from pillion_components._etcd.settings import ConnectionSettings, check

if TYPE_CHECKING:
    from pillion_components._etcd.client import Client


@asynccontextmanager
async def connected(settings: ConnectionSettings, name: str) -> AsyncIterator[Client]:
    """Open a client for the component ``name``; nothing is sent before the first operation.

    Raises:
        Invalid: the settings contradict each other, or grpcio or protobuf is not installed.
    """
    await asyncio.to_thread(check, settings, name)  # it may have to import cryptography
    try:
        module = await asyncio.to_thread(importlib.import_module, "pillion_components._etcd.client")
    except ImportError as error:
        raise Invalid(
            f"component {name}: etcd needs grpcio and protobuf; pip install 'pillion[etcd]' "
            f"({error})"
        ) from error
    client = cast("Client", module.Client(settings, name))
    try:
        yield client
    finally:
        await client.aclose()


__all__ = ["connected"]
