"""How a call is addressed, and what goes along."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pillion_sdk.headers import Headers
from pillion_sdk.inbound import Inbound
from pillion_sdk.invocation import InvokeError, OutgoingCall, prepare
from pillion_sdk.request import Request, handling
from pillion_sdk.response import Response


@contextmanager
def handled(**headers: str) -> Iterator[None]:
    """Handle a request with these headers."""

    async def receive():
        raise AssertionError("nobody reads it")

    fields = Headers.of({name.replace("_", "-"): value for name, value in headers.items()})
    scope = {"method": "GET", "path": "/"}
    with handling(Request(scope, fields, {}, Inbound(receive, fields, "1.1", 0))):
        yield


def sent(call: OutgoingCall) -> dict[str, str]:
    return dict(Headers(call.headers))


@pytest.mark.parametrize(
    ("app", "path", "query", "target"),
    [
        ("stock", "items/7", None, "/v1.0/invoke/stock/method/items/7"),
        ("stock", "/items/7", None, "/v1.0/invoke/stock/method/items/7"),
        ("stock.prod", "", None, "/v1.0/invoke/stock.prod/method/"),
        ("a b/c", "x", None, "/v1.0/invoke/a%20b%2Fc/method/x"),
        ("s", "a b/é", None, "/v1.0/invoke/s/method/a%20b/%C3%A9"),
        ("s", "a%20b/50%", None, "/v1.0/invoke/s/method/a%20b/50%25"),
        ("s", "x\r\ny", None, "/v1.0/invoke/s/method/x%0D%0Ay"),
        ("s", "x?a=1&b", None, "/v1.0/invoke/s/method/x?a=1&b"),
        ("s", "x?a=1", {"b": "c d"}, "/v1.0/invoke/s/method/x?a=1&b=c+d"),
        ("s", "x", {"a": [1, 2], "n": None, "t": True}, "/v1.0/invoke/s/method/x?a=1&a=2&t=true"),
        ("s", "x", [("a", 1), ("a", 2)], "/v1.0/invoke/s/method/x?a=1&a=2"),
        ("s", "x", {}, "/v1.0/invoke/s/method/x"),
    ],
)
def test_targets(app, path, query, target):
    """App, path and query make one request target, escaped where HTTP needs it."""
    assert prepare(app, path, {"query": query}, math.inf).target == target


def test_defaults():
    """A call is a POST without a body, and says how long it may take."""
    call = prepare("s", "x", {}, 2.5)

    assert (call.method, call.body, call.timeout) == ("POST", b"", 2.5)
    assert sent(call) == {"x-pillion-deadline-ms": "2500"}
    assert sent(prepare("s", "x", {"timeout": math.inf}, 2.5)) == {}


def test_bodies():
    """JSON, text and bytes have their content type, and one given wins."""
    call = prepare("s", "x", {"json": None}, math.inf)
    assert (call.body, sent(call)) == (b"null", {"content-type": "application/json"})

    call = prepare("s", "x", {"data": "é"}, math.inf)
    assert (call.body, sent(call)) == ("é".encode(), {"content-type": "text/plain; charset=utf-8"})

    call = prepare("s", "x", {"data": b"<a/>", "headers": {"Content-Type": "text/xml"}}, math.inf)
    assert (call.body, sent(call)) == (b"<a/>", {"content-type": "text/xml"})

    with pytest.raises(TypeError, match="not both"):
        prepare("s", "x", {"json": 1, "data": b""}, math.inf)


def test_headers_of_a_request_can_be_passed_on():
    """Fields about the connection a request came on do not go out with the call."""
    came = {"host": "a", "connection": "x", "content-length": "5", "te": "trailers", "accept": "b"}

    assert sent(prepare("s", "x", {"headers": Headers.of(came)}, math.inf)) == {"accept": "b"}


def test_trace_context_goes_along():
    """Inside a handler the trace headers are passed on, nothing else, and own ones win."""
    with handled(traceparent="t", tracestate="s", baggage="b", authorization="secret"):
        assert sent(prepare("s", "x", {}, math.inf)) == {
            "traceparent": "t",
            "tracestate": "s",
            "baggage": "b",
        }
        own = prepare("s", "x", {"headers": {"TraceParent": "mine"}}, math.inf)
        assert sent(own)["traceparent"] == "mine"
    assert sent(prepare("s", "x", {}, math.inf)) == {}


def test_a_call_does_not_outlive_the_request():
    """The deadline of the request being handled bounds the call, but does not lengthen it."""
    with handled(x_pillion_deadline_ms="1000"):
        call = prepare("s", "x", {}, 60)
        assert 0.9 < call.timeout <= 1.0
        assert 900 < int(sent(call)["x-pillion-deadline-ms"]) <= 1000
        assert prepare("s", "x", {"timeout": 0.5}, 60).timeout == 0.5
    with handled(x_pillion_deadline_ms="0"), pytest.raises(InvokeError, match="no time") as caught:
        prepare("s", "x", {}, 60)
    assert (caught.value.status, caught.value.error_code) == (504, "ERR_TIMED_OUT")


def test_a_stream_is_bounded_by_the_request_only():
    """The timeout of a streamed call is for its head, so that it is not told to the runtime."""
    assert sent(prepare("s", "x", {"timeout": 5}, 60, streamed=True)) == {}
    with handled(x_pillion_deadline_ms="100000"):
        headers = sent(prepare("s", "x", {"timeout": 5}, 60, streamed=True))
    assert 99_000 < int(headers["x-pillion-deadline-ms"]) <= 100_000


async def nothing():
    yield b""


def test_what_may_be_repeated():
    """Only an idempotent method with a body that is still there is sent twice."""
    assert prepare("s", "x", {"method": "put", "data": b"x"}, 1).repeatable
    assert not prepare("s", "x", {"data": b"x"}, 1).repeatable
    assert not prepare("s", "x", {"method": "PUT", "data": nothing()}, 1).repeatable


def test_errors_read_the_answer():
    """Code, message and reason come from the answer, whatever it looks like."""
    call = prepare("stock", "items/7?a=1", {"method": "GET"}, 1)
    answer = Response(404, {"errorCode": "ERR_X", "message": "gone"}, {"x-pillion-reason": "r"})
    error = InvokeError.from_response(call, answer)

    assert (error.status, error.error_code, error.message) == (404, "ERR_X", "gone")
    assert (error.app, error.method, error.path) == ("stock", "GET", "items/7")
    assert (error.reason, error.response) == ("r", answer)
    assert str(error) == "GET stock/items/7: 404 ERR_X: gone"

    for body in ("plain", "[1]", '{"detail":"x"}'):
        error = InvokeError.from_response(call, Response(500, body))
        assert (error.error_code, error.message, error.reason) == ("", body, None)
