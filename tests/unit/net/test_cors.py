"""Pages of allowed origins may call, and browsers are told so; others are told nothing."""

from __future__ import annotations

import pytest

from pillion.call import Reply
from pillion.net.cors import Cors
from pillion.operation import Request


def preflight(origin=b"http://a.example", method=b"POST", asked=None, verb=b"OPTIONS"):
    headers = [(b"Access-Control-Request-Method", method)] if method else []
    if asked:
        headers.append((b"Access-Control-Request-Headers", asked))
    request = Request(verb, b"/x", headers=headers)
    request.origin = origin
    return request


@pytest.mark.parametrize(
    ("origins", "origin", "named"),
    [
        (["http://a.example"], b"http://a.example", b"http://a.example"),
        (["http://b", " HTTP://A.example "], b"http://A.EXAMPLE", b"http://A.EXAMPLE"),
        (["*"], b"null", b"*"),
        (["http://b", "*"], b"http://a.example", b"*"),
    ],
)
def test_allowed_origins(origins, origin, named):
    """Named back as the browser spelled it, or as any."""
    cors = Cors(origins)
    reply = cors.preflight(preflight(origin))
    assert reply is not None
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header(b"access-control-allow-origin") == named
    assert reply.header(b"access-control-allow-methods") == b"POST"
    own = Reply(200)
    cors.mark(preflight(origin), own)
    assert own.header(b"access-control-allow-origin") == named


@pytest.mark.parametrize(
    "origin",
    [
        b"http://b",
        b"http://a.example.evil",
        b"https://a.example",
        b"http://a.example:8080",
        b"null",
    ],
)
def test_other_origins(origin):
    """No permission, in the preflight or the reply; but caches learn that it depends."""
    cors = Cors(["http://a.example"])
    reply = cors.preflight(preflight(origin))
    assert reply is not None
    assert [name for name, _value in reply.headers] == [b"Vary"]
    own = Reply(200)
    cors.mark(preflight(origin), own)
    assert own.headers == [(b"Vary", b"Origin")]


@pytest.mark.parametrize("method", [b"HEAD", b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"put"])
def test_allowed_methods(method):
    """Those of the reference."""
    reply = Cors(["*"]).preflight(preflight(method=method))
    assert reply.header(b"access-control-allow-methods") == method.upper()


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"", b"GET, POST", b","])
def test_other_methods(method):
    """They are not allowed to any origin."""
    request = preflight(method=b"X")
    request.headers = [(b"Access-Control-Request-Method", method)]
    reply = Cors(["*"]).preflight(request)
    assert reply.header(b"access-control-allow-origin") is None


def test_any_header_is_allowed():
    """Exactly those that were asked for."""
    reply = Cors(["*"]).preflight(preflight(asked=b"X-A, content-type"))
    assert reply.header(b"access-control-allow-headers") == b"X-A, content-type"


@pytest.mark.parametrize(
    "request_", [preflight(verb=b"POST"), preflight(origin=b""), preflight(method=None)]
)
def test_what_is_no_preflight(request_):
    """It goes to its endpoint."""
    assert Cors(["*"]).preflight(request_) is None
