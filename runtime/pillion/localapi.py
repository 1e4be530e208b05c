"""Calls to the local API of a runtime on this machine, for programs that may block."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pillion.errors import Unavailable

if TYPE_CHECKING:  # slow to import, and the supervisor needs only the addresses
    from http.client import HTTPConnection, HTTPResponse

TIMEOUT = 60.0
"""Seconds without a byte after which a call is given up."""

CHUNK = 64 * 1024
"""Bytes of a body at one time."""


def reachable(listen_addresses: tuple[str, ...]) -> str:
    """Return the address under which programs on this machine reach the local API."""
    first = listen_addresses[0].strip("[]") if listen_addresses else ""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)


def socket_path(folder: Path, app_id: str) -> Path:
    """Return the Unix socket of an app's runtime below ``--unix-domain-socket``."""
    return folder / f"dapr-{app_id}-http.socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalApi:
    """Where one runtime serves its local API.

    Attributes:
        host: its address, as other programs on this machine reach it.
        port: its port.
        socket: its Unix socket, which it has in place of host and port.
        token: shown as ``dapr-api-token``; empty for none.
    """

    host: str = "127.0.0.1"
    port: int = 0
    socket: Path | None = None
    token: str = ""

    def __str__(self) -> str:
        """Return the address as people know it."""
        return f"the runtime at {self.socket or f'{self.host}:{self.port}'}"

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Iterator[HTTPResponse]:
        """Send one request and yield its response, unread; see :func:`chunks`.

        A file as ``body`` is sent in chunks, from where it stands.

        Raises:
            Unavailable: nothing listens there, or what does breaks off.
        """

        own = {"dapr-api-token": self.token} if self.token else {}
        with closing(self._connection(timeout)) as connection:
            with _explained(self):
                connection.request(method, path, body, {**(headers or {}), **own})
                response = connection.getresponse()
            yield response

    def _connection(self, timeout: float) -> HTTPConnection:
        from http.client import HTTPConnection

        if self.socket is None:
            return HTTPConnection(self.host, self.port, timeout=timeout)
        connection = HTTPConnection("localhost", timeout=timeout)
        with _explained(self):
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(timeout)
            connection.sock.connect(str(self.socket))
        return connection


def chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield the body of a response as it arrives.

    Raises:
        Unavailable: it breaks off.
    """
    while True:
        with _explained("the runtime"):
            data = response.read1(CHUNK)
        if not data:
            return
        yield data


@contextmanager
def _explained(where: object) -> Iterator[None]:
    from http.client import HTTPException

    try:
        yield
    except (OSError, HTTPException) as error:
        raise Unavailable(f"no answer from {where}: {error}") from error
