"""The one shape of everything that passes through the runtime: ``Handler = (Call) -> Reply``."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from pillion.body import Body

Header: TypeAlias = tuple[bytes, bytes]
Headers: TypeAlias = list[Header]
"""Names and values as they came, in their order; names compare without case."""

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""Methods that may be repeated (RFC 9110 section 9.2.2)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is called: an app, a component, a function or an HTTP endpoint.

    Attributes:
        kind: ``app``, ``component``, ``function`` or ``endpoint``.
        name: its app id, component name or URL.
        namespace: where an app lives; empty for the rest.
    """

    kind: str
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as its certificate says (SPIFFE ID, section 2 of the specification)."""

    trust_domain: str
    namespace: str
    app_id: str

    @property
    def uri(self) -> str:
        """``spiffe://<trust-domain>/ns/<namespace>/<app-id>``."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/{self.app_id}"


class Call:
    """One call on its way to a target.

    Attributes:
        operation: the row it came through, such as ``invocation.call``.
        target: whom it is for.
        method: the HTTP verb, upper case.
        path: the path at the target, normalised and escaped, with its leading ``/``.
        query: what follows ``?``, untouched and without it.
        headers: end-to-end headers only.
        body: bytes, or a stream that can be read once.
        deadline: on ``time.monotonic()``, in seconds; ``math.inf`` for none.
        caller: who calls, by certificate; None for the runtime's own app.
        attempt: 0 for the first try.
        tried: ids of the instances that failed it, so that the next try goes elsewhere.
    """

    __slots__ = (
        "attempt",
        "body",
        "caller",
        "deadline",
        "headers",
        "method",
        "operation",
        "path",
        "query",
        "target",
        "tried",
    )

    def __init__(
        self,
        operation: str,
        target: Target,
        method: bytes = b"GET",
        path: bytes = b"/",
        query: bytes = b"",
        headers: Headers | None = None,
        body: Body = b"",
        deadline: float = math.inf,
        caller: Identity | None = None,
    ) -> None:
        self.operation = operation
        self.target = target
        self.method = method
        self.path = path
        self.query = query
        self.headers: Headers = [] if headers is None else headers
        self.body = body
        self.deadline = deadline
        self.caller = caller
        self.attempt = 0
        self.tried: tuple[str, ...] = ()

    @property
    def idempotent(self) -> bool:
        """True when repeating the call cannot do its work twice."""
        return self.method in IDEMPOTENT

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of ``name`` (lower case), or None."""
        return find(self.headers, name)


class Reply:
    """What came back: a status, headers and a body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers | None = None, body: Body = b"") -> None:
        self.status = status
        self.headers: Headers = [] if headers is None else headers
        self.body = body

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of ``name`` (lower case), or None."""
        return find(self.headers, name)


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]
Layer: TypeAlias = Callable[[Handler], Handler]


def find(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of ``name``, which is lower case, or None."""
    length = len(name)
    for key, value in headers:
        if len(key) == length and key.lower() == name:
            return value
    return None
