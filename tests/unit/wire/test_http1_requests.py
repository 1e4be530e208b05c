"""Requests are read the same however their bytes arrive, and nothing ambiguous is let through."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.operation import Request
from pillion.wire.http1 import Refused
from pillion.wire.http1_requests import RequestReader

LIMIT = 4096
HOST = b"Host: api\r\n"


class Sink:
    """Collects what a reader tells."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.ended = 0

    def request_started(self, request: Request) -> None:
        assert self.ended == len(self.requests)
        self.requests.append(request)
        self.bodies.append(b"")

    def request_data(self, chunk: bytes) -> None:
        assert chunk
        self.bodies[-1] += chunk

    def request_ended(self) -> None:
        self.ended += 1
        assert self.ended == len(self.requests)


def read(pieces: Iterable[bytes], limit: int = LIMIT) -> tuple[Sink, Refused | None]:
    """Feed a reader and return what it told, and how it refused the rest."""
    sink = Sink()
    reader = RequestReader(sink, limit)
    try:
        for piece in pieces:
            reader.feed(piece)
    except Refused as refusal:
        return sink, refusal
    return sink, None


def facts(pieces: Iterable[bytes], limit: int = LIMIT) -> object:
    """Return everything that must not depend on how the bytes were cut."""
    sink, refusal = read(pieces, limit)
    seen = [
        {name: getattr(request, name) for name in Request.__slots__ if name != "body"}
        for request in sink.requests
    ]
    # A refusal may name what the lexer saw last, which depends on the cut; its status does not.
    return seen, sink.bodies, sink.ended, refusal and refusal.status


def whole(data: bytes, limit: int = LIMIT) -> tuple[Sink, Refused | None]:
    return read([data], limit)


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def only(data: bytes) -> Request:
    """Return the one request in ``data``."""
    sink, refusal = whole(data)
    assert refusal is None, refusal
    assert sink.ended == 1
    return sink.requests[0]


# Any split gives the same events.

TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=12)
VALUE = st.text('abc XYZ,;="019\t\xe9', max_size=20).map(str.strip)
HEADERS = st.lists(st.tuples(TOKEN.map("x-{}".format) | st.sampled_from(["dapr-app-id", "Accept"]),
                             VALUE), max_size=6)  # fmt: skip
SPECIAL = st.sampled_from(
    [
        "Connection: close",
        "Connection: keep-alive",
        "Connection: x-a, Upgrade",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Host: other",
        "x-a: 1",
        "X: a\r\n folded",
        "bad name: x",
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request, mostly sound."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "get"]))
    target = draw(st.sampled_from(["/", "/a/b?c=d", "*", "http://h/x?y", "/%41", "/a b", "/\x01"]))
    version = draw(st.sampled_from(["HTTP/1.1"] * 5 + ["HTTP/1.0", "HTTP/2.0"]))
    lines = [f"{method} {target} {version}", "Host: api"]
    lines += [f"{name}: {value}" for name, value in draw(HEADERS)]
    if draw(st.integers(0, 3)) == 0:
        lines += draw(st.lists(SPECIAL, max_size=3))
    body = draw(st.binary(max_size=30))
    framing = draw(st.sampled_from(["none", "length", "chunked", "trailers", "bad"]))
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing in ("chunked", "trailers"):
        lines.append("Transfer-Encoding: chunked")
        parts = [part for part in (body[:7], body[7:]) if part]
        body = b"".join(b"%x;e=1\r\n%b\r\n" % (len(part), part) for part in parts)
        body += b"0\r\nX-T: 1\r\n\r\n" if framing == "trailers" else b"0\r\n\r\n"
    elif framing == "none":
        body = b""
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(messages(), max_size=4).map(b"".join), st.lists(st.integers(0, 10_000)))
def test_any_split_gives_the_same_events(data: bytes, places: list[int]) -> None:
    """Whole, in pieces or byte by byte: the same requests, bodies and refusal."""
    expected = facts([data])
    assert facts(cut(data, places)) == expected
    assert facts(bytewise(data)) == expected


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_garbage_is_refused_and_never_crashes(data: bytes, places: list[int]) -> None:
    """Whatever the bytes, the reader goes on or refuses; cutting them changes nothing."""
    assert facts(cut(data, places)) == facts([data]) == facts(bytewise(data))


@given(st.lists(messages(), min_size=1, max_size=3).map(b"".join), st.data())
def test_damaged_requests_never_crash(data: bytes, draw: st.DataObject) -> None:
    """A flipped, lost or doubled piece of a request is read, refused or waited for."""
    at = draw.draw(st.integers(0, len(data) - 1))
    size = draw.draw(st.integers(0, 8))
    put = draw.draw(st.binary(max_size=4) | st.just(data[at : at + size] * 2))
    damaged = data[:at] + put + data[at + size :]
    assert facts(bytewise(damaged)) == facts([damaged])


# What is read.


def test_a_request_is_read() -> None:
    """Method, path, query, headers and body arrive as sent."""
    request = only(b"PATCH /a/b?c=d%20e HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one:  2\r\n\r\n")
    assert request.method == b"PATCH"
    assert (request.path, request.query) == (b"/a/b", b"c=d%20e")
    assert request.headers == [(b"X-One", b"1"), (b"x-one", b"2")]
    assert request.length == 0
    assert request.keep_alive
    assert not request.http10


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://host:80/a/b?c", b"/a/b", b"c"),
        (b"http://host", b"/", b""),
        (b"http://host?q=http://x/", b"/", b"q=http://x/"),
        (b"HTTPS://host/x", b"/x", b""),
        (b"/http://x/y", b"/http://x/y", b""),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"*", b"/*", b""),
    ],
)
def test_target_forms(target: bytes, path: bytes, query: bytes) -> None:
    """The absolute form loses its authority, and the asterisk is a path of its own."""
    request = only(b"OPTIONS " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (request.path, request.query) == (path, query)


def test_a_chunked_body_is_joined_and_its_trailers_are_dropped() -> None:
    """Trailers are neither headers of this request nor of the next."""
    sink, refusal = whole(
        b"POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n1;ext=1\r\n!\r\n0\r\nX-Trailer: 1\r\nHost: evil\r\n\r\n"
        b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    assert refusal is None
    assert sink.bodies == [b"hello!", b""]
    assert [request.headers for request in sink.requests] == [[], []]
    assert [request.length for request in sink.requests] == [None, 0]


@pytest.mark.parametrize(
    "name",
    ["Keep-Alive", "Proxy-Connection", "HTTP2-Settings", "TE", "Trailer", "Upgrade",
     "Proxy-Authorization", "Proxy-Authenticate", "Host-Bin", "grpc-trace-bin", "X-BIN",
     "Dapr-Caller-App-Id", "dapr-caller-namespace", "DAPR-CALLEE-APP-ID",
     "dapr_caller_app_id", "Dapr-Caller_App-Id", "DAPR_CALLER_NAMESPACE", "dapr-callee-app_id",
     "dapr-app-id", "dapr-api-token", "traceparent", "tracestate", "baggage",
     "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Expect"],
)  # fmt: skip
def test_headers_that_do_not_pass(name: str) -> None:
    """Hop-by-hop, spoofed, binary and consumed headers are not in the list."""
    request = only(b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n%b: v\r\n\r\n" % name.encode())
    assert request.headers == [(b"X", b"1")]


def test_headers_named_in_connection_do_not_pass() -> None:
    """In any order, case and number of Connection headers."""
    request = only(
        b"GET / HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-B: 2\r\nConnection: x-a , Keep-Alive\r\n"
        b"connection: X-C,,\r\nx-c: 3\r\nX-a: 4\r\n\r\n"
    )
    assert request.headers == [(b"X-B", b"2")]
    assert request.keep_alive


def test_headers_that_the_runtime_acts_on_stand_in_attributes() -> None:
    """Those that are forwarded all the same stay in the list; repeated ones are joined."""
    request = only(
        b"GET / HTTP/1.1\r\nHost: h\r\ndapr-app-id: a\r\nDapr-Api-Token:  t \t\r\n"
        b"Authorization: Basic x\r\nOrigin: http://o \r\nTraceparent: tp\r\nX-Forwarded-For: 1\r\n"
        b"x-forwarded-for: 2\r\nX-Pillion-Deadline-Ms: 5\r\n\r\n"
    )
    assert (request.app_id, request.token, request.traceparent) == (b"a", b"t", b"tp")
    assert (request.forwarded_for, request.deadline_ms) == (b"1, 2", b"5")
    assert (request.authorization, request.origin) == (b"Basic x", b"http://o")
    assert request.headers == [(b"Authorization", b"Basic x"), (b"Origin", b"http://o ")]


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: Close, x\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_keep_alive(version: bytes, connection: bytes, keeps: bool) -> None:
    """The defaults of the two versions, and what Connection says over them."""
    request = only(b"GET / HTTP/" + version + b"\r\n" + HOST + connection + b"\r\n")
    assert request.keep_alive == keeps
    assert request.http10 == (version == b"1.0")


@pytest.mark.parametrize(("version", "expects"), [(b"1.1", True), (b"1.0", False)])
def test_expect(version: bytes, expects: bool) -> None:
    """Only HTTP/1.1 clients can wait for 100 Continue."""
    sink, refusal = whole(
        b"POST / HTTP/" + version + b"\r\n" + HOST
        + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    )  # fmt: skip
    assert refusal is None
    assert sink.requests[0].expects_continue == expects


# Upgrades are declined, and what follows is still HTTP/1.1.

WEBSOCKET = (
    b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n"
)
H2C = (
    b"POST /1 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: h\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n"
)
UPGRADES = {
    "websocket": (WEBSOCKET, b""),
    "h2c": (H2C + b"\r\n", b""),
    "h2c with a body": (H2C + b'Content-Length: 11\r\n\r\n{"order":1}', b'{"order":1}'),
    "h2c with chunks": (
        H2C + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        b"abcde",
    ),
}


@pytest.mark.parametrize("kind", UPGRADES)
@pytest.mark.parametrize("split", [False, True])
def test_upgrades_are_answered_as_http1(kind: str, split: bool) -> None:
    """A body comes with it, and pipelined requests after it are read."""
    upgrade, body = UPGRADES[kind]
    data = upgrade + b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n" + upgrade
    sink, refusal = read(bytewise(data) if split else [data])
    assert refusal is None
    assert [request.path for request in sink.requests] == [b"/1", b"/2", b"/1"]
    assert sink.bodies == [body, b"", body]
    assert sink.ended == 3
    assert all(name.lower() != b"upgrade" for name, _ in sink.requests[0].headers)


@pytest.mark.parametrize("kind", UPGRADES)
def test_a_burst_of_upgrades_does_not_grow_the_stack(kind: str) -> None:
    """Two thousand of them in one piece are as good as one."""
    upgrade, body = UPGRADES[kind]
    sink, refusal = whole(upgrade * 2000)
    assert refusal is None
    assert sink.ended == 2000
    assert sink.bodies[-1] == body


@pytest.mark.parametrize("kind", UPGRADES)
def test_a_bad_request_behind_an_upgrade_is_refused(kind: str) -> None:
    """Being declined leaves the rules as they were."""
    upgrade, _body = UPGRADES[kind]
    sink, refusal = whole(upgrade + b"GET /2 HTTP/1.1\r\n\r\n")
    assert sink.ended == 1
    assert refusal is not None
    assert refusal.status == 400


# Nothing on which two parsers could disagree.

POST = b"POST / HTTP/1.1\r\n" + HOST
SMUGGLING = {
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "list of lengths": POST + b"Content-Length: 5, 5\r\n\r\n",
    "plus sign": POST + b"Content-Length: +5\r\n\r\n",
    "minus sign": POST + b"Content-Length: -5\r\n\r\n",
    "hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\n",
    "underscore in length": POST + b"Content-Length: 1_0\r\n\r\n",
    "space in length": POST + b"Content-Length: 5 5\r\n\r\n",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "huge length": POST + b"Content-Length: 9223372036854775807\r\n\r\n",
    "overflowing length": POST + b"Content-Length: 18446744073709551621\r\n\r\n",
    "space before colon": POST + b"Content-Length : 5\r\n\r\n",
    "tab before colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "compressed": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked twice in one": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "coding with parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n",
    "quoted coding": POST + b'Transfer-Encoding: "chunked"\r\n\r\n',
    "empty coding": POST + b"Transfer-Encoding:\r\n\r\n",
    "empty coding and length": POST + b"Transfer-Encoding:\r\nContent-Length: 5\r\n\r\n",
    "vertical tab in coding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "space before first header": b"GET / HTTP/1.1\r\n X: a\r\n" + HOST + b"\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: h\n\n",
    "bare line feed after header": b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    "bare line feed at end": b"GET / HTTP/1.1\r\nHost: h\r\n\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nHost: h\r\nX: y\rz\r\n\r\n",
    "carriage return as end": b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
    "nul in value": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "nul in name": b"GET / HTTP/1.1\r\nHost: h\r\nX\0: a\r\n\r\n",
    "nul in target": b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "non-ascii target": b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
    "two hosts in 1.0": b"GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "connect": b"CONNECT host:80 HTTP/1.1\r\nHost: host:80\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/2.0": b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    "http/1.2": b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
    "http/0.9": b"GET /\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n",
    "space before method": b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "tab in request line": b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "space after version": b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "space in target": b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "relative target": b"GET foo HTTP/1.1\r\nHost: h\r\n\r\n",
    "authority as target": b"GET host:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "header without colon": b"GET / HTTP/1.1\r\nfoo\r\nHost: h\r\n\r\n",
    "header without name": b"GET / HTTP/1.1\r\n: foo\r\nHost: h\r\n\r\n",
    "space in name": b"GET / HTTP/1.1\r\nX Y: foo\r\nHost: h\r\n\r\n",
    "bracket in name": b"GET / HTTP/1.1\r\nX(Y: foo\r\nHost: h\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", SMUGGLING)
@pytest.mark.parametrize("split", [False, True])
def test_ambiguous_heads_are_refused(name: str, split: bool) -> None:
    """Not one request comes of them, and the answer is 400."""
    data = SMUGGLING[name] + b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    sink, refusal = read(bytewise(data) if split else [data])
    assert refusal is not None
    assert refusal.status == 400
    assert sink.requests == []


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "no number": b"zz\r\n",
    "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "sign": b"-5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "space": b"5 \r\nhello\r\n0\r\n\r\n",
    "leading space": b" 5\r\nhello\r\n0\r\n\r\n",
    "empty": b"\r\nhello\r\n0\r\n\r\n",
    "line feed": b"5\nhello\r\n0\r\n\r\n",
    "line feed after data": b"5\r\nhello\n0\r\n\r\n",
    "overflow": b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "too much data": b"5\r\nhelloXX0\r\n\r\n",
    "line feed in extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "nul in extension": b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "bad trailer": b"0\r\nbad trailer: x\r\n\r\n",
    "folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
@pytest.mark.parametrize("split", [False, True])
def test_bad_chunks_are_refused(name: str, split: bool) -> None:
    """The request never ends, and nothing behind it is read."""
    data = CHUNKED + BAD_CHUNKS[name] + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    sink, refusal = read(bytewise(data) if split else [data])
    assert refusal is not None
    assert refusal.status == 400
    assert len(sink.requests) == 1
    assert sink.ended == 0


def test_nothing_is_read_behind_a_close() -> None:
    """A client that announced its last request may not send another."""
    sink, refusal = whole(
        b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    assert [request.path for request in sink.requests] == [b"/1"]
    assert refusal is not None


# Limits.


def head_of(size: int, headers: int = 1) -> bytes:
    """Return a request whose head has exactly ``size`` bytes."""
    start = b"GET /path?query HTTP/1.1\r\nHost: h\r\n"
    lines = b"".join(b"X-%04d: v\r\n" % number for number in range(headers - 1))
    fill = size - len(start) - len(lines) - len(b"Y: \r\n\r\n")
    data = start + lines + b"Y: " + b"a" * fill + b"\r\n\r\n"
    assert len(data) == size
    return data


@pytest.mark.parametrize("headers", [1, 100])
@pytest.mark.parametrize("split", ["whole", "halves", "bytes"])
def test_the_head_limit_is_exact(headers: int, split: str) -> None:
    """A head of as many bytes as the limit passes, one more does not, however it arrives."""
    for size, status in ((LIMIT, None), (LIMIT + 1, 431)):
        data = head_of(size, headers)
        pieces = {"whole": [data], "halves": [data[:2000], data[2000:]], "bytes": bytewise(data)}
        sink, refusal = read(pieces[split])
        assert (refusal and refusal.status) == status
        assert len(sink.requests) == (0 if status else 1)


def test_the_limit_is_for_each_head() -> None:
    """Pipelined requests do not add up, nor do bodies count."""
    body = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000
    data = (head_of(LIMIT) + body) * 5
    for pieces in ([data], cut(data, list(range(0, len(data), 777)))):
        sink, refusal = read(pieces)
        assert refusal is None
        assert sink.ended == 10


ENDLESS = {
    "value": (b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"a" * 100),
    "space before a value": (b"GET / HTTP/1.1\r\nHost: h\r\nX:", b" " * 100),
    "name": (b"GET / HTTP/1.1\r\nHost: h\r\n", b"a" * 100),
    "headers": (b"GET / HTTP/1.1\r\nHost: h\r\n", b"X-Many: 1\r\n" * 10),
    "target": (b"GET /", b"a" * 100),
    "space before a target": (b"GET ", b" " * 100),
    "empty lines": (b"", b"\r\n" * 50),
    "chunk size": (CHUNKED, b"0" * 100),
    "chunk extension": (CHUNKED + b"5;", b"x" * 100),
    "trailer": (CHUNKED + b"0\r\nX: ", b"a" * 100),
    "trailers": (CHUNKED + b"0\r\n", b"X-Many: 1\r\n" * 10),
}


@pytest.mark.parametrize(("start", "endless"), ENDLESS.values(), ids=ENDLESS)
def test_nothing_grows_without_end(start: bytes, endless: bytes) -> None:
    """Whatever a client repeats for ever outside a body's content, it is refused at the limit."""
    sink, refusal = read([start] + [endless] * (3 * LIMIT // len(endless)))
    assert refusal is not None
    assert refusal.status in (400, 431)
    assert sink.ended == 0


def test_many_small_chunks_are_no_overhead_to_refuse() -> None:
    """A body of ten thousand one-byte chunks passes, also byte by byte."""
    data = CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    sink, refusal = read(bytewise(data))
    assert refusal is None
    assert sink.bodies == [b"x" * 10_000]


def test_a_head_at_the_limit_leaves_room_for_chunks() -> None:
    """What frames a body is not counted on top of its head."""
    start = POST + b"Transfer-Encoding: chunked\r\nY: "
    data = start + b"a" * (LIMIT - len(start) - 4) + b"\r\n\r\n" + b"000001\r\nx\r\n0\r\n\r\n"
    sink, refusal = read(bytewise(data))
    assert refusal is None
    assert sink.ended == 1
