"""Requests off one connection, without I/O: bytes in, :class:`pillion.operation.Request` out."""

from __future__ import annotations

from typing import Protocol

import httptools

from pillion.operation import Request
from pillion.wire.http1 import Refused, connection_tokens, split_target, without_named

DROP, FRAME, NOTE = "-", "#", "+"
HEADER_RULES: dict[bytes, str] = {
    # Hop-by-hop: they end at the runtime (RFC 9110 section 7.6.1).
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"upgrade": DROP,
    b"http2-settings": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"proxy-authorization": DROP,
    b"proxy-authenticate": DROP,
    # They frame the message or end at the connection.
    b"content-length": FRAME,
    b"host": FRAME,
    b"connection": FRAME,
    b"transfer-encoding": FRAME,
    b"expect": FRAME,
    # Looked at, and forwarded.
    b"authorization": NOTE,
    b"origin": NOTE,
    b"accept": NOTE,
    # Taken out of the list, into the attribute named here.
    b"dapr-app-id": "app_id",
    b"dapr-api-token": "token",
    b"traceparent": "traceparent",
    b"tracestate": "tracestate",
    b"baggage": "baggage",
    b"x-pillion-deadline-ms": "deadline_ms",
    b"x-forwarded-for": "forwarded_for",
    b"x-forwarded-host": "forwarded_host",
    b"forwarded": "forwarded",
}
"""What happens to a request header; those not named here pass as they came."""

_CALLER = (b"dapr-caller-app-id", b"dapr-caller-namespace", b"dapr-callee-app-id")
"""Who calls is what the certificate says, so a header that says it is not read at all."""


def _spellings(name: bytes) -> set[bytes]:
    """Return ``name`` with each ``-`` also as ``_``: to a CGI or WSGI app they are one name."""
    spellings = {b""}
    for letter in name.decode():
        options = (b"-", b"_") if letter == "-" else (letter.encode(),)
        spellings = {start + option for start in spellings for option in options}
    return spellings


HEADER_RULES |= {spelling: DROP for name in _CALLER for spelling in _spellings(name)}

NEVER_FORWARDED = frozenset(
    name for name, rule in HEADER_RULES.items() if rule in (DROP, FRAME)
) | {b"dapr-app-id", b"dapr-api-token", b"x-pillion-deadline-ms"}
"""What no request to an app may carry from elsewhere: it is this runtime's to say."""


class RequestSink(Protocol):
    """What a RequestReader tells its connection, in order."""

    def request_started(self, request: Request) -> None:
        """The head is complete."""

    def request_data(self, chunk: bytes) -> None:
        """A piece of the body of the request started last."""

    def request_ended(self) -> None:
        """The request started last is complete."""


class RequestReader:
    """Reads requests off one connection.

    ``limit`` bounds the bytes of one head, request line included and each value counted as if one
    space stood before it. As many bytes again may stand around a chunked body's content: sizes,
    extensions and trailers.
    """

    __slots__ = (
        "_connection",
        "_hosts",
        "_in_head",
        "_limit",
        "_parsed",
        "_parser",
        "_request",
        "_sink",
        "_transfer_encoding",
        "_unasked",
        "_unseen",
        "_url",
    )

    def __init__(self, sink: RequestSink, limit: int) -> None:
        self._sink = sink
        self._limit = limit
        self._parser = httptools.HttpRequestParser(self)
        self._in_head = False
        self._unasked = False
        self._request = Request()
        self._url = b""
        self._parsed = 0
        self._unseen = 0
        self._hosts = 0
        self._connection = b""
        self._transfer_encoding = b""

    @property
    def in_head(self) -> bool:
        """True while a head has begun and is not complete."""
        return self._in_head

    def feed(self, data: bytes) -> None:
        """Read ``data``.

        Raises:
            Refused: it is malformed, ambiguous or too large; nothing more may be fed.
        """
        rest: bytes | memoryview = data
        while True:
            self._unseen += len(rest)
            try:
                self._parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                end: int = upgrade.args[0]
            except httptools.HttpParserCallbackError as error:
                if isinstance(error.__context__, Refused):
                    raise error.__context__ from None
                raise
            except httptools.HttpParserError as error:
                raise Refused(400, f"malformed request: {error}") from None
            self._decline_upgrade()
            rest = memoryview(rest)[end:]
        if self._parsed + self._unseen > self._limit:
            # What never ends is buffered by the parser, unseen by the callbacks.
            self._refuse_large()

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._unasked:
            return
        self._in_head = True
        self._reset()

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if self._unasked:
            return
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers are dropped."""
        if self._unasked:
            return
        self._count(len(name) + len(value) + 4)
        if not self._in_head:
            return
        key = name.lower()
        rule = HEADER_RULES.get(key)
        if rule is None:
            if not key.endswith(b"-bin"):
                self._request.headers.append((name, value))
        elif rule == NOTE:
            setattr(self._request, key.decode(), value.strip())
            self._request.headers.append((name, value))
        elif rule == FRAME:
            self._framing(key, value)
        elif rule != DROP:
            value = value.strip()  # the lexer leaves what stands before the line's end
            before = getattr(self._request, rule)
            setattr(self._request, rule, before + b", " + value if before else value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self._unasked:
            self._unasked = False
            return
        self._in_head = False
        request = self._request
        request.method = self._parser.get_method()
        self._count(len(request.method) + 14)  # the rest of the request line, and the empty line
        self._parsed = 0
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse("protocol version")
        if self._transfer_encoding:
            if version == "1.0" or self._transfer_encoding.lower() != b"chunked":
                self._refuse("transfer-encoding")
            request.length = None
        if self._hosts > 1 or (self._hosts == 0 and version == "1.1"):
            self._refuse("host")
        if request.method == b"CONNECT":
            self._refuse("method CONNECT")
        tokens = connection_tokens(self._connection)
        if version == "1.0":
            request.http10 = True
            request.expects_continue = False
            request.keep_alive = b"keep-alive" in tokens
        elif tokens:
            request.keep_alive = b"close" not in tokens
        request.headers = without_named(request.headers, tokens)
        request.path, request.query = split_target(self._url)
        self._unasked = self._parser.should_upgrade() and request.length != 0
        self._sink.request_started(request)

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._unseen = 0
        self._sink.request_data(chunk)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if not self._unasked:
            self._parsed = self._unseen = 0
            self._sink.request_ended()

    def _decline_upgrade(self) -> None:
        # Upgrades are not offered. The parser stops behind the head of a request that asks for
        # one; a fresh parser goes on there, told of the body that is still to come.
        self._parser = httptools.HttpRequestParser(self)
        if self._unasked:
            length = self._request.length
            framing = (
                b"Transfer-Encoding: chunked"
                if length is None
                else (b"Content-Length: %d" % length)
            )
            self._parser.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n%b\r\n\r\n" % framing)
        self._unseen = 0

    def _framing(self, key: bytes, value: bytes) -> None:
        request = self._request
        value = value.strip()
        if key == b"content-length":
            if not value.isdigit() or len(value) > 18:
                self._refuse("content-length")
            request.length = int(value)
        elif key == b"host":
            self._hosts += 1
        elif key == b"connection":
            self._connection = self._connection + b"," + value if self._connection else value
        elif key == b"transfer-encoding":
            self._transfer_encoding += b"," + value if self._transfer_encoding else value
        elif value.lower() == b"100-continue":
            request.expects_continue = True

    def _reset(self) -> None:
        self._request = Request()
        self._url = b""
        self._parsed = 0
        self._unseen = 0
        self._hosts = 0
        self._connection = b""
        self._transfer_encoding = b""

    def _count(self, size: int) -> None:
        self._unseen = 0
        self._parsed += size
        if self._parsed > self._limit:
            self._refuse_large()

    def _refuse_large(self) -> None:
        raise Refused(431, f"the header block is over {self._limit} bytes")

    def _refuse(self, what: str) -> None:
        raise Refused(400, f"malformed request: {what}")
