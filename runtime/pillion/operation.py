"""A building block is a table of operations; this is a row.

Routing, span names, metric labels, access rules and the API reference are read off the same rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pillion.body import Body
from pillion.call import Headers, Reply


class Request:
    """One request to the local API, after the server's own checks.

    Attributes:
        method: the HTTP verb, upper case.
        path: the whole path as sent, cleaned of double and trailing slashes, still escaped.
        query: what follows ``?``, untouched.
        headers: end-to-end headers, without the API token.
        body: bytes, or a stream when it is large or of unknown length.
        params: path parameters by name, unescaped; filled by the router.
    """

    __slots__ = ("body", "headers", "method", "params", "path", "query")

    def __init__(
        self, method: bytes, path: bytes, query: bytes, headers: Headers, body: Body
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.params: dict[str, str] = {}


Endpoint = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of a block's table.

    Attributes:
        name: ``<block>.<operation>``, such as ``state.get``.
        methods: HTTP verbs; empty means every verb.
        path: the route after the version, with ``{name}`` segments and a last ``{name...}`` that
            takes the rest of the path.
        endpoint: what answers.
        group: the name that ``Configuration.spec.api`` allows or denies.
        versions: the API versions that serve the row.
        open: True when no API token is asked for.
        summary: one line for the API reference.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    endpoint: Endpoint
    group: str
    versions: tuple[str, ...] = ("v1.0",)
    open: bool = False
    summary: str = field(default="", compare=False)
