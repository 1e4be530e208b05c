"""HTTP/1.1 framing, without I/O (RFC 9110 and RFC 9112): what requests and replies share.

httptools (llhttp) does the lexing in its strict mode. ``http1_requests.py`` and
``http1_replies.py`` add limits, the header rules of service invocation, and a refusal of
everything on which two HTTP parsers could disagree.
"""

from __future__ import annotations

from pillion.call import Headers

REASONS = {
    100: b"Continue",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, b"Status"))
    for status in range(100, 1000)
}


class Refused(Exception):
    """The bytes are no request that may be answered; the connection ends with ``status``."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


KEEP_ALIVE = frozenset({b"keep-alive"})
CLOSE = frozenset({b"close"})
_USUAL = {
    b"": frozenset[bytes](),
    b"keep-alive": KEEP_ALIVE,
    b"Keep-Alive": KEEP_ALIVE,
    b"close": CLOSE,
}


def connection_tokens(value: bytes) -> frozenset[bytes]:
    """Split a ``Connection`` value into its lower-case tokens (RFC 9110 section 7.6.1)."""
    usual = _USUAL.get(value)
    if usual is not None:
        return usual
    return frozenset(token.strip().lower() for token in value.split(b",") if token.strip())


def without_named(headers: Headers, tokens: frozenset[bytes]) -> Headers:
    """Return the headers that ``Connection`` does not name as hop-by-hop."""
    if tokens <= _OPTIONS:
        return headers
    return [pair for pair in headers if pair[0].lower() not in tokens]


_OPTIONS = KEEP_ALIVE | CLOSE


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target into path and query; an absolute one loses its authority.

    >>> split_target(b"http://localhost/a?b=c")
    (b'/a', b'b=c')
    """
    if not target.startswith(b"/"):
        _scheme, separator, rest = target.partition(b"://")
        if separator:
            slash = rest.find(b"/")
            mark = rest.find(b"?")
            if slash < 0 or 0 <= mark < slash:
                slash = len(rest) if mark < 0 else mark
            target = rest[slash:]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _mark, query = target.partition(b"?")
    return path, query


_line = b": ".join


def reply_head(status: int, headers: Headers, *extra: bytes) -> bytes:
    """Return a status line and headers as bytes; ``extra`` are whole lines, with CR LF."""
    lines = [*map(_line, headers), b"".join(extra)]
    return STATUS_LINES[status] + b"\r\n".join(lines) + b"\r\n"


def request_head(method: bytes, target: bytes, headers: Headers, *extra: bytes) -> bytes:
    """Return a request line and headers as bytes; ``extra`` are whole lines, with CR LF."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *map(_line, headers), b"".join(extra)]
    return b"\r\n".join(lines) + b"\r\n"
