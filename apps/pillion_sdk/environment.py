"""What the environment says: the app's own port, and where its runtime listens.

``pillion run`` and ``dapr run`` set these variables; ours win over Dapr's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_APP_PORT = 8000
DEFAULT_RUNTIME_PORT = 3500


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the runtime listens.

    Attributes:
        host: a name or an address; empty for a Unix socket.
        port: a TCP port; 0 for a Unix socket.
        tls: True for https.
        unix_path: the path of a Unix socket, or None.
    """

    host: str
    port: int
    tls: bool = False
    unix_path: str | None = None

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """Read ``http://host:port``, ``https://host`` or ``unix:///path/of/socket``.

        Raises:
            ValueError: it is none of these.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme == "unix" and parts.path:
            return cls("", 0, unix_path=parts.path)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url!r} is no endpoint: write http://host:port or unix:///path")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Endpoint:
        """Return where the environment says the runtime is; port 3500 on this machine if nowhere.

        Raises:
            ValueError: a variable is malformed; the message names it.
        """
        environ = os.environ if environ is None else environ
        name, url = _first(environ, "PILLION_HTTP_ENDPOINT", "DAPR_HTTP_ENDPOINT")
        if url:
            try:
                return cls.parse(url)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        name, text = _first(environ, "PILLION_HTTP_PORT", "DAPR_HTTP_PORT")
        host = environ.get("DAPR_RUNTIME_HOST") or "127.0.0.1"
        return cls(host, _port(name, text) if text else DEFAULT_RUNTIME_PORT)

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix://{self.unix_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def api_token(environ: Mapping[str, str] | None = None) -> str:
    """Return the token that the runtime asks for; empty when it asks for none."""
    environ = os.environ if environ is None else environ
    return _first(environ, "PILLION_API_TOKEN", "DAPR_API_TOKEN")[1]


def app_port(environ: Mapping[str, str] | None = None) -> int:
    """Return the port the app is to listen on: ``PILLION_APP_PORT``, ``APP_PORT``, else 8000.

    Raises:
        ValueError: the variable is no port; the message names it.
    """
    environ = os.environ if environ is None else environ
    name, text = _first(environ, "PILLION_APP_PORT", "APP_PORT")
    return _port(name, text) if text else DEFAULT_APP_PORT


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first variable that is set and not empty, with its value."""
    for name in names:
        value = environ.get(name, "")
        if value:
            return name, value
    return "", ""


def _port(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise ValueError(f"{name} is {text!r}, which is no port: give a number from 0 to 65535")
