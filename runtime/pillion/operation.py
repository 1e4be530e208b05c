"""A building block is a table of operations; this is a row, and the request it answers.

Routing, span names, metric labels, access rules and the API reference are read off the same rows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from pillion.body import Body
from pillion.call import Headers, Reply


class Request:
    """One request to the local API.

    ``headers`` holds the end-to-end headers that the runtime does not act on, as they came. Those
    it acts on are taken out of the list while it is read and stand in attributes of their own,
    ``b""`` when absent.

    Attributes:
        method: the HTTP verb, upper case.
        path: the path as sent, still escaped.
        query: what follows ``?``, untouched.
        headers: end-to-end headers.
        body: bytes, or a stream when it is large or its length is unknown.
        params: path parameters by name, unescaped; filled by the router.
        length: the body's bytes as announced, None when it is chunked.
        http10: True when the client speaks HTTP/1.0 and knows no chunked bodies.
        keep_alive: whether the client wants the connection kept.
        expects_continue: whether the client waits for ``100 Continue``.
        app_id: ``dapr-app-id``.
        token: ``dapr-api-token``.
        authorization: ``Authorization``; forwarded all the same.
        origin: ``Origin``; forwarded all the same.
        accept: ``Accept``; forwarded all the same.
        traceparent, tracestate, baggage: trace context.
        deadline_ms: ``x-pillion-deadline-ms``.
        forwarded_for, forwarded_host, forwarded: what earlier proxies said.
    """

    __slots__ = (
        "accept",
        "app_id",
        "authorization",
        "baggage",
        "body",
        "deadline_ms",
        "expects_continue",
        "forwarded",
        "forwarded_for",
        "forwarded_host",
        "headers",
        "http10",
        "keep_alive",
        "length",
        "method",
        "origin",
        "params",
        "path",
        "query",
        "token",
        "traceparent",
        "tracestate",
    )

    def __init__(
        self,
        method: bytes = b"GET",
        path: bytes = b"/",
        query: bytes = b"",
        headers: Headers | None = None,
        body: Body = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers: Headers = [] if headers is None else headers
        self.body: Body = body
        self.params: dict[str, str] = {}
        self.length: int | None = 0
        self.http10 = False
        self.keep_alive = True
        self.expects_continue = False
        self.app_id = b""
        self.token = b""
        self.authorization = b""
        self.origin = b""
        self.accept = b""
        self.traceparent = b""
        self.tracestate = b""
        self.baggage = b""
        self.deadline_ms = b""
        self.forwarded_for = b""
        self.forwarded_host = b""
        self.forwarded = b""


Endpoint: TypeAlias = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of a block's table.

    Attributes:
        name: ``<block>.<operation>``, such as ``state.get``.
        methods: HTTP verbs.
        path: the route after the version, with ``{name}`` segments and a last ``{name...}`` that
            takes the rest of the path.
        endpoint: what answers.
        group: the name that ``Configuration.spec.api`` allows or denies.
        versions: the API versions that serve the row.
        public: True when the row is served without an API token.
        summary: one line for the API reference.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    endpoint: Endpoint
    group: str
    versions: tuple[str, ...] = ("v1.0",)
    public: bool = False
    summary: str = field(default="", compare=False)
