"""Cross-origin requests to the local API (Fetch standard, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pillion.call import Headers, Reply, find
from pillion.operation import Request

METHODS = b"HEAD, GET, POST, PUT, PATCH, DELETE"


class Cors:
    """The answer to one set of allowed origins; ``("*",)`` allows any."""

    __slots__ = ("_any", "_origins")

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.strip().lower().encode() for origin in origins)

    def allows(self, origin: bytes) -> bool:
        """Tell whether pages of ``origin`` may call."""
        return self._any or origin.lower() in self._origins

    def preflight(self, request: Request) -> Reply | None:
        """Return the answer to a preflight request, or None if it is none."""
        if request.method != b"OPTIONS" or not request.origin:
            return None
        asked = find(request.headers, b"access-control-request-method")
        if asked is None:
            return None
        headers: Headers = [
            (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        ]
        if self.allows(request.origin) and asked.upper() in METHODS.split(b", "):
            headers.append((b"Access-Control-Allow-Origin", self._named(request.origin)))
            headers.append((b"Access-Control-Allow-Methods", asked.upper()))
            wanted = find(request.headers, b"access-control-request-headers")
            if wanted:
                headers.append((b"Access-Control-Allow-Headers", wanted))
        return Reply(204, headers)

    def mark(self, request: Request, reply: Reply) -> None:
        """Add the headers that let the page read ``reply``."""
        reply.headers.append((b"Vary", b"Origin"))
        if self.allows(request.origin):
            reply.headers.append((b"Access-Control-Allow-Origin", self._named(request.origin)))

    def _named(self, origin: bytes) -> bytes:
        return b"*" if self._any else origin
