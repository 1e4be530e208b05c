"""Serving an app with uvicorn; imported only when an app is run."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

KEEP_ALIVE = 75
"""Seconds an idle connection stays open: longer than clients keep theirs, so that the side that
sends requests is the one that closes."""


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, name: str) -> None:
        super().__init__(config)
        self._name = name

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            sys.stderr.write(f"{self._name} listens on http://{shown}:{port}\n")
        sys.stderr.flush()


def run(
    app: Any, name: str, host: str, port: int, *, access_log: bool, stop_timeout: float
) -> None:
    """Serve an ASGI app until SIGTERM or SIGINT.

    Args:
        app: the ASGI app.
        name: what it is called in the line that says where it listens.
        host: a name or an address.
        port: 0 picks a free one.
        access_log: log a line for each request.
        stop_timeout: seconds that requests in flight may take after the signal; those that take
            longer are cancelled.

    Raises:
        SystemExit: the port cannot be had, or starting failed.
    """
    config = uvicorn.Config(
        app,
        access_log=access_log,
        log_level="info" if access_log else "warning",
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(stop_timeout)),
    )
    listener = _bind(name, host, port)
    with listener, _stop_means_return():
        _Server(config, name).run(sockets=[listener])


def _bind(name: str, host: str, port: int) -> socket.socket:
    """Take the port without listening: who connects before the start hooks ran is refused."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SystemExit(f"{name} cannot listen on {host!r}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise SystemExit(
            f"{name} cannot listen on {host}:{port}: {error.strerror}; choose another port with "
            "app.run(port=...) or PILLION_APP_PORT"
        ) from None
    return listener


@contextmanager
def _stop_means_return() -> Iterator[None]:
    """Let a signal that was obeyed end in a return; uvicorn raises it again when it is done."""
    with suppress(KeyboardInterrupt):
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
