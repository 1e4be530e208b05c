"""Calls that leave the mesh: to an HTTPEndpoint or straight to a URL."""

from __future__ import annotations

import re
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from pillion.call import Call, Header, Headers, Reply
from pillion.errors import Invalid
from pillion.net.http_client import ClientLimits, HttpClient, Origin
from pillion.wheel import Wheel

_HOST = re.compile(r"[a-z0-9._:-]+")
_PATH = "/%!$&'()*+,;=:@-._~"
MAX_ORIGINS = 256
"""Origins whose connections are kept; the one used longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """One place outside.

    Attributes:
        base_url: ``http(s)://host:port/prefix``.
        headers: set on every call, over the caller's.
        tls: how to encrypt, or None for the system's roots.
    """

    base_url: str
    headers: tuple[Header, ...] = ()
    tls: ssl.SSLContext | None = None


class Outside:
    """Calls ``Target("endpoint", <name or URL>)``."""

    __slots__ = ("_clients", "_default_tls", "_limits", "_outlets", "_wheel")

    def __init__(self, outlets: Mapping[str, Outlet], wheel: Wheel, body_limit: int) -> None:
        self._outlets = outlets
        self._wheel = wheel
        self._limits = ClientLimits(body=body_limit, connections=256)
        self._clients: OrderedDict[str, tuple[HttpClient, bytes]] = OrderedDict()
        self._default_tls: ssl.SSLContext | None = None

    async def call(self, call: Call) -> Reply:
        """Send a call out.

        Raises:
            Invalid: the URL is none.
            Unavailable, TimedOut: as :meth:`HttpClient.send`.
        """
        outlet = self._outlets.get(call.target.name) or Outlet(call.target.name)
        client, prefix = self._client(call.target.name, outlet)
        headers = _override(call.headers, outlet.headers) if outlet.headers else call.headers
        path = prefix + call.path
        target = b"%b?%b" % (path, call.query) if call.query else path
        return await client.send(call.method, target, headers, call.body, call.deadline)

    def close(self) -> None:
        """Close every connection."""
        for client, _prefix in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, name: str, outlet: Outlet) -> tuple[HttpClient, bytes]:
        known = self._clients.get(name)
        if known is not None:
            self._clients.move_to_end(name)
            return known
        try:
            url = urlsplit(outlet.base_url)
            port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            raise _no_url(outlet) from None
        host = url.hostname or ""
        if url.scheme not in ("http", "https") or not _HOST.fullmatch(host):
            raise _no_url(outlet)
        tls = self._tls(outlet) if url.scheme == "https" else None
        client = HttpClient(Origin(host, port, tls), self._wheel, self._limits, name)
        if len(self._clients) >= MAX_ORIGINS:
            _name, (oldest, _prefix) = self._clients.popitem(last=False)
            oldest.retire()
        made = (client, quote(url.path.rstrip("/"), safe=_PATH).encode())
        self._clients[name] = made
        return made

    def _tls(self, outlet: Outlet) -> ssl.SSLContext:
        if outlet.tls is not None:
            return outlet.tls
        if self._default_tls is None:
            self._default_tls = ssl.create_default_context()
        return self._default_tls


def _no_url(outlet: Outlet) -> Invalid:
    return Invalid(f"{outlet.base_url!r} is no http or https URL", reached=False)


def _override(headers: Headers, over: tuple[Header, ...]) -> Headers:
    names = {name.lower() for name, _value in over}
    return [pair for pair in headers if pair[0].lower() not in names] + list(over)
