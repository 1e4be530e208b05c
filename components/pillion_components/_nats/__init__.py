"""A connection to NATS, shared by the components that stand on it.

``settings`` and ``keys`` are light. What imports the client library is imported by
:func:`connected`, in a thread, because that takes some tenths of a second.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from pillion.errors import Invalid
from pillion_components._nats.settings import ConnectionSettings, check

if TYPE_CHECKING:
    from pillion_components._nats.client import Client


@asynccontextmanager
async def connected(settings: ConnectionSettings, name: str) -> AsyncIterator[Client]:
    """Open a client for the component ``name``; nothing is sent before the first operation.

    Raises:
        Invalid: the settings contradict each other, or the client library is not installed.
    """
    check(settings, name)
    try:
        module = await asyncio.to_thread(importlib.import_module, "pillion_components._nats.client")
    except ImportError as error:
        raise Invalid(
            f"component {name}: NATS needs the package nats-py; pip install 'pillion[nats]' "
            f"({error})"
        ) from error
    try:
        tls = await asyncio.to_thread(settings.tls)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(
            f"component {name}: caCert, clientCert or clientKey cannot be used: {error}"
        ) from error
    client = cast("Client", module.Client(settings, name, tls))
    try:
        yield client
    finally:
        await client.aclose()


__all__ = ["connected"]
